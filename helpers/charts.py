"""Charts: a measured quantity over what a sweep varied, with its spread over seeds."""

from __future__ import annotations

import functools
import io
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from helpers import archive
from helpers.quantities import Quantity, checked, label, measured
from helpers.records import Record

__all__ = ["chart", "measured", "table"]

LINE, BAND = "#0072b2", "#56b4e9"  # told apart by every eye, and in print
UNITS = {"strength": "0 to 1", "padding_mask_crop": "pixels", "blur_factor": "pixels", "height": "pixels"}
UNITS |= {"width": "pixels"}


def table(
    records: Iterable[Record], quantity: Quantity, *, over: str | Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """The numbers behind `chart`: a dict a combination with its arguments, "mean", "lowest", "highest" and "pictures".

    "pictures" counts those that could be measured; where there are none, the three numbers are NaN.
    """
    records = checked(records)
    return [place.row() for place in _places(records, _names(records, over), measured(records, quantity))]


def chart(
    records: Iterable[Record],
    quantity: Quantity,
    *,
    over: str | Sequence[str] | None = None,
    title: str | None = None,
) -> Any:
    """Draw a measured quantity over one argument (a line with its spread) or two (a heat map); a matplotlib Figure.

    records: of one sweep or several. quantity: see `measured`. over: one or two arguments, "checkpoint" for the models;
        by default those in which the records differ. Records that differ in their seed alone are repetitions: drawn are
        their mean and all of them, from the lowest to the highest. title: a line above. `.numbers` is the `table`.

    Failed records are left out, and counted below the chart. ValueError: no records; none that can be measured; three
    arguments or more; records of one place that differ in more than their seed.
    """
    records = checked(records)
    names, values = _names(records, over), measured(records, quantity)
    if all(math.isnan(value) for value in values):
        reason = next((record.error for record in records if record.error), "the quantity is NaN for all")
        raise ValueError(f"records: none of the {len(records)} can be measured ({reason}).")
    places = _places(records, names, values)
    figure = figure_class()(figsize=(6.4, 4.2), layout="constrained", facecolor="white")
    figure.numbers = [place.row() for place in places]
    axes = figure.add_subplot()
    if len(names) == 1:
        _draw_line(axes, places, names[0], label(quantity))
    else:
        _draw_heat(figure, axes, places, names, label(quantity))
    if title:
        figure.suptitle(title, fontsize=12)
    figure.supxlabel(_notes(places, names), fontsize=9, color="#444444", x=0.02, ha="left")
    return figure


@dataclass
class _Place:
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


def _value(record: Record, name: str) -> Any:
    if name == "checkpoint":  # no argument of a call, but what people compare
        return record.origin.get("checkpoint") or record.origin.get("source")
    return record.parameters.get(name)


def _mark(record: Record, name: str) -> str:
    return str(archive.encode(_value(record, name), {}))


def _differing(records: list[Record], names: Iterable[str]) -> list[str]:
    return [name for name in names if len({_mark(record, name) for record in records}) > 1]


def _known(records: list[Record]) -> list[str]:
    """The arguments that the records have, what a sweep varied first."""
    first = [name for record in records for name in record.axes]
    return list(dict.fromkeys([*first, *(name for record in records for name in record.parameters), "checkpoint"]))


def _names(records: list[Record], over: str | Sequence[str] | None) -> list[str]:
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


def _places(records: list[Record], names: list[str], values: list[float]) -> list[_Place]:
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
        places.append(_Place(marks, arguments, seeds, [values[number] for number in numbers]))
    return places


def _draw_line(axes: Any, places: list[_Place], name: str, text: str) -> None:
    """A line over numbers, drawn to scale; a mark for each where they are no numbers."""
    numeric = _numeric(places, name) and name != "seed"
    places = _along(places, 0, name)
    across = [place.arguments[name] if numeric else float(number) for number, place in enumerate(places)]
    shown = [(x, place) for x, place in zip(across, places, strict=True) if place.found]
    xs, means = [x for x, _ in shown], [place.mean for _, place in shown]
    lowest, highest = ([end(place.found) for _, place in shown] for end in (min, max))
    if numeric:
        axes.fill_between(xs, lowest, highest, color=BAND, alpha=0.3, linewidth=0)
        axes.plot(xs, means, color=LINE, marker="o")
    else:
        axes.vlines(xs, lowest, highest, color=BAND, linewidth=6, alpha=0.45)
        axes.plot(xs, means, color=LINE, marker="o", linestyle="none", markersize=8)
    for x, place in shown:
        if len(place.found) > 1:
            axes.plot([x] * len(place.found), place.found, color=LINE, marker=".", linestyle="none", alpha=0.45)
    ticks = [f"{x:g}" for x in across] if numeric else _texts(places, name)
    axes.set_xticks(across, ticks, **_turned(ticks))
    if not numeric:
        axes.set_xlim(-0.5, len(places) - 0.5)
    axes.set(xlabel=_named(name), ylabel=text)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_heat(figure: Any, axes: Any, places: list[_Place], names: list[str], text: str) -> None:
    """The first argument from left to right, the second downwards, as in `grid`; the mean stands in each cell."""
    sides = [_along(places, number, name) for number, name in enumerate(names)]
    columns, rows = ([place.marks[number] for place in side] for number, side in enumerate(sides))
    found = {place.marks: place.mean for place in places}
    means = [[found.get((column, row), math.nan) for column in columns] for row in rows]
    present = [value for row in means for value in row if not math.isnan(value)]
    drawn = axes.imshow(means, cmap="cividis", aspect="auto")
    axes.set_facecolor("#e8e8e8")
    middle = (min(present) + max(present)) / 2
    for y, row in enumerate(means):
        for x, value in enumerate(row):
            ink = "black" if math.isnan(value) or value > middle else "white"
            axes.text(x, y, "–" if math.isnan(value) else f"{value:.3g}", ha="center", va="center", color=ink)
    across, down = (_texts(side, name) for side, name in zip(sides, names, strict=True))
    axes.set_xticks(range(len(columns)), across, **_turned(across))
    axes.set_yticks(range(len(rows)), down)
    axes.set(xlabel=_named(names[0]), ylabel=_named(names[1]))
    figure.colorbar(drawn, ax=axes, label=text)


def _along(places: list[_Place], number: int, name: str) -> list[_Place]:
    """One place for each value of an argument: numbers in their order, the rest as they came."""
    first = list({place.marks[number]: place for place in reversed(places)}.values())[::-1]
    return sorted(first, key=lambda place: place.arguments[name]) if _numeric(first, name) else first


def _numeric(places: list[_Place], name: str) -> bool:
    return all(type(place.arguments[name]) in (int, float) for place in places)


def _texts(places: list[_Place], name: str) -> list[str]:
    texts = []
    for number, value in enumerate((place.arguments[name] for place in places), 1):
        picture = hasattr(value, "mode") or hasattr(value, "shape")
        texts.append(f"no. {number}" if picture else str(value).removesuffix("Scheduler") or "(empty)")
    return [textwrap.fill(text, 22) for text in texts]


def _turned(texts: list[str]) -> dict[str, Any]:
    """Labels that would run into each other are written aslant."""
    return {"rotation": 30, "ha": "right"} if len(texts) * max(map(len, texts)) > 70 else {}


def _named(name: str) -> str:
    return f"{name} ({UNITS[name]})" if name in UNITS else name


def _notes(places: list[_Place], names: list[str]) -> str:
    """What is drawn, and what is left out."""
    most, fewest = (end(len(place.values) for place in places) for end in (max, min))
    notes = []
    if most > 1:
        count = str(most) if most == fewest else f"{fewest} to {most}"
        kind = "Mean" if len(names) > 1 else "Line: mean; band: lowest to highest"
        notes.append(f"{kind} of {count} seeds.")
    if missing := sum(len(place.values) - len(place.found) for place in places):
        total = sum(len(place.values) for place in places)
        notes.append(
            f"{missing} of {total} pictures could not be measured and {'is' if missing == 1 else 'are'} left out."
        )
    return "\n".join(notes)


@functools.cache
def figure_class() -> type:
    """matplotlib's Figure, shown as a picture in a notebook without pyplot and its list of open figures."""
    from matplotlib.figure import Figure

    class Chart(Figure):
        numbers: list[dict[str, Any]]

        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
            return buffer.getvalue()

    return Chart
