"""What the pages say of a chapter's images."""

from __future__ import annotations

from typing import Any

from docs.site import course


def code(*alternatives: str) -> dict[str, Any]:
    outputs = [
        {
            "output_type": "display_data",
            "data": {"image/png": ""},
            "metadata": {"image/png": {"alt": one}} if one else {},
        }
        for one in alternatives
    ]
    return {"cell_type": "code", "source": ["x"], "metadata": {}, "outputs": outputs}


def markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "source": text.splitlines(keepends=True), "metadata": {}}


def test_images_are_described_by_section_and_titles() -> None:
    one, two = markdown("# One\n\nA `first` look."), markdown("## Two")
    cells = [code(""), one, code(""), code("before; after", "a chart"), two, code("", "b")]
    course.dress({"cells": cells}, folded=False)
    said = [cell["metadata"]["mystnb"]["image"]["alt"] for cell in cells if cell["cell_type"] == "code"]
    assert said == ["The result of this cell", "One: A first look.", "One: before; after; a chart", "Two: b"]
