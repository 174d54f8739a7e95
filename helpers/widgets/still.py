"""What all widgets share: the still that they leave in the notebook, and images on their way to the browser."""

from __future__ import annotations

import base64
import io
from typing import Any

import anywidget
import numpy as np
import traitlets
from PIL import Image

from helpers.common.png import png_bytes
from helpers.images.masks import by
from helpers.images.reading import load_image

MAX_PIXELS = 16_777_216  # what a canvas holds in every browser


class Whole(traitlets.Int):
    """A whole number, NumPy's included."""

    def validate(self, obj: Any, value: Any) -> int:
        return super().validate(obj, value.item() if isinstance(value, np.integer) else value)


class Number(traitlets.Float):
    """A number, NumPy's included."""

    def validate(self, obj: Any, value: Any) -> float:
        return super().validate(obj, value.item() if isinstance(value, np.number) else value)


class StillWidget(anywidget.AnyWidget):
    """A widget with a still: all that GitHub, a printed page or a notebook without a kernel can show."""

    def __init__(self, layout: Any = None, **state: Any) -> None:
        """Opens with its whole state at once; layout: that of any ipywidget."""
        try:
            super().__init__(**state, **({} if layout is None else {"layout": layout}))
        except traitlets.TraitError as error:
            raise TypeError(str(error)) from None

    def _still(self) -> Image.Image | None:
        """The widget as an image; None leaves the notebook without one."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
        """Adds the still to the view."""
        still = self._still()
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        if still is not None:
            data["image/png"] = base64.b64encode(png_bytes(still)).decode()
        return data, metadata


def read_image(what: Any, name: str, *, widget: str) -> Image.Image:
    """What `load_image` takes, as an image that a browser can show; ValueError where it has too many pixels."""
    image = load_image(what)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(
            f"{name} is {by(image.size)} pixels: {widget} takes at most {MAX_PIXELS // 10**6} million. "
            "Make it smaller with load_image(..., size=...)."
        )
    return image


def encoded(image: Image.Image) -> bytes:
    """PNG where that is quick; a JPEG of a photograph is a tenth of it, and only the eye sees it."""
    if image.width * image.height <= 2**21:
        return png_bytes(image, quick=True)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=92)
    return file.getvalue()
