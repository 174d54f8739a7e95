"""The exercises of chapter 05: steps that run, a sweep, guidance, a word taken out, a small part of an image."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from PIL import Image

from helpers.analysis.image_metrics import adherence, change
from helpers.catalog.checkpoints import CATALOG
from helpers.catalog.editions import edition
from helpers.exercises import exercise
from helpers.exercises.kit import expect_image, expect_number, expect_one_difference, expect_records, expect_repainted
from helpers.generation.records import Record
from helpers.images.masks import THRESHOLD, by, ellipse_mask, shrink
from helpers.images.reading import load_image

STRENGTH, WANTED = 0.6, 20  # of exercise 05.1: steps that shall run
STRENGTHS, SEEDS = (0.3, 0.6, 0.9), (0, 1, 2)  # of exercise 05.2
GUIDED = "a purple castle in the snow"  # the prompt of exercise 05.3
FOLLOWS, BURNT = 0.9, 0.02  # adherence at least, share of burnt values at most
TAKEN_OUT, WORD = "a red boat", "sunset"  # prompt and negative prompt of exercise 05.4
LOST = 0.3  # adherence to the word, less at least
TIMES = 4  # how many times larger than the checkpoint's own size the image of exercise 05.5 is
DETAIL = 2.0  # grey levels lost when a sharp image is made `TIMES` smaller and large again; an enlarged one loses 1


@exercise("05.1", right="int(0.6 * 34) is 20, and int(0.6 * 33) is 19. Ask for more when strength takes some away.")
def enough_steps(answer: Any) -> str | None:
    expect_number(answer, "a number of steps, such as 25")
    if not math.isfinite(answer) or answer != int(answer):
        return f"There are no fractions of a step: num_inference_steps is a whole number, got {answer:g}."
    runs = int(STRENGTH * answer)
    if answer == 34:
        return None
    if answer == 33:
        return "0.6 * 33 is 19.8, and int() rounds down to 19. (With PNDM it is enough: its list is one longer.)"
    if answer == 12:
        return "12 is what runs when you ask for 20. Here 20 should run: which number, times 0.6, makes 20?"
    if runs >= WANTED:
        return f"If you ask for {answer:g}, {runs} run. That is enough, but so is a smaller number."
    return f"If you ask for {answer:g}, int({STRENGTH} * {answer:g}) = {runs} run, and {WANTED} should."


@exercise("05.2", right="Nine images, three per strength. Now you can tell an effect from luck.")
def a_sweep(answer: Any) -> str | None:
    if hasattr(answer, "__next__"):
        return "A sweep makes its images as you read it, and only once. Hand in list(sweep(...))."
    records = expect_records(answer)
    start = load_image("lighthouse")
    for record in records:
        given = record.parameters
        if "mask_image" in given:
            return 'These were inpainted. Image-to-image has no mask: load("sd15", task="image2image").'
        if not isinstance(given.get("image"), Image.Image):
            return 'They were not painted from an image: pass image=load_image("lighthouse") to the sweep.'
        if given["image"].size != start.size or change(start, given["image"]).inside > 1:
            return 'They do not start from load_image("lighthouse").'
    if len({record.parameters.get("prompt") for record in records}) > 1:
        return (
            "Their prompts differ. What is not swept must stay the same, or you cannot tell what made the difference."
        )
    made = {(round(record.parameters.get("strength", 0), 6), record.parameters.get("seed")) for record in records}
    wanted = list(itertools.product(STRENGTHS, SEEDS))
    if missing := [pair for pair in wanted if pair not in made]:
        strength, seed = missing[0]
        return (
            f"{len(missing)} of {len(wanted)} combinations are missing, strength {strength} with seed {seed} first. "
            "over takes both arguments with their values, and makes every combination."
        )
    return None if len(made) == len(wanted) else f"There are {len(made)} combinations, expected {len(wanted)}."


@exercise(
    "05.3", right="It follows its prompt, and its colours do not burn. There is room between too little and too much."
)
def guided_and_not_burnt(answer: Any) -> str | None:
    (record,) = expect_records([answer] if isinstance(answer, Record) else answer, 1)
    given = record.parameters
    if "image" in given:
        return 'This one started from an image. Text-to-image has none: load("sd15").'
    if given.get("prompt") != GUIDED:
        return f'Its prompt is {str(given.get("prompt"))[:60]!r}, expected "{GUIDED}".'
    if "guidance_scale" not in given:
        return "It was made with the default guidance_scale. Choose one, and pass it."
    guidance = given["guidance_scale"]
    burnt = _burnt(record.image)
    if burnt > BURNT:
        return f"At guidance_scale={guidance:g}, {burnt:.1%} of its values are burnt, expected {BURNT:.0%} at most."
    if guidance <= 1:
        return (
            f"guidance_scale={guidance:g} is no guidance at all: the model is asked once per step. Try a value above 1."
        )
    if edition() == "mini" and (follows := adherence(record.image, GUIDED)) < FOLLOWS:
        return (
            f"Its adherence to the prompt is {follows:.2f}, expected {FOLLOWS} at least. Try more guidance, or "
            "another seed."
        )
    return None


@exercise("05.4", right="One word in the negative prompt took away what it names. The rest of the call is the same.")
def word_taken_out(answer: Any) -> str | None:
    records = expect_records(answer, 2)
    without, against = (record.parameters for record in records)
    for given in (without, against):
        if given.get("prompt") != TAKEN_OUT:
            return f'A prompt is {str(given.get("prompt"))[:60]!r}, expected "{TAKEN_OUT}" for both.'
    if WORD in str(without.get("negative_prompt", "")) and WORD not in str(against.get("negative_prompt", "")):
        return "They are swapped: first the image without a negative prompt, then the one with it."
    if WORD not in str(against.get("negative_prompt", "")).lower():
        return f'The second should have a negative prompt that names the {WORD}: negative_prompt="{WORD}".'
    if without.get("negative_prompt"):
        return "The first should have no negative prompt, so that the two can be compared."
    expect_one_difference(without, against, "negative_prompt")
    if without.get("guidance_scale", 7.5) <= 1:
        return "Without guidance (1 or less) a negative prompt does nothing. Choose a higher guidance_scale."
    if edition() != "mini":
        return None
    before, after = (adherence(record.image, WORD) for record in records)
    if before < 0.5:
        return f"There is no {WORD} in the first image ({before:.2f}), so there is none to take out. Try another seed."
    if before - after < LOST:
        return f"The {WORD} is still there: from {before:.2f} to {after:.2f}. Try another seed, or more guidance."
    return None


@exercise("05.5", right="Painted at the model's own size and put back at the image's: sharp inside, untouched outside.")
def small_in_large(answer: Any) -> str | None:
    if isinstance(answer, Record):
        answer = answer.image
    expect_image(answer)
    large, mask = large_meadow()
    if answer.size == (CATALOG["sd15-inpaint"].size,) * 2:
        return (
            f"{by(answer.size)} pixels is what the checkpoint paints; the image has {by(large.size)}. With "
            "padding_mask_crop the result has the image's size."
        )
    expect_image(answer, large.size, "as the large image has")
    moved = change(large, answer, mask)
    if moved.outside > 0:
        return (
            f"Outside the mask it differs by {moved.outside:.2f} grey levels, expected 0. A result that was enlarged "
            "is soft everywhere: let padding_mask_crop put it back."
        )
    expect_repainted(moved, "Was it painted at all?")
    if _detail(answer, mask) < DETAIL:
        return (
            "Inside the mask it is soft: it was painted small and enlarged. padding_mask_crop paints that part larger."
        )
    return None


def large_meadow() -> tuple[Image.Image, Image.Image]:
    """The image of exercise 05.5, larger than its checkpoint paints, and a small mask in it."""
    large = load_image("meadow", size=TIMES * CATALOG["sd15-inpaint"].size)
    width, height = large.size
    return large, ellipse_mask(large, (0.2 * width, 0.48 * height, 0.36 * width, 0.64 * height))


def _burnt(image: Any) -> float:
    """The share of values at the very ends, 0 or 255."""
    values = np.asarray(image.convert("RGB"))
    return float(((values == 0) | (values == 255)).mean())


def _detail(image: Image.Image, mask: Image.Image) -> float:
    """How many grey levels well inside the mask are too fine to survive an image `TIMES` smaller."""
    inside = np.asarray(shrink(mask, 3 * TIMES)) >= THRESHOLD  # the edge is as sharp as its mask
    small = image.resize((image.width // TIMES, image.height // TIMES), Image.Resampling.LANCZOS)
    lost = np.abs(np.asarray(image, np.float32) - np.asarray(small.resize(image.size, Image.Resampling.LANCZOS)))
    return float(lost[inside].mean())
