"""Images as PNG bytes, for widgets and saved notebooks."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


def png_bytes(image: Image.Image, *, quick: bool = False) -> bytes:
    """The image as a PNG file; quick: larger, and written several times faster."""
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1 if quick else 6)
    return stream.getvalue()
