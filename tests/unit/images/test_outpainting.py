"""outpaint() leaves the picture as it is, masks what is new, and makes a canvas that the pipelines take."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import change, load, outpaint
from helpers.images.loading import check_mask
from tests.support.tiny import tiny_course  # noqa: F401


def white(mask: Image.Image) -> np.ndarray:
    return np.asarray(mask) == 255


def test_the_picture_stands_on_the_canvas_unchanged(picture) -> None:
    canvas, mask = outpaint(picture, left=16, top=8, bottom=24)
    assert canvas.size == mask.size == (80, 80)
    assert (canvas.mode, mask.mode) == ("RGB", "L")
    assert canvas.crop((16, 8, 80, 56)).tobytes() == picture.tobytes()


def test_the_mask_is_the_border_and_the_overlap_beside_it(picture) -> None:
    mask = white(outpaint(picture, left=16, top=8, bottom=24, overlap=5)[1])
    expected = np.ones((80, 80), bool)
    expected[8 + 5 : 8 + 48 - 5, 16 + 5 : 80] = False  # nothing is new on the right
    assert np.array_equal(mask, expected)


def test_without_overlap_the_mask_is_the_border_alone(picture) -> None:
    mask = white(outpaint(picture, right=32, overlap=0)[1])
    assert mask[:, 64:].all() and not mask[:, :64].any()


def test_it_makes_its_input_anew(picture) -> None:
    before = picture.tobytes()
    outpaint(picture, left=8)
    assert picture.tobytes() == before


@pytest.mark.parametrize(
    ("new", "size", "corner"),
    [
        ({"right": 10}, (80, 48), (0, 0)),  # 64 + 10 makes 80
        ({"left": 10}, (80, 48), (16, 0)),
        ({"left": 8, "right": 5}, (80, 48), (8, 0)),  # the last one named grows
        ({"top": 1, "bottom": 1}, (64, 56), (0, 1)),
    ],
)
def test_the_canvas_is_made_up_to_multiples_of_8(picture, new, size, corner) -> None:
    canvas, _ = outpaint(picture, **new)
    assert canvas.size == size
    assert canvas.crop((*corner, corner[0] + 64, corner[1] + 48)).tobytes() == picture.tobytes()


def test_kandinskys_multiple_is_64(picture) -> None:
    canvas, _ = outpaint(picture, right=3, top=3, multiple=64)
    assert canvas.size == (128, 64)


def test_an_edge_is_drawn_out(picture) -> None:
    canvas = np.asarray(outpaint(picture, left=16, fill="edge")[0])
    assert (canvas[:, :16] == np.asarray(picture)[:, :1]).all()


def test_a_blurred_border_follows_the_edge_more_softly(picture) -> None:
    edge, blurred = (np.asarray(outpaint(picture, top=16, fill=fill)[0]).astype(int) for fill in ("edge", "blur"))
    step = np.abs(np.diff(edge[:16], axis=1)).max(), np.abs(np.diff(blurred[:16], axis=1)).max()
    assert step[1] <= step[0]
    assert not np.array_equal(edge[:16], blurred[:16])
    assert np.abs(edge[:16] - blurred[:16]).mean() < 40


def test_a_mean_border_has_one_colour(picture) -> None:
    canvas = np.asarray(outpaint(picture, bottom=8, fill="mean")[0])
    assert (canvas[48:] == np.asarray(picture).reshape(-1, 3).mean(axis=0).round()).all()


@pytest.mark.parametrize("fill", ["edge", "blur", "mean"])
def test_every_fill_leaves_the_picture_alone(picture, fill) -> None:
    canvas, _ = outpaint(picture, left=8, right=8, top=8, bottom=8, fill=fill)
    assert canvas.crop((8, 8, 72, 56)).tobytes() == picture.tobytes()


def test_a_mask_of_it_passes_the_courses_check(picture) -> None:
    canvas, mask = outpaint(picture, right=32)
    assert check_mask(mask, canvas) == mask


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "pass left, top, right or bottom, in pixels"),
        ({"left": -8}, "left=-8: expected a whole number of pixels, 0 or more"),
        ({"top": 8.0}, "top=8.0: expected a whole number"),
        ({"right": True}, "right=True: expected a whole number"),
        ({"right": 8, "overlap": -1}, "overlap=-1"),
        ({"right": 8, "multiple": 0}, "multiple=0: expected a whole number of pixels, 1 or more"),
        ({"right": 72}, "right=72 is more than the picture itself has (64 pixels), too little to go by. Extend it in"),
        ({"right": 60, "top": 16, "multiple": 72}, "right=60, made up to 80 so that the canvas is a multiple of 72"),
        ({"left": 8, "right": 8, "overlap": 32}, "overlap=32 leaves nothing of the picture of 64 x 48 pixels"),
        ({"left": 8, "fill": "blurr"}, "fill='blurr' is unknown. Did you mean 'blur'?"),
        ({"right": 64, "multiple": 64}, "side of 48 pixels that is no multiple of 64 and is not extended"),
    ],
)
def test_what_cannot_be_is_refused(picture, arguments, said) -> None:
    with pytest.raises(ValueError) as error:
        outpaint(picture, **arguments)
    assert said in str(error.value)


def test_a_name_is_to_be_opened_first() -> None:
    with pytest.raises(TypeError, match="load_image"):
        outpaint("castle", left=8)


def painted(pipe, canvas, mask, strength) -> np.ndarray:
    pipe.set_progress_bar_config(disable=True)
    call = {"image": canvas, "mask_image": mask, "strength": strength, "num_inference_steps": 4}
    call |= {"width": canvas.width, "height": canvas.height, "generator": torch.Generator().manual_seed(0)}
    return pipe("a beach", **call).images[0]


def test_a_pipeline_takes_the_pair_and_sees_the_fill_below_strength_1_only(picture, tiny_course) -> None:  # noqa: F811
    pipe = load("sd15-inpaint")
    pairs = [outpaint(picture, right=32, fill=fill) for fill in ("edge", "mean")]
    full = [painted(pipe, *pair, 1.0) for pair in pairs]
    part = [painted(pipe, *pair, 0.75) for pair in pairs]
    assert full[0].size == (96, 48)
    assert full[0].tobytes() == full[1].tobytes()
    assert change(part[0], part[1], pairs[0][1]).inside > 0
