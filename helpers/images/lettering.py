"""Text in images, each character from a font that has it.

Pillow's own font has Latin letters and no more. What it lacks is looked for in matplotlib's DejaVu, then in the fonts
of the machine; a character that none of them has is written as its code, U+732B, never as an empty box.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import ImageDraw, ImageFont

_NO_CHARACTER = "\U0010ffff"  # which no font has: what is drawn for it is the box
_FIRST = ("NotoSans-", "NotoSansCJK", "NotoSans", "DroidSansFallback", "wqy", "msyh", "simsun", "PingFang", "Hiragino")


class Lettering:
    """A size of letters, in pixels, for any text; `getlength` as a font of Pillow has it."""

    def __init__(self, size: int) -> None:
        self.size = size

    def getlength(self, text: str) -> float:
        return sum(font.getlength(run) for font, run in self._runs(text))

    def write(
        self, draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, *, fill: Any, anchor: str = "la"
    ) -> None:
        """Draw one line. at: its top, by `anchor` at its left "la", middle "ma" or right "ra"."""
        runs = list(self._runs(text))
        if len(runs) == 1:
            draw.text(at, runs[0][1], fill=fill, font=runs[0][0], anchor=anchor)
            return
        share = {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]]
        x = at[0] - share * sum(font.getlength(run) for font, run in runs)
        base = at[1] + _own(self.size).getmetrics()[0]  # all fonts stand on one line
        for font, run in runs:
            draw.text((x, base), run, fill=fill, font=font, anchor="ls")
            x += font.getlength(run)

    def _runs(self, text: str) -> Iterator[tuple[ImageFont.FreeTypeFont, str]]:
        """The text in pieces of one font each; "" is one piece."""
        text = unicodedata.normalize("NFC", text)
        text = "".join(sign for sign in text if unicodedata.category(sign) not in ("Cf", "Cc", "Mn") or sign.isspace())
        if text.isascii():
            yield _own(self.size), text
            return
        pairs = ((_source(sign), sign) for sign in text)
        for source, pair in groupby(pairs, key=lambda pair: pair[0]):
            signs = "".join(sign for _, sign in pair)
            if source is None:
                yield _own(self.size), "".join(f" U+{ord(sign):04X} " for sign in signs).replace("  ", " ")
            else:
                yield _font(source, self.size), signs


@cache
def _own(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)  # type: ignore[return-value]


@lru_cache(maxsize=64)
def _font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size) if path else _own(size)


@lru_cache(maxsize=4096)
def _source(sign: str) -> str | None:
    """The file of the first font that has the character, "" for Pillow's own; None where none has it."""
    if sign.isspace():
        return ""
    if "\ud800" <= sign <= "\udfff":  # half a character
        return None
    return next((path for path in ("", *_files()) if _has(path, sign)), None)


def _has(path: str, sign: str) -> bool:
    if not _opens(path):
        return False
    font = _font(path, 15)
    drawn, box = (font.getmask(one) for one in (sign, _NO_CHARACTER))
    pixels: Any = bytes
    return bool(drawn.getbbox()) and (drawn.size != box.size or pixels(drawn) != pixels(box))


@cache
def _opens(path: str) -> bool:
    try:
        _font(path, 15)
    except OSError:  # broken, or bitmaps of one size alone
        return False
    return True


@cache
def _files() -> list[str]:
    """The fonts of matplotlib and of the machine, likely ones first; upright and of ordinary weight."""
    found = importlib.util.find_spec("matplotlib")
    places = (found and found.submodule_search_locations) or []
    bundled = [Path(place) / "mpl-data/fonts/ttf/DejaVuSans.ttf" for place in places]
    folders = {
        "win32": [f"{os.environ.get('WINDIR', 'C:/Windows')}/Fonts", "~/AppData/Local/Microsoft/Windows/Fonts"],
        "darwin": ["/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts"],
    }.get(sys.platform, ["/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts"])
    files = []
    for folder in folders:
        for place, _, names in os.walk(os.path.expanduser(folder)):
            files += [Path(place) / name for name in names if name.lower().endswith((".ttf", ".otf", ".ttc"))]

    def rank(file: Path) -> tuple[bool, int, str]:
        styled = any(word in file.stem.lower() for word in ("bold", "italic", "oblique", "light", "thin", "mono"))
        return styled, next((n for n, name in enumerate(_FIRST) if file.name.startswith(name)), len(_FIRST)), file.name

    return [str(file) for file in [*bundled, *sorted(files, key=rank)] if file.is_file()]
