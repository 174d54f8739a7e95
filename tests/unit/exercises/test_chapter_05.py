"""Chapter 05's checks accept right answers and say of a wrong one what is wrong."""

import itertools

import numpy as np
import pytest
from PIL import Image

from helpers import check, keep_unmasked, load_image, load_mask
from helpers.catalog import checkpoints
from helpers.exercises import chapter_05
from helpers.generation.records import Record
from miniature_training.world.scenes import Scene, draw
from tests.support.answers import hint

CASTLE = draw(Scene(1, "castle", "purple", "snow"), 128).image
SUNSET = draw(Scene(2, "boat", "red", "sea shore", hour="sunset"), 128).image
DAY = draw(Scene(2, "boat", "red", "sea shore"), 128).image
MEADOW = draw(Scene(2, "house", "red", "meadow"), 128).image


def record(picture=CASTLE, error=None, **parameters):
    return Record(picture, {"seed": 0, **parameters}, 0.0, {}, error=error)


@pytest.mark.parametrize("answer", [34, 34.0, np.int64(34).item()])
def test_the_smallest_number_of_steps_is_accepted(answer):
    assert check("05.1", answer)


def test_the_smallest_number_is_the_smallest():
    runs = {asked: int(chapter_05.STRENGTH * asked) for asked in range(1, 100)}
    assert min(asked for asked, ran in runs.items() if ran >= chapter_05.WANTED) == 34


def test_other_numbers_of_steps_are_told_apart():
    assert "19.8, and int() rounds down" in hint("05.1", 33)
    assert "12 is what runs when you ask for 20" in hint("05.1", 12)
    assert "int(0.6 * 20) = 12 run, and 20 should" in hint("05.1", 20)
    assert "If you ask for 40, 24 run. That is enough" in hint("05.1", 40)
    assert "no fractions of a step" in hint("05.1", 33.4)
    assert "no fractions of a step" in hint("05.1", float("inf"))


def swept(strengths=chapter_05.STRENGTHS, seeds=chapter_05.SEEDS, **more):
    given = {"prompt": "a castle", "image": load_image("lighthouse")} | more
    return [record(strength=s, **given | {"seed": n}) for s, n in itertools.product(strengths, seeds)]


def test_nine_records_are_right_and_the_rest_is_told_apart_in_any_order():
    assert check("05.2", swept())
    assert check("05.2", tuple(reversed(swept())))
    assert check("05.2", swept(strengths=(0.1 * 3, 0.2 * 3, 0.3 * 3)))  # a little off, as floats are
    assert "Hand in list(sweep(...))" in hint("05.2", iter(swept()))
    assert "6 of 9 combinations are missing, strength 0.3 with seed 1 first" in hint("05.2", swept(seeds=[0]))
    assert "3 of 9 combinations are missing, strength 0.9" in hint("05.2", swept(strengths=[0.3, 0.6]))
    assert "There are 12 combinations, expected 9" in hint("05.2", swept(seeds=range(4)))
    assert "Image-to-image has no mask" in hint("05.2", swept(mask_image=load_mask("lighthouse")))
    assert "not painted from an image" in hint("05.2", swept(image=None))
    assert "do not start from load_image" in hint("05.2", swept(image=load_image("castle")))
    mixed = swept()
    mixed[3].parameters["prompt"] = "a boat"
    assert "Their prompts differ" in hint("05.2", mixed)


def test_a_guided_picture_is_right_and_the_rest_is_told_apart():
    guided = record(prompt=chapter_05.GUIDED, guidance_scale=4.0)
    assert check("05.3", guided)
    assert check("05.3", [guided])
    given = {"prompt": chapter_05.GUIDED, "guidance_scale": 4.0}
    assert "started from an image" in hint("05.3", record(**given, image=CASTLE))
    assert "Its prompt is 'a castle', expected" in hint("05.3", record(**given | {"prompt": "a castle"}))
    assert "the default guidance_scale" in hint("05.3", record(prompt=chapter_05.GUIDED))
    assert "no guidance at all" in hint("05.3", record(**given | {"guidance_scale": 1.0}))
    assert "Its adherence to the prompt is" in hint("05.3", record(MEADOW, **given))
    burnt = CASTLE.point(lambda value: 255 if value > 120 else 0)
    assert "100.0% of its values are burnt, expected 2% at most" in hint("05.3", record(burnt, **given))
    assert "got a list of 2" in hint("05.3", [record(**given)] * 2)


def pair(before=SUNSET, after=DAY, negative="sunset", **more):
    given = {"prompt": chapter_05.TAKEN_OUT, "guidance_scale": 4.0, "num_inference_steps": 20}
    return [record(before, **given), record(after, **given | {"negative_prompt": negative} | more)]


def test_a_word_taken_out_is_right_and_the_rest_is_told_apart():
    assert check("05.4", pair())
    assert check("05.4", tuple(pair(negative="sunset, evening")))
    empty = pair()
    empty[0].parameters["negative_prompt"] = ""
    assert check("05.4", empty)
    assert "They are swapped" in hint("05.4", pair()[::-1])
    assert 'negative_prompt="sunset"' in hint("05.4", pair(negative="jungle"))
    assert "They differ in seed as well" in hint("05.4", pair(seed=1))
    assert "They differ in guidance_scale, seed as well" in hint("05.4", pair(seed=1, guidance_scale=9.0))
    assert 'expected "a red boat" for both' in hint("05.4", pair(prompt="a house"))
    assert "There is no sunset in the first image" in hint("05.4", pair(before=DAY))
    assert "The sunset is still there" in hint("05.4", pair(after=SUNSET))
    both = pair()
    both[0].parameters["negative_prompt"] = "blurry"
    assert "The first should have no negative prompt" in hint("05.4", both)
    off = pair(guidance_scale=1.0)
    off[0].parameters["guidance_scale"] = 1.0
    assert "a negative prompt does nothing" in hint("05.4", off)


def test_the_full_edition_needs_no_classifier(monkeypatch):
    monkeypatch.setattr(chapter_05, "edition", lambda: "full")
    monkeypatch.setattr(chapter_05, "adherence", None)
    assert check("05.4", pair(after=SUNSET))
    assert check("05.3", record(MEADOW, prompt=chapter_05.GUIDED, guidance_scale=4.0))


@pytest.fixture(scope="module")
def large():
    return chapter_05.large_meadow()


@pytest.fixture(scope="module")
def sharp(large):
    """What padding_mask_crop gives: new and sharp inside the mask, as it was outside."""
    image, mask = large
    return keep_unmasked(image, load_image("bench", size=image.size[0]), mask)


def test_a_small_thing_in_a_large_picture_is_right_and_the_rest_is_told_apart(large, sharp):
    assert check("05.5", sharp)
    assert check("05.5", record(sharp))
    image, mask = large
    small = sharp.resize((checkpoints.CATALOG["sd15-inpaint"].size,) * 2)
    assert "128 x 128 pixels is what the checkpoint paints; the image has 512 x 512" in hint("05.5", small)
    assert "Expected 512 x 512 pixels" in hint("05.5", Image.new("RGB", (300, 200)))
    enlarged = small.resize(image.size, Image.Resampling.LANCZOS)
    assert "A result that was enlarged is soft everywhere" in hint("05.5", enlarged)
    assert "it was painted small and enlarged" in hint("05.5", keep_unmasked(image, enlarged, mask))
    assert "hardly anything changed" in hint("05.5", image)
