"""Batches: a call that makes several pictures, taken apart into calls that make one each, and their outputs joined."""

from __future__ import annotations

import dataclasses
from typing import Any

from PIL import Image

PROMPTS = ("prompt", "prompt_2", "negative_prompt", "negative_prompt_2")
PICTURES = ("image", "mask_image", "control_image", "masked_image_latents", "image_embeds", "negative_image_embeds")
OWN = ("image", "image_embeds", "negative_image_embeds")  # of the pictures: never shared by a batch
EMBEDDED = tuple(f"{start}prompt_embeds" for start in ("", "negative_", "pooled_", "negative_pooled_"))


def listed(value: Any) -> list[Any]:
    """A list or tuple as a list, None as an empty one, all else as the only item."""
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]


def singles(call: dict[str, Any]) -> list[dict[str, Any]]:
    """The arguments of as many calls as this one makes pictures; `[call]` where it makes one.

    Generators and latents of a list are dealt out. One generator for all is drawn from in the same order, so only
    schedulers that draw noise at each step (the ancestral ones) make other pictures of it.
    """
    prompts, each = prompt_count(call), call.get("num_images_per_prompt") or 1
    if prompts * each == 1:
        return [call]
    once = {"num_images_per_prompt": 1} if "num_images_per_prompt" in call else {}
    found = []
    for number in range(prompts * each):
        own = {name: _item(name, value, number // each, prompts) for name, value in call.items()}
        for name in ("generator", "latents"):
            if name in call:
                own[name] = _item(name, call[name], number, prompts * each)
        found.append(own | once)
    return found


def prompt_count(call: dict[str, Any]) -> int:
    """How many prompts, or embeddings of prompts, a call has."""
    if isinstance(call.get("prompt"), (list, tuple)):
        return len(call["prompt"])
    for name in ("prompt_embeds", "image_embeds"):
        if hasattr(call.get(name), "shape"):
            return int(call[name].shape[0])
    return 1


def _item(name: str, value: Any, number: int, count: int) -> Any:
    """What is the `number`-th picture's of an argument; the whole argument where all share it."""
    if name not in (*PROMPTS, *PICTURES, *EMBEDDED, "generator", "latents"):
        return value
    if isinstance(value, (list, tuple)):
        if len(value) != count:
            return value
        return [value[number]] if name in PROMPTS or name in PICTURES else value[number]
    if hasattr(value, "shape") and value.shape[0] == count and (len(value.shape) >= 4 or name not in PICTURES[:3]):
        return value[number : number + 1]
    return value


def repeated(name: str, value: Any, count: int) -> Any:
    """One picture's argument as a call for `count` of them takes it: texts and pictures in a list, tensors stacked.

    What the pipelines share among a batch's pictures by themselves (masks, control pictures) stays as it is.
    """
    if (name in PROMPTS and isinstance(value, str)) or (name == "image" and isinstance(value, Image.Image)):
        return [value] * count
    if name in (*EMBEDDED, *OWN) and hasattr(value, "repeat_interleave") and len(value) == 1:
        if name != "image" or value.ndim == 4:  # of three dimensions, the one in front is a grey picture's channel
            return value.repeat_interleave(count, dim=0)
    return value


def joined(outputs: list[Any]) -> Any:
    """The outputs of several calls as the one output that their batch would have had."""
    first = outputs[0]
    if len(outputs) == 1:
        return first
    if isinstance(first, tuple):
        return tuple(_joined(list(values)) for values in zip(*outputs, strict=True))
    names = [field.name for field in dataclasses.fields(first)]
    return type(first)(**{name: _joined([getattr(output, name, None) for output in outputs]) for name in names})


def _joined(values: list[Any]) -> Any:
    if values[0] is None:
        return None
    if isinstance(values[0], list):
        return [item for value in values for item in value]
    import torch

    if isinstance(values[0], torch.Tensor):
        return torch.cat(values)
    import numpy as np

    return np.concatenate(values)
