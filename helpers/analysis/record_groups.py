"""Records grouped by the arguments that a chart or a grid shows: one group for each combination of their values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from helpers.generation.records import Record
from helpers.images.digest import digest_of


@dataclass
class Group:
    """The records with one combination of arguments, and, in a chart, what was measured of each (NaN: nothing)."""

    keys: tuple[str, ...]  # equal for equal values, images and tensors included
    arguments: dict[str, Any]
    records: list[Record] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        return ", ".join(f"{name}={value!r}"[:60] for name, value in self.arguments.items())

    @property
    def found(self) -> list[float]:
        """The values without NaN."""
        return [value for value in self.values if not math.isnan(value)]

    @property
    def mean(self) -> float:
        return sum(self.found) / len(self.found) if self.found else math.nan

    def row(self) -> dict[str, Any]:
        """The arguments with "mean", "lowest", "highest" and "images", the number of those that could be measured."""
        lowest, highest = (end(self.found, default=math.nan) for end in (min, max))
        return self.arguments | {"mean": self.mean, "lowest": lowest, "highest": highest, "images": len(self.found)}


def as_records(records: Iterable[Record]) -> list[Record]:
    """The records as a list: ValueError for none, TypeError for anything else."""
    if isinstance(records, Record):
        raise TypeError("records is one Record: pass a list of them, such as list(sweep(...)).")
    records = list(records)
    if not records:
        raise ValueError("records: there are none; pass at least one Record. (A sweep can be iterated only once.)")
    if wrong := [record for record in records if not isinstance(record, Record)]:
        raise TypeError(f"records contains a {type(wrong[0]).__name__}: expected Records, as sweep() yields them.")
    return records


def shown_arguments(
    records: list[Record], over: str | Sequence[str] | None, *, most: int, repeated: tuple[str, ...] = ()
) -> list[str]:
    """The arguments to show: `over`, else those in which the records differ, else those that a sweep varied.

    most: how many can be shown. repeated: arguments that are chosen only where there are no others. "checkpoint" counts
        as an argument. ValueError for an unknown argument, and for none or too many.
    """
    swept = list(dict.fromkeys(name for record in records for name in record.axes))
    known = [*dict.fromkeys([*swept, *_known(records)])]
    if over is None:
        names = _without(_differing(records, known), repeated) or _without(swept, repeated) or ["seed"]
    else:
        names = [over] if isinstance(over, str) else list(over)
        if not names or not all(isinstance(name, str) and name for name in names) or len({*names}) < len(names):
            raise ValueError(
                f"over={over!r}: expected 1 to {most} names of arguments, each once, such as over=['seed']; leave it "
                "out to show those in which the records differ."
            )
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"over: no record has {unknown[0]!r}; they have {', '.join(sorted(known))}.")
    if not 1 <= len(names) <= most:
        raise ValueError(f"over: {', '.join(names) or 'nothing'}: expected 1 to {most} arguments. Pass over=[...].")
    return names


def grouped(records: list[Record], names: Sequence[str], *, repeated: tuple[str, ...] = ()) -> list[Group]:
    """A group for each combination of the arguments `names`, in the order in which they first appear.

    repeated: arguments in which records of one group may differ. ValueError where they differ in others, or in nothing.
    """
    groups: dict[tuple[str, ...], Group] = {}
    for record in records:
        arguments = {name: _value(record, name) for name in names}
        keys = tuple(map(_key, arguments.values()))
        groups.setdefault(keys, Group(keys, arguments)).records.append(record)
    for group in groups.values():
        if others := _without(_differing(group.records, _known(group.records)), repeated):
            raise ValueError(f"records with {group} also differ in {', '.join(others)}: name that in over=[...].")
        distinct = {tuple(_key(_value(record, name)) for name in repeated) for record in group.records}
        if len(distinct) < len(group.records):
            same = "".join(f" and the same {name}" for name in repeated)
            raise ValueError(f"records: two have {group}{same}; pass each image once.")
    return list(groups.values())


def distinct(groups: Iterable[Group], number: int) -> list[Group]:
    """One group for each value of the argument of that number, in the order in which the values first appear."""
    found: dict[str, Group] = {}
    for group in groups:
        found.setdefault(group.keys[number], group)
    return list(found.values())


def value_labels(groups: Iterable[Group], name: str) -> list[str]:
    """A text for the value of that argument in each group; images and tensors are numbered."""
    values = [group.arguments[name] for group in groups]
    texts = (str(value).removesuffix("Scheduler") or "(empty)" for value in values)
    return [f"no. {n}" if _has_contents(v) else text for n, (v, text) in enumerate(zip(values, texts, strict=True), 1)]


def _known(records: list[Record]) -> list[str]:
    return list(dict.fromkeys([*(name for record in records for name in record.parameters), "checkpoint"]))


def _value(record: Record, name: str) -> Any:
    if name == "checkpoint":  # no argument of a call, but what people compare
        return record.origin.get("checkpoint") or record.origin.get("source")
    return record.parameters.get(name)


def _key(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_key, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name!r}: {_key(item)}' for name, item in value.items())}}}"
    return digest_of(value) if _has_contents(value) else repr(value)


def _has_contents(value: Any) -> bool:
    return isinstance(value, Image.Image) or bool(getattr(value, "shape", ()))


def _differing(records: list[Record], names: Iterable[str]) -> list[str]:
    return [name for name in names if len({_key(_value(record, name)) for record in records}) > 1]


def _without(names: Iterable[str], others: Iterable[str]) -> list[str]:
    return [name for name in names if name not in others]
