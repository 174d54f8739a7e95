"""Latent spaces: which pipelines take latents as their image, and whether two pipelines share one space.

An encoder and its decoder agree on what latents mean; no other decoder can read them, though the shape may fit.
"""

from __future__ import annotations

from typing import Any

from helpers.pipelines.inspection import autoencoder, checkpoint, family, parameters_of

# Pipelines that take latents as `image` as they are.
TAKE_LATENTS = (
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionControlNetImg2ImgPipeline",
    "StableDiffusionLatentUpscalePipeline",
)
# These take them with `masked_image_latents` beside them; SDXL's also without, where its UNet has four channels.
TAKE_BOTH = ("StableDiffusionInpaintPipeline", "StableDiffusionXLInpaintPipeline")


def latents_rejected_reason(target: Any, call: dict[str, Any]) -> str:
    """Why the next call takes no latents as its image, whatever their space; "" if it does."""
    kind = type(target).__name__
    if kind in TAKE_LATENTS:
        return ""
    if kind in TAKE_BOTH:
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


def latent_space_mismatch(source: Any, target: Any) -> str:
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
