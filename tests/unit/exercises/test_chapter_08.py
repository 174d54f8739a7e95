"""Chapter 08's checks accept right answers and say of a wrong one what is wrong."""

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import check, depth_map, inpaint_condition, load_image, load_mask
from helpers.catalog.checkpoints import CATALOG
from helpers.exercises import chapter_08
from helpers.generation.records import Record
from tests.support.answers import hint

SIDE = CATALOG["sd15"].size


def test_the_steps_that_are_steered_are_counted():
    assert check("08.1", 8) and check("08.1", 8.0)
    assert "In all 20 the net is *asked*" in hint("08.1", 20)
    assert "12 steps lie before the end; the first 4" in hint("08.1", 12)
    assert "Off by one: step i" in hint("08.1", 9)
    assert "0.2 * 20 and 0.6 * 20" in hint("08.1", 3)


@pytest.mark.parametrize(("start", "end", "steps"), [(0, 1, range(20)), (0, 0.5, range(10)), (0.5, 1, range(10, 20))])
def test_the_rule_of_the_steps(start, end, steps):
    assert chapter_08.steered_steps(20, start, end) == list(steps)


@pytest.fixture
def right():
    return inpaint_condition(load_image("road"), load_mask("road"))


def test_a_condition_by_hand_is_right_and_the_rest_is_told_apart(right):
    assert check("08.2", right) and check("08.2", right.double())
    image, mask = np.array(load_image("road")) / 255, np.array(load_mask("road"))
    image[mask > 127] = -1
    assert check("08.2", torch.from_numpy(image).permute(2, 0, 1)[None])
    image, hole = load_image("road"), right == -1
    assert "An image holds 0 to 255" in hint("08.2", image)
    assert "Expected a tensor of shape" in hint("08.2", [1, 2])
    assert "channels come second" in hint("08.2", right.permute(0, 2, 3, 1))
    assert "the batch dimension in front is missing" in hint("08.2", right[0])
    assert "Its shape is (1, 3, 8, 8), expected" in hint("08.2", torch.zeros(1, 3, 8, 8))
    assert "torch.from_numpy makes a tensor" in hint("08.2", right.numpy())
    assert "divide the image by 255 first" in hint("08.2", torch.where(hole, right, right * 255))
    assert "0 is black, a colour" in hint("08.2", right.clamp(0))
    assert "Where is the hole?" in hint("08.2", torch.where(hole, torch.tensor(0.5), right))
    plain = torch.from_numpy(np.array(image) / 255).permute(2, 0, 1)[None].float()
    assert "on the wrong side" in hint("08.2", torch.where(hole, plain, torch.tensor(-1.0)))
    assert "Outside the mask it goes below 0" in hint("08.2", torch.where(hole, right, plain * 2 - 1))
    other = inpaint_condition(load_image("castle"), load_mask("castle"))
    assert "is a different one" in hint("08.2", other)


def drawn(*, thing=0.6, sky=0.0, foot=1.0, rising=True, box=(0.1, 0.3, 0.4, 0.7)) -> Image.Image:
    rows = np.clip((np.arange(SIDE) / (SIDE - 1) - 0.5) / 0.5, 0, 1) * foot if rising else np.full(SIDE, foot)
    grey = np.tile(np.maximum(rows, sky)[:, None], (1, SIDE))
    left, top, right, bottom = (round(edge * SIDE) for edge in box)
    grey[top:bottom, left:right] = thing
    return Image.fromarray((grey * 255).astype(np.uint8)).convert("RGB")


def test_a_drawn_depth_is_right_and_the_rest_is_told_apart():
    assert check("08.3", drawn())
    assert f"Expected {SIDE} x {SIDE} pixels" in hint("08.3", drawn().resize((64, 32)))
    assert "Its mode is 'L'" in hint("08.3", drawn().convert("L"))
    assert "Its channels differ" in hint("08.3", load_image("castle", size=SIDE))
    assert "Near and far are swapped" in hint("08.3", drawn().point(lambda value: 255 - value))
    assert "should be black: nothing is farther away" in hint("08.3", drawn(sky=0.5))
    assert "The lowest row should be white" in hint("08.3", drawn(foot=0.5))
    steep = np.asarray(drawn()).copy()
    steep[int(0.6 * SIDE) :] = 255
    assert "should rise from black" in hint("08.3", Image.fromarray(steep))
    assert "There is nothing in the left half" in hint("08.3", drawn(thing=0))
    assert "The thing in the left half is very small" in hint("08.3", drawn(box=(0.1, 0.4, 0.14, 0.7)))


@pytest.fixture
def agreement(monkeypatch):
    """Pictures whose agreement with the depth is the red of their first pixel, in hundredths."""
    monkeypatch.setattr(chapter_08, "depth_agreement", lambda image, depth: image.getpixel((0, 0))[0] / 100)


def pair(before=20, after=80, scales=(0, 1.0), control=None, argument="image", **more):
    given = {"prompt": "a purple house", "seed": 1, argument: control or depth_map(load_image("winter"))}
    pictures = [Image.new("RGB", (SIDE, SIDE), (value, 0, 0)) for value in (before, after)]
    changed = [{}, more]
    return [
        Record(picture, given | {"controlnet_conditioning_scale": scale} | other, 0.0, {})
        for picture, scale, other in zip(pictures, scales, changed, strict=True)
    ]


def test_a_steered_pair_is_right_and_the_rest_is_told_apart(agreement):
    assert check("08.4", pair())
    assert check("08.4", tuple(pair(argument="control_image", scales=(0.0, 0.6))))
    assert check("08.4", pair(before=88, after=95)), "near 1 a little is much"
    bare = pair()
    del bare[0].parameters["controlnet_conditioning_scale"]
    assert "Pass controlnet_conditioning_scale to both" in hint("08.4", bare)
    assert "They are swapped" in hint("08.4", pair()[::-1])
    assert "Their scales are 0.5 and 1" in hint("08.4", pair(scales=(0.5, 1.0)))
    assert "Their scales are 0 and 0" in hint("08.4", pair(scales=(0, 0)))
    assert "They differ in prompt, seed as well" in hint("08.4", pair(seed=2, prompt="a house"))
    assert "control image is not depth_map" in hint("08.4", pair(control=load_image("winter")))
    assert "agreement 0.20 without, 0.25 steered" in hint("08.4", pair(after=25))
