"""Grids: records as one image with labelled axes, the X/Y plot that people know."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral

from PIL import Image, ImageDraw

from helpers.analysis.record_groups import Group, as_records, distinct, grouped, shown_arguments, value_labels
from helpers.generation.records import Record
from helpers.images.contact_sheet import FRAME, GAP, INK, LINE, MARGIN, wrap
from helpers.images.lettering import Lettering

MANY = 16  # columns: a longer row is wrapped
LARGEST = 4096  # pixels: the longer side of a grid whose size was not asked for
SMALLEST, NATURAL = 64, 256  # longer side of a cell
RED, EMPTY = (170, 30, 30), (238, 238, 238)
SIDE = 150  # pixels: the widest column of row labels
BATCHED = "made in a batch: pixels may differ a little from a single call's"


def grid(
    records: Iterable[Record],
    *,
    over: str | Sequence[str] | None = None,
    size: int | None = None,
    title: str | None = None,
) -> Image.Image:
    """Draw records as a sheet: the first argument varied from left to right, the second downwards.

    over: one or two arguments, "checkpoint" for the models; by default those in which the records differ. Values
        stand in the order in which they first appear; more than 16 across, or than fit 4096 pixels, are wrapped.
    size: the longer side of a cell in pixels. title: a line above.
    A record that failed shows its error in its place, a combination without a record stays empty, and images made in a
    batch are noted as inexact: by a line below, and by a star in each where others are exact. ValueError for no
    records, and where two records belong in one place.
    """
    records = as_records(records)
    if size is not None and (isinstance(size, bool) or not isinstance(size, Integral) or size < 16):
        raise ValueError(f"size={size!r}: expected the longer side of a cell in pixels, 16 or more.")
    names = shown_arguments(records, over, most=2)
    groups = grouped(records, names)
    columns, rows = (_axis(groups, names, number) for number in range(2))
    found = {(*group.keys, None)[:2]: group.records[0] for group in groups}
    at_once = _columns_at_once(len(columns), size)
    shape = _cell_size(records, size, at_once, len(rows) * math.ceil(len(columns) / at_once))
    exact = {record.exact for record in records}
    heads = [_text(text, shape[0], centred=True) for _, text in columns]
    sides = [_text(f"{names[1]}\n{text}", SIDE) for _, text in rows] if len(names) > 1 else []
    cells = [[_cell(found.get((x, y)), shape, starred=len(exact) > 1) for x, _ in columns] for y, _ in rows]
    parts = [
        _table(names[0], heads[first : first + at_once], sides, [row[first : first + at_once] for row in cells])
        for first in range(0, len(columns), at_once)
    ]
    width = max(part.width for part in parts)
    if title:
        parts.insert(0, _text(title, width))
    if False in exact:
        parts.append(_text(f"* {BATCHED}" if True in exact else BATCHED.capitalize(), width))
    sheet = Image.new("RGB", (width + 2 * MARGIN, sum(part.height for part in parts) + 2 * MARGIN), "white")
    top = MARGIN
    for part in parts:
        sheet.paste(part, (MARGIN, top))
        top += part.height
    return sheet


def _axis(groups: list[Group], names: list[str], number: int) -> list[tuple[str | None, str]]:
    """Key and label of each value of the argument of that number; one empty pair where there is no such argument."""
    if number >= len(names):
        return [(None, "")]
    values = distinct(groups, number)
    return [(one.keys[number], text) for one, text in zip(values, value_labels(values, names[number]), strict=True)]


def _table(
    name: str, heads: list[Image.Image], sides: list[Image.Image], cells: list[list[Image.Image]]
) -> Image.Image:
    """Cells under the column heads and the name of their argument, with the row labels, if any, on the left."""
    width, height = cells[0][0].size
    left = max(side.width for side in sides) + GAP if sides else 0
    across = len(heads) * (width + GAP) - GAP
    above = _text(name, across, centred=True)
    top = above.height + max(head.height for head in heads) + 6
    table = Image.new("RGB", (left + across, top + len(cells) * (height + GAP)), "white")
    table.paste(above, (left, 0))
    for column, head in enumerate(heads):
        table.paste(head, (left + column * (width + GAP), above.height))
    for row, line in enumerate(cells):
        y = top + row * (height + GAP)
        if sides:
            table.paste(sides[row], (0, y + (height - sides[row].height) // 2))
        for column, cell in enumerate(line):
            table.paste(cell, (left + column * (width + GAP), y))
    return table


def _cell(record: Record | None, shape: tuple[int, int], *, starred: bool) -> Image.Image:
    """The record's image in a frame, its error, or an empty field. starred: an image of a batch gets a star."""
    cell = Image.new("RGB", shape, EMPTY)
    draw = ImageDraw.Draw(cell)
    if record is None or record.image is None or record.error:
        text = "not made" if record is None else record.error or "no image"
        font = Lettering(12)
        lines, fits = wrap(text, shape[0] - 8, font), max(1, (shape[1] - 8) // 14)
        for number, line in enumerate(lines if len(lines) <= fits else [*lines[: fits - 1], "…"]):
            font.write(draw, (4, 4 + number * 14), line, fill=INK if record is None else RED)
    else:
        image = record.image.convert("RGB")
        scale = min(shape[0] / image.width, shape[1] / image.height)
        fitted = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image if fitted == image.size else image.resize(fitted, Image.Resampling.LANCZOS)
        cell.paste("white", (0, 0, *shape))
        cell.paste(image, ((shape[0] - fitted[0]) // 2, (shape[1] - fitted[1]) // 2))
        if starred and not record.exact:
            Lettering(18).write(draw, (shape[0] - 3, 1), "*", fill=RED, anchor="ra")
    framed = Image.new("RGB", (shape[0] + 2, shape[1] + 2), FRAME)
    framed.paste(cell, (1, 1))
    return framed


def _cell_size(records: list[Record], size: int | None, columns: int, rows: int) -> tuple[int, int]:
    """Width and height of every cell: the images' proportions, and a whole sheet of a reasonable size."""
    sizes = [record.image.size for record in records if record.image is not None] or [(NATURAL, NATURAL)]
    width, height = (max(sides) for sides in zip(*sizes, strict=True))
    longer = max(width, height)
    goal = size or max(SMALLEST, min(max(longer, NATURAL), LARGEST // max(columns, rows)))
    return max(1, round(width * goal / longer)), max(1, round(height * goal / longer))


def _columns_at_once(count: int, size: int | None) -> int:
    """How many columns stand side by side: all of up to 16 that fit, else rows of nearly equal length."""
    most = count if count <= MANY else math.ceil(math.sqrt(count))
    if size is not None:
        most = min(most, max(1, (LARGEST - SIDE) // (size + GAP)))
    return math.ceil(count / math.ceil(count / most))


def _text(text: str, width: int, *, centred: bool = False) -> Image.Image:
    """Wrapped lines of text on white: `width` pixels wide where they are centred, else as wide as the text."""
    font = Lettering(15)
    lines = wrap(text, width, font)
    width = width if centred else min(width, max(1, *(round(font.getlength(line)) + 1 for line in lines), 1))
    field = Image.new("RGB", (width, len(lines) * LINE), "white")
    draw = ImageDraw.Draw(field)
    for number, line in enumerate(lines):
        at = (width // 2 if centred else 0, number * LINE)
        font.write(draw, at, line, fill=INK, anchor="ma" if centred else "la")
    return field
