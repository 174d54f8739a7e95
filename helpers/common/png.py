"""Images as PNG bytes, for widgets and saved notebooks."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


def png_bytes(image: Image.Image, *, quick: bool = False) -> bytes:
    """The image as a PNG file; quick: larger, and written several times faster."""
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1 if quick else 6)
    return stream.getvalue()


def data_url(image: Image.Image) -> str:
    """The image as a "data:image/png;base64,..." URL."""
    return f"data:image/png;base64,{base64.b64encode(png_bytes(image)).decode()}"
