"""Read images safely: a course name, a path, bytes, an array or a PIL image, checked before it is used.

Files are PNG, JPEG or WebP; at most `MAX_BYTES` and `MAX_PIXELS`; one frame; complete; upright by their EXIF tag.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from helpers.catalog.checkpoints import CATALOG
from helpers.common import paths
from helpers.common.validation import check_size, did_you_mean
from helpers.hub.guide_images import guide_image

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 64_000_000
IMAGES = paths.DATA / "pictures"


def load_image(what: Any, *, size: int | tuple[int, int] | None = None) -> Image.Image:
    """Return an image that every pipeline takes: mode "RGB", upright, 8 bits.

    what: a course name ("castle"), a path, the bytes of a PNG, JPEG or WebP file, or a PIL image.
    size: pixels, one int (a square) or (width, height), multiples of 8. The image is stretched to `size`, as diffusers
        does. None: a course image comes in the size that this edition's "sd15" was trained on, which is what a
        pipeline makes of it by default; everything else keeps its own size.

    Transparency is laid on white (`alpha_mask` reads it as a mask); grey, palette, CMYK and 16-bit images are
    converted. ValueError for what is no image, truncated, animated or too large, for an unknown name, and for a URL.
    """
    target = target_size(what, size)
    image = to_rgb(open_image(what))
    return image if target in (None, image.size) else image.resize(target, Image.Resampling.LANCZOS)


def target_size(what: Any, size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """The size, (width, height), in which `what` is loaded; None for its own. See `load_image`."""
    if size is not None:
        return check_size(size)
    side = CATALOG["sd15"].size
    return (side, side) if is_course_name(what) else None


def course_images() -> list[str]:
    """The names that `load_image` and `load_mask` know."""
    return sorted(path.stem for path in IMAGES.glob("*.png") if not path.stem.endswith(("_mask", "_depth")))


def is_course_name(what: Any) -> bool:
    """Whether `what` names one of the course's images or its mask."""
    return isinstance(what, str) and what.removesuffix("_mask") in course_images()


def open_image(what: Any, *, name: str = "image") -> Image.Image:
    """Return `what` as a loaded, upright copy in its own mode, or raise an error that begins with `name`.

    what: a course name ("castle"), a path, the bytes of a file, or a PIL image.
    """
    if isinstance(what, Image.Image):
        return _checked(what, f"{name}=<{what.mode} image, {what.width} x {what.height}>")
    if isinstance(what, (bytes, bytearray, memoryview)):
        return _decoded(bytes(what), f"{name}=<{len(what)} bytes>")
    if isinstance(what, (str, os.PathLike)):
        data = paths.read_bytes(_find(what, name), most=MAX_BYTES, name=name)
        return _decoded(data, f"{name}={str(what)!r}")
    raise TypeError(
        f"{name}: expected a course name, a path, bytes or a PIL image, got {_kind(what)}. Of an array pass "
        "Image.fromarray(array), of an open file what its read() returns."
    )


def as_images(what: Any, *, name: str = "image") -> list[Image.Image]:
    """Turn a PIL image, an array or a batch of either into PIL images, upright by their EXIF tag.

    Arrays (numpy or torch): (H, W), (H, W, C), (C, H, W) or a batch (B, ...) of these, C = 1, 3 or 4; bool, integers
    0..255, floats 0..1, or floats -1..1 where one is negative. A pipeline's output is read as its `.images`.
    """
    if isinstance(what, Image.Image):
        return [_upright(what)]
    if isinstance(what, (list, tuple)):
        return [image for item in what for image in as_images(item, name=name)]
    if hasattr(what, "images"):
        return as_images(what.images, name=name)
    if not hasattr(what, "shape"):
        hint = "; open it with load_image first" if isinstance(what, (str, bytes, os.PathLike)) else ""
        raise TypeError(f"{name}: expected a PIL image or an array, got {_kind(what)}{hint}.")
    if hasattr(what, "detach"):
        what = what.detach().cpu()
        what = what.float() if what.is_floating_point() else what  # numpy has no bfloat16
    array = np.asarray(what)
    return [_from_array(one, name) for one in (array if array.ndim == 4 else [array])]


def as_image(what: Any, *, name: str = "image") -> Image.Image:
    """Turn one PIL image or array into one PIL image; see `as_images`."""
    images = as_images(what, name=name)
    if len(images) != 1:
        raise ValueError(f"{name}: expected one image, got {len(images)}; pass one of them.")
    return images[0]


def to_rgb(image: Image.Image, *, name: str = "image") -> Image.Image:
    """Convert any mode to "RGB": transparency is laid on white, 16-bit grey is scaled to 0..255."""
    if image.mode == "F" or image.mode.startswith("I"):
        rgb = _to_8_bits(image, name).convert("RGB")
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        rgb = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    else:
        rgb = image.convert("RGB")
    rgb.info.clear()  # no camera's GPS position in what a notebook saves
    return rgb


def to_grey(image: Image.Image, *, name: str = "mask") -> Image.Image:
    """Convert any mode to "L", 0..255; transparency is ignored."""
    if image.mode == "F" or image.mode.startswith("I"):
        grey = _to_8_bits(image, name)
    else:
        grey = image.convert("RGBA").convert("L") if image.mode in ("P", "PA") else image.convert("L")
    grey.info.clear()
    return grey


def _find(what: str | os.PathLike, name: str) -> str | Path:
    """The path that is meant; ValueError for a URL, and for what is neither a course name nor looks like a path."""
    text = os.fsdecode(os.fspath(what))
    if isinstance(what, str):
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://|data:", text):
            raise ValueError(
                f"{name}={text[:60]!r} is a URL: images are not fetched from the web. "
                "Download the file yourself and pass its path."
            )
        known = IMAGES / f"{text}.png"
        if is_course_name(text) and known.is_file():
            return guide_image(text) or known
    path = paths.expand(text, name=name)
    if path.suffix or len(path.parts) != 1 or os.path.lexists(path):
        return text
    hint = did_you_mean(text, course_images())
    raise ValueError(f"{name}={text[:200]!r} is neither an image of the course nor a file in this folder. {hint}")


def _decoded(data: bytes, label: str) -> Image.Image:
    if len(data) > MAX_BYTES:
        raise ValueError(f"{label} is larger than {MAX_BYTES // 2**20} MiB: save a smaller copy.")
    if not data:
        raise ValueError(f"{label} is empty: there is no image in it.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own cap follows
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(_too_large(label, "far too many")) from error
    except Exception as error:  # Pillow lets many kinds through for a broken header
        if data.startswith((b"\x89PNG", b"\xff\xd8", b"RIFF")):
            raise ValueError(f"{label} is broken or cut off: download or save it again.") from error
        raise ValueError(f"{label} is not an image that can be read: expected PNG, JPEG or WebP.") from error
    return _checked(image, label)


def _checked(image: Image.Image, label: str) -> Image.Image:
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(_too_large(label, f"{image.width} x {image.height}"))
    if image.width < 1 or image.height < 1:
        raise ValueError(f"{label} has no pixels.")
    # A phone's JPEG may carry a second image (MPO); its first is the photograph.
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise ValueError(f"{label} is animated ({frames} frames): save one frame as PNG and pass that.")
    try:
        image.load()
    except Exception as error:
        raise ValueError(f"{label} is broken or cut off ({error}): download or save it again.") from error
    return _upright(image)


def _upright(image: Image.Image) -> Image.Image:
    """A copy, turned as its EXIF tag says."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged tag says nothing about which way is up
        return image.copy()


def _too_large(label: str, pixels: str) -> str:
    return f"{label} has {pixels} pixels: at most {MAX_PIXELS // 10**6} million are read. Save a smaller copy."


def _to_8_bits(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image)
    if image.mode == "F":
        raise ValueError(f"{name} has float pixels (mode 'F') of unknown range: convert it to 0..255 first.")
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"{name} has values {values.min()}..{values.max()}: expected 8 or 16 bits (0..65535).")
    if image.mode.startswith("I;16") or values.max() > 255:
        values = (values.astype(np.uint32) + 128) // 257  # 65535 -> 255
    return Image.fromarray(values.astype(np.uint8))


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    shape = array.shape
    if array.ndim == 3 and shape[-1] not in (1, 3, 4) and shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)
        if shape[0] == 4 and array.dtype.kind == "f":
            raise ValueError(f"{name} of shape {shape} looks like latents (4 channels): decode them first.")
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or array.size == 0 or (array.ndim == 3 and array.shape[-1] not in (3, 4)):
        raise ValueError(f"{name} has shape {shape}: expected (H, W), (H, W, 3) or (3, H, W).")
    if array.dtype.kind == "b":
        return Image.fromarray(array.astype(np.uint8) * 255)
    low, high = array.min(), array.max()
    if array.dtype.kind in "iu" and 0 <= low and high <= 255:
        return Image.fromarray(array.astype(np.uint8))
    if array.dtype.kind == "f" and -1.001 <= low and high <= 1.001:  # False for NaN
        array = (array.astype(np.float32) + 1) / 2 if low < -0.001 else array.astype(np.float32)
        return Image.fromarray((array.clip(0, 1) * 255).round().astype(np.uint8))
    raise ValueError(
        f"{name} has {array.dtype} values {low}..{high}: expected bool, integers 0..255 or floats 0..1 (or -1..1)."
    )


def _kind(what: Any) -> str:
    return "None" if what is None else f"{type(what).__module__}.{type(what).__qualname__}".removeprefix("builtins.")
