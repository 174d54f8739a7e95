"""A small table that a notebook shows as HTML, and a terminal as text."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Table:
    """Columns and rows of text or numbers, the first column naming each row.

    columns: the headings. rows: a sequence of cells each, shown with str(). note: a sentence or more below it, one a
    line. Cells that begin with "https://" become links in HTML.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]] = field(default=())
    note: str = ""

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        lines = [list(map(str, line)) for line in ([self.columns] if any(self.columns) else []) + list(self.rows)]
        widths = [max(map(len, column), default=0) for column in zip(*lines, strict=True)]
        text = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
        return "\n".join(text + ([self.note] if self.note else []))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col" style="text-align:left">{html.escape(name)}</th>' for name in self.columns)
        body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in self.rows)
        note = "".join(f"<p><small>{html.escape(line)}</small></p>" for line in self.note.splitlines())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


def _cell(value: Any) -> str:
    text = html.escape(str(value))
    if text.startswith("https://"):
        text = f'<a href="{text}">{text.removeprefix("https://huggingface.co/")}</a>'
    return f'<td style="text-align:left">{text}</td>'
