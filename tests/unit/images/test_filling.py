"""fill() changes the hole alone, as each way says, and refuses what cannot be filled."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from helpers import blur, box_mask, ellipse_mask, fill, load_image, load_mask, outpaint
from helpers.images.filling import HOW
from tests.support.images import noise

IMAGE = noise((64, 48))
MASK = box_mask(IMAGE, (10, 8, 40, 30))
HOLE = np.asarray(MASK) > 0


def filled(how, mask=MASK, image=IMAGE, **other):
    return np.asarray(fill(image, mask, how, **other)).astype(int)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(HOW), st.integers(1, 40), st.integers(1, 30), st.sampled_from(["box", "ellipse", "soft"]))
def test_what_is_kept_stays_and_nothing_else_is_touched(how, width, height, shape) -> None:
    make = box_mask if shape == "box" else ellipse_mask
    mask = make(IMAGE, (10, 8, 12 + width, 10 + height))
    mask = blur(mask, 2) if shape == "soft" and width > 8 and height > 8 else mask
    before, given_mask = IMAGE.tobytes(), mask.tobytes()
    hole = np.asarray(mask) >= 128
    once = filled(how, mask)
    assert np.array_equal(once[~hole], np.asarray(IMAGE)[~hole])
    assert np.array_equal(once, filled(how, mask))
    assert (IMAGE.tobytes(), mask.tobytes()) == (before, given_mask)


def test_each_way_is_what_it_says() -> None:
    kept = np.asarray(IMAGE)[~HOLE].astype(float)
    assert np.array_equal(filled("original"), np.asarray(IMAGE))
    assert (filled("mean")[HOLE] == kept.mean(axis=0).round()).all()
    drawn = filled("noise")[HOLE]
    assert np.abs(drawn.mean(axis=0) - kept.mean(axis=0)).max() < 12
    assert np.abs(drawn.std(axis=0) - kept.std(axis=0)).max() < 15
    assert not np.array_equal(drawn, filled("noise", seed=1)[HOLE])
    telea = cv2.inpaint(np.asarray(IMAGE), HOLE.astype(np.uint8), 5, cv2.INPAINT_TELEA)
    assert np.array_equal(filled("telea")[HOLE], telea[HOLE])


def test_edge_takes_the_nearest_kept_pixel() -> None:
    away = ndimage.distance_transform_edt(HOLE)
    rows, columns = np.indices(HOLE.shape)
    for y, x in np.argwhere(HOLE)[::7]:
        near = ~HOLE & (np.hypot(rows - y, columns - x) < away[y, x] + 1)
        assert (np.asarray(IMAGE)[near] == filled("edge")[y, x]).all(axis=1).any()


@pytest.mark.parametrize(
    "new", [{"top": 16}, {"left": 8, "bottom": 24}, {"left": 8, "top": 8, "right": 8, "bottom": 8}]
)
def test_a_border_is_filled_by_repeating_the_last_row_and_column(new) -> None:
    pads = [(new.get(a, 0), new.get(b, 0)) for a, b in (("top", "bottom"), ("left", "right"))]
    canvas, _ = outpaint(IMAGE, **new, fill="edge")
    assert np.array_equal(np.asarray(canvas), np.pad(np.asarray(IMAGE), (*pads, (0, 0)), mode="edge"))


def test_a_smooth_way_is_nearer_to_the_surroundings_than_mean_or_noise() -> None:
    for name in ("castle", "seashore", "winter", "bench"):
        image, mask = load_image(name), load_mask(name)
        values, hole = np.asarray(image).astype(float), np.asarray(mask) > 0
        rim = hole & ~ndimage.binary_erosion(hole, border_value=1)
        outside = ndimage.binary_dilation(hole) & ~hole

        def step(how):
            made, away = np.asarray(fill(image, mask, how)).astype(float), np.where(outside, 1.0, 0.0)  # noqa: B023
            near = ndimage.uniform_filter(values * away[..., None], (3, 3, 0))  # noqa: B023
            weight = ndimage.uniform_filter(away, 3)[rim][:, None]  # noqa: B023
            return np.abs(made[rim] - near[rim] / np.maximum(weight, 1e-6))[weight[:, 0] > 0.1].mean()  # noqa: B023

        steps = {how: step(how) for how in HOW}
        assert max(steps["edge"], steps["telea"]) < 0.5 * min(steps["mean"], steps["noise"]), (name, steps)


@pytest.mark.parametrize(
    ("mask", "how", "kind", "said"),
    [
        (MASK, "median", ValueError, "how='median' is unknown. Did you mean 'mean'?"),
        (MASK, None, ValueError, "how=None is unknown"),
        (box_mask((48, 64), (1, 1, 9, 9)), "telea", ValueError, "mask is 48 x 64 pixels, the image 64 x 48"),
        (Image.new("L", IMAGE.size), "telea", ValueError, "mask never reaches 128, so there is no hole to fill"),
        (Image.new("L", IMAGE.size, 127), "original", ValueError, "mask never reaches 128"),
        (Image.new("L", IMAGE.size, 255), "edge", ValueError, "mask is all white, so nothing is kept"),
        ("castle_mask.png", "telea", TypeError, "mask: expected a PIL image or an array"),
    ],
)  # fmt: skip
def test_what_cannot_be_filled_is_refused(mask, how, kind, said) -> None:
    with pytest.raises(kind) as error:
        fill(IMAGE, mask, how)
    assert said in str(error.value)


def test_a_wrong_seed_or_image_is_refused() -> None:
    with pytest.raises(ValueError, match="seed=-1: expected a whole number, 0 or more"):
        fill(IMAGE, MASK, "noise", seed=-1)
    with pytest.raises(TypeError, match="image: expected a PIL image or an array, got str; open it with load_image"):
        fill("castle", MASK)
    assert np.array_equal(filled("original", Image.new("L", IMAGE.size, 255)), np.asarray(IMAGE))
