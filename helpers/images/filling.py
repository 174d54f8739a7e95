"""fill(): what a hole shows before the first step. Below strength 1 a pipeline starts from it, so it leaves a trace."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from helpers.common.validation import did_you_mean, whole
from helpers.images.masks import THRESHOLD, as_mask, check_equal_sizes, share
from helpers.images.reading import as_image, to_rgb

HOW = ("original", "mean", "noise", "edge", "blur", "telea")
TELEA_RADIUS = 5  # pixels around each one that Telea's method looks at


def fill(image: Any, mask: Any, how: str = "telea", *, seed: int = 0) -> Image.Image:
    """Return the image, "RGB", with something else where the mask is white; what is kept stays pixel for pixel.

    how: "original" (nothing changes), "mean" (the mean colour of what is kept), "noise" (around that mean, spread as
        the kept pixels are, drawn from `seed`), "edge" (each pixel as the nearest kept one), "blur" (the same, soft),
        "telea" (grown inwards from the edge, by `cv2.inpaint`; Telea 2004, https://doi.org/10.1080/10867651.2004.10487596).
    mask: of the image's size, cut at 50 % as the pipelines do.

    ValueError for an unknown `how`, another size, a mask with nothing to fill, or one that keeps nothing to fill from.
    """
    image, mask = to_rgb(as_image(image)), as_mask(mask)
    if how not in HOW:
        raise ValueError(f"how={how!r} is unknown. {did_you_mean(str(how), HOW)}")
    seed = whole("seed", seed, least=0)
    check_equal_sizes("mask", mask.size, "the image", image.size)
    white = share(mask)
    if white == 0:
        raise ValueError("mask never reaches 128, so there is no hole to fill: paint white what should be filled.")
    if how == "original":
        return image
    if white == 1:
        raise ValueError(f"mask is all white, so nothing is kept that how={how!r} could fill from.")
    pixels, hole = np.asarray(image), np.asarray(mask) >= THRESHOLD
    filled = pixels.copy()
    filled[hole] = _filled(pixels, hole, how, seed)[hole]
    return Image.fromarray(filled)


def _filled(pixels: np.ndarray, hole: np.ndarray, how: str, seed: int) -> np.ndarray:
    """An image (H, W, 3) to take the hole's pixels (H, W) from."""
    import cv2

    kept = pixels[~hole]  # (N, 3)
    if how == "mean":
        return np.broadcast_to(kept.mean(axis=0).round().astype(np.uint8), pixels.shape)
    if how == "noise":
        noise = np.random.default_rng(seed).normal(kept.mean(axis=0), kept.std(axis=0), pixels.shape)
        return noise.round().clip(0, 255).astype(np.uint8)
    if how == "telea":
        return cv2.inpaint(pixels, hole.astype(np.uint8), TELEA_RADIUS, cv2.INPAINT_TELEA)
    distance, labels = cv2.distanceTransformWithLabels(
        hole.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    labels = np.asarray(labels, np.intp)  # (H, W): the number of the nearest kept pixel
    nearest = np.zeros((labels.max() + 1, 3), np.uint8)
    nearest[labels[~hole]] = kept
    drawn = nearest[labels]
    return drawn if how == "edge" else cv2.GaussianBlur(drawn, (0, 0), max(float(distance[hole].max()) / 4, 0.5))
