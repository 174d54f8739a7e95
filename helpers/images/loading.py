"""Load the pictures and masks that a pipeline takes, and show them side by side."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from PIL import Image

from helpers.catalog.checkpoints import CATALOG
from helpers.common.validation import as_size, check_size
from helpers.images.contact_sheet import show
from helpers.images.masks import alpha_mask, as_mask, by, fit, grow, has_holes, share, shrink, strokes, threshold
from helpers.images.reading import course_pictures, open_picture, to_grey, to_rgb

__all__ = ["check_mask", "load_image", "load_mask", "show"]

SUSPICIOUS_SHARE = 0.6  # of white: above it, black may have been meant for white


def load_image(what: Any, *, size: int | tuple[int, int] | None = None) -> Image.Image:
    """Return a picture that every pipeline takes: mode "RGB", upright, 8 bits.

    what: a course name ("castle"), a path, the bytes of a PNG, JPEG or WebP file, or a PIL picture.
    size: pixels, one int (a square) or (width, height), multiples of 8. Proportions follow `size`, as in diffusers.
        None: a course picture comes in the size that this edition's "sd15" was trained on, since that is what a
        pipeline makes of it unless it is told otherwise; everything else keeps its own size.

    Transparent parts are laid on white (`alpha_mask` reads them as a mask); grey, palette, CMYK and 16-bit pictures
    are converted. Not a picture, cut off, animated, too large, an unknown name, a URL: ValueError.
    """
    target = _target(what, size)
    picture = to_rgb(open_picture(what))
    if target is None or target == picture.size:
        return picture
    return picture.resize(target, Image.Resampling.LANCZOS)


def load_mask(what: Any, *, image: Any = None, size: int | tuple[int, int] | None = None) -> Image.Image:
    """Return a mask of mode "L", 0..255, checked by `check_mask`: white means repaint.

    what: a course name ("castle" has a mask of its own), a path, bytes, or a PIL picture.
    image: the picture it belongs to, a PIL picture or anything load_image takes (of the course's pictures, in the
        same `size`); another size raises ValueError.
    size: as in load_image. A soft mask stays soft; a mask that is black and white stays so when it is resized.

    A mask in the transparency is found there: white strokes on a transparent layer as they are, and in a picture with
    holes the holes are repainted (with a warning, since nothing else says which is meant).
    """
    target = _target(what, size)
    if isinstance(what, str) and what in course_pictures():
        what = f"{what}_mask"
    mask = _read_mask(open_picture(what, name="mask"))
    if target is not None:
        mask = fit(mask, target)
    if image is not None and not isinstance(image, Image.Image):
        image = load_image(image, size=size if _is_of_the_course(image) else None)
    return check_mask(mask, image, stacklevel=3)


def check_mask(mask: Any, image: Any = None, *, stacklevel: int = 2) -> Image.Image:
    """Return the mask as "L" if it is usable; raise ValueError where it is not, warn (UserWarning) where it is odd.

    Raised: another size than `image`; nothing to repaint. Warned: all white; more than 60 % white (wrong polarity?);
    stray pixels; soft. A soft mask stays soft.
    """
    mask = as_mask(mask)
    if image is not None and mask.size != as_size(image, name="image"):
        raise ValueError(
            f"mask is {by(mask.size)} pixels, the image {by(as_size(image))}: they must be equal. "
            "Use mask = fit(mask, image), or load both with the same size=."
        )
    values = np.asarray(mask)
    white = share(mask)
    if white == 0:
        cause = "is all black" if values.max() == 0 else f"never reaches 128 (its brightest pixel is {values.max()})"
        remedy = "multiply its values by 255" if values.max() == 1 else "paint white what should be repainted"
        raise ValueError(f"mask {cause}, so nothing would be repainted: {remedy}.")

    def warn(message: str) -> None:
        warnings.warn(message, UserWarning, stacklevel=stacklevel + 1)

    if white == 1:
        warn("mask is all white: the whole picture will be repainted. Paint black what should stay.")
    elif white > SUSPICIOUS_SHARE:
        warn(f"mask is {white:.0%} white, and white means repaint. If you meant the rest, use invert(mask).")
    strays = _strays(mask)
    if strays:
        warn(
            f"mask has {strays} stray pixel{'s' * (strays != 1)} (value 1 or more) far from its white area; "
            "padding_mask_crop would crop around them too. Use threshold(mask), or paint them black."
        )
    grey = float(((values > 15) & (values < 240)).mean())  # beyond the noise of a JPEG
    if grey > 0.2 * white:  # beyond a smoothed edge
        warn(
            f"mask is soft ({grey:.0%} of its pixels are grey). Pipelines cut it at 50 %; the greys count only in "
            "keep_unmasked and padding_mask_crop. threshold(mask) makes it hard."
        )
    return mask


def _target(what: Any, size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return (CATALOG["sd15"].size,) * 2 if _is_of_the_course(what) else None
    return check_size(size)


def _is_of_the_course(what: Any) -> bool:
    return isinstance(what, str) and what.removesuffix("_mask") in course_pictures()


def _read_mask(picture: Image.Image) -> Image.Image:
    if not has_holes(picture):
        return to_grey(picture)
    if (painted := strokes(picture)) is not None:
        return painted
    warnings.warn(
        "mask was read from the picture's transparency: what is transparent is repainted. "
        "If it is the other way round, use invert(mask).",
        UserWarning,
        stacklevel=3,
    )
    return alpha_mask(picture)


def _strays(mask: Image.Image) -> int:
    """Count pixels above 0 that lie far from every solid white area, if they are so few that nobody meant them."""
    solid = shrink(threshold(mask), 1)
    if solid.getbbox() is None:  # thin lines only: all of it is meant
        return 0
    near = np.asarray(grow(solid, max(8, max(mask.size) // 16))) > 0
    count = int(((np.asarray(mask) > 0) & ~near).sum())
    return count if count <= max(4, 0.01 * share(mask) * mask.width * mask.height) else 0
