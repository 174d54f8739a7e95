"""The exercises of chapter 06: what latents save, who takes them, a chain of one's own, a wider image, two tasks."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from PIL import Image

from helpers.analysis.image_metrics import adherence, change
from helpers.catalog.editions import edition
from helpers.exercises import describe, exercise
from helpers.exercises.kit import expect_image, expect_list
from helpers.images.masks import by
from helpers.images.outpainting import FILLS, outpaint
from helpers.images.reading import load_image
from helpers.pipelines.loading import load

CALLS = (3, 4, 0, 1)
HAND_OFFS = {
    "a": (True, "a: sd15 and comic share a latent space, and image-to-image takes latents."),
    "b": (False, "b goes from SD 1.5 to SDXL: the shape fits, but the numbers mean something else."),
    "c": (True, "c stays within SDXL's latent space, and the refiner's image-to-image takes latents."),
    "d": (True, "d: the x2 upscaler was made for Stable Diffusion's latents, and takes them."),
    "e": (False, "e: the x4 upscaler looks at the small image itself, as pixels."),
    "f": (False, "f: Kandinsky encodes whatever it is given, even latents of its own."),
    "g": (True, "g: the x2 upscaler's latents are Stable Diffusion's, only larger: image-to-image takes them."),
    "h": (False, "h: SD inpainting cuts the hole out of an image; without masked_image_latents it needs pixels."),
}
FARTHEST = 80.0  # grey levels: no gentle step leads so far away from the beach
SUNSET = 0.5  # adherence at least
UNPAINTED = 3.0  # grey levels between a border as outpaint fills it and one that was painted


@exercise(
    "06.1", right="Each image between two calls costs a decode and an encode. In latents, only the end is decoded."
)
def round_trips(answer: Any) -> str | None:
    expect_list(answer, 4, "four numbers, such as (1, 2, 3, 4)")
    if any(isinstance(one, bool) or not isinstance(one, Integral) for one in answer):
        return "Expected whole numbers only."
    names = ("encodes with images", "decodes with images", "encodes in latents", "decodes in latents")
    hints = {
        0: "The first call begins with words, so it encodes nothing. Each of the other three gets an image.",
        1: "Every one of the four calls ends in an image here.",
        2: "Who would have to encode? The first call has no image, and the others get latents.",
        3: "Only what you look at in the end is decoded: the x2 upscaler returns an image.",
    }
    wrong = [place for place in range(4) if answer[place] != CALLS[place]]
    return f"{names[wrong[0]]}: got {answer[wrong[0]]}. {hints[wrong[0]]}" if wrong else None


@exercise("06.2", right="One latent space on both sides, and a pipeline that takes latents: it needs both.")
def stay_in_latents(answer: Any) -> str | None:
    if not isinstance(answer, (str, list, tuple, set, frozenset)):
        return f"Expected the letters as one text, such as 'abc', got {describe(answer)}."
    letters = {str(one).strip().lower() for one in answer} - {"", ","}
    unknown = letters - HAND_OFFS.keys()
    if unknown:
        return f"{min(unknown)!r} is not one of the letters a to h."
    wrong = [letter for letter, (right, _) in HAND_OFFS.items() if right != (letter in letters)]
    if not wrong:
        return None
    more = f" ({len(wrong) - 1} more to look at.)" if len(wrong) > 1 else ""
    return f"{HAND_OFFS[wrong[0]][1]}{more}"


@exercise("06.3", right="Three gentle calls, with nothing decoded on the way, and the sun is setting over the sea.")
def into_the_sunset(answer: Any) -> str | None:
    import torch

    expect_list(answer, 3, "a list of three, the latents after each call")
    image = load_image("seashore")
    pipe = load("sd15")
    wanted = (1, 4, image.height // pipe.vae_scale_factor, image.width // pipe.vae_scale_factor)
    for number, one in enumerate(answer, 1):
        if not isinstance(one, torch.Tensor):
            return f"Number {number}: expected latents, a tensor, got {describe(one)}. Which output_type gives them?"
        if tuple(one.shape) not in (wanted, wanted[1:]):
            return f"Number {number} has the shape {tuple(one.shape)}, expected {wanted}. Start from the seashore."
        if not one.isfinite().all():
            return f"Number {number} holds values that are not finite: turn guidance_scale down."
    latents = [one.reshape(wanted) for one in answer]
    if any(torch.equal(one, other) for one, other in zip(latents, latents[1:], strict=False)):
        return (
            "Two in a row are the same. Give the second call what the first made, and the third what the second made."
        )
    first, _, last = (_decoded(pipe, one) for one in latents)
    if change(image, first).inside > FARTHEST:
        return "The first is far from the beach: start from load_image('seashore'), at a strength of 0.5 or less."
    if edition() == "mini" and (seen := adherence(last, "at sunset")) < SUNSET:
        return (
            f"The last is not a sunset yet: the classifier gives it {seen:.2f} out of 1. Name it in the prompt, "
            "or be less gentle."
        )
    return None


@exercise("06.4", right="There is a quarter more winter on the left, and the image beside it is as it was.")
def wider_winter(answer: Any) -> str | None:
    expect_image(answer)
    winter = load_image("winter")
    new = winter.width // 4
    if answer.size != (winter.width + new, winter.height):
        return (
            f"It is {by(answer.size)} pixels, expected {by((winter.width + new, winter.height))}: a quarter "
            "wider. Give the call width and height, or it paints at the model's own size."
        )
    made, whole = np.asarray(answer.convert("RGB")).astype(int), np.asarray(winter).astype(int)
    if np.abs(made[:, : winter.width] - whole)[:, : winter.width // 2].mean() < 1:
        return "It has grown on the right. The new part belongs on the left."
    away = np.abs(made[:, new:] - whole)[:, winter.width // 4 :].mean()
    if away > 0:
        return (
            f"The original part differs by {away:.1f} grey levels. keep_unmasked(canvas, painted, mask) puts it back, "
            "where the mask is black."
        )
    fills = (np.asarray(outpaint(winter, left=new, fill=fill)[0]).astype(int)[:, :new] for fill in FILLS)
    if min(np.abs(made[:, :new] - fill).mean() for fill in fills) < UNPAINTED:
        return (
            "The border is still as outpaint filled it. Let an inpainting pipeline paint it, with image and mask_image."
        )
    return None


@exercise("06.5", right="One UNet in memory, two pipelines, and a scheduler for each.")
def two_tasks(answer: Any) -> str | None:
    expect_list(answer, 2, "two pipelines, [pipe, other]")
    for place, one in zip(("first", "second"), answer, strict=True):
        if not hasattr(one, "unet") or not hasattr(one, "scheduler"):
            return f"The {place} is not a pipeline with a UNet: got {describe(one)}."
    pipe, other = answer
    if "Img2Img" not in type(pipe).__name__:
        return f"The first is {type(pipe).__name__}; it should be for image-to-image."
    if "Inpaint" not in type(other).__name__:
        return f"The second is {type(other).__name__}; it should be for inpainting."
    if pipe.unet is not other.unet:
        return "They have a UNet each, so the weights are in memory twice. Build the second from the first."
    if pipe.scheduler is other.scheduler:
        return "They share one scheduler object, as from_pipe leaves them: a change to one is a change to both."
    if type(pipe.scheduler) is not type(other.scheduler):
        return (
            f"The first has {type(pipe.scheduler).__name__}, the second {type(other.scheduler).__name__}: "
            "change the scheduler before you build the second."
        )
    if type(other.scheduler).__name__ != "EulerDiscreteScheduler":
        return f"The schedulers are {type(other.scheduler).__name__}, expected EulerDiscreteScheduler."
    return None


def _decoded(pipe: Any, latents: Any) -> Image.Image:
    import torch

    with torch.no_grad():
        latents = latents.to(pipe.vae.device, pipe.vae.dtype)
        decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    return pipe.image_processor.postprocess(decoded)[0]
