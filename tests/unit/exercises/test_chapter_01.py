"""The exercises of chapters 00 and 01 accept what is right and give a fitting hint for each usual mistake."""

from __future__ import annotations

import pytest
from PIL import Image, ImageChops

from helpers import keep_unmasked, load_image, load_mask
from tests.support.answers import hint, right


def repainted(name: str, *, outside: int = 0, inside: int = 90) -> Image.Image:
    """A course picture as a pipeline might return it: `inside` levels off in the mask, `outside` levels off around."""
    image, mask = load_image(name), load_mask(name)
    shifted = [ImageChops.add_modulo(image, Image.new("RGB", image.size, (by,) * 3)) for by in (inside, outside)]
    return Image.composite(*shifted, mask)


@pytest.mark.parametrize("answer", ["white", " White.", "WHITE"])
def test_white_is_repainted(answer: str) -> None:
    right("00.1", answer)


def test_other_colours_are_not() -> None:
    assert "Black is the other one" in hint("00.1", "black")
    assert "two colours, black and white, got 'grey'" in hint("00.1", "grey")
    assert "got 255" in hint("00.1", 255)


def test_a_repainted_sea_shore_is_right_and_the_rest_is_told_apart() -> None:
    right("01.1", repainted("seashore"))
    right("01.1", repainted("seashore", outside=5))  # a VAE was there
    assert 'Outside the mask it looks like "meadow"' in hint("01.1", repainted("meadow"))


def test_a_mask_used_the_wrong_way_round_is_told() -> None:
    assert "It changed more outside the mask" in hint("01.1", repainted("seashore", inside=9, outside=20))


def test_an_unpainted_picture_is_told() -> None:
    assert "Inside the mask hardly anything changed (0.0" in hint("01.1", load_image("seashore"))
    assert "Inside the mask hardly anything changed (0.0" in hint("01.4", load_image("castle"))


def test_a_picture_of_another_kind_or_size_is_told() -> None:
    side = load_image("castle").width
    for id in ("01.1", "01.4"):
        assert f"Expected {side} x {side} pixels" in hint(id, load_image("castle", size=side + 8))


def test_two_alike_and_one_different_are_right_and_the_rest_is_told_apart() -> None:
    image = repainted("seashore")
    right("01.2", [image, image.copy(), repainted("seashore", inside=120)])
    right("01.2", (image, image.copy(), load_image("seashore")))
    image, other = repainted("seashore"), repainted("seashore", inside=120)
    assert "got 'third' among the three" in hint("01.2", [image, image.copy(), "third"])
    assert "one object" in hint("01.2", [image, image, other])
    assert "The third is the same as the first" in hint("01.2", [image, image.copy(), image])
    small = image.resize((64, 64))
    assert f"{image.width} x {image.height}, 64 x 64, " in hint("01.2", [image, small, other])
    moved_on = hint("01.2", [image, other, image.copy()])
    assert "they should not differ at all" in moved_on and "A generator that was used once has moved on" in moved_on


@pytest.mark.parametrize("answer", [17, 17.0])
def test_the_counted_steps_are_accepted(answer: float) -> None:
    right("01.3", answer)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (25, "25 is what you asked for"),
        (18, "Nearly right"),
        (17.5, "no half steps"),
        (12, "Got 12. Count them"),
    ],
)
def test_other_numbers_of_steps_get_a_hint(answer: object, expected: str) -> None:
    assert expected in hint("01.3", answer)


def test_unmasked_pixels_must_stay_exactly() -> None:
    right("01.4", repainted("castle"))
    almost = repainted("castle")
    almost.putpixel((0, 0), tuple(level ^ 1 for level in almost.getpixel((0, 0))))
    told = hint("01.4", almost)
    assert "grey levels, expected 0: the VAE changed it" in told and "differs by 0 grey" not in told
    swapped = keep_unmasked(repainted("castle", outside=90), load_image("castle"), load_mask("castle"))
    assert "Is the order right?" in hint("01.4", swapped)


def test_the_full_checkpoints_scheduler_runs_one_more(monkeypatch) -> None:
    monkeypatch.setattr("helpers.exercises.chapter_01.edition", lambda: "full")
    right("01.3", 18)
    assert "Nearly right" in hint("01.3", 17)
