"""History: the images an Explorer has made, with their records, bounded in memory."""

from __future__ import annotations

import io
import itertools
import sys
from dataclasses import dataclass
from typing import Any

from PIL import Image

from helpers.generation.records import Record
from helpers.images.digest import digest_of

LIMIT = 64 * 2**20  # bytes, of one Explorer
THUMB = 96  # pixels
_OVERHEAD = 16_384  # bytes of a record besides its images, about


@dataclass(frozen=True, eq=False)
class Entry:
    """One image; values: of the controls that made it; thumb: a small JPEG."""

    number: int
    record: Record
    values: dict[str, Any]
    thumb: bytes


class History(dict[int, Entry]):
    """Full images by number, in the order they came; the oldest that nobody pinned are dropped beyond `limit` bytes.

    pins: "a" and "b" to a number.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        super().__init__()
        self.limit = limit
        self.pins: dict[str, int] = {}
        self._numbers = itertools.count(1)

    @property
    def size(self) -> int:
        """Bytes, about; an input that several records share counts once."""
        records = [entry.record for entry in self.values()]
        kept = {id(value): value for one in records for value in (one.image, *one.parameters.values())}
        return sum(map(_bytes, kept.values())) + _OVERHEAD * len(self)

    def add(self, record: Record, values: dict[str, Any]) -> int:
        """Keep an image, once; returns its number."""
        image = record.image
        if image is None:
            raise ValueError("record: it has no image, and the history keeps nothing else.")
        for number, entry in self.items():
            if entry.values == values and digest_of(entry.record.image) == digest_of(image):
                return number
        number = next(self._numbers)
        self[number] = Entry(number, record, values, _thumb(image))
        for old in [*self]:
            if self.size <= self.limit:
                break
            if old != number and old not in self.pins.values():
                del self[old]
        return number

    def pin(self, place: str, number: int | None) -> None:
        """Pin an image as "a" or "b", or unpin with None; a pinned one is never dropped."""
        if place not in ("a", "b"):
            raise ValueError(f"place={place!r}: expected 'a' or 'b'.")
        if number is None:
            self.pins.pop(place, None)
        elif number in self:
            self.pins[place] = number

    def clear(self) -> None:
        """Forget everything, the pins too."""
        super().clear()
        self.pins.clear()


def _bytes(value: Any) -> int:
    if isinstance(value, Image.Image):
        return value.width * value.height * len(value.getbands())
    return int(value.nbytes) if hasattr(value, "nbytes") else sys.getsizeof(value)


def _thumb(image: Image.Image) -> bytes:
    small = image.convert("RGB")
    small.thumbnail((THUMB, THUMB))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=88)
    return file.getvalue()
