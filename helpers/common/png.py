"""PNG files: an image as bytes, and the texts and profiles that stand beside the pixels, of any length."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
KEPT = ("XML:com.adobe.xmp", "Raw profile type exif", "Raw profile type APP1")  # texts that say which way is up


def png_bytes(image: Image.Image, *, quick: bool = False) -> bytes:
    """The image as a PNG file; quick: larger, and written several times faster."""
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1 if quick else 6)
    return stream.getvalue()


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of every chunk; ValueError, saying where, for a file that is cut off."""
    at, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        start, at = at + 8, at + 12 + length
        if at > len(data):
            raise ValueError(f"the file ends inside its {_named(kind)} chunk" if kind else "the file has no end")
        yield kind, start, start + length


def fault(data: bytes) -> str | None:
    """What is wrong with a PNG file as a whole: where it is cut off, or which chunk was damaged; None for neither."""
    try:
        for kind, start, end in chunks(data):
            if zlib.crc32(data[start - 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
                return f"the checksum of its {_named(kind)} chunk is wrong"
    except ValueError as error:
        return str(error)
    return None


def texts(data: bytes, *, most: int) -> dict[str, str]:
    """The texts of a PNG file by their keys, without those of more than `most` bytes."""
    return dict(
        found for kind, start, end in chunks(data) if kind in TEXTS and (found := _text(kind, data[start:end], most))
    )


def set_apart(data: bytes, *, most: int) -> tuple[bytes, dict[str, Any]]:
    """The file without what Pillow may stumble over, and that as Pillow's `info` would hold it, up to `most` bytes.

    Taken out are the colour profile and all texts; those are kept that may say which way is up. A profile that cannot
    be unpacked is None. A file that is cut off is returned as it is.
    """
    kept, info, after = [], {}, 0
    try:
        for kind, start, end in chunks(data):
            if kind == b"iCCP":
                rest = data[start:end].partition(b"\0")[2]
                info["icc_profile"] = _unpacked(rest[1:], most) if rest[:1] == b"\0" else None
            elif kind not in TEXTS:
                continue
            elif (found := _text(kind, data[start:end], most)) and found[0] in KEPT:
                info[found[0]] = found[1]
            kept.append(data[after : start - 8])
            after = end + 4
    except ValueError:
        return data, {}
    return (b"".join([*kept, data[after:]]), info) if kept else (data, info)


def _text(kind: bytes, content: bytes, most: int) -> tuple[str, str] | None:
    """The key and the text of a chunk; None for one that is damaged, or of more than `most` bytes."""
    key, _, rest = content.partition(b"\0")
    packed, encoding = kind == b"zTXt", "latin-1"
    if kind == b"iTXt":
        packed, encoding = rest[:1] == b"\1", "utf-8"
        rest = rest[2:].split(b"\0", 2)[-1]
    text = _unpacked(rest[kind == b"zTXt" :], most) if packed else rest
    return None if text is None or len(text) > most else (key.decode("latin-1"), text.decode(encoding, "replace"))


def _unpacked(packed: bytes, most: int) -> bytes | None:
    """None where it is damaged, or more than `most` bytes."""
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(packed, most)
    except zlib.error:
        return None
    return None if len(found) == most else found


def _named(kind: bytes) -> str:
    return kind.decode("ascii", "replace")
