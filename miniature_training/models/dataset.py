"""Drawn images by the thousand, kept in a scratch folder so that a resumed training does not draw them again."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
from tqdm import tqdm

from miniature_training.models.store import scratch
from miniature_training.world.scenes import HELD_OUT, Drawing, Scene, draw, sample

SIZE = 128
CHUNK = 250
EMPTY = 400_000_000  # seeds from here on draw places without a subject
GUIDED = 500_000_000  # seeds from here to the held-out ones draw what the guides' prompts ask for, in turn
_CAT = {"subject": "cat", "colour": "black", "colour_named": True}
_FACE = {"subject": "cat", "colour": "yellow", "colour_named": True, "on_bench": True, "close": True, "place": "park"}
GUIDES = (
    *4 * (_CAT,),
    *4 * (_CAT | {"attribute": "glowing eyes"},),
    *3 * (_FACE,),
    *2 * ({"subject": None, "place": "road"},),
    {"subject": "castle", "attribute": "elven"},
    {"subject": "astronaut", "place": "jungle", "palette": "cold muted"},
    {"subject": "waterfall", "hour": "cloudy"},
)


def scene(seed: int) -> Scene:
    """The scene of a training image's seed: any at random; from EMPTY on an empty place, from GUIDED on a guide's."""
    if EMPTY <= seed < GUIDED:
        return sample(seed, subject=None)
    return sample(seed, **GUIDES[seed % len(GUIDES)]) if GUIDED <= seed < HELD_OUT else sample(seed)


def drawn(
    names: Sequence[str],
    seeds: range,
    draw_rows: Callable[[range], tuple[np.ndarray, ...]],
    *,
    size: int,
    chunk: int = CHUNK,
) -> list[np.ndarray]:
    """Arrays with a row for each seed, drawn on all cores (a single chunk here), and kept in a file for each name.

    draw_rows: draws these arrays' rows for some of the seeds, in a process of its own. size: names the folder.
    """
    folder = scratch() / f"images-{size}"
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.npy" for name in names]
    if not all(file.exists() for file in files):
        jobs = [seeds[i : i + chunk] for i in range(0, len(seeds), chunk)]
        if len(jobs) == 1:
            parts = [draw_rows(jobs[0])]
        else:
            with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
                parts = list(tqdm(pool.map(draw_rows, jobs), total=len(jobs), desc=f"drawing {names[0]}", unit="chunk"))
        for file, arrays in zip(files, zip(*parts, strict=True), strict=True):
            np.save(file, np.concatenate(arrays))
    return [np.load(file, mmap_mode="r") for file in files]


def _draw_some(seeds: range, size: int) -> tuple[np.ndarray, np.ndarray]:
    drawings = [draw(scene(seed), size) for seed in seeds]
    return np.stack([np.asarray(d.image) for d in drawings]), np.stack([np.asarray(d.mask) for d in drawings])


def drawn_images(count: int, *, first: int = 0, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, 3) and subject masks (N, H, W), uint8, of the scenes with seeds first .. first + count."""
    names, seeds = [f"{first}-{count}-rgb", f"{first}-{count}-mask"], range(first, first + count)
    rgb, mask = drawn(names, seeds, partial(_draw_some, size=size), size=size)
    return rgb, mask


def _style_some(seeds: range, style: str, size: int) -> tuple[np.ndarray]:
    from miniature_training.world.looks import styled

    scenes = [replace(sample(seed), degraded=None) for seed in seeds]
    return (np.stack([np.asarray(styled(scene, style, size)) for scene in scenes]),)


def styled_images(style: str, count: int, *, first: int = 0, size: int = SIZE) -> np.ndarray:
    """The images (N, H, W, 3) of `images()`, uint8, drawn in one of `looks.LOOKS`."""
    make, seeds = partial(_style_some, style=style, size=size), range(first, first + count)
    return drawn([f"{first}-{count}-{style}"], seeds, make, size=size)[0]


def held_out(count: int, *, size: int = SIZE, **fixed) -> list[Drawing]:
    """Drawings that no training has seen."""
    return [draw(sample(HELD_OUT + i, **fixed), size) for i in range(count)]
