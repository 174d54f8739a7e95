"""The images and masks of a call: read as everywhere in the course, and checked together before any model runs.

A pipeline takes a PIL image's numbers as they are, and an array only if it has the shape and range of its library; of a
wrong one it tells late or never. So images come to it in "RGB", upright and in sRGB, masks in "L"; arrays of integers
become PIL images, and those of floats keep their values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from helpers.common.notices import warn
from helpers.common.validation import check_pixels, whole
from helpers.images.masks import THRESHOLD, as_mask, check_equal_sizes, stray_pixels
from helpers.images.reading import as_array, as_image, batch, to_levels, to_rgb
from helpers.pipelines.inspection import output_size

IMAGES = ("image", "control_image")
LEAST = {"height": 8, "width": 8, "padding_mask_crop": 0}  # pixels
NAMES = (*IMAGES, "mask_image", *LEAST)


def check_value(name: str, value: Any) -> Any:
    """Return one of these arguments as the pipeline reads it rightly; TypeError or ValueError if it cannot be one."""
    if value is None:
        return None
    if name in LEAST:
        return whole(name, value, least=LEAST[name])
    if isinstance(value, (list, tuple)):
        return type(value)(check_value(name, one) for one in value)
    if name == "mask_image":
        return as_mask(value)
    if hasattr(value, "shape") and not isinstance(value, Image.Image):
        return _array(name, value)
    return to_rgb(as_image(value, name=name), name=name)


def check(pipe: Any, call: dict[str, Any]) -> None:
    """ValueError where the images, the mask and the sizes of a checked call do not go together, or are too large.

    A UserWarning where `padding_mask_crop` would crop around what nobody meant.
    """
    size = output_size(pipe, call) if any(call.get(name) is not None for name in (*IMAGES, "height", "width")) else None
    if size is not None:
        check_pixels(*size, name="width x height")
    if call.get("padding_mask_crop") is not None:
        _check_crop(call)


def _array(name: str, value: Any) -> Any:
    """An array as the pipelines take it: floats of one image, in the axes of its library; integers as a PIL image."""
    torch_like = hasattr(value, "detach")
    array = as_array(value)
    if array.dtype.kind != "f":
        return to_rgb(as_image(value, name=name), name=name)
    channels = array.shape[-3] if array.ndim > 2 else 1
    if channels not in (1, 3) and (array.shape[-1] not in (1, 3, 4) or (torch_like and channels == 4)):
        return value  # latents
    images = batch(array, name, channels_first=torch_like)
    if len(images) != 1:
        raise ValueError(f"{name} of shape {tuple(value.shape)} is {len(images)} images: a record is one; pass one.")
    to_levels(images, name)
    if images.shape[-1] == 4:
        return to_rgb(as_image(value, name=name), name=name)
    if images.shape[-1] == 3 and torch_like == (channels == 3):
        return value
    images = np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images
    if not torch_like:
        return np.ascontiguousarray(images)
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1))).to(value)


def _check_crop(call: dict[str, Any]) -> None:
    crop: Any = call["padding_mask_crop"]
    image: Any = call.get("image")
    mask: Any = call.get("mask_image")
    for name, given in (("image", image), ("mask_image", mask)):
        if not isinstance(given, Image.Image):
            raise ValueError(
                f"padding_mask_crop={crop} crops PIL images alone, and {name} is {type(given).__name__}: pass "
                f"{name}=load_{'mask' if name == 'mask_image' else 'image'}(...)."
            )
    check_equal_sizes(f"padding_mask_crop={crop}: mask_image", mask.size, "image", image.size)
    if mask.getextrema()[1] < THRESHOLD:
        raise ValueError(f"padding_mask_crop={crop} needs a place to crop around, and mask_image has no white in it.")
    if strays := stray_pixels(mask):
        warn(
            f"padding_mask_crop={crop} crops around all that is not black, and mask_image has {strays} such "
            f"pixel{'s' * (strays != 1)} far from its white area. Use threshold(mask)."
        )
