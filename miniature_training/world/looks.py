"""The three styles of the restyling chapters: how a drawn scene looks as a comic, as pixel art, and as Elden Ring.

Each takes an image (H, W, 3) uint8 drawn at `FINE` times its final side, and gives the final one. What a style does
is coarse, so that a small UNet learns it soon: tones, and marks as large as the 8 pixels that one latent stands for.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from miniature_training.world.scenes import Drawing, Scene, draw

FINE = 2

# what a prompt says to get the style (the words of the full checkpoints' cards)
TOKENS = {"comic": "charliebo artstyle", "pixel-art": "pixelartstyle", "elden-ring": "elden ring style"}


INK, PAPER, CAPTION = (np.array(rgb, dtype=np.float32) for rgb in ((16, 12, 20), (250, 248, 240), (255, 226, 90)))
PALETTE = np.array(
    [
        *((20, 16, 32), (110, 112, 124), (190, 190, 198), (250, 250, 245)),
        *((92, 60, 48), (224, 64, 56), (255, 140, 40), (250, 220, 80)),
        *((60, 92, 60), (32, 120, 64), (96, 196, 72), (150, 210, 250)),
        *((40, 60, 130), (64, 140, 230), (130, 80, 170), (240, 150, 180)),
    ],
    dtype=np.float32,
)
SEEN = np.array((0.6, 1.0, 0.5))  # how much an error in red, green and blue counts


def _shrunk(pixels: np.ndarray, side: int, how: Image.Resampling = Image.Resampling.BOX) -> np.ndarray:
    height, width = pixels.shape[:2]
    size = (side, side) if height == width else (round(width * side / height), side)
    return np.asarray(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).resize(size, how), dtype=np.float32)


def _saturated(pixels: np.ndarray, factor: float) -> np.ndarray:
    grey = pixels.mean(2, keepdims=True)
    return np.clip(grey + (pixels - grey) * factor, 0, 255)


def comic(pixels: np.ndarray, side: int) -> np.ndarray:
    """A panel: few, loud colours, black ink for all that is dark, and a frame with a caption box."""
    image = _shrunk(pixels, side)
    flat = np.clip(np.round(_saturated((image - 20) * 1.15, 2.0) / 127.5) * 127.5, 0, 255)
    flat = np.where(image.mean(2, keepdims=True) < 70, INK, flat)
    height, width = flat.shape[:2]
    cell = side // 16
    gutter, line = 5 * cell // 8, 3 * cell // 8
    flat[cell : 3 * cell, cell : 7 * cell] = INK
    flat[cell : 3 * cell - line, cell : 7 * cell - line] = CAPTION
    for edge, colour in ((cell, INK), (gutter, PAPER)):
        flat[:edge], flat[height - edge :], flat[:, :edge], flat[:, width - edge :] = (colour,) * 4
    return flat


def pixel_art(pixels: np.ndarray, side: int) -> np.ndarray:
    """16 blocks a side, one to a latent, each in that of an old console's 16 colours which most of it has."""
    small = _saturated(_shrunk(pixels, 64), 1.25)
    nearest = ((small[:, :, None] - PALETTE) ** 2 * SEEN).sum(3).argmin(2)
    blocks = nearest.reshape(16, 4, 16, 4).swapaxes(1, 2).reshape(16, 16, 16)
    most = (blocks[..., None] == np.arange(len(PALETTE))).sum(2).argmax(2)
    return _shrunk(PALETTE[most], side, Image.Resampling.NEAREST)


def elden_ring(pixels: np.ndarray, side: int) -> np.ndarray:
    """Dusk and old gold: colours almost gone, dark corners, a golden light from above that drifts over the land."""
    image = _shrunk(pixels, side)
    height, width = image.shape[:2]
    yy, xx = np.mgrid[:height, :width]
    yy, xx = yy / height, (xx - width / 2) / height
    light = image.mean(2) / 255
    tones = np.array([[14, 13, 20], [58, 50, 44], [136, 108, 62], [206, 168, 98], [250, 226, 160]], dtype=np.float32)
    place = np.clip(light, 0, 1) * (len(tones) - 1)
    low = np.minimum(place.astype(int), len(tones) - 2)
    graded = tones[low] + (tones[low + 1] - tones[low]) * (place - low)[..., None]
    graded = graded + 0.15 * (image - image.mean(2, keepdims=True))
    rays = 0.5 + 0.5 * np.cos(np.arctan2(xx, yy + 0.25) * 26)
    glow = np.exp(-((xx / 0.30) ** 2) - (yy / 0.60) ** 2) * (0.65 + 0.35 * rays)
    graded += glow[..., None] * np.array([120, 92, 34], dtype=np.float32)
    shade = 1 - 0.62 * np.clip((np.hypot(xx * 1.15, yy - 0.45) - 0.30) / 0.42, 0, 1)
    return graded * shade[..., None]


LOOKS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "comic": comic,
    "pixel-art": pixel_art,
    "elden-ring": elden_ring,
}


def styled(scene: Scene, style: str, size: int = 128) -> Image.Image:
    """A scene drawn in one of the `LOOKS`, `size` pixels a side."""
    drawing: Drawing = draw(scene, size * FINE, truth=False, supersample=2)
    return Image.fromarray(np.clip(LOOKS[style](np.asarray(drawing.image), size), 0, 255).astype(np.uint8))
