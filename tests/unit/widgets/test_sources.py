"""What the browser gets of the four widgets: nothing from elsewhere, and the same tools and colours as Python."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers import Compare, Explorer, MaskPainter, TokenWeights
from helpers.widgets import mask_painter


def source(widget: type, kind: str) -> str:
    """The text of `_esm` or `_css`, as anywidget sends it."""
    found = getattr(widget, kind)
    return Path(found).read_text("utf-8") if isinstance(found, Path) else str(found)


@pytest.mark.parametrize("widget", [Compare, Explorer, MaskPainter, TokenWeights])
def test_nothing_is_fetched_from_elsewhere(widget) -> None:
    for kind in ("_esm", "_css"):
        text = source(widget, kind)
        assert len(text) > 1_000 and not re.search(r"https?://|\bfetch\(|^import\s|@import|url\(", text, re.M)


def test_both_sides_know_the_same_tools_and_colours() -> None:
    script = source(MaskPainter, "_esm")
    tools, colours = re.search(r"const TOOLS = \{(.*?)\};", script, re.S)[1], re.search(r"COLOURS = \{(.*?)\};", script)
    assert tuple(re.findall(r"(\w+): \[", tools)) == mask_painter.TOOLS
    assert tuple(re.findall(r'"(#\w+)":', colours[1])) == mask_painter.COLOURS
