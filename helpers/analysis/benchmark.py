"""The time and peak memory of a call, and of several variants side by side.

Variants are measured in turn, A B C A B C ..., so that a machine that slows down slows them all: compare their ratios,
not the seconds of two runs.
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from helpers.common import memory
from helpers.common.sizes import MIB
from helpers.common.table import Table
from helpers.common.validation import whole


@dataclass(frozen=True)
class Measurement:
    """Time and memory of a call: the seconds of each run, and peaks in bytes.

    `resident` is the peak growth of the process; `allocated` and `reserved` are CUDA's peaks, None without a GPU.
    `result` is what the last run returned.
    """

    runs: tuple[float, ...]
    resident: int
    allocated: int | None = None
    reserved: int | None = None
    result: Any = field(default=None, repr=False, compare=False)

    @property
    def seconds(self) -> float:
        """The median of the runs."""
        return statistics.median(self.runs)

    @property
    def spread(self) -> float:
        """The slowest run minus the fastest."""
        return max(self.runs) - min(self.runs)

    def __str__(self) -> str:
        kind, peak = ("resident growth", self.resident) if self.allocated is None else ("CUDA peak", self.allocated)
        runs = f"median of {len(self.runs)}, spread {self.spread:.3g} s" if len(self.runs) > 1 else "one run"
        return f"{self.seconds:.3g} s ({runs}), {peak / MIB:.0f} MiB {kind}"


def measure(fn: Callable[[], Any], *, repeats: int = 3, warmup: int = 1) -> Measurement:
    """Time `fn()` over `repeats` runs after `warmup` untimed ones; `.result` is what its last run returned.

    Resident memory is sampled every few milliseconds, in the first run only and after unused memory was freed: later
    runs reuse what that one freed. With a warm-up, sampling ends before the timed runs.
    """
    if not callable(fn):
        raise TypeError(f"fn is a {type(fn).__name__}, expected a function: write measure(lambda: pipe(...)).")
    return measure_each({"": fn}, repeats=repeats, warmup=warmup)[""]


def measure_each(variants: Mapping[str, Callable[[], Any]], *, repeats: int = 3, warmup: int = 1) -> Costs:
    """Measure several functions in turn, each as `measure` does; returns `Costs`, a Measurement by name.

    Every round runs each of them once, starting with a different one. The others are compared to the first named.
    """
    if not isinstance(variants, Mapping) or not variants:
        raise TypeError(f"variants={variants!r}: expected a dict such as {{'plain': lambda: pipe(...), ...}}.")
    if wrong := [name for name, fn in variants.items() if not callable(fn)]:
        raise TypeError(f"variants[{wrong[0]!r}] is not a function: write lambda: pipe(...).")
    whole("repeats", repeats, least=1)
    whole("warmup", warmup, least=0)
    names = list(variants)
    watched = {name: _Watched(variants[name]) for name in names}
    for round in range(warmup + repeats):
        first = round % len(names)
        for name in names[first:] + names[:first]:
            watched[name].run(timed=round >= warmup)
    return Costs({name: one.measurement() for name, one in watched.items()})


class Costs(dict[str, Measurement]):
    """A Measurement by the variant's name, the plain one first. A notebook shows it as a table; `chart()` draws it.

    The images, or whatever the variants returned, are in `costs[name].result`.
    """

    @property
    def plain(self) -> str:
        """The name of the first variant, which the ratios are taken to."""
        return next(iter(self))

    def ratio(self, name: str) -> float:
        """Seconds of a variant over those of the plain one: the median of the rounds' ratios."""
        pairs = zip(self[name].runs, self[self.plain].runs, strict=True)
        return statistics.median(one / other if other else float("nan") for one, other in pairs)

    def per(self, counts: Mapping[str, int]) -> Costs:
        """The same with the seconds divided: `costs.per({"one": 1, "four at once": 4})` are seconds an image."""
        if unknown := [name for name in counts if name not in self]:
            raise ValueError(f"counts: {unknown[0]!r} was not measured; there are {', '.join(map(repr, self))}.")
        for name, count in counts.items():
            whole(f"counts[{name!r}]", count, least=1)
        return Costs(
            {
                name: replace(one, runs=tuple(run / counts.get(name, 1) for run in one.runs))
                for name, one in self.items()
            }
        )

    def table(self) -> list[dict[str, Any]]:
        """A dict a variant: "variant", "seconds", "spread", "ratio" to the plain one, "memory" in bytes."""
        return [
            {"variant": name, "seconds": one.seconds, "spread": one.spread, "ratio": self.ratio(name)}
            | {"memory": one.allocated if self.on_gpu else one.resident}
            for name, one in self.items()
        ]

    def chart(
        self, title: str | None = None, *, unit: str = "seconds", more: Mapping[str, Mapping[str, float]] | None = None
    ) -> Any:
        """Draw seconds and memory as bars: a matplotlib Figure. unit: the label of the axis of seconds.

        more: further panels, such as {"first call, seconds": {"plain": 0.2, "compiled": 40.0}}.
        """
        from helpers.analysis import benchmark_charts

        return benchmark_charts.draw(self, title=title, unit=unit, more=more)

    @property
    def memory_kind(self) -> str:
        """What was measured as memory."""
        return "CUDA" if self.on_gpu else "resident growth"

    @property
    def on_gpu(self) -> bool:
        """Whether all of them ran on a CUDA GPU."""
        return all(one.allocated is not None for one in self.values())

    def _repr_html_(self) -> str:
        rows = [
            (row["variant"], f"{row['seconds']:.3g}", f"{row['spread']:.2g}", f"{row['ratio']:.2f}",
             f"{row['memory'] / MIB:.0f}")
            for row in self.table()
        ]  # fmt: skip
        return Table(("variant", "seconds", "spread", "ratio", f"MiB ({self.memory_kind})"), rows)._repr_html_()


class _Watched:
    """One variant: its seconds, its peaks, and its last result."""

    def __init__(self, fn: Callable[[], Any]) -> None:
        self.fn = fn
        self.result: Any = None
        self.resident: int | None = None
        self.seconds: list[float] = []
        self.allocated = self.reserved = 0

    def run(self, *, timed: bool) -> None:
        """Call it once. Its first run is sampled: it is the untimed one where there is any."""
        self.result = None  # or the last run's result would count as this one's memory
        cuda = _cuda()
        first = self.resident is None
        if first:
            memory.free()
        if cuda:
            cuda.synchronize()
            cuda.reset_peak_memory_stats()
        with Resident() if first else nullcontext() as resident:
            start = time.perf_counter()
            self.result = self.fn()
            if cuda:
                cuda.synchronize()
            spent = time.perf_counter() - start
        if resident:
            self.resident = resident.growth
        if timed:
            self.seconds.append(spent)
        if cuda:
            self.allocated = max(self.allocated, cuda.max_memory_allocated())
            self.reserved = max(self.reserved, cuda.max_memory_reserved())

    def measurement(self) -> Measurement:
        allocated = self.allocated or None  # None where there is a GPU and the call did not use it
        return Measurement(
            tuple(self.seconds), self.resident or 0, allocated, self.reserved if allocated else None, self.result
        )


class Resident:
    """`with Resident() as resident:` samples how far this process grows; `.growth` is its peak, in bytes."""

    def __enter__(self) -> Resident:
        import psutil

        self._process = psutil.Process(os.getpid())
        self._first = self._peak = self._process.memory_info().rss
        self._done = False
        self._thread = threading.Thread(target=self._watch, args=(weakref.ref(self),), daemon=True)
        self._thread.start()
        return self

    @staticmethod
    def _watch(watched: weakref.ref[Resident]) -> None:
        """Sample until it is done, or gone: an interrupt may keep `__exit__` from being reached."""
        while (one := watched()) is not None and not one._done:
            one._sample()
            del one
            time.sleep(0.003)

    def _sample(self) -> None:
        self._peak = max(self._peak, self._process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._done = True
        self._thread.join()
        self._sample()

    @property
    def growth(self) -> int:
        return self._peak - self._first


def _cuda() -> Any:
    torch = sys.modules.get("torch")  # fn cannot use a GPU through torch that nobody imported
    return torch.cuda if torch is not None and torch.cuda.is_available() else None
