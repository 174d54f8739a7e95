"""Charts of a benchmark: time and memory of each variant as bars, and the call after which a slow start pays back."""

from __future__ import annotations

import math
import platform
import textwrap
from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

from helpers.analysis.charts import BAND, LINE, new_figure, tidy
from helpers.common.sizes import MIB

if TYPE_CHECKING:
    from helpers.analysis.benchmark import Costs, Measurement

ORANGE = "#d55e00"  # memory; colour-blind safe beside the blues
COLOURS = (LINE, ORANGE, "#009e73", "#cc79a7", "#000000")


def draw(
    costs: Costs,
    *,
    title: str | None = None,
    unit: str = "seconds",
    more: Mapping[str, Mapping[str, float]] | None = None,
) -> Any:
    """A Figure with a bar for each variant: its median, fastest and slowest run, its ratio, and its peak memory.

    more: further panels, a number for each variant by the label of the panel's axis. `.numbers` is `costs.table()`
    with these. The note below says what was measured, and on which machine. ValueError for numbers of other variants.
    """
    more = more or {}
    for label, values in more.items():
        if wrong := set(values) ^ set(costs):
            raise ValueError(
                f"more[{label!r}]: expected a number for each of {', '.join(map(repr, costs))}, and for nothing else; "
                f"{min(wrong)!r} is {'unknown' if min(wrong) in values else 'missing'}."
            )
    rows: list[dict[str, Any]] = [
        row | {label: values[row["variant"]] for label, values in more.items()} for row in costs.table()
    ]
    figure = new_figure(8.6 + 1.2 * len(more), 1.5 + 0.42 * len(rows))
    figure.numbers = rows
    left, right, *others = figure.subplots(
        1, 2 + len(more), sharey=True, width_ratios=(3 + bool(more), *[2] * (1 + len(more)))
    )
    places, seconds = range(len(rows)), [row["seconds"] for row in rows]
    fastest, slowest = ([end(one.runs) for one in costs.values()] for end in (min, max))
    whiskers = [[abs(end - one) for end, one in zip(ends, seconds, strict=True)] for ends in (fastest, slowest)]
    bars = left.barh(places, seconds, xerr=whiskers, color=BAND, ecolor=LINE, capsize=3, height=0.62)
    ratios = ["", *(f"  (× {row['ratio']:.2f})" for row in rows[1:])]
    texts = [f"{one:.3g} s{ratio}" for one, ratio in zip(seconds, ratios, strict=True)]
    left.bar_label(bars, texts, padding=4, fontsize=9)
    left.set_xlim(0, 1.45 * max(slowest) or 1)
    sizes = [row["memory"] / MIB for row in rows]
    _bars(right, sizes, ORANGE, [f"{size:.0f} MiB" for size in sizes])
    for axes, (label, values), colour in zip(others, more.items(), cycle(COLOURS[2:]), strict=False):
        numbers = [values[name] for name in costs]
        _bars(axes, numbers, colour, [f"{number:.3g}" for number in numbers])
        axes.set_xlabel(label)
    left.set_yticks(places, [textwrap.fill(row["variant"], 26) for row in rows])
    left.invert_yaxis()
    left.set_xlabel(unit)
    right.set_xlabel(f"MiB ({costs.memory_kind}, peak)")
    for axes in (left, right, *others):
        tidy(axes, "x")
    if title:
        figure.suptitle(title, fontsize=12)
    figure.supxlabel(_note(costs), fontsize=8, color="#444444", x=0.02, ha="left")
    return figure


def _bars(axes: Any, values: list[float], colour: str, texts: list[str]) -> None:
    bars = axes.barh(range(len(values)), values, color=colour, alpha=0.55, height=0.62)
    axes.bar_label(bars, texts, padding=4, fontsize=9)
    axes.set_xlim(0, 1.4 * max(values) or 1)


def payback(costs: Costs, first: Mapping[str, Measurement], *, calls: int | None = None) -> Any:
    """A Figure of the total seconds of so many calls, and of where a variant with a slow first call pays back.

    first: the first call of such variants, by their names in `costs`. `.numbers` is the number of calls each takes, or
    None for never. calls: the right end of the axis; by default some calls beyond the last crossing.
    """
    gains = {name: costs[costs.plain].seconds - costs[name].seconds for name in first}
    extra = {name: max(0.0, one.seconds - costs[name].seconds) for name, one in first.items()}
    crossing = {name: math.ceil(extra[name] / gain) if gain > 0 else None for name, gain in gains.items()}
    calls = calls or max(20, math.ceil(1.3 * max((one for one in crossing.values() if one), default=20)))
    figure = new_figure(7.4, 4.0)
    figure.numbers = crossing
    axes = figure.add_subplot()
    for (name, found), colour in zip(costs.items(), COLOURS, strict=False):
        start = extra.get(name, 0.0)
        axes.plot([0, calls], [start, start + calls * found.seconds], color=colour, label=name)
        if (at := crossing.get(name)) and at <= calls:
            axes.plot([at], [start + at * found.seconds], "o", color=colour)
            axes.annotate(f"after {at} calls", (at, start + at * found.seconds), (6, -14), textcoords="offset points")
    never = [name for name, at in crossing.items() if at is None]
    note = f"No gain here, so it never pays back: {', '.join(never)}. " if never else ""
    figure.supxlabel(f"{note}{machine(gpu=costs.on_gpu)}", fontsize=8, color="#444444", x=0.02, ha="left")
    axes.set(xlabel="calls of one size", ylabel="seconds, all together", xlim=(0, calls), ylim=(0, None))
    tidy(axes, "both")
    axes.legend(frameon=False)
    return figure


def _note(costs: Costs) -> str:
    """How, and on what, it was measured."""
    repeats = len(next(iter(costs.values())).runs)
    how = f"Median of {repeats} runs in turn, whiskers: fastest and slowest" if repeats > 1 else "One run each"
    return f"{how}. {machine(gpu=costs.on_gpu)}"


def machine(*, gpu: bool) -> str:
    """This machine in one line: its GPU, if that did the work, or its processor."""
    import torch

    if gpu:
        where = torch.cuda.get_device_name()
    else:
        threads = torch.get_num_threads()
        where = f"CPU ({platform.machine()}, {threads} thread{'s' * (threads > 1)})"
    return f"{where}, torch {torch.__version__}"
