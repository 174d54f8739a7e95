"""Which way is up: the orientation that an image's EXIF block or XMP text gives."""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import Any

_TAG = 0x0112  # of the orientation


def orientation(image: Any) -> int:
    """A PIL image's orientation, 1 (upright) to 8, as EXIF counts them; 1 where Pillow can read none."""
    with suppress(Exception), warnings.catch_warnings():  # a damaged block raises whatever it trips over
        warnings.simplefilter("ignore")
        if image.format == "PNG":
            image.load()  # its EXIF may stand behind its pixels
        found = image.getexif().get(_TAG)
        if isinstance(found, int) and 1 <= found <= 8:
            return found
    return 1
