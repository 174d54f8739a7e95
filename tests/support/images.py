"""Images for tests: drawn, random, saved as files, and a folder of course images."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from helpers.images import reading
from helpers.images.masks import box_mask


def scene(width: int = 48, height: int = 32) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 5, y * 7, (x + y) * 3], axis=-1).astype(np.uint8))


def noise(size: tuple[int, int] = (40, 24), seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8))


def saved(image: Image.Image, format: str = "PNG", **options) -> bytes:
    """The bytes of the image's file."""
    file = io.BytesIO()
    image.save(file, format=format, **options)
    return file.getvalue()


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A folder of course images: a castle, 64 x 64, with its mask, and a seashore without one."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    scene(64, 64).save(folder / "castle.png")
    box_mask(64, (16, 16, 48, 48)).save(folder / "castle_mask.png")
    scene(64, 64).save(folder / "seashore.png")
    monkeypatch.setattr(reading, "IMAGES", folder)
    monkeypatch.chdir(tmp_path)
    return folder
