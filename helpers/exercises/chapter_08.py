"""The exercises of chapter 08: steps that are steered, a condition by hand, a depth map, and what it does."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from helpers.analysis.image_metrics import depth_agreement
from helpers.catalog.checkpoints import CATALOG
from helpers.exercises import describe, exercise
from helpers.exercises.kit import equal, expect_image, expect_number, expect_one_difference, expect_records
from helpers.images.masks import load_mask
from helpers.images.reading import load_image
from helpers.pipelines.control_images import depth_map, inpaint_condition

STEPS, START, END = 20, 0.2, 0.6  # of exercise 08.1
REPAINTED_SCENE = "road"  # of exercise 08.2
SCENE = "winter"  # whose depth steers exercise 08.4
HOLDS = 1 / 3  # of what is missing to full agreement without steering, steering must bring this share at least


def steered_steps(count: int = STEPS, start: float = START, end: float = END) -> list[int]:
    """The steps in which a ControlNet acts, by diffusers' own rule."""
    return [step for step in range(count) if not (step / count < start or (step + 1) / count > end)]


@exercise("08.1", right="Steps 4 to 11, which makes eight. The net is asked in all twenty, but counts only in these.")
def steps_that_are_steered(answer: Any) -> str | None:
    expect_number(answer, "a number of steps, such as 10")
    right = len(steered_steps())
    if answer == right:
        return None
    if answer == STEPS:
        return f"In all {STEPS} the net is *asked*. In how many is its answer not multiplied by 0?"
    if answer == round(STEPS * END):
        return f"{answer:g} steps lie before the end; the first {round(STEPS * START)} of them come before the start."
    if abs(answer - right) == 1:
        return (
            "Off by one: step i (from 0) counts if i / 20 is not below the start, and (i + 1) / 20 not above the end."
        )
    return f"Start and end are shares of the {STEPS} steps: {START} * {STEPS} and {END} * {STEPS}. Which lie between?"


@exercise("08.2", right="The image from 0 to 1, and -1 where it will be repainted. That is all the ControlNet is told.")
def condition_by_hand(answer: Any) -> str | None:
    if isinstance(answer, Image.Image):
        return "An image holds 0 to 255 and no -1: hand in a tensor, (1, 3, height, width)."
    if not hasattr(answer, "shape") or not hasattr(answer, "dtype"):
        return f"Expected a tensor of shape (1, 3, height, width), got {describe(answer)}."
    wanted = inpaint_condition(load_image(REPAINTED_SCENE), load_mask(REPAINTED_SCENE))
    shape, expected = tuple(answer.shape), tuple(wanted.shape)
    if shape != expected:
        if len(shape) == 4 and shape[-1] == 3:
            return f"Its shape is {shape}: channels come second, {expected}. Move them with permute or transpose."
        if shape == expected[1:]:
            return f"Its shape is {shape}: the batch dimension in front is missing. [None] adds it."
        return f"Its shape is {shape}, expected {expected}."
    if not hasattr(answer, "detach"):
        return "It is an array: torch.from_numpy makes a tensor of it."
    found, right = answer.detach().cpu().float(), wanted
    if found.max() > 1.5:
        return f"Its largest value is {found.max():.0f}: divide the image by 255 first, then set -1."
    kept = right != -1
    if bool((found[~kept] == -1).all()) and bool(((found - right)[kept].abs() < 1e-4).all()):
        return None
    if found.min() > -0.99:
        hole = float(found[~kept].abs().max())
        return "It is never -1. " + (
            "0 is black, a colour: the net would copy it." if hole == 0 else "Where is the hole?"
        )
    if bool((found[kept] == -1).any()) and not bool((found[~kept] == -1).any()):
        return "The hole is on the wrong side: -1 belongs where the mask is white."
    if bool(((found > -0.99) & (found < -0.01)).any()):
        return "Outside the mask it goes below 0: the pipelines' -1 to 1 is not for control images. Use 0 to 1."
    return "The image or the mask is a different one. Use load_image and load_mask with one name, and -1 from 128 up."


@exercise("08.3", right="Ground that comes nearer, and a thing that stands on it. The net needs no more.")
def depth_of_ones_own(answer: Any) -> str | None:
    side = CATALOG["sd15"].size
    more = " Image.fromarray makes one of a uint8 array."
    expect_image(answer, (side, side), "as the checkpoint paints", more=more)
    if answer.mode != "RGB":
        return f'Its mode is {answer.mode!r}: a control image has three channels, convert("RGB").'
    values = np.asarray(answer).astype(float)
    if np.ptp(values, axis=-1).max() > 8:
        return "Its channels differ: depth is grey, so the three must be equal."
    grey = values[..., 0] / 255
    right = grey[:, side // 2 :].mean(axis=1)  # the half without a thing
    sky, middle, foot = right[: side // 4].mean(), right[int(0.7 * side) : int(0.8 * side)].mean(), right[-1]
    if sky > 0.1 and foot < 0.5:
        return "Near and far are swapped: white is near. The sky should be black and the ground at your feet white."
    if sky > 0.1:
        return "The sky, the upper quarter, should be black: nothing is farther away."
    if foot < 0.8:
        return "The lowest row should be white, or nearly: nothing is nearer than the ground at your feet."
    if not 0.1 < middle < 0.9 * foot:
        return "The ground should rise from black at the horizon to white at the foot, row by row."
    thing = grey[int(0.3 * side) : int(0.5 * side), : side // 2]  # above the horizon
    if thing.max() < 0.25:
        return "There is nothing in the left half. A thing there should stand out from the sky, as near as its ground."
    if (thing > 0.25).mean() < 0.1:
        return "The thing in the left half is very small: let it cover at least a tenth of what is above the horizon."
    return None


@exercise("08.4", right="Only one number differs, and the order of near and far followed the control image.")
def what_steering_does(answer: Any) -> str | None:
    records = expect_records(answer, 2)
    without, steered = (record.parameters for record in records)
    scales = [given.get("controlnet_conditioning_scale") for given in (without, steered)]
    if None in scales:
        return "Pass controlnet_conditioning_scale to both: 0 for the first, and what you chose for the second."
    if scales[0] and not scales[1]:
        return "They are swapped: first the one with scale 0, then the steered one."
    if scales[0] or not scales[1]:
        return f"Their scales are {scales[0]:g} and {scales[1]:g}: expected 0 for the first, more for the second."
    expect_one_difference(without, steered, "controlnet_conditioning_scale")
    control = steered.get("control_image", steered.get("image"))
    depth = depth_map(load_image(SCENE))
    if not isinstance(control, Image.Image) or not equal(control, depth):
        return f'Their control image is not depth_map(load_image("{SCENE}")).'
    before, after = (depth_agreement(record.image, depth) for record in records)
    if after - before < HOLDS * (1 - before):
        return (
            f"The order of near and far is kept no better: agreement {before:.2f} without, {after:.2f} steered. Try a "
            "larger scale, or another prompt."
        )
    return None
