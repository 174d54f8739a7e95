"""History: the last images that an Explorer has made, with their records."""

from __future__ import annotations

import io
import itertools
from typing import Any, NamedTuple

from PIL import Image

from helpers.generation.records import Record
from helpers.images.digest import digest_of

LIMIT = 100  # images
THUMB = 96  # pixels


class Entry(NamedTuple):
    """One image; values: of the controls that made it; thumb: a small JPEG; steps: the images it was painted on."""

    record: Record
    values: dict[str, Any]
    thumb: bytes
    steps: tuple[Record, ...] = ()


class History(dict[int, Entry]):
    """Full images by number, in the order they came; beyond `limit` the oldest that is not pinned is dropped.

    pins: "a" and "b" to a number.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        super().__init__()
        self.limit = limit
        self.pins: dict[str, int] = {}
        self._numbers = itertools.count(1)

    def add(self, record: Record, values: dict[str, Any], steps: tuple[Record, ...] = ()) -> int:
        """Keep an image, once; returns its number."""
        image = record.image
        if image is None:
            raise ValueError("record: it has no image, and the history keeps nothing else.")
        for number, entry in self.items():
            if entry.values == values and entry.steps == steps and digest_of(entry.record.image) == digest_of(image):
                return number
        number = next(self._numbers)
        self[number] = Entry(record, values, thumb(image), steps)
        if len(self) > self.limit:
            del self[next(old for old in self if old not in self.pins.values())]
        return number

    def number(self, record: Record | None) -> int | None:
        """The number of a record that is kept, else None."""
        return next((number for number, entry in self.items() if entry.record is record), None)

    def pin(self, place: str, number: int | None) -> None:
        """Pin an image as "a" or "b", or unpin with None; a pinned one is never dropped."""
        if number is None:
            self.pins.pop(place, None)
        elif number in self:
            self.pins[place] = number


def thumb(image: Image.Image) -> bytes:
    """A small JPEG of an image."""
    small = image.convert("RGB")
    small.thumbnail((THUMB, THUMB))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=88)
    return file.getvalue()
