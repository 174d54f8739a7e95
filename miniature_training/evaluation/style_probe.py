"""A reader of styles: six measures of an image, and a linear probe that tells the looks of the drawn world by them.

Nothing of it is shipped: the probe is fitted again, in closed form, on drawings that went through the VAE, and says how
many of the held-out ones it reads right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from miniature_training.models.dataset import styled_images
from miniature_training.world.looks import LOOKS
from miniature_training.world.scenes import HELD_OUT, draw, sample

SIDE, BLOCK = 128, 8  # pixels
NAMES = ("plain", *LOOKS)
FITTED_ON, CHECKED_ON = 120, 60  # scenes, each in every look
FIRST = 500_000  # of the held-out seeds: others than the figures are taken on


def measures(image: Image.Image) -> np.ndarray:
    """Blocks, ink, colour, gold, dark border, light from above: one number each for an image, (6,)."""
    x = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64) / 255
    grey = x.mean(2)
    across, down = (np.abs(np.diff(x, axis=axis)).mean(2) for axis in (1, 0))
    edge = np.arange(1, SIDE) % BLOCK == 0  # where one block of pixel art meets the next
    steps = across[:, edge].mean() + down[edge].mean()
    inside = across[:, ~edge].mean() + down[~edge].mean()
    red, green, blue = (x[..., i].mean() for i in range(3))
    yy, xx = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    border, middle = np.hypot(yy, xx) > 0.55, np.hypot(yy, xx) < 0.25
    top = grey[: SIDE // 3]
    return np.array(
        [
            np.log((steps + 1e-3) / (inside + 1e-3)),
            np.log(_thin_and_dark(grey) + 1e-3),
            (x.max(2) - x.min(2)).mean(),
            (red + green - 2 * blue) / (red + green + blue),
            np.log((grey[border].mean() + 0.02) / (grey[middle].mean() + 0.02)),
            top[:, 44:84].mean() - (top[:, :24].mean() + top[:, -24:].mean()) / 2,
        ]
    )


def _thin_and_dark(grey: np.ndarray) -> float:
    """How much darker an image (H, W) in 0..1 is than with its dark lines, up to five pixels wide, filled in."""
    image = Image.fromarray((grey * 255).astype(np.uint8))
    filled = image.filter(ImageFilter.MaxFilter(5)).filter(ImageFilter.MinFilter(5))
    return float((np.asarray(filled, dtype=np.float64) - np.asarray(image)).mean() / 255)


@dataclass(frozen=True)
class Probe:
    """Least squares on the measures and their products; `accuracy` is that on held-out drawings, by look."""

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    accuracy: dict[str, float]

    def read(self, images: list[Image.Image]) -> list[str]:
        """The look of each image, one of `NAMES`."""
        return [NAMES[i] for i in (self._terms(images) @ self.weights).argmax(1)]

    def _terms(self, images: list[Image.Image]) -> np.ndarray:
        return _terms((np.stack([measures(image) for image in images]) - self.mean) / self.scale)


def _terms(values: np.ndarray) -> np.ndarray:
    """1, the measures, their squares and products; far values are held, or a square would run away with them."""
    values = values.clip(-3, 3)
    first, second = np.triu_indices(values.shape[1])
    return np.concatenate([np.ones((len(values), 1)), values, values[:, first] * values[:, second]], 1)


def fit(through: Callable[[list[Image.Image]], list[Image.Image]]) -> Probe:
    """Fit the probe to drawings as they come back from `through` (the VAE), and try it on others."""
    images = _drawn(FITTED_ON + CHECKED_ON)
    values = {name: np.stack([measures(image) for image in through(images)]) for name, images in images.items()}
    known = np.concatenate([values[name][:FITTED_ON] for name in NAMES])
    mean, scale = known.mean(0), known.std(0) + 1e-9
    terms = _terms((known - mean) / scale)
    wanted = np.repeat(np.eye(len(NAMES)), FITTED_ON, axis=0)
    weights = np.linalg.solve(terms.T @ terms + np.eye(terms.shape[1]), terms.T @ wanted)
    others = {name: _terms((values[name][FITTED_ON:] - mean) / scale) @ weights for name in NAMES}
    accuracy = {name: float((others[name].argmax(1) == i).mean()) for i, name in enumerate(NAMES)}
    return Probe(mean, scale, weights, accuracy)


def _drawn(count: int) -> dict[str, list[Image.Image]]:
    """Held-out scenes, none of them degraded, in every look."""
    first = HELD_OUT + FIRST
    plain = [draw(sample(seed, degraded=False), SIDE, truth=False).image for seed in range(first, first + count)]
    looks = {style: styled_images(style, count, first=first, size=SIDE) for style in LOOKS}
    return {"plain": plain} | {style: [Image.fromarray(one) for one in some] for style, some in looks.items()}
