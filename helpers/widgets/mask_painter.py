"""Paint a mask over an image, in the notebook, with mouse, touch, pen or keys."""

from __future__ import annotations

import re
import zlib
from typing import Any

import numpy as np
import traitlets
from PIL import Image, ImageChops

from helpers.common.validation import did_you_mean, number, whole
from helpers.images.masks import STORED, THRESHOLD, as_mask, by, check_equal_sizes, grow, load_mask
from helpers.pipelines.selection import select
from helpers.widgets.assets import css, esm
from helpers.widgets.still import Number, StillWidget, Whole, encoded, read_image

TOOLS = ("brush", "eraser", "rectangle", "ellipse", "lasso", "fill", "select", "hand")
COLOURS = ("#ff2d9b", "#12d67f", "#2f8fff", "#ffb000")  # pink, green, blue, amber: one of them stands out
STILL_SIDE = 512  # pixels of the still


class MaskPainter(StillWidget):
    """Shows an image under a translucent mask to paint on; `.mask` is the mask, 0 to 255 (white: repaint).

    image: what `load_image` takes. At most 16 million pixels.
    mask: what to start from, of exactly the image's size: what `load_mask` takes; None is all black.
        A soft mask stays soft. Later, `painter.mask = ...` takes the same, and the browser follows, undo included;
        `painter.image = ...` takes another image of the same size.
    tool: "brush", "eraser", "rectangle", "ellipse", "lasso", "fill", "select" (a click on an object, or a box dragged
        around it: `select(image, ...)`) or "hand".
    brush_size: diameter in pixels of the image; None chooses a tenth of its longer side.
    softness: of the brush and the eraser, 0 (a hard rim) to 1 (soft from the middle).
    level: what the tools paint, 1 to 255. Pipelines cut the mask at 128; the greys count where they are composited,
        and as a change map.
    opacity: of the overlay, 0..1.  colour: of the overlay, "#rrggbb"; None chooses one that stands out from the image.

    A cell ends before the first stroke can be painted: read `.mask` in a later cell than the one that shows it.
    To be told of every stroke, observe the trait `mask_bits`. Wrong values raise ValueError or TypeError.
    """

    _esm = esm("mask_painter")
    _css = css("mask_painter")

    _size = traitlets.List(help="width and height in pixels").tag(sync=True)
    _picture = traitlets.Bytes(help="the image, as the browser shows it").tag(sync=True)
    mask_bits = traitlets.Bytes(help="the mask, a bit for each pixel, or a byte where it is soft; deflated").tag(
        sync=True,
        from_json=lambda value, widget: bytes(value),  # it arrives as a memoryview
    )
    tool = traitlets.Unicode("brush").tag(sync=True)
    brush_size = Whole(1).tag(sync=True)
    softness = Number(0.0).tag(sync=True)
    level = Whole(255).tag(sync=True)
    opacity = Number(0.5).tag(sync=True)
    colour = traitlets.Unicode(COLOURS[0]).tag(sync=True)
    _note = traitlets.Unicode(help="what is said instead of the painted share").tag(sync=True)

    def __init__(
        self,
        image: Any,
        mask: Any = None,
        *,
        tool: str = "brush",
        brush_size: int | None = None,
        softness: float = 0.0,
        level: int = 255,
        opacity: float = 0.5,
        colour: str | None = None,
        layout: Any = None,
    ) -> None:
        image = self._image = read_image(image, "image", widget="MaskPainter")
        super().__init__(
            layout,
            _size=list(image.size),
            _picture=encoded(image),
            mask_bits=_packed(mask, image.size),
            tool=tool,
            brush_size=max(1, round(max(image.size) / 10)) if brush_size is None else brush_size,
            softness=softness,
            level=level,
            opacity=opacity,
            colour=_standing_out(image) if colour is None else colour,
        )
        self.on_msg(self._receive)

    @property
    def image(self) -> Image.Image:
        """The image, "RGB", as the painter shows it."""
        return self._image.copy()

    @image.setter
    def image(self, image: Any) -> None:
        image = read_image(image, "image", widget="MaskPainter")
        if image.size != self._image.size:
            raise ValueError(
                f"image is {by(image.size)} pixels, the painter's {by(self._image.size)}: they must be equal. "
                "Use painter.image = fit(image, painter.image), or make a new MaskPainter."
            )
        self._image, self._picture = image, encoded(image)

    @property
    def mask(self) -> Image.Image:
        """The mask as it is painted now: "L", of the image's size; 0 or 255 where nothing soft was painted."""
        return unpacked(self.mask_bits, self._image.size)

    @mask.setter
    def mask(self, mask: Any) -> None:
        self.mask_bits = _packed(mask, self._image.size)

    @property
    def overlay(self) -> Image.Image:
        """The image with the mask on it, "RGB"."""
        return _overlay(self._image, self.mask, self.colour, self.opacity)

    def __repr__(self) -> str:
        painted = (np.asarray(self.mask) >= THRESHOLD).mean()
        return f"MaskPainter({by(self._image.size)} pixels, {painted:.1%} painted)"

    def _still(self) -> Image.Image:
        still = self.overlay
        still.thumbnail((STILL_SIDE, STILL_SIDE))
        return still

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
        """Adds the overlay as a still; a small one is shown larger."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        larger = STILL_SIDE // max(self._image.size)
        if larger > 1:
            metadata["image/png"] = {"width": self._image.width * larger, "height": self._image.height * larger}
        return data, metadata

    def _receive(self, _: Any, content: dict[str, Any], buffers: list[Any]) -> None:
        """Paint the object that was clicked on or boxed in the browser; say so where there is none."""
        asked = dict(content.get("select") or {})
        if not asked:
            return
        value = int(asked.pop("value"))
        try:
            found = select(self._image, **asked)
        except (ValueError, OSError, MemoryError) as error:  # nothing there; or no model
            self._note = str(error)
            return
        mask = self.mask
        mask.paste(value, mask=found)
        self._note = ""
        self.mask_bits = _bits(mask)

    @traitlets.validate("tool")
    def _check_tool(self, proposal: traitlets.Bunch) -> str:
        if proposal.value not in TOOLS:
            raise ValueError(f"tool={proposal.value!r} is unknown. {did_you_mean(proposal.value, TOOLS)}")
        return proposal.value

    @traitlets.validate("brush_size")
    def _check_brush_size(self, proposal: traitlets.Bunch) -> int:
        return whole("brush_size", proposal.value, least=1)

    @traitlets.validate("level")
    def _check_level(self, proposal: traitlets.Bunch) -> int:
        return whole("level", proposal.value, least=1, most=255)

    @traitlets.validate("opacity", "softness")
    def _check_share(self, proposal: traitlets.Bunch) -> float:
        return number(proposal.trait.name, proposal.value, low=0, high=1)

    @traitlets.validate("colour")
    def _check_colour(self, proposal: traitlets.Bunch) -> str:
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", proposal.value):
            raise ValueError(f"colour={proposal.value!r}: expected '#rrggbb', as in {COLOURS[0]!r}.")
        return proposal.value.lower()


def unpacked(bits: bytes, size: tuple[int, int]) -> Image.Image:
    """A mask of this width and height, "L", from what the trait `mask_bits` holds."""
    width, height = size
    data = np.frombuffer(zlib.decompress(bits), np.uint8)
    if len(data) <= _bytes_of_bits(width * height):
        data = 255 * np.unpackbits(data, count=width * height)
    return Image.fromarray(data.reshape(height, width))


def _packed(mask: Any, size: tuple[int, int]) -> bytes:
    """Any mask as the trait has it; None is all black."""
    mask = Image.new("L", size) if mask is None else mask
    mask = load_mask(mask) if isinstance(mask, STORED) else as_mask(mask)
    check_equal_sizes("mask", mask.size, "the image", size)
    return _bits(mask)


def _bits(mask: Image.Image) -> bytes:
    values = np.asarray(mask)
    soft = values.size > _bytes_of_bits(values.size) and ((values > 0) & (values < 255)).any()
    return zlib.compress(values.tobytes() if soft else np.packbits(values >= THRESHOLD).tobytes())


def _bytes_of_bits(pixels: int) -> int:
    return -(-pixels // 8)


def _standing_out(image: Image.Image) -> str:
    """Choose the first colour that even the nearest tenth of the image is far from, or else the farthest."""
    pixels = np.asarray(image.resize((32, 32)), np.float32).reshape(-1, 3)
    colours = np.array([[*bytes.fromhex(colour[1:])] for colour in COLOURS], np.float32)
    gaps = np.quantile(np.linalg.norm(pixels - colours[:, None], axis=2), 0.1, axis=1)
    return next((colour for colour, gap in zip(COLOURS, gaps, strict=True) if gap > 100), COLOURS[int(np.argmax(gaps))])


def _overlay(image: Image.Image, mask: Image.Image, colour: str, opacity: float) -> Image.Image:
    tinted = Image.blend(image, Image.new("RGB", image.size, colour), opacity)
    overlay = Image.composite(tinted, image, mask)
    width, mask = max(1, round(max(image.size) / STILL_SIDE)), mask.point([0] * THRESHOLD + [255] * (256 - THRESHOLD))
    for reach, line in ((2 * width, (40, 40, 40)), (width, (255, 255, 255))):  # on any image, one of them is seen
        overlay.paste(line, mask=ImageChops.subtract(grow(mask, reach), mask))
    return overlay
