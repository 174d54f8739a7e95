"""History: the pictures an Explorer has made, with their records, bounded in memory."""

from __future__ import annotations

import io
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from helpers.generation.records import Record

LIMIT = 64 * 2**20  # bytes, of all the histories in this process
THUMB = 96  # pixels
_OVERHEAD = 16_384  # bytes of a record besides its pictures, about

_all: weakref.WeakSet = weakref.WeakSet()
_lock = threading.Lock()
_count = 0


@dataclass(frozen=True, eq=False)
class Entry:
    """One picture: number counts up through the session; thumb is a small JPEG."""

    number: int
    record: Record
    thumb: bytes
    key: str
    size: int


@dataclass(eq=False)
class History:
    """Records of full pictures in the order they came; the oldest that nobody pinned go when memory is spent.

    The limit holds for all histories together: those of widgets that a later cell replaced shrink first.
    gone(numbers): called with what was dropped, perhaps in another widget's thread; it must not wait for a lock.
    """

    gone: Callable[[list[int]], Any]
    limit: int = LIMIT
    pins: dict[str, int] = field(default_factory=dict)  # "a" and "b" to a number
    _entries: dict[int, Entry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with _lock:
            _all.add(self)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self)

    def get(self, number: Any) -> Entry | None:
        return self._entries.get(number)

    def add(self, record: Record) -> tuple[Entry, bool]:
        """The entry of this picture, and whether it is new: a picture that is there already is not kept twice."""
        global _count
        key = record.key()
        for entry in self:
            if entry.key == key:
                return entry, False
        thumb = _thumb(record.image)
        inputs = {id(value): _bytes(value) for value in record.parameters.values() if not _elsewhere(self, value)}
        with _lock:
            _count += 1
            size = _bytes(record.image) + sum(inputs.values()) + len(thumb) + _OVERHEAD
            entry = self._entries[_count] = Entry(_count, record, thumb, key, size)
            lost = _trimmed(self.limit, entry)
        for history, numbers in lost.items():
            history.gone(numbers)
        return entry, True

    def pin(self, place: str, number: int | None) -> None:
        """Pin an entry as "a" or "b", or unpin with None; a pinned one is never dropped."""
        if number is None:
            self.pins.pop(place, None)
        elif number in self._entries:
            self.pins[place] = number

    def clear(self) -> None:
        """Forget everything, the pins too."""
        with _lock:
            self._entries.clear()
            self.pins.clear()
            _all.discard(self)


def _trimmed(limit: int, newest: Entry) -> dict[History, list[int]]:
    """Drop the oldest entries of any history until all are within the limit."""
    lost: dict[History, list[int]] = {}
    histories = list(_all)
    total = sum(entry.size for history in histories for entry in history)
    old = sorted(
        ((entry, history) for history in histories for entry in history
         if entry is not newest and entry.number not in history.pins.values()),
        key=lambda pair: pair[0].number,
    )  # fmt: skip
    for entry, history in old:
        if total <= limit:
            break
        total -= entry.size
        del history._entries[entry.number]
        lost.setdefault(history, []).append(entry.number)
    return lost


def _elsewhere(history: History, value: Any) -> bool:
    """Whether an input is shared with the entry before, as records do (see `archive.kept`)."""
    last = next(reversed(history._entries.values()), None)
    return last is not None and any(value is other for other in last.record.parameters.values())


def _bytes(value: Any) -> int:
    if isinstance(value, Image.Image):
        return value.width * value.height * len(value.getbands())
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    return sys.getsizeof(value)


def _thumb(picture: Image.Image) -> bytes:
    small = picture.convert("RGB")
    small.thumbnail((THUMB, THUMB))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=88)
    return file.getvalue()
