"""Charts: a measured quantity over what a sweep varied, with its spread over seeds."""

from __future__ import annotations

import functools
import io
import math
import textwrap
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from helpers.analysis.record_groups import Group, as_records, distinct, grouped, shown_arguments, value_labels
from helpers.analysis.record_metrics import Quantity, label, measured
from helpers.generation.records import Record

LINE, BAND = "#0072b2", "#56b4e9"  # colour-blind safe, and told apart in print
LEAST = 2.6  # inches that the axes keep for themselves, however tall the text around them
APART = 5  # pixels at least between two labels of an axis
UNITS = {"strength": "0 to 1", "padding_mask_crop": "pixels", "blur_factor": "pixels", "height": "pixels"}
UNITS |= {"width": "pixels"}


def chart(
    records: Iterable[Record],
    quantity: Quantity,
    *,
    over: str | Sequence[str] | None = None,
    title: str | None = None,
) -> Any:
    """Draw a measured quantity over one argument (a line with its spread) or two (a heat map); a matplotlib Figure.

    records: of one sweep or several. quantity: see `measured`. over: one or two arguments, "checkpoint" for the models;
        by default those in which the records differ. Records that differ only in their seed are repetitions: the chart
        shows their mean and their range. title: a line above.
    `.numbers` of the Figure is a dict for each combination: its arguments, "mean", "lowest", "highest" and "images".

    Failed records are left out, and counted below the chart. ValueError: no records; none that can be measured; three
    arguments or more; records of one combination that differ in more than their seed.
    """
    records = as_records(records)
    names = shown_arguments(records, over, most=2, repeated=("seed",))
    groups = grouped(records, names, repeated=("seed",))
    for group in groups:
        group.values = measured(group.records, quantity)
    if not any(group.found for group in groups):
        reason = next((record.error for record in records if record.error), "the quantity is NaN for all")
        raise ValueError(f"records: none of the {len(records)} can be measured ({reason}).")
    figure = new_figure(6.4, 4.2)
    figure.numbers = [group.row() for group in groups]
    axes = figure.add_subplot()
    if len(names) == 1:
        _draw_line(axes, groups, names[0], label(quantity))
    else:
        _draw_heat(figure, axes, groups, names, label(quantity))
    if title:
        figure.suptitle(title, fontsize=12)
    figure.supxlabel(_notes(groups, names), fontsize=9, color="#444444", x=0.02, ha="left")
    figure.draw_without_rendering()  # only now is the size of the text known
    _rotate_where_they_touch(figure, axes)
    lacking = LEAST - axes.get_window_extent().height / figure.dpi
    figure.set_figheight(figure.get_figheight() + max(0.0, lacking))
    return figure


def _draw_line(axes: Any, groups: list[Group], name: str, text: str) -> None:
    """A line over numbers, drawn to scale; a dot for each value of any other kind."""
    scaled, groups = _is_scale(groups, name), _along(groups, 0, name)
    across = [group.arguments[name] if scaled else float(number) for number, group in enumerate(groups)]
    shown = [(x, group) for x, group in zip(across, groups, strict=True) if group.found]
    xs, means = [x for x, _ in shown], [group.mean for _, group in shown]
    lowest, highest = ([end(group.found) for _, group in shown] for end in (min, max))
    if scaled:
        axes.fill_between(xs, lowest, highest, color=BAND, alpha=0.3, linewidth=0)
        axes.plot(xs, means, color=LINE, marker="o")
    else:
        axes.vlines(xs, lowest, highest, color=BAND, linewidth=6, alpha=0.45)
        axes.plot(xs, means, color=LINE, marker="o", linestyle="none", markersize=8)
        axes.set_xlim(-0.5, len(groups) - 0.5)
    for x, group in shown:
        if len(group.found) > 1:
            axes.plot([x] * len(group.found), group.found, color=LINE, marker=".", linestyle="none", alpha=0.45)
    ticks = [f"{x:g}" for x in across] if scaled else _ticks(groups, name)
    axes.set_xticks(across, ticks)
    axes.set(xlabel=_axis_label(name), ylabel=textwrap.fill(text, 30))
    tidy(axes, "y")


def _draw_heat(figure: Any, axes: Any, groups: list[Group], names: list[str], text: str) -> None:
    """The first argument from left to right, the second downwards, as in `grid`; the mean stands in each cell."""
    columns, rows = (_along(groups, number, name) for number, name in enumerate(names))
    found = {group.keys: group.mean for group in groups}
    means = [[found.get((column.keys[0], row.keys[1]), math.nan) for column in columns] for row in rows]
    present = [value for row in means for value in row if not math.isnan(value)]
    drawn = axes.imshow(means, cmap="cividis", aspect="auto")
    axes.set_facecolor("#e8e8e8")
    middle = (min(present) + max(present)) / 2
    for y, row in enumerate(means):
        for x, value in enumerate(row):
            ink = "black" if math.isnan(value) or value > middle else "white"
            axes.text(x, y, "–" if math.isnan(value) else f"{value:.3g}", ha="center", va="center", color=ink)
    axes.set_xticks(range(len(columns)), _ticks(columns, names[0]))
    axes.set_yticks(range(len(rows)), _ticks(rows, names[1]))
    axes.set(xlabel=_axis_label(names[0]), ylabel=_axis_label(names[1]))
    figure.colorbar(drawn, ax=axes, label=textwrap.fill(text, 30))


def _along(groups: list[Group], number: int, name: str) -> list[Group]:
    """One group for each value of an argument: numbers in ascending order, the rest as they came."""
    first = distinct(groups, number)
    return sorted(first, key=lambda group: group.arguments[name]) if _is_numeric(first, name) else first


def _is_numeric(groups: list[Group], name: str) -> bool:
    return all(type(group.arguments[name]) in (int, float) for group in groups)


def _is_scale(groups: list[Group], name: str) -> bool:
    """Whether the distances between its values mean something."""
    return _is_numeric(groups, name) and name != "seed"


def _ticks(groups: list[Group], name: str) -> list[str]:
    """The values' labels, shortened where they can still be told apart."""
    texts = value_labels(groups, name)
    short = [textwrap.fill(text, 22, max_lines=3 if len(texts) < 6 else 2, placeholder=" …") for text in texts]
    return short if len(set(short)) == len(set(texts)) else [textwrap.fill(text, 22) for text in texts]


def _rotate_where_they_touch(figure: Any, axes: Any) -> None:
    """Turn the labels below the axes where two of them would touch; known once they have been laid out."""
    labels = [label for label in axes.get_xticklabels() if label.get_text()]
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.x0)
    if any(left.x1 + APART > right.x0 for left, right in pairwise(boxes)):
        for text in labels:
            text.set(rotation=30, ha="right")
        figure.draw_without_rendering()


def _axis_label(name: str) -> str:
    return f"{name} ({UNITS[name]})" if name in UNITS else name


def _notes(groups: list[Group], names: list[str]) -> str:
    """What is drawn, and what is left out."""
    counts = sorted({len(group.values) for group in groups})
    notes = []
    if counts[-1] > 1:
        drawn = "Line: mean; band" if _is_scale(groups, names[0]) else "Dot: mean; bar"
        kind = "Mean" if len(names) > 1 else f"{drawn}: lowest to highest"
        notes.append(f"{kind} of {' to '.join(map(str, counts[:1] + counts[1:][-1:]))} seeds.")
    total = sum(len(group.values) for group in groups)
    if missing := total - sum(len(group.found) for group in groups):
        left_out = "is left out" if missing == 1 else "are left out"
        notes.append(f"{missing} of {total} images could not be measured and {left_out}.")
    return "\n".join(notes)


def tidy(axes: Any, lines: str) -> None:
    """Light grid lines ("x", "y" or "both") behind the data, and no frame at the top and right."""
    axes.grid(axis=lines, color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def new_figure(width: float, height: float) -> Any:
    """A Figure of so many inches, which a notebook shows as PNG without pyplot and its list of open figures."""
    return _figure_class()(figsize=(width, height), layout="constrained", facecolor="white")


@functools.cache
def _figure_class() -> type:
    from matplotlib.figure import Figure

    class Chart(Figure):
        numbers: Any

        def _repr_png_(self) -> tuple[bytes, dict[str, str]]:
            """The chart, and an alternative text made of its titles and of what its axes say."""
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
            said = [text for axes in self.axes for text in (axes.get_title(), axes.get_ylabel(), axes.get_xlabel())]
            parts = dict.fromkeys(" ".join(text.split()) for text in (self.get_suptitle(), *said))
            return buffer.getvalue(), {"alt": "Chart: " + "; ".join(filter(None, parts))}

    return Chart
