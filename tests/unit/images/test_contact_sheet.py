"""show() lays images out on one sheet, over their titles."""

import pickle

import numpy as np
import pytest
from PIL import Image

from helpers.images.contact_sheet import GAP, MARGIN, SMALLEST, show
from helpers.images.masks import box_mask
from tests.support.images import scene


def test_show_lays_out_rows_and_keeps_the_pixels():
    sheet = show([scene(256, 256), scene(256, 256)], Image.new("L", (300, 256), 7), columns=2)
    assert sheet.mode == "RGB"
    assert sheet.size == (2 * MARGIN + 300 + GAP + 256, 2 * MARGIN + 2 * 256 + GAP)
    assert sheet.getpixel((0, 0)) == (255, 255, 255)
    assert sheet.crop((MARGIN + 22, MARGIN, MARGIN + 278, MARGIN + 256)).tobytes() == scene(256, 256).tobytes()
    assert sheet.getpixel((MARGIN + 5, MARGIN + 256 + GAP + 5)) == (7, 7, 7)


def test_show_enlarges_small_images_and_keeps_masks_hard():
    sheet = show(box_mask(128, (32, 32, 64, 64)), scene(64, 32), scene(1024, 512))
    assert sheet.size == (2 * MARGIN + 2 * GAP + 2 * SMALLEST + 512, 2 * MARGIN + 256)
    mask = np.asarray(sheet)[MARGIN : MARGIN + 256, MARGIN : MARGIN + 256]
    assert set(np.unique(mask)) == {0, 255}
    assert (mask == 255).mean() == pytest.approx(1 / 16)


def test_show_puts_titles_under_the_images():
    plain, titled = show(scene(256, 64)), show(scene(256, 64), titles="a black cat")
    assert titled.width == plain.width and titled.height > plain.height
    assert titled.crop((0, 0, *plain.size)).tobytes()[:3000] == plain.tobytes()[:3000]
    under = np.asarray(titled.convert("L"))[MARGIN + 64 + 2 :]
    columns = np.nonzero(under.min(axis=0) < 120)[0]
    assert abs((columns[0] + columns[-1]) / 2 - titled.width / 2) < 3  # centred
    wrapped = show(scene(256, 64), titles=["a black cat with glowing eyes, cute, adorable, disney, pixar " + "x" * 80])
    assert wrapped.height > titled.height and wrapped.width == titled.width


def test_a_notebook_is_told_the_titles():
    from IPython.core.formatters import DisplayFormatter

    one, other = Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), "red")
    formatter = DisplayFormatter()
    data, metadata = formatter.format(show(one, other, titles=["a mask", "a red\nboat"]))
    assert metadata == {"image/png": {"alt": "a mask; a red boat"}}
    assert {kind for kind in data if kind.startswith("image/")} == {"image/png"}
    assert formatter.format(show(one))[1] == {}, "the text before it says what it is"
    again = pickle.loads(pickle.dumps(show(one, titles="a")))  # as to another process
    assert again.tobytes() == show(one, titles="a").tobytes() and "image/png" in formatter.format(again)[0]


def test_show_reads_arrays_and_outputs():
    import torch

    expected = show(scene(256, 256)).tobytes()
    assert show(np.array(scene(256, 256))).tobytes() == expected
    assert show(type("Output", (), {"images": [scene(256, 256)]})()).tobytes() == expected
    assert show(torch.rand(3, 3, 8, 8).bfloat16()).width == 2 * MARGIN + 3 * 256 + 2 * GAP


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: show(), ValueError, "nothing to show"),
        (lambda: show(scene(), titles=["a", "b"]), ValueError, "titles has 2 texts for 1 images"),
        (lambda: show(scene(), columns=0), ValueError, "columns=0"),
    ],
)
def test_show_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()
