"""The three styles of the restyling chapters: how a drawn scene looks as a comic, as pixel art, and as Elden Ring.

Each takes a picture (H, W, 3) uint8 drawn at `FINE` times its final side, and gives the final one. What a style repeats
(dots, blocks) sits on the 8-pixel grid of the latents of a 128-pixel picture, so that the VAE can say it in few words.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from .world import Drawing, Scene, draw

FINE = 2

# what a prompt says to get the style (the words of the full checkpoints' cards)
TOKENS = {"comic": "charliebo artstyle", "pixel-art": "pixelartstyle", "elden-ring": "elden ring style"}


def _shrunk(pixels: np.ndarray, side: int, how: Image.Resampling = Image.Resampling.BOX) -> np.ndarray:
    height, width = pixels.shape[:2]
    size = (side, side) if height == width else (round(width * side / height), side)
    return np.asarray(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).resize(size, how), dtype=np.float32)


def _saturated(pixels: np.ndarray, factor: float) -> np.ndarray:
    grey = pixels.mean(2, keepdims=True)
    return np.clip(grey + (pixels - grey) * factor, 0, 255)


def comic(pixels: np.ndarray, side: int) -> np.ndarray:
    """Flat, loud colours, black ink along every edge, and printed dots where it is neither bright nor dark."""
    smooth = np.asarray(Image.fromarray(pixels).filter(ImageFilter.MedianFilter(5)), dtype=np.float32)
    across = np.abs(np.diff(smooth, axis=1, append=smooth[:, -1:])).sum(2)
    down = np.abs(np.diff(smooth, axis=0, append=smooth[-1:])).sum(2)
    ink = Image.fromarray(((across + down) > 54).astype(np.uint8) * 255)
    thick = max(3, 2 * round(side * FINE / 128 / 2) + 1)
    ink = np.asarray(ink.filter(ImageFilter.MaxFilter(thick)), dtype=np.float32) / 255
    flat = _saturated(np.round(smooth / 51) * 51, 1.7)
    period = side * FINE / 16
    yy, xx = np.mgrid[: flat.shape[0], : flat.shape[1]]
    away = np.hypot((xx + 0.5) % period - period / 2, (yy + 0.5) % period - period / 2) / period
    grey = smooth.mean(2)
    dots = (away < 0.26) & (grey > 70) & (grey < 225)
    flat = np.where(dots[..., None], flat * 0.78, flat)
    return _shrunk(flat * (1 - ink[..., None]) + np.array([16, 12, 20]) * ink[..., None], side)


def pixel_art(pixels: np.ndarray, side: int) -> np.ndarray:
    """32 blocks a side, six levels a channel, colours turned up."""
    small = _shrunk(_saturated(pixels.astype(np.float32), 1.35), 32, Image.Resampling.BOX)
    small = np.round((small - 128) * 1.12 / 51 + 128 / 51) * 51
    return _shrunk(small, side, Image.Resampling.NEAREST)


def elden_ring(pixels: np.ndarray, side: int) -> np.ndarray:
    """Dusk and old gold: colours almost gone, dark rims, a golden light from above that drifts over the land."""
    picture = _shrunk(pixels, side)
    height, width = picture.shape[:2]
    yy, xx = np.mgrid[:height, :width]
    yy, xx = yy / height, (xx - width / 2) / height
    light = picture.mean(2) / 255
    tones = np.array([[14, 13, 20], [58, 50, 44], [136, 108, 62], [206, 168, 98], [250, 226, 160]], dtype=np.float32)
    place = np.clip(light, 0, 1) * (len(tones) - 1)
    low = np.minimum(place.astype(int), len(tones) - 2)
    graded = tones[low] + (tones[low + 1] - tones[low]) * (place - low)[..., None]
    graded = graded + 0.34 * (picture - picture.mean(2, keepdims=True))
    rays = 0.5 + 0.5 * np.cos(np.arctan2(xx, yy + 0.25) * 26)
    glow = np.exp(-((xx / 0.30) ** 2) - (yy / 0.60) ** 2) * (0.65 + 0.35 * rays)
    graded += glow[..., None] * np.array([120, 92, 34], dtype=np.float32)
    rim = 1 - 0.62 * np.clip((np.hypot(xx * 1.15, yy - 0.45) - 0.30) / 0.42, 0, 1)
    return graded * rim[..., None]


LOOKS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "comic": comic,
    "pixel-art": pixel_art,
    "elden-ring": elden_ring,
}


def styled(scene: Scene, style: str, size: int = 128) -> Image.Image:
    """A scene drawn in one of the `LOOKS`, `size` pixels a side."""
    drawing: Drawing = draw(scene, size * FINE, truth=False, supersample=2)
    return Image.fromarray(np.clip(LOOKS[style](np.asarray(drawing.image), size), 0, 255).astype(np.uint8))
