"""Compare's Python side; what a browser makes of it is in tests/browser/test_compare.py."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

import helpers.widgets.compare as module
from helpers import Compare, load_image
from helpers.generation.records import Record


def flat(colour: str, size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.new("RGB", size, colour)


def record(colour: str | None, **parameters) -> Record:
    return Record(None if colour is None else flat(colour), parameters, 0.0, {}, error=None if colour else "no luck")


def shown(compare: Compare) -> list[Image.Image]:
    return [Image.open(io.BytesIO(one)) for one in compare._pictures]


def test_the_browser_gets_the_pictures_unchanged():
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (23, 37, 3), np.uint8)) for _ in range(3)]
    compare = Compare(*images)
    assert [one.tobytes() for one in shown(compare)] == [image.tobytes() for image in images]
    assert compare._sizes == [[37, 23]] * 3
    assert (compare.left, compare.right, compare.position) == (0, 1, 0.5)


def test_it_takes_what_load_image_takes_and_records(tmp_path):
    flat("red", (128, 128)).save(tmp_path / "red.png")
    size = load_image("castle").size
    compare = Compare("castle", tmp_path / "red.png", Record(flat("blue", size), {}, 0.0, {}), flat("white", size))
    first, *rest = shown(compare)
    assert first.tobytes() == load_image("castle").tobytes()
    assert [one.getpixel((0, 0)) for one in rest] == [(255, 0, 0), (0, 0, 255), (255, 255, 255)]


def test_titles_are_the_callers_or_say_what_is_different():
    two, red, blue = (
        (flat("red"), flat("blue")),
        record("red", strength=0.5, seed=1),
        record("blue", strength=1.0, seed=1),
    )
    assert Compare(*two).titles == ["before", "after"]
    assert Compare(*two, flat("white")).titles == ["no. 1", "no. 2", "no. 3"]
    assert Compare(*two, titles=["a", 2]).titles == ["a", "2"]
    assert Compare(red, blue).titles == ["strength=0.5", "strength=1.0"]
    assert Compare(red, red).titles == ["before", "after"]
    assert Compare(red, flat("white")).titles == ["before", "after"]
    pictures = record("red", image=flat("red"), negative_prompt="x" * 99), record("blue", image=flat("blue"))
    first, second = Compare(*pictures).titles
    assert first == f"negative_prompt={'x' * 43}…" and second == "negative_prompt=None"


def test_sizes_may_differ_where_proportions_do_not():
    compare = Compare(flat("red", (128, 96)), flat("blue", (512, 384)), flat("white", (127, 96)))
    assert [one.size for one in shown(compare)] == [(128, 96), (512, 384), (127, 96)]


def test_python_chooses_what_is_shown():
    compare = Compare(flat("red"), flat("blue"), flat("white"), right=2, position=0.25)
    compare.left = 1
    assert (compare.left, compare.right, compare.position) == (1, 2, 0.25)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Compare(flat("red"), flat("red", (30, 40))), ValueError,
         "image 2 is 30 x 40 pixels, the first 40 x 30: their proportions differ.*Use fit"),
        (lambda: Compare(flat("red"), record(None)), ValueError, "image 2 is a Record without an image: no luck"),
        (lambda: Compare(flat("red"), "castel"), ValueError, "castel"),
        (lambda: Compare(flat("red", (5000, 5000)), flat("red")), ValueError, "image 1 is 5000 x 5000 .* at most 16"),
        (lambda: Compare(flat("red"), flat("red"), titles="one"), ValueError, "titles has 1 texts for 2 images"),
        (lambda: Compare(flat("red"), flat("red"), title="one"), TypeError, "unexpected keyword argument 'title'"),
        (lambda: Compare(flat("red"), flat("red"), right=2), ValueError, "right=2: expected a whole number from 0"),
        (lambda: Compare(flat("red"), flat("red"), left=-1), ValueError, "left=-1: expected a whole number from"),
        (lambda: Compare(flat("red"), flat("red"), position=1.5), ValueError, "position=1.5: expected a number from 0"),
        (lambda: Compare(flat("red"), flat("red"), position="half"), TypeError, "position"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_still_shows_every_picture_side_by_side():
    data, _ = Compare(flat("#ff0000"), flat("#0000ff"), flat("#00ff00"))._repr_mimebundle_()
    still = np.asarray(Image.open(io.BytesIO(base64.b64decode(data["image/png"]))))
    assert "application/vnd.jupyter.widget-view+json" in data
    centres = []
    for colour in ((255, 0, 0), (0, 0, 255), (0, 255, 0)):
        found = np.argwhere((still == colour).all(axis=-1))
        assert len(found) > 10_000
        centres.append(found[:, 1].mean())
    assert centres == sorted(centres) and max(still.shape) <= module.STILL_SIDE
