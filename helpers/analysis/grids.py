"""Grids: records as one picture with labelled axes, the X/Y/Z plot that people know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from helpers.generation import png_record
from helpers.generation.records import Record
from helpers.images.contact_sheet import FRAME, GAP, INK, LINE, MARGIN
from helpers.images.contact_sheet import _wrap as wrap

LARGEST = 4096  # pixels: the longer side of a grid whose size was not asked for
SMALLEST, NATURAL = 64, 256  # longer side of a cell
RED, EMPTY = (170, 30, 30), (238, 238, 238)
SIDE = 150  # of the column with the labels of the rows, at most


def grid(
    records: Iterable[Record],
    *,
    over: Sequence[str] | None = None,
    size: int | None = None,
    title: str | None = None,
) -> Image.Image:
    """Draw records as a sheet: the first argument varied from left to right, the second downwards, the third in blocks.

    over: one to three arguments, by default those that the sweep varied, else those in which the records differ; values
        stand in the order in which they first appear. size: the longer side of a cell in pixels. title: a line above.
    A record that failed shows its error in its place, a combination without a record stays empty, and pictures made in
    a batch are noted as inexact: by a line below, and by a star in each where others are exact. ValueError for no
    records, and where two records belong in one place.
    """
    records = list(records)
    if not records:
        raise ValueError("records: nothing to show; pass at least one Record.")
    if wrong := [record for record in records if not isinstance(record, Record)]:
        raise TypeError(f"records has a {type(wrong[0]).__name__}: expected Records, as sweep() yields them.")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 16):
        raise ValueError(f"size={size!r}: expected the longer side of a cell in pixels, 16 or more.")
    names = _axes(records, over)
    values = [_distinct(records, name) for name in names] + [[(None, "")]] * (3 - len(names))
    cells = _places(records, names)
    columns, rows, blocks = ([mark for mark, _ in axis] for axis in values)
    shape = _cell(records, size, len(columns), len(rows) * len(blocks))
    font = ImageFont.load_default(15)
    side = _side(values[1], names, font) if len(names) > 1 else 0
    heads = [wrap(text, shape[0], font) for _, text in values[0]]
    head = max(len(lines) for lines in heads) * LINE + 6
    block = LINE * (len(names) > 2) + LINE + head + len(rows) * (shape[1] + GAP)
    notes = [title] if title else []
    foot = "made in a batch: pixels may differ a little from a single call's"
    inexact, mixed = any(not record.exact for record in records), len({record.exact for record in records}) > 1
    width = 2 * MARGIN + side + len(columns) * (shape[0] + GAP) - GAP
    notes = [line for text in notes for line in wrap(text, width - 2 * MARGIN, font)]
    feet = wrap(f"* {foot}" if mixed else foot.capitalize(), width - 2 * MARGIN, font) if inexact else []
    height = 2 * MARGIN + (len(notes) + len(feet)) * LINE + len(blocks) * block

    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    for line in notes:
        draw.text((MARGIN, top), line, fill=INK, font=font)
        top += LINE
    for place, blocked in enumerate(blocks):
        if len(names) > 2:
            draw.text((MARGIN, top), f"{names[2]} = {values[2][place][1]}", fill=INK, font=font)
            top += LINE
        centre = MARGIN + side + (width - 2 * MARGIN - side) // 2
        draw.text((centre, top), names[0], fill=INK, font=font, anchor="ma")
        top += LINE
        for column, lines in enumerate(heads):
            middle = MARGIN + side + column * (shape[0] + GAP) + shape[0] // 2
            for number, line in enumerate(lines):
                draw.text((middle, top + number * LINE), line, fill=INK, font=font, anchor="ma")
        top += head
        for row, label in zip(rows, values[1], strict=True):
            if side:
                lines = wrap(f"{names[1]}\n{label[1]}", side - GAP, font)
                start = top + (shape[1] - len(lines) * LINE) // 2
                for number, line in enumerate(lines):
                    draw.text((MARGIN, start + number * LINE), line, fill=INK, font=font)
            for column, mark in enumerate(columns):
                at = (MARGIN + side + column * (shape[0] + GAP), top)
                _draw(sheet, draw, at, shape, cells.get((mark, row, blocked)), starred=mixed)
            top += shape[1] + GAP
    for number, line in enumerate(feet):
        draw.text((MARGIN, top + number * LINE), line, fill=INK, font=font)
    return sheet


def _axes(records: list[Record], over: Sequence[str] | None) -> list[str]:
    if over is not None:
        names = [over] if isinstance(over, str) else list(over)
        known = {name for record in records for name in record.parameters}
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"over: no record has {unknown[0]!r}; they have {', '.join(sorted(known))}.")
    elif records[0].axes and all(record.axes == records[0].axes for record in records):
        names = list(records[0].axes)
    else:
        known = dict.fromkeys(name for record in records for name in record.parameters)
        names = [name for name in known if len(_distinct(records, name)) > 1] or ["seed"]
    if not 1 <= len(names) <= 3:
        raise ValueError(f"the records differ in {', '.join(names)}: a sheet shows up to 3. Name them in over=[...].")
    return names


def _mark(value: Any) -> str:
    return str(png_record.encode(value, {}))


def _distinct(records: list[Record], name: str) -> list[tuple[str, str]]:
    """A mark and a label for each value, in the order of their first appearance."""
    found: dict[str, str] = {}
    for record in records:
        value = record.parameters.get(name)
        picture = hasattr(value, "mode") or hasattr(value, "shape")
        found.setdefault(_mark(value), f"no. {len(found) + 1}" if picture else str(value))
    return list(found.items())


def _places(records: list[Record], names: list[str]) -> dict[tuple, Record]:
    cells: dict[tuple, Record] = {}
    for record in records:
        place = tuple(_mark(record.parameters.get(name)) for name in names) + (None,) * (3 - len(names))
        if place in cells:
            same = ", ".join(f"{name}={record.parameters.get(name)!r}"[:60] for name in names)
            raise ValueError(f"two records have {same}: name in over=[...] what else they differ in.")
        cells[place] = record
    return cells


def _cell(records: list[Record], size: int | None, columns: int, rows: int) -> tuple[int, int]:
    """Width and height of every cell: the pictures' proportions, the whole sheet of a reasonable size."""
    sizes = [record.image.size for record in records if record.image is not None] or [(NATURAL, NATURAL)]
    width, height = max(side[0] for side in sizes), max(side[1] for side in sizes)
    longer = max(width, height)
    goal = size or max(SMALLEST, min(max(longer, NATURAL), LARGEST // max(columns, rows)))
    return max(1, round(width * goal / longer)), max(1, round(height * goal / longer))


def _side(labels: list[tuple[str, str]], names: list[str], font: Any) -> int:
    widest = max(font.getlength(text) for text in (names[1], *(label for _, label in labels)))
    return int(min(SIDE, widest)) + GAP


def _draw(
    sheet: Image.Image,
    draw: Any,
    at: tuple[int, int],
    shape: tuple[int, int],
    record: Record | None,
    *,
    starred: bool,
) -> None:
    """One cell: the picture, the error, or an empty field. starred: pictures of a batch get a star."""
    x, y = at
    box = (x - 1, y - 1, x + shape[0], y + shape[1])
    if record is None or record.image is None or record.error:
        draw.rectangle(box, fill=EMPTY, outline=FRAME)
        text = "not made" if record is None else record.error or "no picture"
        font = ImageFont.load_default(12)
        lines = wrap(text, shape[0] - 8, font)
        fits = max(1, (shape[1] - 8) // 14)
        if len(lines) > fits:
            lines = [*lines[: fits - 1], "…"]
        for number, line in enumerate(lines):
            draw.text((x + 4, y + 4 + number * 14), line, fill=INK if record is None else RED, font=font)
        return
    picture = record.image.convert("RGB")
    scale = min(shape[0] / picture.width, shape[1] / picture.height)
    fitted = tuple(max(1, round(side * scale)) for side in picture.size)
    if fitted != picture.size:
        picture = picture.resize(fitted, Image.Resampling.LANCZOS)
    sheet.paste(picture, (x + (shape[0] - fitted[0]) // 2, y + (shape[1] - fitted[1]) // 2))
    draw.rectangle(box, outline=FRAME)
    if starred and not record.exact:
        draw.text((x + shape[0] - 3, y + 1), "*", fill=RED, font=ImageFont.load_default(18), anchor="ra")
