"""Measure two ways in turn, and put the ratio of each turn first: a machine that slows down slows both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turn(ways: dict[str, Callable[[], Any]], rounds: int, *, warmup: int = 1) -> dict[str, list[float]]:
    """The seconds of each way in each round: A B A B ..., after rounds that do not count."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(warmup + rounds):
        for name, call in ways.items():
            spent = seconds(call)
            if number >= warmup:
                found[name].append(spent)
    return found


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all are not above: one of them, never between two."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def duration(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.3g} ms"


def tell(name: str, text: str) -> None:
    print(f"  {name:<44} {text}", flush=True)


def tell_times(name: str, values: Sequence[float]) -> None:
    """Median and range of a few, p50 and p95 of many."""
    if len(values) < 10:
        around = f"{duration(min(values))} to {duration(max(values))}"
        tell(name, f"{duration(statistics.median(values)):>8}   ({around}, n={len(values)})")
    else:
        tell(name, f"p50 {duration(quantile(values, 0.5))}, p95 {duration(quantile(values, 0.95))}   (n={len(values)})")


def tell_ratio(name: str, above: Sequence[float], below: Sequence[float]) -> None:
    """The median of the ratios of the rounds, and their spread: half of them lie within it."""
    ratios = [one / other for one, other in zip(above, below, strict=True)]
    low, high = quantile(ratios, 0.25), quantile(ratios, 0.75)
    tell(name, f"{statistics.median(ratios):8.3f}   (half of them {low:.3f} to {high:.3f})")


def compare(ways: dict[str, list[float]], *, plain: str) -> None:
    """Print the times of each way, and its ratio to the plain one."""
    for name, values in ways.items():
        tell_times(name, values)
    for name, values in ways.items():
        if name != plain:
            tell_ratio(f"{name} / {plain}", values, ways[plain])
