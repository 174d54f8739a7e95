"""Batches: one image's arguments repeated for several, and a call for several images split into calls for one each."""

from __future__ import annotations

import dataclasses
from typing import Any

from PIL import Image

PROMPTS = ("prompt", "prompt_2", "negative_prompt", "negative_prompt_2")
EMBEDDINGS = tuple(f"{start}_embeds" for start in ("prompt", "negative_prompt", "pooled_prompt"))
EMBEDDINGS += ("negative_pooled_prompt_embeds", "image_embeds", "negative_image_embeds")
IMAGES = ("image", "mask_image", "control_image")
ONE_EACH = ("generator", "latents")  # for each image, not for each prompt


def repeated(name: str, value: Any, count: int) -> Any:
    """One image's argument as a call for `count` images takes it: prompts and images in a list, tensors repeated.

    Masks and control images stay as they are: the pipelines share them among the images of a batch.
    """
    if (name in PROMPTS and isinstance(value, str)) or (name == "image" and isinstance(value, Image.Image)):
        return [value] * count
    if hasattr(value, "repeat_interleave") and len(value) == 1:
        if name in EMBEDDINGS or (name == "image" and value.ndim == 4):  # the first of three is a gray image's channel
            return value.repeat_interleave(count, dim=0)
    return value


def singles(call: dict[str, Any]) -> list[dict[str, Any]]:
    """A call's arguments for each of its images; `[call]` where it makes one.

    A single generator is shared and drawn from in the same order, so schedulers that add noise at each step (the
    ancestral ones) make other images of it.
    """
    each = call.get("num_images_per_prompt") or 1
    given = [call.get(name) for name in ("prompt", *EMBEDDINGS)]
    prompts = next((len(one) for one in given if one is not None and not isinstance(one, str)), 1)

    def own(name: str, value: Any, index: int) -> Any:
        place, count = (index, prompts * each) if name in ONE_EACH else (index // each, prompts)
        if name == "num_images_per_prompt":
            return 1
        if isinstance(value, (list, tuple)):
            return value[place] if name in (*PROMPTS, *IMAGES, *ONE_EACH) and len(value) == count else value
        if hasattr(value, "shape") and len(value) == count and (value.ndim > 3 or name not in IMAGES):
            return value[place : place + 1]
        return value

    if prompts * each == 1:
        return [call]
    return [{name: own(name, value, index) for name, value in call.items()} for index in range(prompts * each)]


def joined(outputs: list[Any]) -> Any:
    """The outputs of several calls as the one output that their batch would have returned."""
    first = outputs[0]
    if len(outputs) == 1:
        return first
    if isinstance(first, tuple):
        return tuple(_concatenated(values) for values in zip(*outputs, strict=True))
    names = [field.name for field in dataclasses.fields(first)]
    return type(first)(**{name: _concatenated([getattr(one, name) for one in outputs]) for name in names})


def _concatenated(values: Any) -> Any:
    import numpy as np
    import torch

    if values[0] is None or isinstance(values[0], list):
        return None if values[0] is None else sum(values, [])
    return torch.cat(list(values)) if isinstance(values[0], torch.Tensor) else np.concatenate(values)
