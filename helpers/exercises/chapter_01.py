"""The exercises of chapter 01: a first image, seeds, strength and steps, and pixels that stay."""

from __future__ import annotations

from typing import Any

from PIL import Image

from helpers.analysis.image_metrics import Change, change
from helpers.catalog.editions import edition
from helpers.exercises import describe, exercise
from helpers.exercises.kit import RETURNED, Hint, expect_image, expect_list, expect_number, expect_repainted
from helpers.images.masks import by, load_mask
from helpers.images.reading import course_images, load_image

PAINT_ANEW = "Hand in the image that the pipeline returned, painted with a prompt that names something new."


@exercise(
    "01.1",
    right="This is the seashore, and only the masked part is new. The three steps are the same for every image.",
)
def new_subject(answer: Any) -> str | None:
    changed = _changed("seashore", answer)
    mask = load_mask("seashore")
    nearest = min(course_images(), key=lambda name: change(load_image(name), answer, mask).outside)
    if nearest != "seashore":
        return f'Outside the mask it looks like "{nearest}". Did you pass image=load_image("seashore")?'
    expect_repainted(changed, PAINT_ANEW)
    _expect_most_inside(changed, 'Did you pass mask_image=load_mask("seashore")?')
    return None


@exercise(
    "01.2",
    right="A generator made anew from the same seed gives the same noise, bit for bit, and so the same image.",
)
def same_seed_twice(answer: Any) -> str | None:
    expect_list(answer, 3, "a list of three images, [first, second, third]")
    if wrong := [one for one in answer if not isinstance(one, Image.Image)]:
        return f"Expected PIL images (the call's .images[0]), got {describe(wrong[0])} among the three."
    first, second, third = answer
    if first is second:
        return "The first two are one object. Call the pipeline twice."
    if first.size != second.size or first.size != third.size:
        sizes = ", ".join(by(one.size) for one in answer)
        return f"The three should come from the same call, with only the seed changed. Their sizes are {sizes}."
    if first.tobytes() != second.tobytes():
        apart = change(first, second).inside
        return (
            f"The first two differ by {apart:.1f} grey levels; they should not differ at all. A generator that was "
            "used once has moved on. Make a new one, with the same seed, for every call."
        )
    if third.tobytes() == first.tobytes():
        return "The third is the same as the first. Give it another seed."
    return None


@exercise(
    "01.3",
    right="int(0.7 * 25) is 17: int rounds down. The full checkpoint's PNDM visits one level twice, so 18 run there.",
)
def steps_that_run(answer: Any) -> str | None:
    expect_number(answer, "a number, such as 25")
    if answer == (17 if edition() == "mini" else 18):
        return None
    if answer == 25:
        return "25 is what you asked for. Strength decides how many of them run. Section 9 counts them."
    if answer in (17, 18):
        return "Nearly right. For this scheduler, the counts in section 9 differ from that by one. Count them here too."
    if answer in (17.5, 19):
        return "There are no half steps, and the pipeline rounds down. Count them with the callback in section 9."
    return f"Got {answer:g}. Count them: the callback in section 9 is called once per step."


@exercise(
    "01.4",
    right="Not one pixel outside the mask has changed. The price is that any step at the edge stays visible.",
)
def pixels_that_stay(answer: Any) -> str | None:
    changed = _changed("castle", answer)
    if changed.outside > 0:
        _expect_most_inside(
            changed,
            "Is the order right? It is keep_unmasked(before, after, mask), and before is the image you started from.",
        )
        return (
            f"Outside the mask it differs by {changed.outside:.2g} grey levels, expected 0: the VAE changed it. "
            "Put the original back with keep_unmasked (section 4)."
        )
    expect_repainted(changed, PAINT_ANEW)
    return None


def _changed(name: str, answer: Any) -> Change:
    """How far the answer is from a course image."""
    image = load_image(name)
    expect_image(answer, image.size, f'as load_image("{name}") has', what=RETURNED)
    return change(image, answer, load_mask(name))


def _expect_most_inside(changed: Change, question: str) -> None:
    if changed.outside >= changed.inside:
        raise Hint(
            f"It changed more outside the mask ({changed.outside:.1f} grey levels) than inside ({changed.inside:.1f}). "
            f"{question}"
        )
