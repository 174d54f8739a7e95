"""A table as text and as HTML; bytes in words; images as PNG."""

import io

import pytest
from PIL import Image

from helpers.common.png import png_bytes
from helpers.common.sizes import format_size
from helpers.common.table import Table


def test_a_table_is_text_with_aligned_columns_and_escaped_html():
    table = Table(
        ["name", "seconds"], [["plain <b>", 1.5], ["https://huggingface.co/a/b", 10]], note="One.\nTwo & more."
    )
    assert str(table).splitlines() == [
        "name                        seconds", "plain <b>                   1.5",
        "https://huggingface.co/a/b  10", "One.", "Two & more.",
    ]  # fmt: skip
    shown = table._repr_html_()
    assert "plain &lt;b&gt;" in shown and '<a href="https://huggingface.co/a/b">a/b</a>' in shown
    assert "<small>Two &amp; more.</small>" in shown and len(table) == 2


@pytest.mark.parametrize(
    "size, text",
    [(0, "0.0 MB"), (1, "0.1 MB"), (400_000, "0.4 MB"), (72e7, "720 MB"), (2_140_000_000, "2.1 GB")],
)
def test_bytes_in_words(size, text):
    assert format_size(size) == text


def test_an_image_survives_its_png(picture):
    for quick in (False, True):
        assert Image.open(io.BytesIO(png_bytes(picture, quick=quick))).tobytes() == picture.tobytes()
