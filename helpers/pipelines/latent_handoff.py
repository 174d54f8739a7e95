"""handoff(): what one pipeline made, checked for the next before any model runs.

Latents mean something only in the latent space they were made in, and a tensor does not say which that is, so both
pipelines are passed. Which pipelines take latents, and which spaces match, is in `helpers.pipelines.latent_spaces`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image

from helpers.common.validation import did_you_mean
from helpers.images.masks import by
from helpers.images.reading import as_images, to_rgb
from helpers.pipelines.inspection import (
    autoencoder,
    family,
    name_of,
    output_size,
    parameters_of,
    pixels_a_latent,
    size_arguments,
)
from helpers.pipelines.latent_spaces import latent_space_mismatch, latents_rejected_reason


def handoff(output: Any, source: Any, target: Any, **call: Any) -> Any:
    """Return what `source` made as the `image` of the next call: an image (several: a list), or latents (B, C, h, w).

    output: what the call of `source` returned, its .images, or one of them. source, target: the two pipelines.
    call: what else the next call gets; mask_image, height, width, masked_image_latents and padding_mask_crop are
        checked with it.

    Raises ValueError, before any model runs, where the next call would fail or silently give something else: latents of
    another latent space or scaling, not finite, or where `target` takes images only; sizes that do not fit; a plain
    black image. TypeError for what is no output, no pipeline, or no argument of the next call.
    """
    for name, pipe in (("source", source), ("target", target)):
        if not hasattr(pipe, "components") or autoencoder(pipe) is None:
            raise TypeError(f"{name}: expected a diffusers pipeline, as load() returns it, got {type(pipe).__name__}.")
    known = parameters_of(target)
    if "image" not in known:
        raise ValueError(
            f"target: {name_of(target)} starts from the prompt alone and takes no image. "
            "Load its checkpoint with task='image2image' or task='inpaint', or use switch(target, 'image2image')."
        )
    for name in call:
        if name not in known:
            raise TypeError(f"{name}: {name_of(target)} has no such argument. {did_you_mean(name, known)}")
    latents = _latents(output, source)
    if latents is not None:
        _check_latents(latents, source, target, call)
        return latents
    images = _images(output)
    for image in images:
        _check_mask(call.get("mask_image"), image.size)
        _check_size(image.size, target, call)
    return images[0] if len(images) == 1 else images


def _latents(output: Any, source: Any) -> Any:
    """The output as latents (B, C, h, w), or None where it is images."""
    import torch

    found = getattr(output, "images", output)
    if isinstance(found, tuple) and found and isinstance(found[0], (list, torch.Tensor, np.ndarray)):
        found = found[0]  # return_dict=False
    if isinstance(found, (list, tuple)) and found and all(isinstance(one, torch.Tensor) for one in found):
        found = torch.cat([one if one.ndim == 4 else one[None] for one in found])
    if not isinstance(found, torch.Tensor):
        return None
    found = found[None] if found.ndim == 3 else found
    channels = autoencoder(source).config.latent_channels
    if found.ndim != 4 or found.shape[1] not in (3, channels):
        raise ValueError(
            f"output has the shape {tuple(found.shape)}; expected latents of {name_of(source)}, (batch, {channels}, "
            "height, width), or images of 3 channels. Pass on what the call returned."
        )
    return found if found.shape[1] == channels else None


def _check_latents(latents: Any, source: Any, target: Any, call: dict[str, Any]) -> None:
    if not latents.isfinite().all():
        raise ValueError(
            f"output holds latents that are not finite: {name_of(source)} overflowed, as float16 often does. "
            "Load it with dtype='float32', or lower guidance_scale."
        )
    reasons = [latents_rejected_reason(target, call), latent_space_mismatch(source, target)]
    if any(reasons):
        raise ValueError(
            f"output is latents of {name_of(source)}, which {name_of(target)} cannot take: "
            f"{' Besides, '.join(filter(None, reasons))} "
            f"Hand over images: call {name_of(source)} without output_type='latent'."
        )
    pixels = pixels_a_latent(source)
    size = latents.shape[3] * pixels, latents.shape[2] * pixels
    _check_mask(call.get("mask_image"), size)
    masked = call.get("masked_image_latents")
    if masked is not None and masked.shape[-3:] != latents.shape[-3:]:
        raise ValueError(
            f"masked_image_latents has the shape {tuple(masked.shape)}, the latents handed over {tuple(latents.shape)}:"
            " they must be equal."
        )
    asked = _asked(target, call)
    if asked is not None and asked != size:
        raise ValueError(
            f"output has latents of an image of {by(size)} pixels, and the next call will make {by(asked)}: latents "
            f"cannot be resized. Pass height={size[1]}, width={size[0]} to it, and to handoff."
        )


def _images(output: Any) -> list[Image.Image]:
    found = getattr(output, "images", output)
    if isinstance(found, tuple) and found and not isinstance(found[0], Image.Image):
        found = found[0]  # return_dict=False
    values: Any = found
    if hasattr(values, "detach"):
        values = values.detach().cpu().float().numpy()
    if isinstance(values, np.ndarray) and not np.isfinite(values).all():
        raise ValueError(
            "output holds pixels that are not finite: the decoder overflowed, as float16 often does. "
            "Load the source with dtype='float32'."
        )
    images = [to_rgb(image, name="output") for image in as_images(values, name="output")]
    if not images:
        raise ValueError("output holds no image: pass on what the call returned.")
    for image in images:
        if image.getextrema() == ((0, 0),) * 3:
            raise ValueError(
                "output is a plain black image: its values were not finite when it was decoded (load the source "
                "with dtype='float32'), or a safety checker blackened it (try another seed or prompt)."
            )
    return images


def _check_size(size: tuple[int, int], target: Any, call: dict[str, Any]) -> None:
    """Refuse what the pipelines do to an image's size silently: round it down, squeeze it into a square, swap sides."""
    squares = family(target) == "kandinsky22" and "mask_image" in parameters_of(target)
    multiple = 64 if squares else pixels_a_latent(target)
    asked = _asked(target, call)
    made = (call.get("width") or asked[0], call.get("height") or asked[1]) if asked else size
    if made[0] % multiple or made[1] % multiple:
        down = max(multiple, made[0] // multiple * multiple), max(multiple, made[1] // multiple * multiple)
        raise ValueError(
            f"the next call would make {by(made)} pixels, and {name_of(target)} needs multiples of {multiple}: "
            + (f"pass another height and width, such as {by(down)}." if asked else f"use fit(image, {down}) first.")
        )
    cropped = call.get("padding_mask_crop") is not None
    if asked is not None and not cropped and not math.isclose(asked[0] / asked[1], size[0] / size[1], rel_tol=0.05):
        sides = size_arguments(target, size)
        raise ValueError(
            f"output is {by(size)} pixels, and the next call would squeeze it into {by(asked)}. "
            f"Pass height={sides['height']}, width={sides['width']}, or others in that proportion, to it and to handoff"
            f"{' (this pipeline takes the two the other way round)' if sides['height'] != size[1] else ''}."
        )


def _check_mask(mask: Any, size: tuple[int, int]) -> None:
    if isinstance(mask, Image.Image) and mask.size != size:
        raise ValueError(
            f"mask_image is {by(mask.size)} pixels, what is handed over {by(size)}: they must be equal. "
            f"Use mask = fit(mask, {size})."
        )


def _asked(target: Any, call: dict[str, Any]) -> tuple[int, int] | None:
    """Width and height of what the next call will make; None where it follows its image."""
    return output_size(target, {name: call.get(name) for name in ("height", "width")})
