"""Make, check and change masks.

**White means repaint, black means keep.** A mask is a PIL picture of mode "L", 0..255, of exactly the image's size.
The pipelines cut it at 50 %: from 128 up a pixel is repainted. Greys between live on only where pictures are
put together afterwards (`keep_unmasked`, `padding_mask_crop`).

Every function takes masks as PIL pictures or arrays (see `helpers.images.reading.as_pictures`) and returns a new mask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from helpers.common.validation import as_size
from helpers.images.reading import as_picture, open_picture, to_grey, to_rgb

THRESHOLD = 128


def box_mask(size: Any, box: Sequence[float]) -> Image.Image:
    """Repaint a box (left, top, right, bottom) in pixels; right and bottom are not part of it, as in `Image.crop`.

    size: the image, a (width, height) pair, or an int. What lies beyond the image is cut; a box that misses the image
    raises ValueError.
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
    if all(0 <= value <= 1 for corner in corners for value in corner):
        raise ValueError(f"points={corners} look like fractions of the picture: give pixels.")
    mask = Image.new("L", as_size(size), 0)
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    return _not_empty(np.asarray(mask), f"points={corners}")


def alpha_mask(image: Any) -> Image.Image:
    """Repaint what is transparent: the mask of a picture in which something was erased. Soft edges stay soft.

    image: a PIL picture, a path, bytes or a course name. Without transparency it raises ValueError.
    """
    picture = open_picture(image)
    if not has_holes(picture):
        raise ValueError(
            f"image (mode {picture.mode!r}) has no transparent pixel: erase what should be repainted, and save as PNG "
            "or WebP (JPEG keeps no transparency)."
        )
    return ImageChops.invert(picture.convert("RGBA").getchannel("A"))


def has_holes(picture: Image.Image) -> bool:
    """Tell whether any pixel is at least partly transparent."""
    if picture.mode.startswith("I"):  # 16-bit grey, whose one transparent grey level nobody paints
        return False
    return picture.has_transparency_data and picture.convert("RGBA").getchannel("A").getextrema()[0] < 255


def strokes(picture: Image.Image) -> Image.Image | None:
    """The mask that was painted white on a transparent layer; None for a picture of any other kind."""
    if not has_holes(picture):
        return None
    rgba = picture.convert("RGBA")
    alpha = rgba.getchannel("A")
    painted = rgba.convert("L").histogram(mask=alpha.point([0] + [255] * 255))
    return alpha if sum(painted[:250]) == 0 else None


def grow(mask: Any, pixels: int = 8) -> Image.Image:
    """Widen the white by `pixels` to every side, with a round brush (grey dilation by a disc)."""
    mask = as_mask(mask)
    radius = _check_count(pixels, "pixels")
    values = np.asarray(mask)
    height, width = values.shape
    padded = np.pad(values, radius)
    # spans[k][y, x] is the largest of 2**k values from x on, so any row of the disc is the larger of two spans.
    spans = [padded]
    while 2 ** len(spans) <= 2 * radius + 1:
        step = 2 ** (len(spans) - 1)
        last = spans[-1].copy()
        last[:, :-step] = np.maximum(last[:, :-step], spans[-1][:, step:])
        spans.append(last)
    out = values.copy()
    for dy in range(-radius, radius + 1):
        half = math.isqrt(radius * radius - dy * dy)
        level = (2 * half + 1).bit_length() - 1
        rows = spans[level][radius + dy : radius + dy + height]
        first, second = radius - half, radius + half + 1 - 2**level
        np.maximum(out, rows[:, first : first + width], out=out)
        np.maximum(out, rows[:, second : second + width], out=out)
    return Image.fromarray(out)


def shrink(mask: Any, pixels: int = 8) -> Image.Image:
    """Narrow the white by `pixels` from every side; the picture's own border does not count as a side."""
    return invert(grow(invert(mask), pixels))


def invert(mask: Any) -> Image.Image:
    """Swap what is repainted and what is kept."""
    return ImageChops.invert(as_mask(mask))


def blur(mask: Any, blur_factor: float = 4) -> Image.Image:
    """Soften the edge with a Gaussian of radius `blur_factor` pixels, as `pipe.mask_processor.blur` does.

    A pipeline cuts the mask at 50 % again, so the blur acts only in `keep_unmasked` and with `padding_mask_crop`.
    """
    if not _is_number(blur_factor) or blur_factor < 0:
        raise ValueError(f"blur_factor={blur_factor!r}: expected a radius in pixels, 0 or more.")
    return as_mask(mask).filter(ImageFilter.GaussianBlur(blur_factor))


def threshold(mask: Any, at: int = THRESHOLD) -> Image.Image:
    """Make every pixel 0 or 255: white from `at` (1..255) up. 128 is where the pipelines cut."""
    if isinstance(at, bool) or not isinstance(at, int) or not 1 <= at <= 255:
        raise ValueError(f"at={at!r}: expected a grey level from 1 to 255.")
    return as_mask(mask).point([0] * at + [255] * (256 - at))


def share(mask: Any) -> float:
    """Return the share of the picture that a pipeline will repaint, 0..1."""
    return float((np.asarray(as_mask(mask)) >= THRESHOLD).mean())


def fit(picture: Any, image: Any = None, *, multiple: int = 8) -> Image.Image:
    """Resize a picture or mask to `image`'s size, or, without one, down to multiples of `multiple` pixels.

    `image = fit(image); mask = fit(mask, image)` makes a pair for a pipeline. A mask comes back as "L", black and white
    if it was. Taken for one: a grey picture, white strokes on a transparent layer, and what is resized to `image` and
    holds nothing but black and white. All else comes back as "RGB", by Lanczos, transparent parts laid on white. So
    open a grey photograph with `load_image`, and a mask that is made of holes with `load_mask`.

    Proportions follow `image`, as diffusers' own resize does.
    """
    picture = as_picture(picture, name="picture")
    if image is None:
        if _check_count(multiple, "multiple") < 1:
            raise ValueError(f"multiple={multiple}: expected 1 or more.")
        size = tuple(max(multiple, side // multiple * multiple) for side in picture.size)
    else:
        size = as_size(image, name="image")
    mask = to_grey(picture) if picture.mode in ("L", "1") else strokes(picture)
    if mask is None:
        rgb = to_rgb(picture)
        if image is None or not _black_and_white(rgb):
            return rgb if rgb.size == size else rgb.resize(size, Image.Resampling.LANCZOS)
        mask = to_grey(rgb)
    if mask.size == size:
        return mask
    hard = sum(mask.histogram()[1:255]) == 0
    resized = mask.resize(size, Image.Resampling.BILINEAR)
    return threshold(resized) if hard else resized


def keep_unmasked(before: Any, after: Any, mask: Any) -> Image.Image:
    """Put `before` back outside the mask: unmasked pixels are exactly as they were; greys blend the two.

    The same as diffusers' `VaeImageProcessor.apply_overlay`, but pictures of different sizes raise ValueError
    (apply_overlay cuts them silently).
    """
    before, after, mask = check_same_size(before, after, mask)
    return Image.composite(to_rgb(after), to_rgb(before), mask)


def check_same_size(before: Any, after: Any, mask: Any = None) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Return the three as PIL pictures if they have one size, else raise `ValueError`; no mask stands for all white."""
    before, after = as_picture(before, name="before"), as_picture(after, name="after")
    mask = Image.new("L", before.size, 255) if mask is None else as_mask(mask)
    for name, picture in (("after", after), ("mask", mask)):
        if picture.size != before.size:
            raise ValueError(
                f"{name} is {by(picture.size)} pixels, before is {by(before.size)}: they must be equal. "
                f"Use {name} = fit({name}, before), or give the pipeline height and width."
            )
    return before, after, mask


def as_mask(mask: Any) -> Image.Image:
    """Return a mask of mode "L" from any picture or array, without judging it."""
    return to_grey(as_picture(mask, name="mask"))


def _black_and_white(rgb: Image.Image) -> bool:
    """Tell whether a picture holds both, and no colour or grey beside them."""
    return sorted(colour for _, colour in rgb.getcolors(2) or []) == [(0, 0, 0), (255, 255, 255)]


def _check_box(box: Sequence[float], width: int, height: int) -> tuple[float, float, float, float]:
    if not isinstance(box, (tuple, list, np.ndarray)) or len(box) != 4 or not all(_is_number(edge) for edge in box):
        raise ValueError(f"box={box!r}: expected four numbers (left, top, right, bottom) in pixels.")
    left, top, right, bottom = box
    if left >= right or top >= bottom:
        raise ValueError(f"box={tuple(box)} is (left, top, right, bottom): expected left < right and top < bottom.")
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        raise ValueError(f"box={tuple(box)} lies outside the picture of {width} x {height} pixels.")
    return left, top, right, bottom


def _not_empty(mask: np.ndarray, label: str) -> Image.Image:
    if not mask.any():
        raise ValueError(
            f"{label} covers no pixel of the {mask.shape[1]} x {mask.shape[0]} picture: give pixels, not fractions, "
            "that lie inside it."
        )
    return Image.fromarray(mask)


def _check_count(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise ValueError(f"{name}={value!r}: expected a whole number of pixels, 0 or more.")
    return int(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)


def by(size: tuple[int, int]) -> str:
    """Write a size as people do: width x height."""
    return f"{size[0]} x {size[1]}"
