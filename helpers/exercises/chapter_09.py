"""The exercises of chapter 09: what a call costs, when compiling pays, few steps, kept embeddings, a small GPU."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from helpers.analysis.image_metrics import adherence
from helpers.catalog.checkpoints import CATALOG
from helpers.catalog.editions import edition
from helpers.catalog.memory_plan import WAYS, full_plan
from helpers.exercises import describe, exercise
from helpers.exercises.kit import expect_number, expect_records
from helpers.pipelines.loading import load

IMAGES, STEPS = 4, 30  # of exercise 09.1
FEW, SEEDS, HOUSE, FOLLOWS = 6, (0, 1, 2), "a red house in the snow", 0.9  # of exercise 09.3
BOAT = "a blue boat at sunset"  # of exercise 09.4
GPU = 8  # GB, of exercise 09.5
# seconds of compiling, of a call before, of a call after: calls until it has paid back (09.2)
INVESTMENTS = {(8.0, 1.0, 0.5): 16, (10.0, 2.0, 1.25): 14, (45.0, 0.5, 0.375): 360}


@exercise("09.1", right="4 images × 2 for guidance × 30 steps. Each of these three numbers can be made smaller.")
def latents_of_a_call(answer: Any) -> str | None:
    expect_number(answer)
    hints = {
        IMAGES * STEPS: "That is one latent per image and step. But with guidance the model is asked twice.",
        2 * STEPS: "That is one image. The call makes four.",
        STEPS: "That is how often the UNet is called. On how many latents at once?",
        2 * IMAGES: "That is one step. There are 30.",
        2 * IMAGES * (STEPS + 1): "Close. PNDM would take one step more, but UniPC takes 30.",
    }
    if answer == 2 * IMAGES * STEPS:
        return None
    return hints.get(answer, f"Got {answer:g}. Multiply: the images, the questions per image, the steps.")


@exercise("09.2", right="Compile time divided by the gain per call, rounded up. Without a gain it never pays back.")
def pays_back(answer: Any) -> str | None:
    if not callable(answer):
        return f"Expected a function, got {describe(answer)}: hand in `pays_back`, without calling it."
    for (dear, before, after), right in INVESTMENTS.items():
        called = f"pays_back({dear:g}, {before:g}, {after:g})"
        found = answer(dear, before, after)
        if found is None or isinstance(found, bool) or not isinstance(found, (int, float, np.number)):
            return f"{called} returned {describe(found)}, expected {right}."
        if found != right:
            exact = dear / (before - after)
            if math.isclose(found, exact):
                return f"{called} returned {found:.4g}. There are no fractions of a call: round up, to {right}."
            if found == math.floor(exact):
                return f"{called} returned {found:g}. After {found:g} calls it has not paid back yet: round up."
            return f"{called} returned {found:.4g}, expected {right}: each call saves {before - after:g} seconds."
    for after in (1.0, 1.5):
        try:
            found = answer(8.0, 1.0, after)
        except ZeroDivisionError:
            return f"pays_back(8, 1, {after:g}) divides by zero: where nothing is gained, return None."
        if found is not None:
            return f"pays_back(8, 1, {after:g}) returned {describe(found)}: it never pays back, so return None."
    return None


@exercise("09.3", right="At most six steps, and the prompt is followed. Everything else in this chapter saves less.")
def few_steps(answer: Any) -> str | None:
    records = expect_records(answer, len(SEEDS))
    for record in records:
        given = record.parameters
        if given.get("prompt") != HOUSE:
            return f'A prompt is {str(given.get("prompt"))[:60]!r}, expected "{HOUSE}".'
        if "image" in given:
            return 'These started from an image. Text-to-image has none: load("sd15").'
        if (steps := given.get("num_inference_steps", 50)) > FEW:
            return f"One was made with {steps} steps, expected {FEW} at most."
    if (seeds := sorted(record.parameters["seed"] for record in records)) != list(SEEDS):
        return f"Their seeds are {seeds}, expected {list(SEEDS)}: one image may be luck."
    used = {record.origin.get("schedulers", {}).get("scheduler", {}).get("class") for record in records}
    if len(used) > 1:
        return f"They were made with {' and '.join(sorted(map(str, used)))}: choose one scheduler for all three."
    if edition() != "mini":
        return None
    follows = float(np.mean([adherence(record.image, HOUSE) for record in records]))
    if follows < FOLLOWS:
        return (
            f"Their adherence is {follows:.2f} on average, expected {FOLLOWS}. Section 8 shows which "
            "schedulers are ahead with few steps. Less guidance helps, too."
        )
    return None


@exercise("09.4", right="The text encoder ran once, before the sweep. The images are those of the prompt.")
def kept_embeddings(answer: Any) -> str | None:
    records = expect_records(answer, 2)
    if [record.parameters.get("seed") for record in records] != [0, 1]:
        seeds = [record.parameters.get("seed") for record in records]
        return f'Their seeds are {seeds}, expected [0, 1]: sweep(…, over={{"seed": [0, 1]}}, …).'
    for record in records:
        if record.parameters.get("prompt") is not None:
            return "One holds the prompt as text: pass prompt_embeds=… alone, and no prompt."
        if not hasattr(record.parameters.get("prompt_embeds"), "shape"):
            return "One has no prompt_embeds. pipe.encode_prompt(…) returns them, first."
    pipe = load("sd15")
    positive, negative = pipe.encode_prompt(BOAT, pipe.device, 1, True)
    found = records[0].parameters["prompt_embeds"].to(positive)
    if found.shape != positive.shape:
        return f"prompt_embeds has the shape {tuple(found.shape)}, expected {tuple(positive.shape)}."
    if found.allclose(negative, atol=1e-2):
        return "These are the embeddings of the empty text. encode_prompt returns two: first the prompt's."
    if not found.allclose(positive, atol=1e-2):
        return f'These are the embeddings of a text other than "{BOAT}".'
    return None


@exercise(
    "09.5", right="Its models together are too large for 8 GB, but each alone fits. load() turns this on by itself."
)
def small_gpu(answer: Any) -> str | None:
    if not isinstance(answer, str):
        return f'Expected the name of a method, such as "enable_vae_tiling", got {describe(answer)}.'
    plan = full_plan(CATALOG["sdxl-inpaint"], GPU)
    right = WAYS[plan.offload].removesuffix("()") if plan.offload != "none" else ""
    name = answer.strip().removeprefix("pipe.").split("(")[0]
    if name == right:
        return None
    if not name:
        return f"As it is, it needs more than {GPU} GB: look at its row of the table."
    if name == "enable_sequential_cpu_offload":
        return f"That works, but it is the slowest way. The table says what {GPU} GB are enough for."
    return f"{name!r} is not what the table says for {GPU} GB. It has two ways of offload: take the faster that fits."
