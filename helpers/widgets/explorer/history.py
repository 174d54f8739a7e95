"""History: the images an Explorer has made, with their records, bounded in memory."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image

from helpers.generation.records import Record

LIMIT = 64 * 2**20  # bytes, of one Explorer
THUMB = 96  # pixels
_OVERHEAD = 16_384  # bytes of a record besides its images, about


@dataclass(frozen=True, eq=False)
class Entry:
    """One image: number counts up from 1; values: of the controls that made it; thumb: a small JPEG."""

    number: int
    record: Record
    values: dict[str, Any]
    thumb: bytes


class History:
    """Full images in the order they came; the oldest that nobody pinned are dropped beyond `limit` bytes.

    pins: "a" and "b" to an entry's number.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.pins: dict[str, int] = {}
        self._entries: dict[int, Entry] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    @property
    def size(self) -> int:
        """Bytes, about; an input that several records share counts once."""
        kept = {id(value): value for one in self for value in (one.record.image, *one.record.parameters.values())}
        return sum(map(_bytes, kept.values())) + _OVERHEAD * len(self)

    def get(self, number: Any) -> Entry | None:
        return self._entries.get(number)

    def add(self, record: Record, values: dict[str, Any]) -> Entry:
        """The entry of this image; one that is there already is not kept twice."""
        for entry in self:
            if entry.values == values and entry.record.image.tobytes() == record.image.tobytes():
                return entry
        self._count += 1
        entry = self._entries[self._count] = Entry(self._count, record, values, _thumb(record.image))
        for old in self:
            if self.size <= self.limit:
                break
            if old is not entry and old.number not in self.pins.values():
                del self._entries[old.number]
        return entry

    def pin(self, place: str, number: int | None) -> None:
        """Pin an entry as "a" or "b", or unpin with None; a pinned one is never dropped."""
        if number is None:
            self.pins.pop(place, None)
        elif number in self._entries:
            self.pins[place] = number

    def clear(self) -> None:
        """Forget everything, the pins too."""
        self._entries.clear()
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
