"""Show images side by side on one white sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

from helpers.common.validation import whole
from helpers.images.lettering import Lettering
from helpers.images.reading import as_images, to_rgb

SMALLEST, LARGEST = 256, 512  # longer side of an image on the sheet, pixels
MARGIN, GAP, FONT_SIZE, LINE = 12, 12, 15, 20
INK, FRAME = (34, 34, 34), (208, 208, 208)


class _Sheet(Image.Image):
    """An image that notebooks show with its titles as alternative text."""

    titles = ""

    def __init__(self, image: Image.Image, titles: str) -> None:
        super().__init__()
        vars(self).update(vars(image))
        self.titles = titles

    def _repr_png_(self) -> Any:
        data = super()._repr_png_()
        return (data, {"alt": self.titles}) if self.titles else data

    def _repr_jpeg_(self) -> None:
        """Pillow sends one beside the PNG, of which nothing is seen."""


def show(*images: Any, titles: str | Sequence[Any] | None = None, columns: int | None = None) -> Image.Image:
    """Return one "RGB" image with all `images` side by side, each over its title.

    images: PIL images of any size and mode, numpy or torch arrays (see `helpers.images.reading`), lists or
        batches of them, or a pipeline's output.
    titles: one text per image; long ones wrap.
    columns: images per row, at most; by default four.

    Images under 256 pixels are enlarged, masks without smoothing, and those over 512 are reduced; the originals stay as
    they are.
    """
    found = [one for image in images for one in as_images(image, mask=True)]
    if not found:
        raise ValueError("images: nothing to show; pass at least one image.")
    captions = [titles] if isinstance(titles, str) else list(titles or [])
    if captions and len(captions) != len(found):
        raise ValueError(f"titles has {len(captions)} texts for {len(found)} images: give one each, or none.")
    columns = min(4 if columns is None else whole("columns", columns, least=1), len(found))
    shown = [_for_display(image) for image in found]
    font = Lettering(FONT_SIZE)
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
            image, width = shown[i], widths[i % columns]
            x, y = left + (width - image.width) // 2, top + (height - image.height) // 2
            sheet.paste(image, (x, y))
            draw.rectangle((x - 1, y - 1, x + image.width, y + image.height), outline=FRAME)
            for line, text in enumerate(texts[i]):
                at = (left + width / 2, top + height + 6 + line * LINE)
                font.write(draw, at, text, fill=INK, anchor="ma")
            left += width + GAP
        top += height + caption_height + GAP
    return _Sheet(sheet, "; ".join(" ".join(str(caption).split()) for caption in captions))


def _for_display(image: Image.Image) -> Image.Image:
    is_mask = image.mode in ("1", "L")
    image = to_rgb(image)
    longer = max(image.size)
    goal = min(max(longer, SMALLEST), LARGEST)
    if goal == longer:
        return image
    width, height = (max(1, round(side * goal / longer)) for side in image.size)
    sharp = is_mask and goal > longer
    return image.resize((width, height), Image.Resampling.NEAREST if sharp else Image.Resampling.LANCZOS)


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
