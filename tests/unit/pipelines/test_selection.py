"""select() finds what the drawn world drew, the same every time, and refuses what it cannot look for."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from helpers import load_image, load_mask, select
from miniature_training.world import scenes
from tests.support.images import noise

SCENES = [scenes.sample(scenes.HELD_OUT + seed, degraded=False, close=False) for seed in range(60)]


def agreement(found, truth) -> float:
    """Intersection over union."""
    found, truth = np.asarray(found) > 0, np.asarray(truth) > 0
    return (found & truth).sum() / (found | truth).sum()


def middle(mask) -> tuple[int, int]:
    """The point of an object that is farthest from its outline: where a person would click."""
    inside = cv2.distanceTransform(np.asarray(mask), cv2.DIST_L2, 5)
    y, x = np.unravel_index(inside.argmax(), inside.shape)
    return int(x), int(y)


@pytest.fixture(scope="module")
def drawings():
    return [drawing for scene in SCENES if scene.subject and (drawing := scenes.draw(scene)).mask.getbbox()]


def around(drawing, margin=3):
    left, top, right, bottom = drawing.boxes[drawing.scene.subject]
    return left - margin, top - margin, right + margin, bottom + margin


def test_a_box_finds_the_drawn_subject(drawings) -> None:
    found = [agreement(select(drawing.image, box=around(drawing)), drawing.mask) for drawing in drawings]
    boxed = [agreement(Image.fromarray(_full(drawing)), drawing.mask) for drawing in drawings]
    assert len(found) > 45
    assert np.mean(found) > 0.85 and np.median(found) > 0.88
    assert np.mean(found) > np.mean(boxed) + 0.2  # the box itself is no good mask


def _full(drawing):
    mask = np.zeros(drawing.image.size[::-1], np.uint8)
    left, top, right, bottom = (max(0, edge) for edge in around(drawing, 0))
    mask[top:bottom, left:right] = 255
    return mask


def test_a_click_finds_most_of_it_and_a_box_with_it_more(drawings) -> None:
    clicked = [agreement(select(drawing.image, point=middle(drawing.mask)), drawing.mask) for drawing in drawings]
    both = [
        agreement(select(drawing.image, point=middle(drawing.mask), box=around(drawing)), drawing.mask)
        for drawing in drawings
    ]
    assert np.mean(clicked) > 0.6 and np.median(clicked) > 0.65
    assert np.mean(both) > np.mean(clicked) + 0.1 and np.mean(both) > 0.82


def test_a_clicked_piece_holds_its_point_and_is_one_piece(drawings) -> None:
    for drawing in drawings[:12]:
        x, y = middle(drawing.mask)
        found = np.asarray(select(drawing.image, point=(x, y)))
        assert found[y, x] == 255 and cv2.connectedComponents(found, connectivity=8)[0] == 2


@pytest.mark.parametrize("size", [(128, 128), (96, 160), (1040, 776)])
def test_a_mask_has_the_images_size_and_comes_again(size) -> None:
    image = load_image("bench", size=size)
    box = (size[0] * 0.1, size[1] * 0.1, size[0] * 0.9, size[1] * 0.9)
    before = image.tobytes()
    found = select(image, box=box)
    cv2.setRNGSeed(7)
    assert (found.mode, found.size) == ("L", size) and set(found.tobytes()) <= {0, 255}
    assert select(image, box=box).tobytes() == found.tobytes() and image.tobytes() == before
    outside = np.asarray(found).copy()
    outside[int(box[1]) : int(box[3]) + 1, int(box[0]) : int(box[2]) + 1] = 0
    assert not outside.any()


def test_a_course_images_own_mask_is_found_from_its_box() -> None:
    image, mask = load_image("lighthouse"), load_mask("lighthouse")
    left, top, right, bottom = mask.getbbox()
    assert agreement(select(image, box=(left - 3, top - 3, right + 3, bottom + 3)), mask) > 0.6


IMAGE = noise((64, 48))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "select needs box=(left, top, right, bottom) around the object, or point=(x, y) on it"),
        ({"point": (64, 3)}, "point=(64, 3) lies outside the image of 64 x 48 pixels"),
        ({"point": (-1, 3)}, "point=(-1, 3) lies outside the image"),
        ({"point": (1, 2, 3)}, "expected two numbers (x, y)"),
        ({"point": 5}, "point=5: expected two numbers"),
        ({"point": (float("nan"), 3)}, "point=nan: expected a number"),
        ({"point": ("3", 3)}, "point='3': expected a number"),
        ({"box": (0, 0, 64, 48)}, "holds the whole image of 64 x 48 pixels: leave some background"),
        ({"box": (9, 9, 4, 20)}, "expected left < right"),
        ({"box": (70, 0, 90, 10)}, "lies outside the image of 64 x 48 pixels"),
        ({"box": (4, 4, 20, 20), "point": (30, 30)}, "point=(30, 30) lies outside box=(4, 4, 20, 20)"),
        (
            {"box": np.array([4, 4, 20, 20]), "point": np.array([30, 30])},
            "point=(30, 30) lies outside box=(4, 4, 20, 20)",
        ),
        ({"box": np.array([0, 0, 64, 48])}, "box=(0, 0, 64, 48) holds the whole image"),
        ({"box": "0, 0, 9, 9"}, "box='0, 0, 9, 9': expected four numbers"),
        ({"box": (0, 0, 9)}, "box=(0, 0, 9): expected four numbers"),
        ({"box": (5, 5, 5, 20)}, "expected left < right"),
        ({"point": (True, 3)}, "point=True: expected a number"),
        ({"point": (0.5, 0.5)}, "point=(0.5, 0.5) looks like fractions of the image: give pixels, such as (32, 24)"),
    ],
)
def test_what_cannot_be_looked_for_is_refused(arguments, said) -> None:
    with pytest.raises((TypeError, ValueError)) as error:
        select(IMAGE, **arguments)
    assert said in str(error.value)


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (9, 9), (300, 4)])
def test_a_flat_or_tiny_image_gives_a_mask_or_a_clear_error(size) -> None:
    image = Image.new("RGB", size, "grey")
    for arguments in ({"point": (0, 0)}, {"box": (0, 0, 1, 1)}):
        try:
            found = select(image, **arguments)
        except ValueError as error:
            assert any(told in str(error) for told in ("nothing stands out", "holds the whole image", "not fractions"))
        else:
            assert found.size == size and found.getbbox()


def test_a_box_or_a_point_may_be_an_array() -> None:
    image = load_image("lighthouse", size=64)
    box = (12, 8, 52, 60)
    assert select(image, box=np.array(box)).tobytes() == select(image, box=box).tobytes()
    assert select(image, point=np.array((30, 30))).tobytes() == select(image, point=(30, 30)).tobytes()


def test_only_an_opened_image_is_taken() -> None:
    with pytest.raises(TypeError, match="open it with load_image first"):
        select("castle", point=(3, 3))
