"""Records grouped for a chart: those that differ in their seed alone are repetitions of one combination."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from helpers.generation import png_record
from helpers.generation.records import Record


@dataclass
class Place:
    """One combination of the arguments: its marks, its values as they are, and what was measured there."""

    marks: tuple[str, ...]
    arguments: dict[str, Any]
    seeds: list[Any]
    values: list[float]

    @property
    def found(self) -> list[float]:
        return [value for value in self.values if not math.isnan(value)]

    @property
    def mean(self) -> float:
        return sum(self.found) / len(self.found) if self.found else math.nan

    def row(self) -> dict[str, Any]:
        lowest, highest = (end(self.found, default=math.nan) for end in (min, max))
        numbers = {"mean": self.mean, "lowest": lowest, "highest": highest, "pictures": len(self.found)}
        return self.arguments | numbers


def names_of(records: list[Record], over: str | Sequence[str] | None) -> list[str]:
    """The one or two arguments that a chart shows: `over`, or those in which the records differ; else ValueError."""
    known = _known(records)
    if over is None:
        swept = dict.fromkeys(name for record in records for name in record.axes if name != "seed")
        names = [name for name in _differing(records, known) if name != "seed"] or list(swept) or ["seed"]
    else:
        names = [over] if isinstance(over, str) else list(over)
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"over: no record has {unknown[0]!r}; they have {', '.join(sorted(known))}.")
    if not 1 <= len(names) <= 2:
        raise ValueError(f"over: {', '.join(names) or 'nothing'}: a chart shows one or two. Name them in over=[...].")
    return names


def places_of(records: list[Record], names: list[str], values: list[float]) -> list[Place]:
    """The records that belong together, in the order of their first appearance."""
    groups: dict[tuple, list[int]] = {}
    for number, record in enumerate(records):
        groups.setdefault(tuple(_mark(record, name) for name in names), []).append(number)
    places = []
    for marks, numbers in groups.items():
        alike = [records[number] for number in numbers]
        arguments = {name: _value(alike[0], name) for name in names}
        where = ", ".join(f"{name}={value!r}"[:60] for name, value in arguments.items())
        if others := [name for name in _differing(alike, _known(alike)) if name != "seed"]:
            raise ValueError(f"records with {where} differ in {', '.join(others)} too: name that in over=[...].")
        seeds = [record.parameters.get("seed") for record in alike]
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"records: two have {where} and the same seed; pass each picture once.")
        places.append(Place(marks, arguments, seeds, [values[number] for number in numbers]))
    return places


def _value(record: Record, name: str) -> Any:
    if name == "checkpoint":  # no argument of a call, but what people compare
        return record.origin.get("checkpoint") or record.origin.get("source")
    return record.parameters.get(name)


def _mark(record: Record, name: str) -> str:
    return str(png_record.encode(_value(record, name), {}))


def _differing(records: list[Record], names: Iterable[str]) -> list[str]:
    return [name for name in names if len({_mark(record, name) for record in records}) > 1]


def _known(records: list[Record]) -> list[str]:
    """The arguments that the records have, what a sweep varied first."""
    first = [name for record in records for name in record.axes]
    return list(dict.fromkeys([*first, *(name for record in records for name in record.parameters), "checkpoint"]))
