"""Drawings whose subject is spoiled, and how much of it is left: what the classifier learns to doubt.

Models fail in other ways than drawings: a subject comes out smeared, haloed, cut, doubled, molten or as a ghost, or is
a guess that a UNet gave up on. How much is left is not decided but measured, for all of them alike: `likeness`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import cv2
import numpy as np

from miniature_training.models.dataset import SIZE, drawn
from miniature_training.world.scenes import Scene, draw, sample

SCALE = 40  # pixels of the larger side of a subject when it is compared: finer than this nobody recognises it by
BLURS = (10.0, 2.5)  # radii, pixels: what a blur takes away are shapes, or details
FAINT = (1.6, 1.1)  # a subject of less contrast than its drawing's, divided by this, is doubted; with details
FLOOR, WHOLE = 0.35, (0.8, 0.95)  # likeness of what is no subject any more, and of what is one without doubt


def _soft(values: np.ndarray, radius: float) -> np.ndarray:
    return cv2.GaussianBlur(values, (0, 0), radius) if radius > 0.1 else values


def smeared(image, seen, empty, rng: random.Random):
    """Dragged along a line, as by a wet brush."""
    length, angle = rng.uniform(0.08, 0.7) * _extent(seen), rng.uniform(0, np.pi)
    moves = [(np.cos(angle) * length * k, np.sin(angle) * length * k) for k in np.linspace(-0.5, 0.5, 13)]
    shifted = [_shift(np.dstack([image, seen]), dx, dy) for dx, dy in moves]
    dragged = np.mean(shifted, axis=0)
    cover = np.clip(1.4 * dragged[..., 3:], 0, 1)
    return dragged[..., :3] * cover + image * (1 - cover)


def haloed(image, seen, empty, rng: random.Random):
    """Blobs of another colour round it and over its edge."""
    around = np.clip(_soft(seen, rng.uniform(2, 9)) * 2.2, 0, 1)
    noise = _soft(_noise(image.shape[:2], rng), rng.uniform(2, 7))
    blobs = (noise > np.quantile(noise, rng.uniform(0.3, 0.8))).astype(np.float32)
    colour = np.array([rng.choice((255, 240, rng.uniform(0, 255))) for _ in range(3)], np.float32)
    kept = np.clip(_soft(seen, 1) * 3 - rng.uniform(0.5, 2), 0, 1)
    cover = (_soft(blobs, 1.5) * around * (1 - kept) * rng.uniform(0.5, 1))[..., None]
    return image * (1 - cover) + colour * cover


def cut(image, seen, empty, rng: random.Random):
    """A part of it is not there."""
    ys, xs = np.nonzero(seen > 0.5)
    angle, share = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.95)
    along = np.cos(angle) * np.arange(image.shape[1])[None] + np.sin(angle) * np.arange(image.shape[0])[:, None]
    limit = np.quantile(along[ys, xs], 1 - share)
    gone = _soft((along > limit).astype(np.float32), rng.uniform(0.1, 3))[..., None]
    return image * (1 - gone) + empty * gone


def doubled(image, seen, empty, rng: random.Random):
    """Two of it, one over the other."""
    far, angle = rng.uniform(0.1, 0.5) * _extent(seen), rng.uniform(0, 2 * np.pi)
    other = _shift(np.dstack([image, seen]), np.cos(angle) * far, np.sin(angle) * far)
    cover = other[..., 3:] * rng.uniform(0.3, 0.8)
    return image * (1 - cover) + other[..., :3] * cover


def ghost(image, seen, empty, rng: random.Random):
    """Half made: the place shines through."""
    left = rng.uniform(0.05, 0.8)
    return image * left + empty * (1 - left)


def molten(image, seen, empty, rng: random.Random):
    """Its shape has run: a heap."""
    size, reach = rng.uniform(3, 9), rng.uniform(0.05, 0.35) * _extent(seen)
    rows, columns = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in image.shape[:2]), indexing="ij")
    moves = []
    for _ in range(2):
        field = _soft(_noise(image.shape[:2], rng), size)
        moves.append(field / field.std() * reach)
    run = cv2.remap(image, columns + moves[0], rows + moves[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    near = np.clip(_soft(seen, 5) * 3, 0, 1)[..., None]
    return _soft(run, rng.uniform(0, 2)) * near + image * (1 - near)


KINDS: tuple[Callable, ...] = (smeared, haloed, cut, doubled, ghost, molten)


def _noise(shape: tuple[int, int], rng: random.Random) -> np.ndarray:
    return np.random.default_rng(rng.getrandbits(32)).normal(size=shape).astype(np.float32)


def _extent(seen: np.ndarray) -> float:
    """The larger side of what is seen of a subject, in pixels."""
    ys, xs = np.nonzero(seen > 0.5)
    return float(max(np.ptp(ys), np.ptp(xs)) + 1)


def _shift(values: np.ndarray, dx: float, dy: float) -> np.ndarray:
    move = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    return cv2.warpAffine(values, move, values.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)


def likeness(image: np.ndarray, drawn: np.ndarray, seen: np.ndarray, *, details: bool = True) -> float:
    """How much of a subject an image (H, W, 3) still has, 0..1, beside its drawing and what is seen there (H, W), 0..1.

    The correlation of shapes and of details with the drawing's, in the box of the subject and a little around it; and
    how strong they are, for a ghost is like its drawing, but faint. Without details, shapes alone count, and those may
    be a little off: as in another image of the same.
    """
    ys, xs = np.nonzero(seen > 0.5)
    margin = int(0.1 * _extent(seen)) + 1
    top, left = max(0, ys.min() - margin), max(0, xs.min() - margin)
    box = np.s_[top : ys.max() + margin + 1, left : xs.max() + margin + 1]
    ratio = SCALE / max(image[box].shape[:2])
    small = [
        cv2.resize(one[box].astype(np.float32), None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
        for one in (image, drawn)
    ]
    left_of_it = []
    for blur in BLURS if details else BLURS[:1]:
        a, b = ((one - cv2.GaussianBlur(one, (0, 0), blur)).ravel() for one in small)
        correlation = float(a @ b / max(1e-6, np.linalg.norm(a) * np.linalg.norm(b)))
        left_of_it.append(min(correlation, FAINT[details] * float(a @ b / max(1e-6, b @ b))))
    return float(np.clip((np.mean(left_of_it) - FLOOR) / (WHOLE[details] - FLOOR), 0, 1))


def spoiled(scene: Scene, rng: random.Random) -> tuple[np.ndarray, float]:
    """A scene's image with its subject spoiled in one way or two, (H, W, 3) uint8, and how much of it is left, 0..1."""
    whole = draw(scene, SIZE)
    image, seen = np.asarray(whole.image, np.float32), np.asarray(whole.mask, np.float32) / 255
    if (seen > 0.5).sum() < 30:
        return image.astype(np.uint8), 1.0
    empty = np.asarray(draw(replace(scene, subject=None, attribute=None, close=False), SIZE).image, np.float32)
    result = image
    for kind in rng.sample(KINDS, 1 if rng.random() < 0.6 else 2):
        result = kind(result, seen, empty, rng)
    result = np.clip(result, 0, 255)
    return result.round().astype(np.uint8), likeness(result, image, seen)


def _spoil_some(seeds: range, size: int) -> tuple[np.ndarray, np.ndarray]:
    images, shares = [], []
    for seed in seeds:
        image, share = spoiled(sample(seed, degraded=False), random.Random(f"spoiled {seed}"))
        images.append(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA))
        shares.append(share)
    return np.stack(images), np.array(shares, np.float32)


def spoiled_images(count: int, *, first: int = 0, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Spoiled images (N, size, size, 3) uint8 of the scenes from seed `first` on, and how much is left of each (N,)."""
    names = [f"{first}-{count}-spoiled", f"{first}-{count}-left"]
    images, left = drawn(names, range(first, first + count), partial(_spoil_some, size=size), size=size)
    return images, left
