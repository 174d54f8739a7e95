"""Chapter 02's checks accept right answers, whatever way they were made, and say of a wrong one what is wrong."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from helpers import (
    blur,
    box_mask,
    check,
    fit,
    grow,
    invert,
    keep_unmasked,
    load_image,
    load_mask,
    shrink,
    threshold,
)
from tests.support.answers import hint


@pytest.fixture(scope="module")
def sea():
    return load_image("seashore")


@pytest.fixture(scope="module")
def bench():
    return load_image("bench")


@pytest.fixture(scope="module")
def road():
    return load_image("road")


@pytest.fixture(scope="module")
def painted(road):
    """What a pipeline might return: new inside the mask, and all else a little off, as after a VAE."""
    pixels = np.asarray(road).astype(int) + np.random.default_rng(0).integers(-3, 4, (road.height, road.width, 3))
    new = Image.composite(Image.new("RGB", road.size, "red"), road, load_mask("road"))
    return Image.blend(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), new, 0.8)


@pytest.mark.parametrize("id", ["02.1", "02.2", "02.3"])
def test_what_is_no_mask_is_named(id, road):
    assert "The mask is 64 x 64 pixels, the image 128 x 128: they must be equal" in hint(id, Image.new("L", (64, 64)))
    assert "It is all black" in hint(id, Image.new("L", road.size))
    assert "It has grey pixels" in hint(id, blur(load_mask("road"), 3))


def test_the_lower_third_is_right_and_the_rest_is_told_apart_however_it_was_made(sea):
    width, height = sea.size
    assert check("02.1", box_mask(sea, (0, height * 2 / 3, width, height)))
    drawn = Image.new("1", sea.size)
    ImageDraw.Draw(drawn).rectangle((0, height * 2 // 3, width, height), fill=1)
    assert check("02.1", drawn)
    assert check("02.1", invert(box_mask(sea, (0, 0, width, height * 2 / 3))))
    right = box_mask(sea, (0, height * 2 / 3, width, height))
    assert "invert(mask) swaps them" in hint("02.1", invert(right))
    assert "That is the upper third" in hint("02.1", box_mask(sea, (0, 0, width, height / 3)))
    assert "a third of the width" in hint("02.1", box_mask(sea, (width * 2 / 3, 0, width, height)))
    assert "a third of the width" in hint("02.1", box_mask(sea, (0, 0, width / 3, height)))
    half = hint("02.1", box_mask(sea, (0, height / 2, width, height)))
    assert "50% of it is white, from row 64 down; expected a third, from row 85 of 128" in half
    narrow = box_mask(sea, (8, height * 2 / 3, width - 8, height))
    assert "over the whole width" in hint("02.1", narrow)


def test_everything_but_the_cat_and_its_margin(bench):
    cat, pixels = load_mask("bench"), bench.width // 25
    assert check("02.2", invert(grow(cat, pixels)))
    assert check("02.2", shrink(invert(cat), pixels))  # the same by another way


def test_the_cats_wrong_masks_are_told_apart(bench):
    cat, pixels = load_mask("bench"), bench.width // 25
    assert "The margin is missing" in hint("02.2", invert(cat))
    assert "This eats into the cat" in hint("02.2", grow(invert(cat), pixels))
    assert "Swap black and white" in hint("02.2", grow(cat, pixels))
    assert "expected 78.5%: everything but the cat's mask grown by 5" in hint("02.2", invert(grow(cat, 2 * pixels)))


@pytest.fixture
def broken(road):
    mask = blur(fit(invert(load_mask("road")), (road.width // 2, road.height // 2)), 1)
    mask.putpixel((2, 2), 150)
    return mask


def test_the_broken_mask_is_repaired_in_any_order(road, broken):
    assert check("02.3", fit(invert(threshold(broken)), road))
    assert check("02.3", invert(fit(threshold(broken), road)))
    assert check("02.3", threshold(fit(invert(broken), road)))


def test_what_is_still_broken_is_named(road, broken):
    assert "The mask is 64 x 64 pixels" in hint("02.3", broken)
    assert "It has grey pixels" in hint("02.3", fit(invert(broken), road))
    assert "the rock is black" in hint("02.3", threshold(fit(broken, road)))
    stray = fit(invert(threshold(broken, 200)), road)
    assert "white pixels lie far from the rock" in hint("02.3", stray)
    assert "matches the rock's mask by only" in hint("02.3", shrink(load_mask("road"), 4))
    assert "matches the rock's mask by only" in hint("02.3", grow(load_mask("road"), 6))
    elsewhere = box_mask(road, (0, 0, 50, 50))
    assert "matches the rock's mask by only 0%" in hint("02.3", elsewhere)


@pytest.mark.parametrize("radius", [1, 2, 4, 5])
def test_a_soft_composition_is_accepted(road, painted, radius):
    composed = keep_unmasked(road, painted, blur(load_mask("road"), radius))
    assert check("02.4", [painted, composed])
    assert check("02.4", (painted, composed))


@pytest.mark.parametrize("radius", [2, 4])
def test_a_soft_composition_with_room_around_the_rock_is_accepted(road, painted, radius):
    roomy = grow(load_mask("road"), 2 * radius)
    assert check("02.4", [painted, keep_unmasked(road, painted, blur(roomy, radius))])


def test_what_is_no_pair_of_images_is_named(road, painted):
    assert "composed: expected a PIL image, got 4" in hint("02.4", [painted, 4])
    assert "composed has 64 x 64 pixels, expected 128 x 128" in hint("02.4", [painted, painted.resize((64, 64))])


def test_other_compositions_are_told_apart(road, painted):
    rock = load_mask("road")
    assert "The edge is hard" in hint("02.4", [painted, keep_unmasked(road, painted, rock)])
    assert "still shows the rock" in hint("02.4", [road, road])
    assert "Far from the rock it differs from the original by" in hint("02.4", [painted, painted])
    swapped = keep_unmasked(painted, road, blur(rock, 4))
    assert "in this order" in hint("02.4", [painted, swapped])
    assert "the old image shows" in hint("02.4", [painted, road])
    red = Image.new("RGB", road.size, "red")
    assert "Blur less" in hint("02.4", [red, keep_unmasked(road, red, blur(rock, 16))])
