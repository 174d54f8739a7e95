"""The exercises of chapter 02: a shape, a safe margin, a broken mask, and a soft composition."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from helpers.analysis.image_metrics import change
from helpers.exercises import exercise
from helpers.exercises.kit import REPAINTED, Hint, expect_image, expect_images, expect_list
from helpers.images.masks import THRESHOLD, as_mask, by, grow, load_mask, shrink
from helpers.images.reading import load_image

WRONG = 0.01  # share of pixels that may be on the wrong side: about an edge of one pixel


@exercise(
    "02.1", right="It is white from two thirds of the height down, so the model may paint there from edge to edge."
)
def lower_third(answer: Any) -> str | None:
    image = load_image("seashore")
    _expect_mask(answer, image)
    wanted = np.zeros((image.height, image.width), bool)
    wanted[round(image.height * 2 / 3) :] = True
    white = _white(answer)
    if _apart(white, wanted) <= WRONG:
        return None
    if _apart(white, ~wanted) <= WRONG:
        return "That is the other part: white is repainted, and it should be the lower third. invert(mask) swaps them."
    if _apart(white, wanted[::-1]) <= WRONG:
        return "That is the upper third. y runs downwards: 0 is the top, image.height the bottom."
    if _apart(white, wanted.T) <= WRONG or _apart(white, wanted.T[:, ::-1]) <= WRONG:
        return "That is a third of the width. A box is (left, top, right, bottom), x before y."
    return (
        f"{white.mean():.0%} of it is white, from row {_first_row(white)} down; expected a third, from row "
        f"{round(image.height * 2 / 3)} of {image.height} down, over the whole width."
    )


@exercise("02.2", right="The cat and its margin are safe, and everything else will be new. First grow, then invert.")
def world_without_the_cat(answer: Any) -> str | None:
    image = load_image("bench")
    _expect_mask(answer, image)
    cat, pixels, white = load_mask("bench"), image.width // 25, _white(answer)
    for kept, hint in (
        (grow(cat, pixels), None),
        (cat, "The margin is missing: grow the cat's mask before you invert it."),
        (shrink(cat, pixels), "This eats into the cat. First grow what should be safe, then invert."),
    ):
        if _apart(white, ~_white(kept)) <= WRONG / 2:
            return hint
    if _apart(white, _white(grow(cat, pixels))) <= WRONG / 2:
        return "The cat would be repainted and its world kept. Swap black and white with invert."
    return (
        f"{white.mean():.1%} of it is white, expected {1 - _white(grow(cat, pixels)).mean():.1%}: everything but the "
        f"cat's mask grown by {pixels} pixels."
    )


@exercise(
    "02.3", right="The right size, hard-edged, clean, and white on the rock. load_mask has nothing to warn about."
)
def repaired(answer: Any) -> str | None:
    image, rock = load_image("road"), load_mask("road")
    _expect_mask(answer, image)
    white, wanted = _white(answer), _white(rock)
    if _apart(white, ~wanted) < _apart(white, wanted):
        return "Size and edges are right, but the rock is black: white is repainted, so invert it."
    strays = int((white & ~_white(grow(rock, image.width // 16))).sum())
    if 0 < strays <= 16:
        return (
            f"{strays} white pixel{'s' * (strays != 1)} lie{'s' * (strays == 1)} far from the rock: the stray one is "
            "still there. Is it on the right side of the threshold?"
        )
    overlap = (white & wanted).sum() / (white | wanted).sum()
    if overlap < 0.9:
        return (
            f"It matches the rock's mask by only {overlap:.0%}, expected more than 90 %. Did every step keep the shape?"
        )
    return None


@exercise("02.4", right="The original far from the rock, and a blend at its edge. This is where a soft mask belongs.")
def composed_softly(answer: Any) -> str | None:
    expect_list(answer, 2, "a list of two images, [painted, composed]")
    image, rock = load_image("road"), load_mask("road")
    expect_images(answer, ("painted", "composed"), image.size, "the road image")
    painted, composed = answer
    if change(image, painted, rock).inside < REPAINTED:
        return (
            "The painted image still shows the rock. It should be what the pipeline returned for the road and its mask."
        )
    reach = image.width // 6  # a margin of twice the blur's radius, and the blur, as the chapter has them
    far = change(image, composed, grow(rock, reach)).outside
    if far > 0 and far < change(image, painted, grow(rock, reach)).outside / 2:
        return f"The blur reaches too far: {reach} pixels away from the rock, some of it is left. Blur less."
    if far > 0:
        return (
            f"Far from the rock it differs from the original by {far:.2f} grey levels, expected exactly 0. Use "
            "keep_unmasked(image, painted, soft mask), in this order."
        )
    core = shrink(rock, image.width // 8)
    if _white(core).any() and change(image, composed, core).inside < REPAINTED / 2:
        return "In the middle of the rock the old image shows. Put the original first, the painted image second."
    outer, inner = _blend(image, painted, composed, rock)
    if outer < 0.02 and inner > 0.98:
        return "The edge is hard: a pixel is either old or new. Blur the mask before you give it to keep_unmasked."
    return None


def _blend(image: Image.Image, painted: Image.Image, composed: Image.Image, rock: Image.Image) -> tuple[float, float]:
    """How much of the painted image is in the composed one, 0..1, just outside the rock's mask and just inside."""
    old, new, mixed = (np.asarray(one.convert("RGB"), np.float64) for one in (image, painted, composed))
    bands = (_white(grow(rock, 2)) & ~_white(rock), _white(rock) & ~_white(shrink(rock, 2)))
    shares = []
    for band in bands:
        step = (new - old)[band]
        shares.append(float(((mixed - old)[band] * step).sum() / max((step**2).sum(), 1.0)))
    return shares[0], shares[1]


def _expect_mask(answer: Any, image: Image.Image) -> None:
    """A black-and-white mask of the image's size, not all black."""
    expect_image(answer, what="a mask, a PIL image of mode L")
    if answer.size != image.size:
        raise Hint(
            f"The mask is {by(answer.size)} pixels, the image {by(image.size)}: they must be equal. "
            "fit(mask, image) resizes it."
        )
    values = np.asarray(as_mask(answer))
    if ((values > 0) & (values < 255)).any():
        raise Hint("It has grey pixels. A pipeline cuts them at 50 % anyway: threshold(mask) shows you where.")
    if not values.any():
        raise Hint("It is all black, so nothing would be repainted. Paint white what should be new.")


def _white(mask: Image.Image) -> np.ndarray:
    return np.asarray(as_mask(mask)) >= THRESHOLD


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """The share of pixels on which two masks disagree; 1 where they differ in shape."""
    return float((one != other).mean()) if one.shape == other.shape else 1.0


def _first_row(white: np.ndarray) -> int:
    return int(np.flatnonzero(white.any(axis=1))[0])
