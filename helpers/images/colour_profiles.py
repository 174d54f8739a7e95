"""Colour profiles: what an image's numbers mean, and the same colours in sRGB, which every model and screen expects."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from helpers.common.notices import warn

_MODES = {"RGB": ("RGB",), "GRAY": ("L", "I;16"), "CMYK": ("CMYK",)}  # that Pillow has for a profile's colour space
_PROBE = np.stack(np.meshgrid(*[np.linspace(0, 255, 18).round()] * 3), axis=-1).reshape(-1, 18, 3).astype(np.uint8)


def to_srgb(image: Image.Image, *, name: str) -> Image.Image:
    """An image with its colours in sRGB, "RGB" or "RGBA", by its embedded profile; unchanged without one, or if sRGB.

    A profile that cannot be read, or that is none for such pixels, is a UserWarning, and the numbers stay as they are.
    The conversion is LittleCMS's with perceptual intent, as in browsers.
    """
    if "icc_profile" not in image.info or image.mode in ("1", "LAB"):
        return image
    try:
        transform, space = _transform(image.info["icc_profile"] or b"")
        body = _body(image, space)
        changed = transform(body.mode)
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError) as error:
        warn(f"{name}: its colour profile cannot be used ({error}), so its colours are taken for sRGB.")
        return image
    if changed is None:
        return image
    result: Any = ImageCms.applyTransform(body, changed)  # None only in place, which Pillow's stubs do not tell
    if image.has_transparency_data:
        result.putalpha(image.convert("RGBA").getchannel("A"))
    return result


def _body(image: Image.Image, space: str) -> Image.Image:
    """The colours alone, in a mode of the profile's colour space; ValueError where they are of another."""
    if space == "RGB" and image.mode != "CMYK":
        return image.convert("RGB") if not image.has_transparency_data else image.convert("RGBA").convert("RGB")
    if space == "GRAY" and image.mode in ("L", "LA", "I;16"):
        return image.getchannel("L") if image.mode == "LA" else image
    if space == "CMYK" and image.mode == "CMYK":
        return image
    raise ValueError(f"it is for {space}, the image is {image.mode}")


@lru_cache(maxsize=8)
def _transform(profile: bytes) -> tuple[Any, str]:
    """A function from a mode to the transform into sRGB, None where that changes nothing; and the colour space."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()  # pyright: ignore[reportAttributeAccessIssue]
    if space not in _MODES:
        raise ValueError(f"it is for {space}")
    target = ImageCms.createProfile("sRGB")

    @lru_cache
    def built(mode: str) -> Any:
        found = ImageCms.buildTransform(source, target, mode, "RGB")
        if mode in ("CMYK", "I;16"):
            return found
        probe = Image.fromarray(_PROBE) if mode == "RGB" else Image.linear_gradient("L")
        after = np.asarray(ImageCms.applyTransform(probe, found), int)
        before = np.asarray(probe.convert("RGB"), int)
        return None if np.abs(after - before).max() <= 1 else found

    return built, space
