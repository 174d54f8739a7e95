"""What stands around an inpainting call: a mask that is blurred before it, unmasked pixels that are put back after.

Two arguments of `make`, `sweep` and the Explorer that no pipeline has; both are diffusers' own image processors:

    blur_factor=8        mask = pipe.mask_processor.blur(mask, blur_factor=8), before the call
    keep_unmasked=True   image = pipe.image_processor.apply_overlay(mask, original, image), after it
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from PIL import Image

from helpers.images.masks import by
from helpers.pipelines import inspection

NAMES = ("blur_factor", "keep_unmasked")


def check_value(name: str, value: Any) -> Any:
    """One of the two arguments, or a TypeError or ValueError that says what was expected."""
    if name == "keep_unmasked":
        if not isinstance(value, bool):
            raise TypeError(f"keep_unmasked={value!r}: expected True or False.")
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"blur_factor={value!r}: expected a radius in pixels, 0 or more.")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"blur_factor={value!r}: expected a radius in pixels, 0 or more.")
    return value


def around(pipe: Any, call: dict[str, Any]) -> tuple[dict[str, Any], Callable[[Image.Image, int], Image.Image]]:
    """The call as the pipeline takes it, and what finishes the picture at a place of its batch.

    ValueError, before any model runs, where there is no PIL mask, or pictures of different sizes to lay together.
    """
    rest = {name: value for name, value in call.items() if name not in NAMES}
    blur, keep = call.get("blur_factor"), call.get("keep_unmasked")
    if not blur and not keep:
        return rest, lambda picture, place: picture
    mask = rest.get("mask_image")
    asked = f"blur_factor={blur}" if blur else "keep_unmasked"
    if not isinstance(mask, Image.Image):
        raise ValueError(f"{asked} needs a mask: pass mask_image, a PIL picture.")
    if blur:
        mask = rest["mask_image"] = _processor(pipe, "mask_processor").blur(mask, blur_factor=blur)
    if not keep:
        return rest, lambda picture, place: picture
    originals = rest.get("image")
    originals = list(originals) if isinstance(originals, (list, tuple)) else [originals]
    for original in originals:
        _check(pipe, rest, original, mask)
    lay = _processor(pipe, "image_processor").apply_overlay
    return rest, lambda picture, place: lay(mask, originals[place % len(originals)], picture)


def has_processors(pipe: Any) -> bool:
    """Whether the pipeline has image processors of its own (Kandinsky's have none)."""
    return hasattr(pipe, "mask_processor") and hasattr(pipe, "image_processor")


def _processor(pipe: Any, name: str) -> Any:
    from diffusers.image_processor import VaeImageProcessor

    return getattr(pipe, name) if has_processors(pipe) else VaeImageProcessor()


def _check(pipe: Any, call: dict[str, Any], original: Any, mask: Image.Image) -> None:
    if not isinstance(original, Image.Image):
        raise ValueError("keep_unmasked needs the picture before: pass image, a PIL picture.")
    if original.size != mask.size:
        raise ValueError(
            f"keep_unmasked: mask_image is {by(mask.size)} pixels, image {by(original.size)}: they must be equal. "
            "Use mask = fit(mask, image)."
        )
    made = inspection.output_size(pipe, call | {"image": original})
    if made is not None and made != original.size:
        sides = inspection.size_arguments(pipe, original.size)
        raise ValueError(
            f"keep_unmasked: the result will be {by(made)} pixels, image is {by(original.size)}: they must be equal. "
            f"Pass {', '.join(f'{name}={side}' for name, side in sides.items())}."
        )
