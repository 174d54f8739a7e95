"""Open pictures safely: what a course name, path, bytes, array or PIL picture holds, checked before it is used.

Files are PNG, JPEG or WebP; at most `MAX_BYTES` and `MAX_PIXELS`; one frame; whole; turned upright by their EXIF tag.
"""

from __future__ import annotations

import io
import os
import re
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps

from helpers.common.paths import DATA
from helpers.common.validation import did_you_mean
from helpers.hub.guide_images import guide_picture

FORMATS = ("PNG", "JPEG", "WEBP")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 64_000_000
PICTURES = DATA / "pictures"

# First bytes of what people pass by mistake, so that the error can name it.
_OTHER_KINDS = {
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"%PDF": "a PDF",
    b"<svg": "an SVG",
    b"<?xml": "an SVG or other XML",
    b"<!DO": "a web page",
    b"<htm": "a web page",
    b"version https://git-lfs": "a Git LFS pointer, not the picture itself",
}


# Other libraries tell Pillow, for the whole process, to fill up truncated files with grey.
_STRICT = threading.Lock()


def course_pictures() -> list[str]:
    """List the names that `load_image` and `load_mask` know."""
    return sorted(path.stem for path in PICTURES.glob("*.png") if not path.stem.endswith(("_mask", "_depth")))


def open_picture(what: Any, *, name: str = "image") -> Image.Image:
    """Return `what` as a loaded, upright copy in its own mode, or raise an error that begins with `name`.

    what: a course name ("castle"), a path, the bytes of a file, or a PIL picture.
    """
    if isinstance(what, Image.Image):
        return _checked(what, f"{name}=<{what.mode} picture, {what.width} x {what.height}>")
    if isinstance(what, (bytes, bytearray, memoryview)):
        return _decoded(bytes(what), f"{name}=<{len(what)} bytes>")
    if isinstance(what, (str, os.PathLike)):
        path = _find(what, name)
        return _decoded(_read(path, name), f"{name}={str(what)!r}")
    remedy = "If it is an array, pass Image.fromarray(array)" if hasattr(what, "shape") else "Pass one of these"
    if hasattr(what, "read"):
        remedy = f"Pass {name}.read()"
    raise TypeError(f"{name}: expected a course name, a path, bytes or a PIL picture, got {_kind(what)}. {remedy}.")


def as_pictures(what: Any, *, name: str = "image") -> list[Image.Image]:
    """Turn a PIL picture, an array or a batch of either into PIL pictures, upright by their EXIF tag.

    Arrays (numpy or torch): (H, W), (H, W, C), (C, H, W) or a batch (B, ...) of these, C = 1, 3 or 4; bool, integers
    0..255, floats 0..1, or floats -1..1 where one is negative. A pipeline's output is read as its `.images`.
    """
    if isinstance(what, Image.Image):
        return [_upright(what)]
    if isinstance(what, (list, tuple)):
        return [picture for item in what for picture in as_pictures(item, name=name)]
    if hasattr(what, "images"):
        return as_pictures(what.images, name=name)
    if not hasattr(what, "shape"):
        hint = "; open it with load_image first" if isinstance(what, (str, bytes, os.PathLike)) else ""
        raise TypeError(f"{name}: expected a PIL picture or an array, got {_kind(what)}{hint}.")
    if hasattr(what, "detach"):
        what = what.detach().cpu()
        what = what.float() if what.is_floating_point() else what  # numpy has no bfloat16
    array = np.asarray(what)
    return [_from_array(one, name) for one in (array if array.ndim == 4 else [array])]


def as_picture(what: Any, *, name: str = "image") -> Image.Image:
    """Turn one PIL picture or array into one PIL picture; see `as_pictures`."""
    pictures = as_pictures(what, name=name)
    if len(pictures) != 1:
        raise ValueError(f"{name}: expected one picture, got {len(pictures)}; pass one of them.")
    return pictures[0]


def to_rgb(picture: Image.Image, *, name: str = "image") -> Image.Image:
    """Convert any mode to "RGB": transparency is laid on white, 16-bit grey is scaled to 0..255."""
    if picture.mode == "F" or picture.mode.startswith("I"):
        rgb = _to_8_bits(picture, name).convert("RGB")
    elif picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        rgb = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    else:
        rgb = picture.convert("RGB")
    rgb.info.clear()  # no camera's GPS position in what a notebook saves
    return rgb


def to_grey(picture: Image.Image, *, name: str = "mask") -> Image.Image:
    """Convert any mode to "L", 0..255; transparency is ignored."""
    if picture.mode == "F" or picture.mode.startswith("I"):
        grey = _to_8_bits(picture, name)
    else:
        grey = picture.convert("RGBA").convert("L") if picture.mode in ("P", "PA") else picture.convert("L")
    grey.info.clear()
    return grey


def _find(what: str | os.PathLike, name: str) -> Path:
    text = os.fspath(what)
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    if isinstance(what, str):
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://|data:", text):
            raise ValueError(
                f"{name}={text[:60]!r} is a URL: pictures are not fetched from the web. "
                "Download the file yourself and pass its path."
            )
        known = PICTURES / f"{text}.png"
        if text.removesuffix("_mask") in course_pictures() and known.is_file():
            return guide_picture(text) or known
    path = Path(text).expanduser()
    try:
        if path.is_dir():
            raise ValueError(f"{name}={text!r} is a folder: pass the path of one picture in it.")
        if path.exists():
            return path
        beside = [file.name for file in path.parent.iterdir() if file.suffix.lower() in _SUFFIXES]
    except OSError:  # a name too long, a folder that is not there or may not be read
        beside = []
    if path.suffix.lower() in _SUFFIXES or len(path.parts) > 1:
        near = did_you_mean(path.name, beside) if beside else ""
        raise ValueError(f"{name}={text[:200]!r}: no such file (looked in {path.parent.absolute()}). {near}".rstrip())
    hint = did_you_mean(text, course_pictures())
    raise ValueError(f"{name}={text[:200]!r} is no picture of the course, and no such file is here. {hint}")


def _read(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{name}={str(path)!r} cannot be read: {error.strerror or error}.") from error


def _decoded(data: bytes, label: str) -> Image.Image:
    if len(data) > MAX_BYTES:
        raise ValueError(f"{label} is larger than {MAX_BYTES // 2**20} MiB: save a smaller copy.")
    if not data:
        raise ValueError(f"{label} is empty: no picture in it.")
    for start, kind in _OTHER_KINDS.items():
        if data[:64].lstrip().startswith(start):
            extra = ", animated or not" if kind == "a GIF" else ""
            raise ValueError(f"{label} is {kind}{extra}: expected PNG, JPEG or WebP. Save it as PNG first.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own cap follows
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(_too_large(label, "far too many")) from error
    except Exception as error:  # Pillow lets many kinds through for a broken header
        if data.startswith((b"\x89PNG", b"\xff\xd8", b"RIFF")):
            raise ValueError(f"{label} is broken or cut off: download or save it again.") from error
        raise ValueError(f"{label} is not a picture that can be read: expected PNG, JPEG or WebP.") from error
    return _checked(picture, label)


def _checked(picture: Image.Image, label: str) -> Image.Image:
    if picture.width * picture.height > MAX_PIXELS:
        raise ValueError(_too_large(label, f"{picture.width} x {picture.height}"))
    if picture.width < 1 or picture.height < 1:
        raise ValueError(f"{label} has no pixels.")
    # A phone's JPEG may carry a second picture (MPO); its first is the photograph.
    if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
        raise ValueError(f"{label} is animated ({picture.n_frames} frames): save one frame as PNG and pass that.")
    try:
        with _STRICT:
            tolerant, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
            try:
                picture.load()
            finally:
                ImageFile.LOAD_TRUNCATED_IMAGES = tolerant
    except Exception as error:
        raise ValueError(f"{label} is broken or cut off ({error}): download or save it again.") from error
    return _upright(picture)


def _upright(picture: Image.Image) -> Image.Image:
    """A copy, turned as its EXIF tag says."""
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # a damaged tag says nothing about which way is up
        return picture.copy()


def _too_large(label: str, pixels: str) -> str:
    return f"{label} has {pixels} pixels: at most {MAX_PIXELS // 10**6} million are read. Save a smaller copy."


def _to_8_bits(picture: Image.Image, name: str) -> Image.Image:
    values = np.asarray(picture)
    if picture.mode == "F":
        raise ValueError(f"{name} has float pixels (mode 'F') of unknown range: convert it to 0..255 first.")
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"{name} has values {values.min()}..{values.max()}: expected 8 or 16 bits (0..65535).")
    if picture.mode.startswith("I;16") or values.max() > 255:
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
