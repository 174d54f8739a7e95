"""The exercises of chapter 01: a first picture, seeds, strength and steps, and pixels that stay."""

from __future__ import annotations

from typing import Any

from PIL import Image

from helpers.analysis.image_metrics import Change, change
from helpers.catalog.editions import edition
from helpers.exercises import describe, exercise
from helpers.images.loading import load_image, load_mask
from helpers.images.masks import by
from helpers.images.reading import course_pictures

REPAINTED = 4.0  # grey levels inside the mask: less than any new subject changes


@exercise(
    "01.1",
    right="It is the sea shore, and only the masked part is new. The three steps are the same for every picture.",
)
def new_subject(answer: Any) -> str | None:
    fault, changed = _against("seashore", answer)
    if fault:
        return fault
    mask = load_mask("seashore")
    nearest = min(course_pictures(), key=lambda name: change(load_image(name), answer, mask).outside)
    if nearest != "seashore":
        return f'Outside the mask it looks like "{nearest}". Did the call get image=load_image("seashore")?'
    return _not_repainted(changed) or _wrong_way(changed, 'Did the call get mask_image=load_mask("seashore")?')


@exercise(
    "01.2",
    right="A generator made anew from the same seed gives the same noise, bit for bit, and so the same picture.",
)
def same_seed_twice(answer: Any) -> str | None:
    if not isinstance(answer, (list, tuple)) or len(answer) != 3:
        return f"Expected a list of three pictures, [first, second, third], got {describe(answer)}."
    wrong = [one for one in answer if not isinstance(one, Image.Image)]
    if wrong:
        return f"Expected PIL pictures (the call's .images[0]), got {describe(wrong[0])} among the three."
    first, second, third = answer
    if first is second:
        return "The first two are one object. Call the pipeline twice."
    if first.size != second.size or first.size != third.size:
        sizes = ", ".join(by(one.size) for one in answer)
        return f"The three should come from the same call but for the seed; their sizes are {sizes}."
    if first.tobytes() != second.tobytes():
        apart = change(first, second).inside
        return (
            f"The first two differ by {apart:.1f} grey levels; they should not differ at all. A generator that was "
            "used once has moved on: make a new one, with the same seed, for every call."
        )
    if third.tobytes() == first.tobytes():
        return "The third is the same as the first. Give it another seed."
    return None


@exercise(
    "01.3",
    right="int(0.7 * 25) is 17, rounded down. PNDM, the full checkpoint's scheduler, visits one level twice: 18 there.",
)
def steps_that_run(answer: Any) -> str | None:
    if isinstance(answer, bool) or not isinstance(answer, (int, float)):
        return f"Expected a number, such as 25, got {describe(answer)}."
    if answer == (17 if edition() == "mini" else 18):
        return None
    if answer == 25:
        return "25 is what was asked for. Strength decides how many of them run: see the counts in section 9."
    if answer in (17, 18):
        return "Nearly right: for this scheduler the counts in section 9 differ from that by one. Count them here too."
    if answer in (17.5, 19):
        return "There are no half steps, and the pipeline rounds down. Count them with the callback in section 9."
    return f"Got {answer:g}. Count them: the callback in section 9 is called once a step."


@exercise(
    "01.4",
    right="Not one pixel outside the mask differs. The price is that any step at the rim stays visible.",
)
def pixels_that_stay(answer: Any) -> str | None:
    fault, changed = _against("castle", answer)
    if fault:
        return fault
    order = "Is the order right? keep_unmasked(before, after, mask): before is the picture that you began with."
    if changed.outside > 0 and _wrong_way(changed, order):
        return _wrong_way(changed, order)
    if changed.outside > 0:
        return (
            f"Outside the mask it differs by {changed.outside:.2g} grey levels, and should by 0: the VAE was there. "
            "Put the original back with keep_unmasked (section 4)."
        )
    return _not_repainted(changed)


def _against(name: str, answer: Any) -> tuple[str | None, Change]:
    """How far the answer is from a course picture, or what keeps it from being compared."""
    nothing = Change(0.0, 0.0)
    if not isinstance(answer, Image.Image):
        return f"Expected a PIL picture (the call's .images[0]), got {describe(answer)}.", nothing
    image = load_image(name)
    if answer.size != image.size:
        return f'Expected {by(image.size)} pixels, as load_image("{name}") has, got {by(answer.size)}.', nothing
    return None, change(image, answer, load_mask(name))


def _not_repainted(changed: Change) -> str | None:
    if changed.inside < REPAINTED:
        return (
            f"Inside the mask hardly anything changed ({changed.inside:.1f} grey levels). Hand in the picture that "
            "the pipeline returned, painted with a prompt that names something new."
        )
    return None


def _wrong_way(changed: Change, question: str) -> str | None:
    if changed.outside >= changed.inside:
        return (
            f"It changed more outside the mask ({changed.outside:.1f} grey levels) than inside ({changed.inside:.1f}). "
            f"{question}"
        )
    return None
