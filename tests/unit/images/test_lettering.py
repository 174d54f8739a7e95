"""Text in images: each character from a font that has it, and its code where none has."""

from __future__ import annotations

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image, ImageDraw, ImageFont

from helpers.images import lettering
from helpers.images.contact_sheet import show, wrap
from helpers.images.lettering import Lettering


@pytest.fixture
def fonts(monkeypatch):
    """Sets the fonts of the machine, after matplotlib's; everything that was found is forgotten."""

    def fonts(*files: str) -> None:
        forget()
        monkeypatch.setattr(lettering, "_files", lambda: [*bundled, *files])

    def forget() -> None:
        for cached in (lettering._source, lettering._font, lettering._opens):
            cached.cache_clear()

    bundled = lettering._files()[:1]
    yield fonts
    forget()


@pytest.fixture
def font_file(tmp_path):
    """A font with two characters: a full block each."""
    names = [".notdef", "cat", "face"]
    pen = TTGlyphPen(None)
    for number, (x, y) in enumerate([(0, 0), (0, 800), (800, 800), (800, 0)]):
        (pen.lineTo if number else pen.moveTo)((x, y))
    pen.closePath()
    block, empty = pen.glyph(), TTGlyphPen(None).glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord("猫"): "cat", 0x1F9FF: "face"})
    builder.setupGlyf({".notdef": empty, "cat": block, "face": block})
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "two.ttf")
    return str(tmp_path / "two.ttf")


def drawn(text: str, size: int = 15, anchor: str = "la") -> np.ndarray:
    image = Image.new("L", (400, 40), 255)
    Lettering(size).write(ImageDraw.Draw(image), (200 if anchor == "ma" else 5, 5), text, fill=0, anchor=anchor)
    return np.asarray(image)


def test_plain_text_is_pillows_own() -> None:
    for anchor in ("la", "ma"):
        image = Image.new("L", (400, 40), 255)
        at = (200 if anchor == "ma" else 5, 5)
        ImageDraw.Draw(image).text(at, "a red castle, 8k", fill=0, font=ImageFont.load_default(15), anchor=anchor)
        assert (drawn("a red castle, 8k", anchor=anchor) == np.asarray(image)).all()
    assert Lettering(15).getlength("a red castle") == ImageFont.load_default(15).getlength("a red castle")


@pytest.mark.parametrize("sign", "üéßñçåøłőşžœ–—“”„’…×·°€→✓αЖא♥😀")
def test_these_have_a_glyph_everywhere(fonts, sign) -> None:
    fonts()
    assert lettering._source(sign) is not None
    path = lettering._source(sign)
    shape, box = (lettering._font(path, 15).getmask(one) for one in (sign, "\U0010ffff"))
    assert bytes(shape) != bytes(box) or shape.size != box.size


@pytest.mark.parametrize("sign", ["猫", "漢", "한", "\U0001f9ff", "\U0001f6d8", "\ue000", "\ud83d"])
def test_what_no_font_has_is_written_as_its_code(fonts, sign) -> None:
    fonts()
    assert lettering._source(sign) is None
    assert (drawn(sign) == drawn(f" U+{ord(sign):04X} ")).all()


def test_a_font_of_the_machine_is_used_for_what_it_has(fonts, font_file, tmp_path) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    fonts(str(tmp_path / "broken.ttf"), font_file)
    assert lettering._source("猫") == lettering._source("\U0001f9ff") == font_file
    assert lettering._source("犬") is None and lettering._source("a") == ""
    both, plain = drawn("a 猫 b"), drawn("a    b")
    assert (both < 128).sum() > (plain < 128).sum() + 80  # the block
    assert Lettering(15).getlength("a猫b") == pytest.approx(
        sum(Lettering(15).getlength(one) for one in ("a", "猫", "b")), abs=0.1
    )


def test_runs_stand_on_one_line_and_in_the_middle(fonts) -> None:
    fonts()
    for text in ("aЖa", "Ж → ü", "x 猫 – y"):
        left, right = np.nonzero((drawn(text, anchor="ma") < 128).any(axis=0))[0][[0, -1]]
        assert abs((left + right) / 2 - 200) < 4
        rows = np.nonzero((drawn(text.replace("猫", "x"), anchor="la") < 128).any(axis=1))[0]
        assert rows[0] >= 5 and rows[-1] <= 24


def test_invisible_characters_leave_no_mark() -> None:
    for text in ("a\u200bb", "a\u202eb", "a\ufeffb", "ab\ufe0f", "a\x00b"):
        assert (drawn(text) == drawn("ab")).all()
    assert (drawn("e\u0301") == drawn("é")).all()


def test_captions_of_any_text_wrap_and_are_shown(fonts) -> None:
    fonts()
    assert wrap("猫" * 40, 200, Lettering(15)) and wrap("Ж" * 100, 100, Lettering(15))[0] != "Ж" * 100
    plain, titled = show(Image.new("RGB", (256, 64))), show(Image.new("RGB", (256, 64)), titles="猫 – ü 😀 " * 20)
    assert titled.width == plain.width and titled.height > plain.height + 60
