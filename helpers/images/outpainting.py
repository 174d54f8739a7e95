"""outpaint(): a larger canvas around an image, and the mask of what is new, for any inpainting pipeline."""

from __future__ import annotations

from typing import Any

from PIL import Image

from helpers.common.validation import did_you_mean, whole
from helpers.images import filling
from helpers.images.masks import by
from helpers.images.reading import as_image, to_rgb

FILLS = tuple(how for how in filling.HOW if how != "original")  # a new border has no original


def outpaint(
    image: Any,
    *,
    left: int = 0,
    top: int = 0,
    right: int = 0,
    bottom: int = 0,
    overlap: int = 8,
    fill: str = "blur",
    multiple: int = 8,
) -> tuple[Image.Image, Image.Image]:
    """Return a larger canvas with `image` on it, "RGB", and the mask of its new border, "L": white means repaint.

    left, top, right, bottom: new pixels on that side. The canvas has sides that are multiples of `multiple` (8 for
        Stable Diffusion, 64 for Kandinsky): the last side named in each direction grows by what is missing.
    overlap: how many pixels of the image, beside each new border, are repainted too, so that no seam shows.
    fill: what the border shows until it is painted, as in `fill(image, mask, how)`: "edge" (the image's last row or
        column, repeated), "blur" (the same, soft), "mean", "noise" or "telea". At strength 1 an inpainting checkpoint
        never sees it.

    The image is neither resized nor changed. Raises ValueError for no new border, one wider than the image itself, an
    overlap that leaves nothing of the image, and sides that cannot reach a multiple.
    """
    image = to_rgb(as_image(image))
    if fill not in FILLS:
        raise ValueError(f"fill={fill!r} is unknown. {did_you_mean(str(fill), FILLS)}")
    sides = {"left": left, "top": top, "right": right, "bottom": bottom}
    new = {name: whole(name, pixels, least=0) for name, pixels in sides.items()}
    overlap, multiple = whole("overlap", overlap, least=0), whole("multiple", multiple, least=1)
    if not any(new.values()):
        raise ValueError("outpaint needs a side to extend: pass left, top, right or bottom, in pixels.")
    across = _rounded(image.width, new, ("left", "right"), multiple)
    down = _rounded(image.height, new, ("top", "bottom"), multiple)
    edges = []  # of what is kept: left, right, top, bottom on the canvas
    for side, (before, after) in ((image.width, across), (image.height, down)):
        edges += [before + overlap * (before > 0), before + side - overlap * (after > 0)]
        if edges[-2] >= edges[-1]:
            raise ValueError(
                f"overlap={overlap} leaves nothing of the image of {by(image.size)} pixels: use a smaller one."
            )
    size = image.width + sum(across), image.height + sum(down)
    canvas, new_border = Image.new("RGB", size), Image.new("L", size, 255)
    canvas.paste(image, (across[0], down[0]))
    new_border.paste(0, (across[0], down[0], across[0] + image.width, down[0] + image.height))
    canvas = filling.fill(canvas, new_border, fill)
    mask = Image.new("L", canvas.size, 255)
    mask.paste(0, (edges[0], edges[2], edges[1], edges[3]))
    return canvas, mask


def _rounded(side: int, new: dict[str, int], names: tuple[str, str], multiple: int) -> tuple[int, int]:
    """The new pixels before and after `side`, made up to a multiple by the last one named."""
    first, second = (new[name] for name in names)
    missing = -(side + first + second) % multiple
    if missing and not first and not second:
        raise ValueError(
            f"image has a side of {side} pixels that is no multiple of {multiple} and is not extended: extend it with "
            f"{names[0]} or {names[1]}, or use fit(image, multiple={multiple}) first."
        )
    first, second = (first, second + missing) if second else (first + missing, second)
    for name, pixels in zip(names, (first, second), strict=True):
        if pixels > side:
            grown = f", made up to {pixels} so that the canvas is a multiple of {multiple}," if missing else ""
            raise ValueError(
                f"{name}={new[name]}{grown} is more than the image itself has ({side} pixels), too little to go by. "
                "Extend it in steps: outpaint, paint, outpaint again."
            )
    return first, second
