"""The exercises of chapter 03: choosing, SDXL at its own size, arguments that nobody reads, embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from helpers.analysis.image_metrics import adherence, change
from helpers.catalog.checkpoints import CATALOG
from helpers.catalog.editions import edition
from helpers.common.sizes import format_size
from helpers.common.validation import did_you_mean
from helpers.exercises import describe, exercise
from helpers.exercises.kit import called, expect_image, expect_list, expect_repainted
from helpers.images.masks import by, load_mask
from helpers.images.reading import load_image

POPULAR = ("sd15-inpaint", "sdxl-inpaint", "kandinsky22-inpaint")
# The needs of exercise 03.1: who serves them, the section that shows it, and what of a checkpoint decides.
NEEDS: dict[str, tuple[str, int, Callable[[str], str]]] = {
    "the smallest download": (
        "sd15-inpaint", 1, lambda name: f"its download is {format_size(CATALOG[name].download_size)}",
    ),
    "the largest images": ("sdxl-inpaint", 2, lambda name: f"it was trained on {CATALOG[name].full_size} pixels"),
    "a licence without forbidden uses": (
        "kandinsky22-inpaint", 1, lambda name: f"its licence is {CATALOG[name].licence}",
    ),
    "an image as part of the prompt": (
        "kandinsky22-inpaint", 5, lambda name: "its UNet was trained to read words only",
    ),
}  # fmt: skip
KEPT = 40.0  # grey levels outside: more than any decoder does, less than another image
BOAT = "a red boat"  # the prompt of exercise 03.2
SEEN = 0.5  # adherence at least


@exercise("03.1", right="Size, licence and what the call can do are three reasons to choose, before any image is made.")
def chosen(answer: Any) -> str | None:
    if not isinstance(answer, dict):
        return f'Expected a dict such as {{"the smallest download": "sd15-inpaint", ...}}, got {describe(answer)}.'
    if missing := [need for need in NEEDS if need not in answer]:
        return f"No checkpoint is named for {missing[0]!r}."
    for need, (right, section, because) in NEEDS.items():
        name = answer[need]
        if name is None or name is ...:
            return f"No checkpoint is named for {need!r} yet."
        if name not in POPULAR:
            hint = did_you_mean(str(name), POPULAR)
            return f"For {need!r} you name {str(name)[:40]!r}, which is none of the three. {hint}"
        if name != right:
            return f"Not {name!r} for {need!r}: {because(name)}. Section {section} shows which does better."
    return None


@exercise("03.2", right="Image, mask and call are all at SDXL's own size, so the same boat gets more pixels.")
def boat_in_its_own_size(answer: Any) -> str | None:
    expect_image(answer)
    size = CATALOG["sdxl-inpaint"].size
    if answer.size == (CATALOG["sd15-inpaint"].size,) * 2:
        return f"{by(answer.size)} pixels is Stable Diffusion 1.5's size. SDXL's is {size}, as CATALOG says."
    expect_image(answer, (size, size), "as SDXL was trained on")
    sea, mask = load_image("seashore", size=size), load_mask("seashore", size=size)
    moved = change(sea, answer, mask)
    if moved.outside > KEPT:
        return f"Outside the mask it is another image ({moved.outside:.0f} grey levels away). Start from the seashore."
    expect_repainted(moved, "Did you pass the mask?")
    if edition() == "mini" and (seen := adherence(answer, BOAT)) < SEEN:
        return f'It does not look like "{BOAT}" (adherence {seen:.2f}, expected {SEEN}). Try another seed.'
    return None


@exercise("03.3", right="Now you notice a misspelt argument before the image is painted, not after.")
def unread(answer: Any) -> str | None:
    if isinstance(answer, type) or not callable(answer):
        return f"Expected the function itself, unread without brackets, got {describe(answer)}."
    cases = (
        ("StableDiffusionInpaintPipeline", {"prompt": "a cat", "strength": 0.5}, []),
        ("StableDiffusionInpaintPipeline", {"prompt": "a cat", "strenght": 0.5}, ["strenght"]),
        ("KandinskyV22InpaintCombinedPipeline", {"strength": 0.5, "padding_mask_crop": 8, "height": 64},
         ["padding_mask_crop", "strength"]),
        ("StableDiffusionXLInpaintPipeline", {"original_size": (64, 64), "prior_guidance_scale": 4.0},
         ["prior_guidance_scale"]),
    )  # fmt: skip
    for kind, arguments, wanted in cases:
        told = f"unread({kind}, {', '.join(f'{name}={value!r}' for name, value in arguments.items())})"
        made = called(
            answer, _weightless(kind), told=told, more=" It should look at the call, not make it.", **arguments
        )
        if not isinstance(made, (list, tuple, set, frozenset)):
            return f"{told} returns {describe(made)}, expected a list of names."
        if sorted(map(str, made)) == wanted:
            continue
        if sorted(map(str, made)) == sorted(set(arguments) - set(wanted)):
            return f"{told} returns the names that the call reads. Return the others: {wanted}."
        if not made:
            return (
                f"{told} returns nothing, expected {wanted}. A call that ends in **kwargs accepts every name; only the "
                "parameters with names of their own are read."
            )
        return f"{told} returns {sorted(map(str, made))}, expected {wanted}."
    return None


@exercise(
    "03.4", right="The prior starts from noise of its own, so another seed gives another embedding, if only slightly."
)
def embeddings(answer: Any) -> str | None:
    import torch

    if hasattr(answer, "image_embeds"):
        return "That is the prior's whole output. Hand in three tensors: the .image_embeds of three outputs."
    expect_list(answer, 3, "a list of three embeddings, [first, again, other]")
    for name, one in zip(("first", "again", "other"), answer, strict=True):
        if hasattr(one, "image_embeds"):
            return f"{name} is the prior's whole output: hand in its .image_embeds."
        if not torch.is_tensor(one):
            return f"{name}: expected a tensor, the prior's image_embeds, got {describe(one)}."
        if one.ndim != 2 or len(one) != 1:
            return f"{name} has shape {tuple(one.shape)}, expected one embedding, (1, width): one prompt, one seed."
    first, again, other = (one.detach().float().cpu() for one in answer)
    if not first.shape == again.shape == other.shape:
        return f"Their widths differ: {first.shape[1]}, {again.shape[1]} and {other.shape[1]}. Use one prior for all."
    if not torch.equal(first, again):
        return "The first two differ. The same seed means a *new* generator, made from the same number, for each call."
    if torch.equal(first, other):
        return "The third is the same as the first. Give it a generator with another seed."
    if torch.nn.functional.cosine_similarity(first, other).item() < 0:
        return "The third points the other way. Was it made from the same prompt, and is it not the negative embedding?"
    return None


def _weightless(kind: str) -> Any:
    """A pipeline of this class without a model: enough to look at its call, too little to make it."""
    import diffusers

    return object.__new__(getattr(diffusers, kind))
