"""Make, load, check and change masks.

**White means repaint, black means keep.** A mask is a PIL image of mode "L", 0..255, of exactly the image's size.
The pipelines cut it at 50 %: from 128 up a pixel is repainted. The greys in between count only where images are
composited afterwards (`keep_unmasked`, `padding_mask_crop`).

`as_mask` is how every function of the course reads one: a PIL image of any mode, or an array or tensor by its dtype
(see `helpers.images.reading`; of integers, 0 and 1 alone will do). A mask may stand in the alpha channel: white strokes
on a transparent layer are taken as they are; in an image with holes the holes are repainted, with a warning, since
nothing else says which of the two is meant. Every function returns a new mask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from helpers.common import validation
from helpers.common.notices import warn
from helpers.common.validation import number, whole
from helpers.images.reading import (
    as_image,
    course_images,
    is_course_name,
    load_image,
    open_image,
    target_size,
    to_grey,
    to_rgb,
)

THRESHOLD = 128
STORED = (str, PathLike, bytes, bytearray, memoryview)  # what is opened before it is read
SUSPICIOUS_SHARE = 0.6  # of white: above it, black may have been meant for white
ALMOST_BLACK, ALMOST_WHITE = 15, 240  # the noise of a JPEG stays below the one or above the other


def box_mask(size: Any, box: Sequence[float]) -> Image.Image:
    """Repaint a box (left, top, right, bottom) in pixels; right and bottom are not part of it, as in `Image.crop`.

    size: the image, a (width, height) pair, or an int. What lies beyond the image is cut; a box that misses the image,
    and one that is given in fractions of the image, raises ValueError.
    """
    width, height = as_size(size)
    left, top, right, bottom = (round(edge) for edge in _check_box(box, width, height))
    mask = np.zeros((height, width), np.uint8)
    mask[max(top, 0) : bottom, max(left, 0) : right] = 255
    return _not_empty(mask, f"box={tuple(box)}")


def ellipse_mask(size: Any, box: Sequence[float]) -> Image.Image:
    """Repaint the ellipse that fills a box (left, top, right, bottom) in pixels; see `box_mask`."""
    width, height = as_size(size)
    left, top, right, bottom = _check_box(box, width, height)
    y, x = np.ogrid[0.5:height, 0.5:width]  # pixel centres
    across = (x - (left + right) / 2) / ((right - left) / 2)
    down = (y - (top + bottom) / 2) / ((bottom - top) / 2)
    return _not_empty((across**2 + down**2 <= 1) * np.uint8(255), f"box={tuple(box)}")


def polygon_mask(size: Any, points: Sequence[Sequence[float]]) -> Image.Image:
    """Repaint the inside of a polygon of three or more (x, y) points in pixels; see `box_mask` for `size`."""
    corners = [tuple(point) for point in points]
    if len(corners) < 3:
        raise ValueError(f"points={corners}: a polygon needs at least 3 points (x, y), got {len(corners)}.")
    for corner in corners:
        if len(corner) != 2 or not all(_is_number(value) for value in corner):
            raise ValueError(f"points holds {corner!r}: expected (x, y) in pixels.")
    size = as_size(size)
    if _is_fraction(max(corner[0] for corner in corners), max(corner[1] for corner in corners), size):
        pixels = [(round(x * size[0]), round(y * size[1])) for x, y in corners]
        raise ValueError(f"points={corners} look like fractions of the image: give pixels, such as {pixels}.")
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    return _not_empty(np.asarray(mask), f"points={corners}")


def load_mask(what: Any, *, image: Any = None, size: int | tuple[int, int] | None = None) -> Image.Image:
    """Return a mask of mode "L", 0..255, checked by `check_mask`: white means repaint.

    what: a course name ("castle" has a mask of its own), a path, bytes, a PIL image, or an array.
    image: the image it belongs to, a PIL image or anything load_image takes (a course image is loaded in the same
        `size`); another size raises ValueError.
    size: as in load_image. A soft mask stays soft; a black-and-white mask stays so when it is resized.

    It is read by `as_mask`.
    """
    target = target_size(what, size)
    if isinstance(what, str) and what in course_images():
        what = f"{what}_mask"
    mask = as_mask(open_image(what, name="mask") if isinstance(what, STORED) else what)
    if target is not None:
        mask = fit(mask, target)
    if image is not None and not isinstance(image, Image.Image):
        image = load_image(image, size=size if is_course_name(image) else None)
    return check_mask(mask, image)


def check_mask(mask: Any, image: Any = None) -> Image.Image:
    """Return the mask as "L" if it is usable; raise ValueError where it is not, warn (UserWarning) where it is odd.

    Raised: another size than `image`; nothing to repaint. Warned: all white; more than 60 % white (wrong polarity?);
    stray pixels; soft. A soft mask stays soft.
    """
    mask = as_mask(mask)
    if image is not None:
        check_equal_sizes("mask", mask.size, "the image", as_size(image, name="image"))
    values = np.asarray(mask)
    white = share(mask)
    if white == 0:
        cause = "is all black" if values.max() == 0 else f"never reaches 128 (its brightest pixel is {values.max()})"
        raise ValueError(f"mask {cause}, so nothing would be repainted: paint white what should be repainted.")
    odd = []
    if white == 1:
        odd.append("mask is all white: the whole image will be repainted. Paint black what should stay.")
    elif white > SUSPICIOUS_SHARE:
        odd.append(f"mask is {white:.0%} white, and white means repaint. If you meant the rest, use invert(mask).")
    grey = float(((values > ALMOST_BLACK) & (values < ALMOST_WHITE)).mean())
    if grey > 0.2 * white:  # beyond a smoothed edge
        odd.append(
            f"mask is soft ({grey:.0%} of its pixels are grey). Pipelines cut it at 50 %; the greys count only in "
            "keep_unmasked and padding_mask_crop. threshold(mask) makes it hard."
        )
    elif strays := stray_pixels(mask):
        odd.append(
            f"mask has {strays} stray pixel{'s' * (strays != 1)} (value 1 or more) far from its white area; "
            "padding_mask_crop would crop around them too. Use threshold(mask), or paint them black."
        )
    for message in odd:
        warn(message)
    return mask


def alpha_mask(image: Any) -> Image.Image:
    """Repaint what is transparent: the mask of an image in which something was erased. Soft edges stay soft.

    image: a PIL image, a path, bytes or a course name. Without transparency it raises ValueError.
    """
    image = open_image(image)
    if not has_holes(image):
        raise ValueError(
            f"image (mode {image.mode!r}) has no transparent pixel: erase what should be repainted, and save as PNG "
            "or WebP (JPEG keeps no transparency)."
        )
    return ImageChops.invert(image.convert("RGBA").getchannel("A"))


def has_holes(image: Image.Image, *, below: int = 255) -> bool:
    """Tell whether the alpha of any pixel is lower than that: by default, whether it is at least partly transparent."""
    if image.mode.startswith("I"):  # 16-bit grey, whose one transparent grey level nobody paints
        return False
    return image.has_transparency_data and any(image.convert("RGBA").getchannel("A").histogram()[:below])


def strokes(image: Image.Image) -> Image.Image | None:
    """The mask that was painted white on a transparent layer; None for an image of any other kind."""
    if not has_holes(image):
        return None
    rgba = image.convert("RGBA")
    alpha = rgba.getchannel("A")
    painted = rgba.convert("L").histogram(mask=alpha.point([0] + [255] * 255))
    return alpha if sum(painted[:250]) == 0 else None


def grow(mask: Any, pixels: int = 8) -> Image.Image:
    """Widen the white by `pixels` on every side, with a round brush (grey dilation by a disc)."""
    import cv2

    values, radius = np.asarray(as_mask(mask)), whole("pixels", pixels, least=0)
    if not values.any():
        return Image.fromarray(values)
    if not ((values > 0) & (values < 255)).any():  # hard: white is whatever has white within reach, for any radius
        distance = cv2.distanceTransform(255 - values, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return Image.fromarray((distance <= radius) * np.uint8(255))
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return Image.fromarray(cv2.dilate(values, (x * x + y * y <= radius * radius).astype(np.uint8)))


def shrink(mask: Any, pixels: int = 8) -> Image.Image:
    """Narrow the white by `pixels` from every side; the image's own border does not count as a side."""
    return invert(grow(invert(mask), pixels))


def invert(mask: Any) -> Image.Image:
    """Swap what is repainted and what is kept."""
    return ImageChops.invert(as_mask(mask))


def blur(mask: Any, blur_factor: float = 4) -> Image.Image:
    """Soften the edge with a Gaussian of radius `blur_factor` pixels, as `pipe.mask_processor.blur` does.

    A pipeline cuts the mask at 50 % again, so the blur acts only in `keep_unmasked` and with `padding_mask_crop`.
    """
    return as_mask(mask).filter(ImageFilter.GaussianBlur(number("blur_factor", blur_factor, low=0)))


def threshold(mask: Any, at: int = THRESHOLD) -> Image.Image:
    """Make every pixel 0 or 255: white from `at` (1..255) up. 128 is where the pipelines cut."""
    return _cut(as_mask(mask), whole("at", at, least=1, most=255))


def _cut(mask: Image.Image, at: int = THRESHOLD) -> Image.Image:
    return mask.point([0] * at + [255] * (256 - at))


def share(mask: Any) -> float:
    """Return the share of the image that a pipeline will repaint, 0..1."""
    return float((np.asarray(as_mask(mask)) >= THRESHOLD).mean())


def fit(what: Any, image: Any = None, *, multiple: int = 8) -> Image.Image:
    """Resize an image or mask to `image`'s size, or, without one, down to multiples of `multiple` pixels.

    `image = fit(image); mask = fit(mask, image)` makes a pair for a pipeline. A mask comes back as "L", black and white
    if it was. Taken for a mask: a grey image, white strokes on a transparent layer, and, given `image`, what is nothing
    but black and white. Everything else comes back as "RGB", resampled by Lanczos, transparency laid on white. So open
    a grey photograph with `load_image`, and a mask that is made of holes with `load_mask`.

    The result is stretched to the new size, as in diffusers' own resize.
    """
    what = as_image(what, name="what", mask=True)
    if image is None:
        multiple = whole("multiple", multiple, least=1)
        width, height = (max(multiple, side // multiple * multiple) for side in what.size)
    else:
        width, height = as_size(image, name="image")
    size = width, height
    grey = what.mode in ("L", "1") or what.mode.startswith("I") or (what.mode == "LA" and not has_holes(what))
    mask = to_grey(what) if grey else strokes(what)
    if mask is None:
        rgb = to_rgb(what)
        if image is None or not _black_and_white(rgb):
            return rgb if rgb.size == size else rgb.resize(size, Image.Resampling.LANCZOS)
        mask = to_grey(rgb)
    if mask.size == size:
        return mask
    hard = sum(mask.histogram()[1:255]) == 0
    resized = mask.resize(size, Image.Resampling.BILINEAR)
    return _cut(resized) if hard else resized


def keep_unmasked(before: Any, after: Any, mask: Any) -> Image.Image:
    """Put `before` back outside the mask: unmasked pixels are exactly as they were; greys blend the two.

    The same as diffusers' `VaeImageProcessor.apply_overlay`, but images of different sizes raise ValueError
    (apply_overlay cuts them silently).
    """
    before, after, mask = check_same_size(before, after, mask)
    return Image.composite(to_rgb(after), to_rgb(before), mask)


def check_same_size(before: Any, after: Any, mask: Any = None) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Return the three as PIL images if they have one size, else raise `ValueError`; no mask stands for all white."""
    before, after = as_image(before, name="before"), as_image(after, name="after")
    mask = Image.new("L", before.size, 255) if mask is None else as_mask(mask)
    for name, image in (("after", after), ("mask", mask)):
        remedy = f"Use {name} = fit({name}, before), or give the pipeline height and width."
        check_equal_sizes(name, image.size, "before is", before.size, remedy=remedy)
    return before, after, mask


def check_equal_sizes(
    name: str,
    size: tuple[int, int],
    other: str,
    wanted: tuple[int, int],
    *,
    remedy: str = "Use mask = fit(mask, image), or load both with the same size=.",
) -> None:
    """ValueError, with the remedy, where `name` has not the size, (width, height) in pixels, that `other` has."""
    if size != wanted:
        raise ValueError(f"{name} is {by(size)} pixels, {other} {by(wanted)}: they must be equal. {remedy}")


def as_mask(mask: Any) -> Image.Image:
    """Read a mask, as every function of the course does: mode "L", white means repaint, soft where it is soft.

    mask: a PIL image or an array, see the head of this module; its alpha says what is repainted where it has any. It
    is not judged, but for one: a PIL image whose brightest pixel is 1 of 255 raises ValueError, as it looks all black
    and cannot be meant so.
    """
    image = as_image(mask, name="mask", mask=True)
    if has_holes(image, below=THRESHOLD):
        if (painted := strokes(image)) is not None:
            return painted
        warn(
            "mask was read from the image's alpha channel: what is transparent is repainted. "
            "If it is the other way round, use invert(mask)."
        )
        return alpha_mask(image)
    grey = to_grey(image)
    if grey.getextrema()[1] == 1:
        raise ValueError(
            "mask never reaches 128 (its brightest pixel is 1), so nothing would be repainted: multiply its values by "
            "255, or pass the array that it was made of."
        )
    return grey


def as_size(size: Any, *, name: str = "size") -> tuple[int, int]:
    """Read (width, height) as `validation.as_size` does, or from an image that is an array."""
    if not isinstance(size, Image.Image) and len(getattr(size, "shape", ())) > 1:
        return as_image(size, name=name).size
    return validation.as_size(size, name=name)


def stray_pixels(mask: Image.Image) -> int:
    """Count pixels above 0 that lie far from every white area, and that nobody meant: dark ones, or just a few."""
    solid = shrink(threshold(mask), 1)
    if solid.getbbox() is None:  # thin lines only: all of them are meant
        solid = threshold(mask)
    near = np.asarray(grow(solid, max(8, max(mask.size) // 16))) > 0
    values = np.asarray(mask)
    dark, bright = (int((there & ~near).sum()) for there in ((values > 0) & (values < THRESHOLD), values >= THRESHOLD))
    return dark + (bright if bright <= max(4, 0.01 * share(mask) * mask.width * mask.height) else 0)


def _black_and_white(rgb: Image.Image) -> bool:
    """Tell whether an image holds both, and no colour or grey beside them."""
    return sorted(colour for _, colour in rgb.getcolors(2) or []) == [(0, 0, 0), (255, 255, 255)]


def _check_box(box: Sequence[float], width: int, height: int) -> tuple[float, float, float, float]:
    if not isinstance(box, (tuple, list, np.ndarray)) or len(box) != 4 or not all(_is_number(edge) for edge in box):
        raise ValueError(f"box={box!r}: expected four numbers (left, top, right, bottom) in pixels.")
    left, top, right, bottom = box
    if _is_fraction(right, bottom, (width, height)):
        pixels = tuple(round(edge * side) for edge, side in zip(box, (width, height) * 2, strict=True))
        raise ValueError(
            f"box={tuple(box)} covers no pixel of the {width} x {height} image, or its first alone: give pixels, not "
            f"fractions, such as {pixels}."
        )
    if left >= right or top >= bottom:
        raise ValueError(f"box={tuple(box)} is (left, top, right, bottom): expected left < right and top < bottom.")
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        raise ValueError(f"box={tuple(box)} lies outside the image of {width} x {height} pixels.")
    return left, top, right, bottom


def _not_empty(mask: np.ndarray, label: str) -> Image.Image:
    if not mask.any():
        raise ValueError(
            f"{label} covers no pixel of the {mask.shape[1]} x {mask.shape[0]} image: give pixels that lie inside it."
        )
    return Image.fromarray(mask)


def _is_fraction(right: float, bottom: float, size: tuple[int, int]) -> bool:
    """Whether what ends there reaches beyond the first pixel of an image that has more, as fractions never do."""
    return 0 < right <= 1.25 and 0 < bottom <= 1.25 and max(size) > 2


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)


def by(size: tuple[int, int]) -> str:
    """Write a size as people do: width x height."""
    return f"{size[0]} x {size[1]}"
