"""select(): a mask from a box around an object, or from a click on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from helpers.common.validation import number
from helpers.images.masks import box_mask, by, fit, threshold
from helpers.images.reading import as_image, to_rgb

WORKING_SIDE = 256  # pixels: larger images are looked at in this size
ROUNDS = 5  # of learning the colours of both sides, and cutting anew
WIDE, HIGH = 0.18, 0.24  # how far from a click an object is looked for, as a share of the image's longer side


def select(image: Any, *, box: Sequence[float] | None = None, point: Sequence[float] | None = None) -> Image.Image:
    """Return a mask, "L", white on the object inside `box` or under `point`, 0 or 255, of the image's size.

    box: (left, top, right, bottom) in pixels, all around the object. What lies outside it is background.
    point: (x, y) in pixels, on the object. A click does not say how large the object is: one is looked for that is up
        to about half as wide as the image. Give both, and the object is the one at the point, within the box.

    The colours inside and outside are told apart by `cv2.grabCut` (Rother et al. 2004,
    https://doi.org/10.1145/1015706.1015720), always with the same seed. ValueError for neither box nor point, for a
    point outside the image or the box, a box that leaves no background, and where nothing stands out.
    """
    image = to_rgb(as_image(image))
    if box is None and point is None:
        raise ValueError("select needs box=(left, top, right, bottom) around the object, or point=(x, y) on it.")
    inside = None if box is None else np.asarray(box_mask(image, box)) > 0
    at = None if point is None else _pixel(point, image.size)
    if inside is not None:
        if inside.all():
            raise ValueError(
                f"box={tuple(box or ())} holds the whole image of {by(image.size)} pixels: "
                "leave some background outside it to compare with."
            )
        if at is not None and not inside[at[1], at[0]]:
            raise ValueError(f"point={tuple(point or ())} lies outside box={tuple(box or ())}.")
    found = _cut_out(image, inside, at)
    if not found.any():
        what = f"box={tuple(box)}" if box is not None else f"point={tuple(point or ())}"
        raise ValueError(
            f"nothing stands out from its surroundings at {what}: draw the box closer around the object, or paint "
            "the mask by hand."
        )
    return threshold(fit(Image.fromarray(found * np.uint8(255)), image))


def _pixel(point: Sequence[float], size: tuple[int, int]) -> tuple[int, int]:
    """The pixel under a point, checked."""
    if not isinstance(point, (tuple, list, np.ndarray)) or len(point) != 2:
        raise ValueError(f"point={point!r}: expected two numbers (x, y) in pixels.")
    x, y = (number("point", value) for value in point)
    if not (0 <= x < size[0] and 0 <= y < size[1]):
        raise ValueError(f"point={tuple(point)} lies outside the image of {by(size)} pixels.")
    if 0 < x < 1 and 0 < y < 1:
        pixel = int(x * size[0]), int(y * size[1])
        raise ValueError(f"point={tuple(point)} looks like fractions of the image: give pixels, such as {pixel}.")
    return int(x), int(y)


def _cut_out(image: Image.Image, inside: np.ndarray | None, at: tuple[int, int] | None) -> np.ndarray:
    """The object as bool (h, w), in the image's size or, of a large image, smaller."""
    import cv2

    scale = min(1.0, WORKING_SIDE / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BOX) if scale < 1 else image)
    sides = np.full((height, width), cv2.GC_PR_FGD, np.uint8)
    if at is not None:
        x, y = (min(int(value * scale), side - 1) for value, side in zip(at, (width, height), strict=True))
        rows, columns = np.ogrid[:height, :width]
        longer = max(width, height)
        away = np.hypot((columns - x) / (WIDE * longer), (rows - y) / (HIGH * longer))
        if inside is None:
            sides[away >= 1], sides[away > 2] = cv2.GC_PR_BGD, cv2.GC_BGD
        sides[away < 0.15] = cv2.GC_FGD
        sides[y, x] = cv2.GC_FGD
    if inside is not None:
        within = cv2.resize(inside.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
        sides[~within] = cv2.GC_BGD
    if not _both_sides(sides):
        return np.zeros((height, width), bool)
    cv2.setRNGSeed(0)  # it starts from k-means
    cv2.grabCut(pixels, sides, None, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    found = (sides == cv2.GC_FGD) | (sides == cv2.GC_PR_FGD)
    if at is not None:  # the one piece that was clicked on
        pieces = cv2.connectedComponents(found.astype(np.uint8), connectivity=8)[1]
        found &= pieces == pieces[y, x]
    return found


def _both_sides(sides: np.ndarray) -> bool:
    """Whether there is something to learn on either side: grabCut fails without."""
    foreground = sides & 1 > 0  # GC_FGD is 1, GC_PR_FGD 3
    return bool(foreground.any() and (~foreground).any())
