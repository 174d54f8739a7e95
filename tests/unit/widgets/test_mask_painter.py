"""MaskPainter's Python side; what a browser makes of it is in tests/browser/test_mask_painter.py."""

import base64
import io
import re
import zlib

import numpy as np
import pytest
from PIL import Image

import helpers.widgets.mask_painter as module
from helpers import MaskPainter, box_mask, grow, load_image, load_mask, select
from helpers.widgets import assets


@pytest.fixture
def image():
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (23, 37, 3), np.uint8))  # odd: lines end in half-full bytes


def random_mask(size, seed=1):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 2, size[::-1], np.uint8) * 255)


def test_a_mask_comes_back_pixel_for_pixel(image):
    mask, other = random_mask(image.size), random_mask(image.size, seed=2)
    painter = MaskPainter(image, mask)
    assert (painter.mask.mode, painter.mask.tobytes()) == ("L", mask.tobytes())
    painter.mask = other
    assert painter.mask.tobytes() == other.tobytes()
    painter.mask = None
    assert painter.mask.getextrema() == MaskPainter(image).mask.getextrema() == (0, 0)


def test_a_returned_mask_is_a_copy(image):
    painter = MaskPainter(image)
    painter.mask.paste(255, (0, 0, *image.size))
    painter.image.paste((0, 0, 0), (0, 0, *image.size))
    assert painter.mask.getextrema() == (0, 0)
    assert painter.image.tobytes() == image.tobytes()


def test_a_soft_mask_stays_soft_and_a_hard_one_is_an_eighth_of_it(image):
    soft = Image.fromarray(np.random.default_rng(3).integers(0, 256, image.size[::-1], np.uint8))
    painter = MaskPainter(image, soft)
    assert painter.mask.tobytes() == soft.tobytes() == zlib.decompress(painter.mask_bits)
    painter.mask = random_mask(image.size)
    assert len(zlib.decompress(painter.mask_bits)) == -(-37 * 23 // 8)


def test_a_mask_that_an_earlier_version_stored_is_read(image):
    mask = random_mask(image.size)
    stored = zlib.compress(np.packbits(np.asarray(mask) > 0).tobytes())  # as it always was
    painter = MaskPainter(image)
    painter.set_state({"mask_bits": stored})
    assert painter.mask.tobytes() == mask.tobytes()
    assert zlib.decompress(MaskPainter(image, mask).mask_bits) == zlib.decompress(stored)


def test_the_mask_of_a_single_pixel_is_a_bit():
    for level, read in ((127, 0), (128, 255)):
        assert MaskPainter(Image.new("RGB", (1, 1)), Image.new("L", (1, 1), level)).mask.getpixel((0, 0)) == read


def test_what_is_no_mask_of_its_image_is_refused_and_the_old_one_stays(image):
    painter = MaskPainter(image, box_mask(image, (0, 0, 5, 5)))
    before = painter.mask
    with pytest.raises(ValueError, match=r"mask is 23 x 37 pixels, the image 37 x 23.*fit\(mask, image\)"):
        painter.mask = Image.new("L", (23, 37))
    with pytest.raises(TypeError, match="mask: expected a PIL image or an array, got int"):
        painter.mask = 3
    assert painter.mask.tobytes() == before.tobytes()


@pytest.mark.parametrize(
    ("argument", "kind", "message"),
    [
        ({"color": "#ff0000"}, TypeError, "unexpected keyword argument 'color'"),
        ({"tool": "brsh"}, ValueError, "tool='brsh' is unknown. Did you mean 'brush'?"),
        ({"brush_size": 0}, ValueError, "brush_size=0: expected a whole number, 1 or more"),
        ({"brush_size": "wide"}, TypeError, "'brush_size' trait of a MaskPainter instance expected an int"),
        ({"opacity": 40}, ValueError, "opacity=40: expected a number from 0 to 1"),
        ({"softness": 1.5}, ValueError, "softness=1.5: expected a number from 0 to 1"),
        ({"level": 0}, ValueError, "level=0: expected a whole number from 1 to 255"),
        ({"colour": "red"}, ValueError, "colour='red': expected '#rrggbb'"),
    ],
)
def test_a_wrong_argument_is_named_with_advice(image, argument, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        MaskPainter(image, **argument)


def test_strokes_arrive_as_the_browser_sends_them(image):
    painter = MaskPainter(image)
    told = []
    painter.observe(told.append, "mask_bits")
    mask = random_mask(image.size)
    painter.set_state({"mask_bits": memoryview(MaskPainter(image, mask).mask_bits)})
    assert painter.mask.tobytes() == mask.tobytes()
    assert len(told) == 1


def ask(painter, **select):
    """What the browser sends when the select tool is used."""
    painter._handle_custom_msg({"select": select}, [])


def test_a_click_and_a_box_paint_the_object_that_select_finds():
    image = load_image("bench")
    left, top, right, bottom = load_mask("bench").getbbox()
    box, point = (left - 2, top - 2, right + 2, bottom + 2), ((left + right) / 2, (top + bottom) / 2)
    painter = MaskPainter(image, box_mask(image, (0, 0, 9, 9)))
    ask(painter, box=list(box), value=200)
    boxed = np.asarray(select(image, box=box)) > 0
    expected = np.where(boxed, 200, np.asarray(box_mask(image, (0, 0, 9, 9))))
    assert np.array_equal(painter.mask, expected) and boxed.any()
    ask(painter, box=list(box), value=0)
    assert np.array_equal(painter.mask, np.where(boxed, 0, expected))
    painter.mask = None
    ask(painter, point=list(point), value=255)
    assert painter.mask.tobytes() == select(image, point=point).tobytes()


def test_where_nothing_is_found_the_mask_stays_and_it_is_said():
    image = load_image("bench", size=64)
    painter = MaskPainter(image, random_mask(image.size))
    before = painter.mask_bits
    ask(painter, point=[500, 3], value=255)
    assert painter.mask_bits == before
    assert "lies outside the image of 64 x 64 pixels" in painter._note
    painter._handle_custom_msg({"other": 1}, [])
    ask(painter, box=[5, 5, 60, 60], value=255)
    assert painter._note == "" and painter.mask_bits != before


def test_the_overlay_of_a_soft_mask_is_as_strong_as_the_mask():
    image = Image.new("RGB", (64, 64), "black")
    mask = Image.fromarray(np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1)))
    shown = np.asarray(MaskPainter(image, mask, colour="#ffffff", opacity=1).overlay)[32, :, 0].astype(int)
    far = np.abs(np.arange(64) - 32) > 4  # from where the outline runs: at half
    assert np.abs(shown - np.asarray(mask)[32])[far].max() <= 1
    assert shown[31] == 255


def test_the_overlay_shows_the_mask_and_leaves_the_rest(image):
    mask = box_mask(image, (10, 5, 20, 15))
    painter = MaskPainter(image, mask, colour="#00ff00", opacity=0.5)
    before, after = np.asarray(image, int), np.asarray(painter.overlay, int)
    inside, far = np.asarray(mask) > 0, np.asarray(grow(mask, 3)) == 0
    assert np.array_equal(after[far], before[far])
    assert np.abs(after[inside] - (before[inside] + [0, 255, 0]) / 2).max() <= 1
    assert (after[10, 9] == 255).all() and (after[10, 8] == 40).all()  # a light line in a dark one


def test_the_bundle_carries_a_still_picture_beside_the_view(image):
    painter = MaskPainter(image, box_mask(image, (10, 5, 20, 15)))
    data, metadata = painter._repr_mimebundle_()
    still = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert still.convert("RGB").tobytes() == painter.overlay.tobytes()
    assert metadata["image/png"] == {"width": 13 * 37, "height": 13 * 23}  # a small picture is shown larger
    large, metadata = MaskPainter(Image.new("RGB", (1536, 768)))._repr_mimebundle_()
    assert Image.open(io.BytesIO(base64.b64decode(large["image/png"]))).size == (512, 256)
    assert "image/png" not in metadata
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == painter.model_id
    assert data["text/plain"] == "MaskPainter(37 x 23 pixels, 11.8% painted)"


@pytest.mark.parametrize("size", [(64, 48), (1600, 1400)], ids=["PNG", "JPEG"])
def test_the_picture_travels_as_it_is(size):
    image = Image.radial_gradient("L").resize(size).convert("RGB")
    sent = load_image(MaskPainter(image)._picture)
    assert sent.size == size
    assert np.abs(np.asarray(sent, int) - np.asarray(image, int)).max() <= (0 if size == (64, 48) else 8)


def test_the_overlay_colour_stands_out():
    for colour in module.COLOURS:
        painter = MaskPainter(Image.new("RGB", (64, 64), colour))
        assert painter.colour != colour
    assert MaskPainter(Image.new("RGB", (64, 64), "black"), colour="#ABCDEF").colour == "#abcdef"


def test_the_brush_starts_at_a_tenth_of_the_longer_side(image):
    assert MaskPainter(Image.new("RGB", (128, 512))).brush_size == 51
    assert MaskPainter(Image.new("RGB", (3, 3))).brush_size == 1
    assert MaskPainter(image, brush_size=5).brush_size == 5


def test_both_sides_know_the_same_tools():
    script = (assets.FOLDER / "mask_tools.js").read_text("utf-8")
    tools = re.search(r"const TOOLS = \{(.*?)\};", script, re.S)[1]
    assert tuple(re.findall(r"(\w+): \[", tools)) == module.TOOLS
