"""Images among a notebook's outputs have an alternative text in JupyterLab: their titles, or their section."""

from __future__ import annotations

import base64
import io
from typing import Any

import nbformat
from PIL import Image

from tests.browser.waiting import settled

LIVE = """from PIL import Image
from helpers import show
show(Image.new("RGB", (32, 32)), Image.new("RGB", (32, 32), "red"), titles=["before", "after"])"""


def picture(kind: str) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "blue").save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def output(kind: str, **metadata: Any) -> Any:
    mime = f"image/{kind.lower()}"
    return nbformat.v4.new_output("display_data", {mime: picture(kind), "text/plain": "x"}, metadata={mime: metadata})


def test_images_are_described(open_notebook) -> None:
    markdown, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    cells = [
        markdown("# A chapter\n\nIt begins."),
        code("1", outputs=[output("PNG")]),
        markdown("## Two *masks*\n\nFirst this.\n\nThen `that`, which is soft."),
        code("2", outputs=[output("JPEG"), output("PNG", alt="one; other", width=40)]),
        markdown("A line without a heading."),
        code("3", outputs=[output("PNG"), output("GIF", alt="word " * 90)]),
        code(LIVE),
        code(""),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = open_notebook.lab.root / "alt_text.ipynb"
    nbformat.write(notebook, path)
    opened = open_notebook.show(path)
    opened.run(3)
    opened.page.locator(".jp-Notebook:visible").evaluate("notebook => { notebook.scrollTop = 0; }")
    images = opened.page.locator(".jp-OutputArea-output img")
    texts = lambda: images.evaluate_all("images => images.map(({ alt }) => alt)")  # noqa: E731
    expected = [
        "A chapter: It begins.",
        "Two masks: Then that, which is soft.",
        "Two masks: one; other",
        "Two masks: A line without a heading.",
    ]
    assert settled(opened.page, lambda: texts()[:4], expected) == expected
    texts = texts()
    assert texts[4].startswith("Two masks: word word") and texts[4].endswith("word …") and len(texts[4]) <= 242
    assert texts[5:] == ["Two masks: before; after"]
    assert opened.page.locator('img[alt="Two masks: one; other"]').evaluate("image => image.width") == 40
