"""Compositing around an inpainting call: the mask is blurred before it, unmasked pixels are restored after it.

Two arguments of `make`, `sweep` and the Explorer that no pipeline has; both use diffusers' own image processors:

    blur_factor=8        mask = pipe.mask_processor.blur(mask, blur_factor=8), before the call
    keep_unmasked=True   image = pipe.image_processor.apply_overlay(mask, original, image), after it
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from helpers.common.validation import number
from helpers.images.masks import by, check_equal_sizes
from helpers.pipelines.inspection import output_size, size_arguments

NAMES = ("blur_factor", "keep_unmasked")


def check_value(name: str, value: Any) -> Any:
    """Return one of the two arguments; TypeError or ValueError if it cannot be one."""
    if name == "blur_factor":
        number(name, value, low=0)  # a radius in pixels
    elif not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}={value!r}: expected True or False.")
    return value.item() if isinstance(value, np.generic) else value  # as a record holds it


def apply_compositing(
    pipe: Any, call: dict[str, Any]
) -> tuple[dict[str, Any], Callable[[Image.Image, int], Image.Image]]:
    """Return the call as the pipeline takes it, and the function that finishes the image at an index of its batch.

    ValueError, before any model runs, without a PIL mask, and for an image of another size than the mask or the result.
    """
    rest = {name: value for name, value in call.items() if name not in NAMES}
    blur, keep, mask = call.get("blur_factor"), call.get("keep_unmasked"), call.get("mask_image")
    if (blur or keep) and not isinstance(mask, Image.Image):
        asked = f"blur_factor={blur}" if blur else "keep_unmasked"
        raise ValueError(f"{asked} needs a mask: pass mask_image, a PIL image.")
    if blur:
        mask = rest["mask_image"] = _processor(pipe, "mask_processor").blur(mask, blur_factor=blur)
    if not keep:
        return rest, lambda image, index: image
    originals = rest["image"] if isinstance(rest.get("image"), (list, tuple)) else [rest.get("image")]
    for original in originals:
        _check_sizes(pipe, rest | {"image": original}, mask)
    overlay = _processor(pipe, "image_processor").apply_overlay
    return rest, lambda image, index: overlay(mask, originals[index % len(originals)], image)


def _processor(pipe: Any, name: str) -> Any:
    from diffusers.image_processor import VaeImageProcessor

    return getattr(pipe, name, None) or VaeImageProcessor()  # Kandinsky's pipelines have none


def _check_sizes(pipe: Any, call: dict[str, Any], mask: Any) -> None:
    original = call["image"]
    if not isinstance(original, Image.Image):
        raise ValueError("keep_unmasked needs the original: pass image, a PIL image.")
    check_equal_sizes("keep_unmasked: mask_image", mask.size, "image", original.size)
    made = output_size(pipe, call)
    if made is not None and made != original.size:
        wanted = ", ".join(f"{name}={side}" for name, side in size_arguments(pipe, original.size).items())
        raise ValueError(
            f"keep_unmasked: the result will be {by(made)} pixels, image is {by(original.size)}: they must be equal. "
            f"Pass {wanted}."
        )
