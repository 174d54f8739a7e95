"""Which way is up: the orientation that an image's EXIF block or XMP text gives, whatever else is damaged in them."""

from __future__ import annotations

import re
import struct
import warnings
from contextlib import suppress
from typing import Any

_TAG = 0x0112
_FORMATS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}  # TIFF's types of whole numbers
_XMP = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])")


def orientation(image: Any) -> int:
    """A PIL image's orientation, 1 (upright) to 8, as EXIF counts them; 1 where none can be read."""
    with suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if image.format == "PNG":
            image.load()  # its EXIF may stand behind its pixels
    texts = [image.info.get(name) or b"" for name in ("XML:com.adobe.xmp", "xmp")]
    found = [_of_block(_exif(image.info))]
    found += [int(match[1]) for text in texts if (match := _XMP.search(_bytes(text)))]
    with suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found.append(image.getexif().get(_TAG))  # as set by hand
    return next((value for value in found if isinstance(value, int) and 1 <= value <= 8), 1)


def _exif(info: dict[str, Any]) -> bytes:
    block = info.get("exif") or b""
    for name in ("Raw profile type exif", "Raw profile type APP1"):  # how ImageMagick writes it in a PNG
        if not block and name in info:
            with suppress(ValueError):
                block = bytes.fromhex("".join(str(info[name]).split("\n")[3:]))
    return _bytes(block)


def _of_block(block: bytes) -> int | None:
    """The tag in the first directory; every entry is read by itself, so that none of the others matters."""
    start = re.search(rb"II\*\0|MM\0\*", block[:64])
    if start is None:
        return None
    block, order = block[start.start() :], "<" if start.group().startswith(b"I") else ">"
    with suppress(struct.error):
        (at,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, at)
        for place in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", block, place)
            if tag == _TAG:
                return struct.unpack_from(f"{order}{_FORMATS.get(kind, 'H')}", block, place + 8)[0]
    return None


def _bytes(value: Any) -> bytes:
    return value.encode("utf-8", "replace") if isinstance(value, str) else bytes(value)
