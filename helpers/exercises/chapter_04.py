"""The exercises of chapter 04: channels, the regular pipeline's own line, a grey mask, and two checkpoints compared."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from helpers.analysis.image_metrics import change
from helpers.exercises import describe, exercise
from helpers.exercises.kit import REPAINTED, RETURNED, called, expect_images, expect_list, expect_number
from helpers.images.masks import load_mask
from helpers.images.reading import load_image

CLOSE = 1e-3  # latents are about 1 large; half precision rounds by less


@exercise(
    "04.1", right="16 channels of latents, 1 of mask and 16 of the masked image make 33, just as 4 + 1 + 4 make 9."
)
def channels(answer: Any) -> str | None:
    expect_number(answer, "a number, such as 9")
    hints = {
        33: None,
        9: "9 is for latents of 4 channels: 4 + 1 + 4. Which of the three grow with the latents?",
        16: "16 is what a regular UNet takes: the latents alone. An inpainting UNet is told two more things.",
        32: "The latents and the masked image make 32. How does it know where the mask is?",
        17: "The latents and the mask make 17. The image around the hole has to come in too.",
        18: "The masked image is given as latents: it has as many channels as what is being painted, not one.",
        20: "The masked image goes through the same VAE, so it has 16 channels, not 3.",
        48: "The mask is one channel, however many the latents have. It says only yes or no.",
    }
    return hints.get(answer, f"Got {answer:g}. Add up the three parts of section 4, each for latents of 16 channels.")


@exercise("04.2", right="A weighted sum: the new latents where the mask is 1, the noised original's where it is 0.")
def mixing(answer: Any) -> str | None:
    import torch

    if not callable(answer):
        return f"Expected the function itself, mix without brackets, got {describe(answer)}."
    generator = torch.Generator().manual_seed(4)
    latents, original = (torch.randn(2, 4, 8, 8, generator=generator) for _ in range(2))
    mask = torch.zeros(2, 1, 8, 8)
    mask[..., 2:6, 2:6], mask[..., 6:, 6:] = 1, 0.25
    before = [one.clone() for one in (latents, original, mask)]
    made = called(answer, latents, original, mask, told="mix(latents, original, mask)")
    if made is None:
        return "mix returns None: does its last line begin with return?"
    if not isinstance(made, torch.Tensor):
        return f"mix should return latents, a tensor, and returned {describe(made)}."
    if any(not torch.equal(one, copy) for one, copy in zip((latents, original, mask), before, strict=True)):
        return "It changes its arguments in place. Build new latents instead: the pipeline needs the three again."
    if made.shape != latents.shape:
        return f"It returns {tuple(made.shape)}, expected the shape of latents, {tuple(latents.shape)}."

    def same(wanted: torch.Tensor, where: torch.Tensor | bool = True) -> bool:
        return bool((((made - wanted).abs() < CLOSE) | ~torch.as_tensor(where)).all())

    right, hard = mask * latents + (1 - mask) * original, (mask == 0) | (mask == 1)
    if same(right):
        return None
    if same(latents) or same(original):
        which = "latents" if same(latents) else "original"
        return f"It returns {which} unchanged, so the mask has no effect yet."
    if same(mask * original + (1 - mask) * latents):
        return "New and old are swapped. A 1 in the mask means repaint, so take latents there."
    if same(mask * latents):
        return "Outside the mask it gives 0, which is not an image. The original belongs there, weighted by 1 - mask."
    if same(mask * latents + original):
        return "Inside the mask the original is added on top of the new. Weight it by 1 - mask."
    if same(right, hard):
        return "Black and white are right, but where the mask is 0.25 it should be a mixture: a quarter new."
    return (
        "It is right neither at 1 nor at 0. Take latents where mask is 1 and original where it is 0, by a weighted sum."
    )


@exercise(
    "04.3", right="One channel from 0 to 1, greys included. A pipeline with this processor mixes old and new by them."
)
def grey_processor(answer: Any) -> str | None:
    if isinstance(answer, type) or not hasattr(answer, "preprocess"):
        called = "VaeImageProcessor(...) with its arguments" if isinstance(answer, type) else "a VaeImageProcessor"
        return f"Expected {called}, got {describe(answer)}."
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1)))
    plain = np.asarray(ramp, np.float32) / 255
    seen, coloured, small = (
        np.asarray(answer.preprocess(mask, height=64, width=64))
        for mask in (ramp, ramp.convert("RGB"), ramp.resize((48, 48)))
    )
    if seen.min() < -0.01:
        return f"It turns black into {seen.min():g}: masks go from 0 to 1. Which option normalises?"
    if len(np.unique(seen.round(3))) <= 2:
        return "Only 0 and 1 come out of a mask with 64 greys: it is still cut at 50 %. Which option does that?"
    if coloured.shape[1] != 1:
        return "A mask that was saved in colour comes out with 3 channels. It has to be converted to greyscale."
    if small.shape[-2:] != (64, 64):
        return "A mask of another size is not resized. Leave do_resize on: the mask has to match the latents."
    if np.abs(seen[0, 0] - plain).max() > 0.02:
        return (
            f"The greys come out changed, by up to {np.abs(seen[0, 0] - plain).max():.2f}. Leave the other options "
            "alone."
        )
    return None


@exercise(
    "04.4",
    right="The regular checkpoint kept more of what is around the rock, and keep_unmasked kept all of it.",
)
def erased_twice(answer: Any) -> str | None:
    names = ("regular", "special", "kept")
    expect_list(answer, 3, "a list of three images, [regular, special, kept]")
    road, rock = load_image("road"), load_mask("road")
    expect_images(answer, names, road.size, "the road", what=RETURNED)
    for name, one in zip(names, answer, strict=True):
        if change(road, one, rock).inside < REPAINTED:
            return f"{name} still shows the rock. Did you pass the road's own mask, and are before and after in order?"
    outside = [change(road, one, rock).outside for one in answer]
    if answer[0].tobytes() == answer[1].tobytes():
        return "The first two are the same image. One is from sd15 with task='inpaint', the other from sd15-inpaint."
    if min(outside[:2]) == 0:
        return (
            "The first two should be as the pipelines returned them, but one has its unmasked pixels put back already."
        )
    if outside[2] > 0:
        return (
            f"Outside the mask, kept differs by {outside[2]:.2g} grey levels, expected 0: "
            "keep_unmasked(road, special, mask) puts the road back."
        )
    if outside[0] >= outside[1]:
        return (
            f"The first changed more outside the mask ({outside[0]:.1f} grey levels) than the second "
            f"({outside[1]:.1f}). The regular checkpoint comes first: which one puts the original back?"
        )
    gaps = [change(one, answer[2], rock).inside for one in answer[:2]]
    if gaps[1] > 0.5:
        return (
            f"Inside the mask, kept is not the second image ({gaps[1]:.1f} grey levels apart). Build it from that one."
        )
    return None
