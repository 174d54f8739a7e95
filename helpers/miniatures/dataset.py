"""Drawn pictures by the thousand, kept in a scratch folder so that a resumed training does not draw them again."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .world import Drawing, draw, sample

SCRATCH = Path(os.environ.get("COURSE_TRAINING", Path(__file__).resolve().parents[2] / "training"))
SIZE = 128
CHUNK = 250


def _draw_chunk(job: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    first, count, size = job
    drawings = [draw(sample(seed), size) for seed in range(first, first + count)]
    return np.stack([np.asarray(d.image) for d in drawings]), np.stack([np.asarray(d.mask) for d in drawings])


def pictures(count: int, *, first: int = 0, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, H, W, 3) and subject masks (N, H, W), uint8, of the scenes with seeds first .. first + count."""
    folder = SCRATCH / f"pictures-{size}"
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{first}-{count}-{kind}.npy" for kind in ("rgb", "mask")]
    if not all(f.exists() for f in files):
        jobs = [(first + i, min(CHUNK, count - i), size) for i in range(0, count, CHUNK)]
        with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
            parts = list(tqdm(pool.map(_draw_chunk, jobs), total=len(jobs), desc="drawing", unit="chunk"))
        for file, arrays in zip(files, zip(*parts, strict=False), strict=False):
            np.save(file, np.concatenate(arrays))
    rgb, mask = (np.load(f, mmap_mode="r") for f in files)
    return rgb, mask


def _style_chunk(job: tuple[str, int, int, int]) -> np.ndarray:
    from .looks import styled

    style, first, count, size = job
    scenes = [replace(sample(seed), degraded=None) for seed in range(first, first + count)]
    return np.stack([np.asarray(styled(scene, style, size)) for scene in scenes])


def styled_pictures(style: str, count: int, *, first: int = 0, size: int = SIZE) -> np.ndarray:
    """The pictures (N, H, W, 3) of `pictures()`, uint8, drawn in one of `looks.LOOKS`."""
    file = SCRATCH / f"pictures-{size}" / f"{first}-{count}-{style}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        jobs = [(style, first + i, min(CHUNK, count - i), size) for i in range(0, count, CHUNK)]
        with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
            np.save(file, np.concatenate(list(tqdm(pool.map(_style_chunk, jobs), total=len(jobs), desc=style))))
    return np.load(file, mmap_mode="r")


def held_out(count: int, *, size: int = SIZE, **fixed) -> list[Drawing]:
    """Drawings that no training has seen."""
    from .world import HELD_OUT

    return [draw(sample(HELD_OUT + i, **fixed), size) for i in range(count)]
