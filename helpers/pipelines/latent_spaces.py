"""Latent spaces: which pipelines take latents as their image, and whether two pipelines read the same ones.

An encoder and its decoder agree on what latents mean; no other decoder can read them, though their shape may fit.
"""

from __future__ import annotations

from typing import Any

from helpers.pipelines import inspection
from helpers.pipelines.inspection import autoencoder

# Pipelines that take latents as `image` as they are.
TAKE_LATENTS = (
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionControlNetImg2ImgPipeline",
    "StableDiffusionLatentUpscalePipeline",
)
# These take them with `masked_image_latents` beside them; SDXL's also without, where its UNet has four channels.
TAKE_BOTH = ("StableDiffusionInpaintPipeline", "StableDiffusionXLInpaintPipeline")

ROUNDING = 0.01  # relative; bfloat16 moves weights by a fifth of it


def pictures_only(target: Any, call: dict[str, Any]) -> str:
    """Why the next call takes no latents as its image, whatever their space; empty where it does."""
    kind = type(target).__name__
    if kind in TAKE_LATENTS:
        return ""
    if kind in TAKE_BOTH:
        channels = target.unet.config.in_channels
        if call.get("padding_mask_crop") is not None:
            return "padding_mask_crop cuts its part out of a picture."
        if call.get("masked_image_latents") is not None or ("XL" in kind and channels == 4):
            return ""
        if channels == 4:
            return (
                "it lays the mask, in full size, over the image. (masked_image_latents=latents, passed to it and to "
                "handoff as well, spares it that; a UNet of 4 channels never looks at them.)"
            )
        return (
            f"its UNet of {channels} channels wants the picture without its masked part, which is cut out of pixels. "
            "(If you have encoded that yourself, pass it to it and to handoff as masked_image_latents.)"
        )
    if inspection.family(target) == "kandinsky22":
        return "it sends every image through its encoder, which wants 3 channels."
    if kind == "StableDiffusionUpscalePipeline":
        return "its UNet looks at the small picture itself, in 3 channels of colour, beside 4 of latents."
    if "ControlNet" in kind and "mask_image" not in inspection.parameters_of(target):
        return "its image is the control picture."
    return "it takes its image as pixels."


def other_space(source: Any, target: Any) -> str:
    """What sets the two latent spaces apart; empty where they are one."""
    one, other = inspection.checkpoint(source), inspection.checkpoint(target)
    first, second = autoencoder(source), autoencoder(target)
    if one and other:
        if one.latent_space != other.latent_space:
            return (
                f"latents can be read only in the space they were made in, and these two have different autoencoders "
                f"(latent_space {one.latent_space!r} and {other.latent_space!r} in CATALOG)."
            )
    elif not _same_encoder(first, second):
        return "latents can be read only in the space they were made in, and the encoders of these two differ."
    for name in ("scaling_factor", "shift_factor", "latents_mean", "latents_std"):
        was, wanted = first.config.get(name), second.config.get(name)
        if was != wanted:
            return f"the encoder is the same, but {name} is {was} there and {wanted} here."
    return ""


def _same_encoder(first: Any, second: Any) -> bool:
    """Whether two autoencoders fill one latent space: equal encoders, but for rounding. Decoders may differ."""
    if first is second:
        return True
    ours, theirs = ({k: v for k, v in vae.state_dict().items() if k.startswith(("encoder.", "quant_conv."))}
                    for vae in (first, second))  # fmt: skip
    if ours.keys() != theirs.keys() or any(ours[key].shape != theirs[key].shape for key in ours):
        return False
    if any(tensor.is_meta for tensor in (*ours.values(), *theirs.values())):
        return False  # sequential offload keeps the weights elsewhere
    for key in ours:
        one, other = ours[key].cpu().float(), theirs[key].cpu().float()
        if (one - other).norm() > ROUNDING * one.norm():
            return False
    return True
