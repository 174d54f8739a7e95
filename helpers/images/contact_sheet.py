"""Show pictures side by side on one white sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from helpers.images.reading import as_pictures, to_grey, to_rgb

SMALLEST, LARGEST = 256, 512  # longer side of a picture on the sheet, pixels
MARGIN, GAP, FONT_SIZE, LINE = 12, 12, 15, 20
INK, FRAME = (34, 34, 34), (208, 208, 208)


def show(*images: Any, titles: str | Sequence[Any] | None = None, columns: int | None = None) -> Image.Image:
    """Return one "RGB" picture with all `images` side by side, each over its title.

    images: PIL pictures of any size and mode, numpy or torch arrays (see `reading.as_pictures`), lists or
        batches of them, or a pipeline's output.
    titles: one text a picture; long ones wrap.
    columns: pictures a row, at most; by default up to four.

    Pictures under 256 pixels are enlarged, masks without smoothing, and those over 512 are reduced: the sheet is for
    looking, the pictures stay as they are.
    """
    pictures = [picture for image in images for picture in as_pictures(image)]
    if not pictures:
        raise ValueError("images: nothing to show; pass at least one picture.")
    captions = [titles] if isinstance(titles, str) else list(titles or [])
    if captions and len(captions) != len(pictures):
        raise ValueError(f"titles has {len(captions)} texts for {len(pictures)} pictures: give one each, or none.")
    if columns is None:
        columns = 4 if len(pictures) > 4 else len(pictures)
    if isinstance(columns, bool) or not isinstance(columns, int) or columns < 1:
        raise ValueError(f"columns={columns!r}: expected a whole number, 1 or more.")

    columns = min(columns, len(pictures))
    shown = [_for_display(picture) for picture in pictures]
    font = ImageFont.load_default(FONT_SIZE)
    rows = [range(start, min(start + columns, len(shown))) for start in range(0, len(shown), columns)]
    widths = [max(shown[i].width for i in range(column, len(shown), columns)) for column in range(columns)]
    texts = [wrap(str(caption), widths[i % columns], font) for i, caption in enumerate(captions)] or [[]] * len(shown)
    heights = [max(shown[i].height for i in row) for row in rows]
    under = [max(len(texts[i]) for i in row) * LINE + (6 if captions else 0) for row in rows]

    full_width = 2 * MARGIN + sum(widths) + GAP * (columns - 1)
    full_height = 2 * MARGIN + sum(heights) + sum(under) + GAP * (len(rows) - 1)
    sheet = Image.new("RGB", (full_width, full_height), "white")
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    for row, height, caption_height in zip(rows, heights, under, strict=True):
        left = MARGIN
        for i in row:
            picture, width = shown[i], widths[i % columns]
            x, y = left + (width - picture.width) // 2, top + (height - picture.height) // 2
            sheet.paste(picture, (x, y))
            draw.rectangle((x - 1, y - 1, x + picture.width, y + picture.height), outline=FRAME)
            for line, text in enumerate(texts[i]):
                at = (left + width / 2, top + height + 6 + line * LINE)
                draw.text(at, text, fill=INK, font=font, anchor="ma")
            left += width + GAP
        top += height + caption_height + GAP
    return sheet


def _for_display(picture: Image.Image) -> Image.Image:
    is_mask = picture.mode in ("1", "L")
    picture = to_grey(picture).convert("RGB") if is_mask else to_rgb(picture)
    longer = max(picture.size)
    goal = min(max(longer, SMALLEST), LARGEST)
    if goal == longer:
        return picture
    size = tuple(max(1, round(side * goal / longer)) for side in picture.size)
    sharp = is_mask and goal > longer
    return picture.resize(size, Image.Resampling.NEAREST if sharp else Image.Resampling.LANCZOS)


def wrap(text: str, width: int, font: Any) -> list[str]:
    """Break `text` into lines that fit `width` pixels; words that do not fit are cut into pieces."""
    lines = []
    for paragraph in text.splitlines() or [""]:
        line = ""
        for word in paragraph.split():
            if line and font.getlength(f"{line} {word}") <= width:
                line = f"{line} {word}"
                continue
            if line:
                lines.append(line)
            while len(word) > 1 and font.getlength(word) > width:
                fits = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or font.getlength(word[:n]) <= width)
                lines.append(word[:fits])
                word = word[fits:]
            line = word
        lines.append(line)
    return lines
