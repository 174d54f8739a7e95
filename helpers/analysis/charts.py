"""Charts: a measured quantity over what a sweep varied, with its spread over seeds."""

from __future__ import annotations

import functools
import io
import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from helpers.analysis.record_metrics import Quantity, checked, label, measured
from helpers.analysis.repetitions import Place, names_of, places_of
from helpers.generation.records import Record

__all__ = ["chart", "measured", "table"]

LINE, BAND = "#0072b2", "#56b4e9"  # told apart by every eye, and in print
LEAST = 2.6  # inches that the axes have to themselves, however tall the writing around them
UNITS = {"strength": "0 to 1", "padding_mask_crop": "pixels", "blur_factor": "pixels", "height": "pixels"}
UNITS |= {"width": "pixels"}


def table(
    records: Iterable[Record], quantity: Quantity, *, over: str | Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """The numbers behind `chart`: a dict a combination with its arguments, "mean", "lowest", "highest" and "pictures".

    "pictures" counts those that could be measured; where there are none, the three numbers are NaN.
    """
    records = checked(records)
    return [place.row() for place in places_of(records, names_of(records, over), measured(records, quantity))]


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
    names, values = names_of(records, over), measured(records, quantity)
    if all(math.isnan(value) for value in values):
        reason = next((record.error for record in records if record.error), "the quantity is NaN for all")
        raise ValueError(f"records: none of the {len(records)} can be measured ({reason}).")
    places = places_of(records, names, values)
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
    figure.draw_without_rendering()  # now it is known how tall the writing is
    lacking = LEAST - axes.get_window_extent().height / figure.dpi
    figure.set_figheight(figure.get_figheight() + max(0.0, lacking))
    return figure


def _draw_line(axes: Any, places: list[Place], name: str, text: str) -> None:
    """A line over numbers, drawn to scale; a mark for each where they are no numbers."""
    numeric = _scaled(places, name)
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
    axes.set(xlabel=_named(name), ylabel=textwrap.fill(text, 30))
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_heat(figure: Any, axes: Any, places: list[Place], names: list[str], text: str) -> None:
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
    figure.colorbar(drawn, ax=axes, label=textwrap.fill(text, 30))


def _along(places: list[Place], number: int, name: str) -> list[Place]:
    """One place for each value of an argument: numbers in their order, the rest as they came."""
    first = list({place.marks[number]: place for place in reversed(places)}.values())[::-1]
    return sorted(first, key=lambda place: place.arguments[name]) if _numeric(first, name) else first


def _numeric(places: list[Place], name: str) -> bool:
    return all(type(place.arguments[name]) in (int, float) for place in places)


def _scaled(places: list[Place], name: str) -> bool:
    """Whether the distances between its values mean something."""
    return _numeric(places, name) and name != "seed"


def _texts(places: list[Place], name: str) -> list[str]:
    texts = []
    for number, value in enumerate((place.arguments[name] for place in places), 1):
        picture = hasattr(value, "mode") or hasattr(value, "shape")
        texts.append(f"no. {number}" if picture else str(value).removesuffix("Scheduler") or "(empty)")
    short = [textwrap.fill(text, 22, max_lines=3 if len(texts) < 6 else 2, placeholder=" …") for text in texts]
    return short if len(set(short)) == len(set(texts)) else [textwrap.fill(text, 22) for text in texts]


def _turned(texts: list[str]) -> dict[str, Any]:
    """Labels that would run into each other are written aslant."""
    widest = max(len(line) for text in texts for line in text.splitlines())
    return {"rotation": 30, "ha": "right"} if len(texts) * widest > 70 else {}


def _named(name: str) -> str:
    return f"{name} ({UNITS[name]})" if name in UNITS else name


def _notes(places: list[Place], names: list[str]) -> str:
    """What is drawn, and what is left out."""
    most, fewest = (end(len(place.values) for place in places) for end in (max, min))
    notes = []
    if most > 1:
        count = str(most) if most == fewest else f"{fewest} to {most}"
        drawn = "Line: mean; band" if _scaled(places, names[0]) else "Dot: mean; bar"
        kind = "Mean" if len(names) > 1 else f"{drawn}: lowest to highest"
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
