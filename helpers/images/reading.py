"""Read images safely: a course name, a path, bytes, an array or a PIL image, checked before it is used.

Files are PNG, JPEG or WebP; at most `MAX_BYTES` and `MAX_PIXELS`; one frame; complete. They are turned upright as their
EXIF or XMP says, and an image's colours are taken into sRGB by its profile (a mask's greys are numbers, and stay).

**Arrays and tensors mean the same everywhere, by their dtype**, in NumPy and in torch:

    bool                    False is black, True white
    uint8, other integers   0..255; uint16 with values above 255: 0..65535, as in a PNG of 16 bits
    floats                  0..1; or -1..1, as pipelines have them, where the lowest is below -0.1

in the shape (H, W), (H, W, C) or (C, H, W) with C = 1, 3 or 4, or a batch (B, ...) of these; where both ends may be
channels, they come last in NumPy and first in torch. Read as a mask, shown or fitted, a grey array of integers that has
no values but 0 and 1 is a mask, and 1 is white.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers.catalog.checkpoints import CATALOG
from helpers.common import paths, png
from helpers.common.orientation import orientation
from helpers.common.validation import MAX_PIXELS, check_size, did_you_mean
from helpers.hub.guide_images import guide_image
from helpers.images.colour_profiles import to_srgb

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES = 256 * 2**20  # so that an image, and a record with its inputs, of tens of millions of pixels can be read
IMAGES = paths.DATA / "pictures"
MAX_NOTE = 16 * 2**20  # bytes of a colour profile, or of a text beside the pixels
# How files of other kinds begin, and what a message calls them.
KINDS = (
    (rb"GIF8", "a GIF"), (rb"BM", "a BMP"), (rb"II\*\0|MM\0\*", "a TIFF or a camera's raw file"), (rb"%PDF", "a PDF"),
    (rb"....ftyp(heic|heix|mif1|hevc|msf1)", "a HEIC"), (rb"....ftypavi[fs]", "an AVIF"), (rb"8BPS", "a PSD"),
    (rb"\xff\x0a|....JXL ", "a JPEG XL"), (rb"....jP  |\xff\x4f\xff\x51", "a JPEG 2000"), (rb"PK\x03\x04", "a ZIP"),
    (rb"\s*<(!DOCTYPE )?html", "a web page"), (rb"\s*<(\?xml|svg)", "an SVG or XML file"),
    (rb"version https://git-lfs", "a pointer of Git LFS: run git lfs pull"), (rb"RIFF....(?!WEBP)", "a sound or video"),
)  # fmt: skip
# What turns an image upright, by its orientation from 2 on.
TURNS = "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_270 TRANSVERSE ROTATE_90".split()


def load_image(what: Any, *, size: int | tuple[int, int] | None = None) -> Image.Image:
    """Return an image that every pipeline takes: mode "RGB", upright, 8 bits, its colours in sRGB.

    what: a course name ("castle"), a path, the bytes of a PNG, JPEG or WebP file, a PIL image, or an array or tensor
        (see `helpers.images.reading` for what its dtype means).
    size: pixels, one int (a square) or (width, height), multiples of 8. The image is stretched to `size`, as diffusers
        does. None: a course image comes in the size that this edition's "sd15" was trained on, which is what a
        pipeline makes of it by default; everything else keeps its own size.

    Transparency is laid on white (`alpha_mask` reads it as a mask); grey, palette, CMYK and 16-bit images are
    converted, and colours by the embedded profile; a broken profile is a UserWarning. ValueError for what is no image,
    truncated, animated or too large, for an unknown name, and for a URL.
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

    what: a course name ("castle"), a path, the bytes of a file, a PIL image, or an array.
    """
    if isinstance(what, Image.Image) or (hasattr(what, "shape") and not isinstance(what, memoryview)):
        return as_image(what, name=name)
    if isinstance(what, (bytes, bytearray, memoryview)):
        return _decoded(bytes(what), f"{name}=<{len(what)} bytes>")
    if isinstance(what, (str, os.PathLike)):
        data = paths.read_bytes(_find(what, name), most=MAX_BYTES, name=name)
        return _decoded(data, f"{name}={str(what)!r}")
    raise TypeError(
        f"{name}: expected a course name, a path, bytes, a PIL image or an array, got {_kind(what)}. Of an open file "
        "pass what its read() returns."
    )


def as_images(what: Any, *, name: str = "image", mask: bool = False) -> list[Image.Image]:
    """Turn a PIL image, an array or a batch of either into PIL images, upright by their EXIF tag.

    Arrays (numpy or torch) are read by their dtype, as the head of this module says. mask: whether an array of
    integers may be a mask of 0 and 1. A pipeline's output is read as its `.images`.
    """
    if isinstance(what, Image.Image):
        return [_checked(what, f"{name}=<{what.mode} image, {what.width} x {what.height}>")]
    if isinstance(what, (list, tuple)):
        return [image for item in what for image in as_images(item, name=name, mask=mask)]
    if hasattr(what, "images"):
        return as_images(what.images, name=name, mask=mask)
    if not hasattr(what, "shape") or isinstance(what, memoryview):
        stored = isinstance(what, (str, bytes, bytearray, memoryview, os.PathLike))
        hint = "; open it with load_image first" if stored else ""
        raise TypeError(f"{name}: expected a PIL image or an array, got {_kind(what)}{hint}.")
    first = hasattr(what, "detach")
    return [_from_array(one, name, mask=mask) for one in batch(as_array(what), name, channels_first=first)]


def as_image(what: Any, *, name: str = "image", mask: bool = False) -> Image.Image:
    """Turn one PIL image or array into one PIL image; see `as_images`."""
    images = as_images(what, name=name, mask=mask)
    if len(images) != 1:
        raise ValueError(f"{name}: expected one image, got {len(images)}; pass one of them.")
    return images[0]


def as_array(what: Any) -> np.ndarray:
    """A tensor, wherever it lies and whatever its gradient, as an array; NumPy has no bfloat16, so that is float32."""
    if hasattr(what, "detach"):
        what = what.detach().cpu()
        what = what.float() if what.is_floating_point() and what.element_size() < 4 else what
    return np.asarray(what)


def batch(array: np.ndarray, name: str, *, channels_first: bool) -> np.ndarray:
    """Any image or batch as (B, H, W, C); ValueError for another shape, no pixels, and too many.

    channels_first: which axis holds the channels where both could.
    """
    shape = array.shape
    images = array[None] if array.ndim == 3 else array[None, ..., None] if array.ndim == 2 else array
    if images.ndim == 4 and images.size:
        last, first = (images.shape[axis] in (1, 3, 4) for axis in (-1, 1))
        if first and (channels_first or not last):
            images, last = np.moveaxis(images, 1, -1), True
            if images.shape[-1] == 4 and array.dtype.kind == "f":
                raise ValueError(f"{name} of shape {shape} looks like latents (4 channels): decode them first.")
        if last:
            if images.shape[1] * images.shape[2] > MAX_PIXELS:
                raise ValueError(_too_large(f"{name} of shape {shape}", f"{images.shape[2]} x {images.shape[1]}"))
            return images
    raise ValueError(f"{name} has shape {shape}: expected (H, W), (H, W, 3) or (3, H, W).")


def to_rgb(image: Image.Image, *, name: str = "image") -> Image.Image:
    """Convert any mode to "RGB": colours by the profile, transparency laid on white, 16-bit grey scaled to 0..255."""
    image = to_srgb(image, name=name)
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
    """Convert any mode to "L", 0..255; transparency and profile are ignored."""
    if image.mode == "F" or image.mode.startswith("I"):
        grey = _to_8_bits(image, name)
    else:
        between = {"P": "RGBA", "PA": "RGBA", "LAB": "RGB"}.get(image.mode, image.mode)
        grey = image.convert(between).convert("L")
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
    notes: dict[str, Any] = {}
    lean = data
    if data.startswith(png.SIGNATURE):
        lean, notes = png.set_apart(data, most=MAX_NOTE)  # of which Pillow refuses more than a megabyte
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of many pixels, which our own cap follows, and of damaged EXIF
            image = Image.open(io.BytesIO(lean), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(_too_large(label, "far too many")) from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow lets many kinds through for a broken header
        raise ValueError(_unreadable(data, label, error)) from error
    image.info |= notes
    return _checked(image, label, data)


def _unreadable(data: bytes, label: str, error: Exception) -> str:
    """Why a file is no image that can be read, and what to do."""
    if re.match(rb"\x89PNG|\xff\xd8|RIFF....WEBP", data, re.DOTALL):
        if kind := _rare_jpeg(data):
            return f"{label} is a JPEG {kind}, which cannot be read: save it as an ordinary JPEG or as PNG."
        cause = png.fault(data) if data.startswith(png.SIGNATURE) else None
        if data.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[-64:]:
            cause = "its end is missing"
        return f"{label} is broken or cut off ({cause or error}): download or save it again."
    kind = next(
        (f", got {kind}" for start, kind in KINDS if re.match(start, data[:512], re.DOTALL | re.IGNORECASE)), ""
    )
    return f"{label} is not an image that can be read: expected PNG, JPEG or WebP{kind}."


def _rare_jpeg(data: bytes) -> str | None:
    """The kind of a JPEG that no common program reads, by its frame header; None for the ordinary ones."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits = data[at + 4]
            lossless = marker in (0xC3, 0xC7, 0xCB, 0xCF)
            return f"of {bits} bits" if bits != 8 else "without loss" if lossless else None
        at += 2 + length
    return None


def _checked(image: Image.Image, label: str, data: bytes = b"") -> Image.Image:
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
    except MemoryError:
        raise
    except Exception as error:
        told = f"{label} is broken or cut off ({error}): download or save it again."
        raise ValueError(_unreadable(data, label, error) if data else told) from error
    return _upright(image)


def _upright(image: Image.Image) -> Image.Image:
    """A copy, turned as its EXIF or XMP says, and without either, so that it is turned but once."""
    turn = orientation(image)
    turned = image.copy() if turn == 1 else image.transpose(Image.Transpose[TURNS[turn - 2]])
    if turned.mode in ("La", "RGBa"):  # premultiplied, which Pillow turns into nothing else
        turned = turned.convert(turned.mode.upper())
    for name in ("exif", "xmp", *png.KEPT):
        turned.info.pop(name, None)
    return turned


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


def _from_array(array: np.ndarray, name: str, *, mask: bool) -> Image.Image:
    """(H, W, C) as an image."""
    array = array[..., 0] if array.shape[-1] == 1 else array
    levels = to_levels(array, name)
    if mask and array.dtype.kind in "iu" and levels.max() == 1 and (levels.ndim == 2 or not np.ptp(levels, -1).any()):
        levels = levels * 255
    return Image.fromarray(np.ascontiguousarray(levels))


def to_levels(array: np.ndarray, name: str) -> np.ndarray:
    """An array's values as uint8, 0..255, by its dtype; ValueError for values beyond what that says."""
    kind = array.dtype.kind
    if kind == "b":
        return array.astype(np.uint8) * 255
    if kind not in "iuf":
        raise ValueError(f"{name} has values of {array.dtype}: expected bool, integers or floats.")
    low, high = array.min(), array.max()
    if kind in "iu" and 0 <= low and high <= 255:
        return array.astype(np.uint8)
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 -> 255
    if kind == "f" and -1.001 <= low and high <= 1.001 and not -0.1 <= low < -0.001:  # False for NaN
        array = (array.astype(np.float32) + 1) / 2 if low < -0.001 else array.astype(np.float32)
        return (array.clip(0, 1) * 255).round().astype(np.uint8)
    remedy = ". Pass array / 255 or array.astype(numpy.uint8)" if kind == "f" and 1 < high <= 255 <= 255 + low else ""
    remedy = ". Pass array.clip(0, 1)" if kind == "f" and -0.1 <= low < -0.001 and high <= 1.1 else remedy
    raise ValueError(
        f"{name} has {array.dtype} values {low}..{high}: expected bool, integers 0..255 or floats 0..1 (or -1..1)"
        f"{remedy}."
    )


def _kind(what: Any) -> str:
    return "None" if what is None else f"{type(what).__module__}.{type(what).__qualname__}".removeprefix("builtins.")
