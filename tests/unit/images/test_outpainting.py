"""outpaint() leaves the image as it is, masks what is new, and makes a canvas that the pipelines take."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from helpers import change, load, outpaint
from helpers.images.masks import check_mask
from tests.support.images import noise
from tests.support.tiny import tiny_course  # noqa: F401

SIDES = ("left", "top", "right", "bottom")
IMAGE = noise((64, 48))


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries({}, optional={side: st.integers(0, 32) for side in SIDES}),
    st.integers(0, 20),
    st.sampled_from(["edge", "blur", "mean"]),
    st.sampled_from([1, 8, 16]),
)
def test_the_image_stands_unchanged_on_a_canvas_of_whole_multiples(new, overlap, fill, multiple) -> None:
    assume(any(new.values()))
    left, top, right, bottom = (new.get(side, 0) for side in SIDES)
    before = IMAGE.tobytes()
    canvas, mask = outpaint(IMAGE, **new, overlap=overlap, fill=fill, multiple=multiple)
    assert (canvas.mode, mask.mode) == ("RGB", "L") and canvas.size == mask.size and IMAGE.tobytes() == before
    assert canvas.width % multiple == canvas.height % multiple == 0
    for made, side, first, last in ((canvas.width, 64, left, right), (canvas.height, 48, top, bottom)):
        assert 0 <= made - (side + first + last) < multiple
    x = left if right or not left else canvas.width - 64  # the last side named grows to the multiple
    y = top if bottom or not top else canvas.height - 48
    assert canvas.crop((x, y, x + 64, y + 48)).tobytes() == before
    expected = np.ones((canvas.height, canvas.width), bool)
    ends = x + 64 - overlap * (x + 64 < canvas.width), y + 48 - overlap * (y + 48 < canvas.height)
    expected[y + overlap * (y > 0) : ends[1], x + overlap * (x > 0) : ends[0]] = False
    assert np.array_equal(np.asarray(mask) == 255, expected)
    assert set(mask.tobytes()) <= {0, 255}


def test_kandinskys_multiple_is_64() -> None:
    assert outpaint(IMAGE, right=3, top=3, multiple=64)[0].size == (128, 64)


def test_what_the_border_shows() -> None:
    edge, blurred, mean = (
        np.asarray(outpaint(IMAGE, top=16, fill=fill)[0])[:16].astype(int) for fill in ("edge", "blur", "mean")
    )
    assert (edge == np.asarray(IMAGE)[:1]).all()
    assert (mean == np.asarray(IMAGE).reshape(-1, 3).mean(axis=0).round()).all()
    assert 0 < np.abs(edge - blurred).mean() < 60
    assert np.abs(np.diff(blurred, axis=1)).max() < np.abs(np.diff(edge, axis=1)).max()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "pass left, top, right or bottom, in pixels"),
        ({"left": -8}, "left=-8: expected a whole number, 0 or more"),
        ({"top": 8.0}, "top=8.0: expected a whole number"),
        ({"right": True}, "right=True: expected a whole number"),
        ({"right": 8, "overlap": -1}, "overlap=-1"),
        ({"right": 8, "multiple": 0}, "multiple=0: expected a whole number, 1 or more"),
        ({"right": 72}, "right=72 is more than the image itself has (64 pixels), too little to go by. Extend it in"),
        ({"right": 60, "top": 16, "multiple": 72}, "right=60, made up to 80 so that the canvas is a multiple of 72"),
        ({"left": 8, "right": 8, "overlap": 32}, "overlap=32 leaves nothing of the image of 64 x 48 pixels"),
        ({"left": 8, "fill": "blurr"}, "fill='blurr' is unknown. Did you mean 'blur'?"),
        ({"right": 64, "multiple": 64}, "side of 48 pixels that is no multiple of 64 and is not extended"),
    ],
)
def test_what_cannot_be_is_refused(arguments, said) -> None:
    with pytest.raises((TypeError, ValueError)) as error:
        outpaint(IMAGE, **arguments)
    assert said in str(error.value)
    with pytest.raises(TypeError, match="load_image"):
        outpaint("castle", left=8)


def test_a_pipeline_takes_the_pair_and_sees_the_fill_below_strength_1_only(tiny_course) -> None:  # noqa: F811
    pipe = load("sd15-inpaint")
    pipe.set_progress_bar_config(disable=True)
    pairs = [outpaint(IMAGE, right=32, fill=fill) for fill in ("edge", "mean")]
    assert check_mask(pairs[0][1], pairs[0][0]) == pairs[0][1]

    def painted(canvas, mask, strength):
        call = {"image": canvas, "mask_image": mask, "strength": strength, "num_inference_steps": 4}
        call |= {"width": canvas.width, "height": canvas.height, "generator": torch.Generator().manual_seed(0)}
        return pipe("a beach", **call).images[0]

    full = [painted(*pair, 1.0) for pair in pairs]
    part = [painted(*pair, 0.75) for pair in pairs]
    assert full[0].size == (96, 48) and full[0].tobytes() == full[1].tobytes()
    assert change(part[0], part[1], pairs[0][1]).inside > 0
