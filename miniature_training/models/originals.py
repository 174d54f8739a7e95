"""Drawings as a photo collection has them: some from small originals, some cropped, some wide or tall.

SDXL is told about each of these when it is trained, so that it can be asked for them
(https://arxiv.org/abs/2307.01952, section 2.2). Sizes told are (height, width), corners (top, left), in pixels.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from diffusers import AutoencoderKL
from PIL import Image

from miniature_training.models import store
from miniature_training.models.latents import encode, weights_key
from miniature_training.world.scenes import draw, sample

SIZE = 192
SHAPES = ((SIZE, SIZE), (224, 160), (160, 224))  # width, height
SMALL, CROPPED = 0.20, 0.20  # shares of the collection
LARGEST = 1024  # original sizes up to this are told
CHUNK, BLOCK = 100, 1000

Example = Callable[[int, tuple[int, int]], dict[str, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Original:
    """An image of the collection, as it is and as it would be from a large original."""

    pixels: np.ndarray  # (H, W, 3) uint8
    sharp: np.ndarray  # (H, W, 3) uint8; `pixels` itself where the original was large
    subject: np.ndarray  # (H, W) uint8
    size: tuple[int, int]  # of the original
    corner: tuple[int, int]  # of the crop

    @property
    def ids(self) -> list[float]:
        """What SDXL's time ids say of it: original size, corner, target size."""
        return [*self.size, *self.corner, *self.pixels.shape[:2]]


def original(seed: int, shape: tuple[int, int], *, small: float = SMALL, degraded: bool | None = None) -> Original:
    """The image of `seed` in a shape (width, height); `small` is the share of small originals."""
    rng = random.Random(f"{seed}/original")
    (width, height), scene = shape, sample(seed, degraded=degraded)
    zoom = rng.uniform(1.15, 1.5) if rng.random() < CROPPED else 1.0
    drawing = draw(scene, (round(width * zoom), round(height * zoom)))
    left = rng.randint(0, drawing.image.width - width)
    top = rng.randint(0, drawing.image.height - height)
    box = (left, top, left + width, top + height)
    seen, whole = (np.count_nonzero(np.asarray(m)) for m in (drawing.mask.crop(box), drawing.mask))
    if seen < 0.5 * whole:  # the caption names what must be there
        drawing, left, top = draw(scene, shape), 0, 0
        box = (0, 0, width, height)
    sharp = np.asarray(drawing.image.crop(box))
    if rng.random() < small:
        share = rng.uniform(0.15, 0.75)
        pixels, times = enlarged(sharp, share), share
    else:
        pixels, times = sharp, 1.0 if rng.random() < 0.4 else rng.uniform(1.0, LARGEST / max(shape))
    told = (round(height * times), round(width * times))
    return Original(pixels, sharp, np.asarray(drawing.mask.crop(box)), told, (top, left))


def enlarged(pixels: np.ndarray, share: float) -> np.ndarray:
    """The image (H, W, 3) as if its original had had `share` of its sides: no finer detail is left."""
    height, width = pixels.shape[:2]
    small = Image.fromarray(pixels).resize((round(width * share), round(height * share)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def _draw_chunk(job: tuple[Example, int, int, tuple[int, int]]) -> dict[str, np.ndarray]:
    example, first, count, shape = job
    rows = [example(seed, shape) for seed in range(first, first + count)]
    return {field: np.stack([row[field] for row in rows]) for field in rows[0]}


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {field: np.concatenate([part[field] for part in parts]) for field in parts[0]}


def latents(example: Example, count: int, *, shape: tuple[int, int], vae: AutoencoderKL) -> dict[str, np.ndarray]:
    """What `example` says of the scenes 0 .. count, field by field, images as latents (N, 4, h, w) float16.

    `example(seed, shape)` is a function of a module; its fields of shape (H, W, 3) are images. Cached for as long as
    the encoder stays the same.
    """
    width, height = shape
    encoder = weights_key(vae.encoder, vae.quant_conv)
    name = f"latents/{example.__module__.rpartition('.')[2]}-{encoder}-{width}x{height}-{count}.npz"

    def make() -> dict[str, np.ndarray]:
        parts: list[dict[str, np.ndarray]] = []
        with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:  # it starts no process before it is used
            for block in range(0, count, BLOCK):
                last = min(block + BLOCK, count)
                jobs = [(example, i, min(CHUNK, last - i), shape) for i in range(block, last, CHUNK)]
                part = _joined(list((pool.map if len(jobs) > 1 else map)(_draw_chunk, jobs)))
                drawn = [field for field, values in part.items() if values.ndim == 4 and values.shape[-1] == 3]
                parts.append(part | {field: encode(part[field], vae) for field in drawn})
        return _joined(parts)

    return store.kept(name, make)
