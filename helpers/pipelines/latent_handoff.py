"""handoff(): what one pipeline made, checked for the next before any model runs.

An encoder and its decoder agree on what latents mean; no other decoder can read them, though the shape may fit. A
tensor does not say which space it was made in, so both pipelines are passed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image

from helpers.common.validation import did_you_mean
from helpers.images.masks import as_mask, by, check_equal_sizes
from helpers.images.reading import as_images, to_rgb
from helpers.pipelines.inspection import (
    autoencoder,
    check_pipeline,
    checkpoint,
    family,
    name_of,
    output_size,
    parameters_of,
    pixels_a_latent,
    size_arguments,
)

# Pipelines that take latents as `image` as they are.
_TAKE_LATENTS = (
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionControlNetImg2ImgPipeline",
    "StableDiffusionLatentUpscalePipeline",
)
# These take them with `masked_image_latents` beside them; SDXL's also without, where its UNet has four channels.
_TAKE_BOTH = ("StableDiffusionInpaintPipeline", "StableDiffusionXLInpaintPipeline")


def handoff(output: Any, source: Any, target: Any, **call: Any) -> Any:
    """Return what `source` made as the `image` of the next call: an image (several: a list), or latents (B, C, h, w).

    output: what the call of `source` returned, its .images, or one of them. source, target: the two pipelines.
    call: what else the next call gets; mask_image, height, width and padding_mask_crop are checked with it.

    Raises ValueError, before any model runs, where the next call would fail or silently give something else: latents of
    another latent space or scaling, not finite, or where `target` takes images only; sizes that do not fit; a plain
    black image. TypeError for what is no output, no pipeline, or no argument of the next call.
    """
    for name, pipe in (("source", source), ("target", target)):
        check_pipeline(pipe, name=name)
        if autoencoder(pipe) is None:
            raise TypeError(f"{name}: {name_of(pipe)} has no VAE, so it makes no images.")
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
    reasons = [_rejected_reason(target, call), _space_mismatch(source, target)]
    if any(reasons):
        raise ValueError(
            f"output is latents of {name_of(source)}, which {name_of(target)} cannot take: "
            f"{' Besides, '.join(filter(None, reasons))} "
            f"Hand over images: call {name_of(source)} without output_type='latent'."
        )
    pixels = pixels_a_latent(source)
    size = latents.shape[3] * pixels, latents.shape[2] * pixels
    _check_mask(call.get("mask_image"), size)
    asked = _asked(target, call)
    if asked is not None and asked != size:
        raise ValueError(
            f"output has latents of an image of {by(size)} pixels, and the next call will make {by(asked)}: latents "
            f"cannot be resized. Pass height={size[1]}, width={size[0]} to it, and to handoff."
        )


def _rejected_reason(target: Any, call: dict[str, Any]) -> str:
    """Why the next call takes no latents as its image, whatever their space; "" if it does."""
    kind = type(target).__name__
    if kind in _TAKE_LATENTS:
        return ""
    if kind in _TAKE_BOTH:
        channels = target.unet.config.in_channels
        if call.get("padding_mask_crop") is not None:
            return "padding_mask_crop cuts its crop out of an image."
        if call.get("masked_image_latents") is not None or (family(target) == "sdxl" and channels == 4):
            return ""
        if channels == 4:
            return (
                "it lays the mask, in full size, over the image. (With masked_image_latents=latents, passed to it and "
                "to handoff, it does not; a UNet of 4 channels never uses them.)"
            )
        return (
            f"its UNet of {channels} channels wants the image without its masked part, which is cut out of pixels. "
            "(If you have encoded that yourself, pass it to it and to handoff as masked_image_latents.)"
        )
    if family(target) == "kandinsky22":
        return "it sends every image through its encoder, which wants 3 channels."
    if family(target) == "upscale-x4":
        return "its UNet looks at the small image itself, 3 channels of colour, beside 4 of latents."
    if "controlnet" in target.components and "mask_image" not in parameters_of(target):
        return "its image is the control image."
    return "it takes its image as pixels."


def _space_mismatch(source: Any, target: Any) -> str:
    """Why the latent spaces of two pipelines differ, or "" if they match.

    The catalogue says which checkpoints share a space. For pipelines that it does not list, only scaling is compared.
    """
    one, other = checkpoint(source), checkpoint(target)
    if one and other and one.latent_space != other.latent_space:
        return (
            f"latents can be read only in the space they were made in, and these two have different autoencoders "
            f"(latent_space {one.latent_space!r} and {other.latent_space!r} in CATALOG)."
        )
    for name in ("scaling_factor", "shift_factor", "latents_mean", "latents_std"):
        was, wanted = autoencoder(source).config.get(name), autoencoder(target).config.get(name)
        if was != wanted:
            return f"their autoencoders scale latents differently: {name} is {was} there and {wanted} here."
    return ""


def _images(output: Any) -> list[Image.Image]:
    found = getattr(output, "images", output)
    if isinstance(found, tuple) and found and not isinstance(found[0], Image.Image):
        found = found[0]  # return_dict=False
    images = [to_rgb(image, name="output") for image in as_images(found, name="output")]
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
    if mask is not None:
        remedy = f"Use mask = fit(mask, {size})."
        check_equal_sizes("mask_image", as_mask(mask).size, "what is handed over", size, remedy=remedy)


def _asked(target: Any, call: dict[str, Any]) -> tuple[int, int] | None:
    """Width and height of what the next call will make; None where it follows its image."""
    return output_size(target, {name: call.get(name) for name in ("height", "width")})
