"""Time and memory of a call, and of several in turn; no test here depends on how fast a machine is."""

from __future__ import annotations

import math
import sys
import threading
import time
import types

import accelerate.utils.memory
import numpy as np
import pytest

from helpers.analysis import benchmark_charts
from helpers.analysis.benchmark import Costs, Measurement, measure, measure_each

MIB = 2**20


def fill(mib: int) -> int:
    """Hold some memory long enough to be seen, and let go of it."""
    block = np.ones(mib * MIB, np.uint8)
    time.sleep(0.05)
    return int(block[-1])


def found(*runs: float, resident: int = 10 * MIB, allocated: int | None = None) -> Measurement:
    return Measurement(runs, resident, allocated, allocated)


@pytest.fixture
def clock(monkeypatch):
    """time.perf_counter as a hand moves it: `clock(3)` lets three seconds pass."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


# One call


def test_measure_counts_its_runs_and_keeps_the_result():
    calls = []
    one = measure(lambda: calls.append(1) or len(calls), repeats=4, warmup=2)
    assert len(calls) == 6 and one.result == 6 and len(one.runs) == 4
    assert "median of 4" in str(one) and "MiB resident growth" in str(one)
    assert "one run" in str(measure(lambda: None, repeats=1))


def test_measure_takes_the_median_without_the_warmup(clock):
    durations = iter([100, 1, 5, 2])  # a cold run first
    one = measure(lambda: clock(next(durations)), repeats=3, warmup=1)
    assert (one.seconds, one.spread, one.runs) == (2, 4, (1, 5, 2))


@pytest.mark.parametrize("warmup", [0, 1])
def test_measure_sees_memory_that_the_call_frees_again(warmup):
    one = measure(lambda: fill(64), repeats=1, warmup=warmup)
    assert 48 * MIB < one.resident < 256 * MIB


def test_memory_is_watched_in_the_first_run_only():
    sizes = iter([1, 256])  # MiB, in the warm-up and in the timed run
    assert measure(lambda: fill(next(sizes)), repeats=1, warmup=1).resident < 64 * MIB


def test_an_error_in_the_call_comes_through_and_stops_the_sampling():
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        measure(lambda: 1 / 0)
    assert threading.active_count() == before


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(TypeError, match=r"fn is a list, expected a function: write measure\(lambda: pipe\(...\)\)"):
        measure([1])
    with pytest.raises(ValueError, match="repeats=0: expected a whole number, 1 or more"):
        measure(lambda: None, repeats=0)
    with pytest.raises(ValueError, match="warmup=-1"):
        measure(lambda: None, warmup=-1)
    with pytest.raises(TypeError, match="variants={}: expected a dict"):
        measure_each({})
    with pytest.raises(TypeError, match=r"variants\['b'\] is not a function: write lambda"):
        measure_each({"a": lambda: None, "b": 3})


# On a GPU


class Gpu:
    """torch.cuda, as far as it is used: what was asked of it, and peaks that a call sets."""

    def __init__(self) -> None:
        self.calls, self.allocated, self.reserved = [], 0, 0

    def is_available(self):
        return True

    def synchronize(self):
        self.calls.append("synchronize")

    def empty_cache(self):
        self.calls.append("empty")

    def reset_peak_memory_stats(self):
        self.calls.append("reset")
        self.allocated = self.reserved = 0

    def max_memory_allocated(self):
        return self.allocated

    def max_memory_reserved(self):
        return self.reserved

    def work(self, allocated: int, reserved: int) -> None:
        self.calls.append("run")
        self.allocated, self.reserved = allocated, reserved


@pytest.fixture
def gpu(monkeypatch):
    one = Gpu()
    monkeypatch.setattr(accelerate.utils.memory, "clear_device_cache", lambda garbage_collection: one.empty_cache())
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=one))
    return one


def test_a_gpu_is_waited_for_and_its_peaks_are_reset_before_each_run(gpu):
    one = measure(lambda: gpu.work(5, 7), repeats=1, warmup=1)
    assert (one.allocated, one.reserved) == (5, 7)
    assert gpu.calls == ["empty", *["synchronize", "reset", "run", "synchronize"] * 2]
    assert "CUDA peak" in str(one)


def test_each_variant_keeps_its_own_peak(gpu):
    costs = measure_each({"large": lambda: gpu.work(900, 901), "small": lambda: gpu.work(5, 7)}, repeats=2)
    assert [one.allocated for one in costs.values()] == [900, 5]
    assert [row["memory"] for row in costs.table()] == [900, 5]
    assert costs.memory_kind == "CUDA"


def test_a_gpu_that_the_call_did_not_use_is_not_reported(gpu):
    one = measure(lambda: None, repeats=1)
    assert (one.allocated, one.reserved) == (None, None)


# Several in turn


def test_variants_take_turns_and_each_round_begins_with_another():
    order = []
    costs = measure_each({name: lambda name=name: order.append(name) for name in "abc"}, repeats=2, warmup=1)
    assert "".join(order) == "abc" + "bca" + "cab"
    assert list(costs) == ["a", "b", "c"] and costs.plain == "a"


def test_a_ratio_is_that_of_the_rounds(clock):
    rounds = {"plain": iter([9, 1, 2, 4]), "slow": iter([9, 3, 4, 8])}  # 3, 2 and 2; the machine slows down meanwhile
    costs = measure_each({name: lambda name=name: clock(next(rounds[name])) for name in rounds})
    assert costs.ratio("slow") == 2 and costs.ratio("plain") == 1
    assert [row["ratio"] for row in costs.table()] == [1, 2]


def test_a_later_variant_is_not_spared_what_an_earlier_one_freed():
    costs = measure_each({"large": lambda: fill(96), "small": lambda: fill(8), "again": lambda: fill(96)}, repeats=1)
    large, small, again = (one.resident / MIB for one in costs.values())
    assert large > 80 and again > 80 and small < 40


def test_seconds_can_be_divided():
    costs = Costs({"one": found(1.0, 1.0, 1.0), "four": found(2.0, 2.0, 2.2)})
    each = costs.per({"four": 4})
    assert (each["four"].seconds, each["four"].runs) == (0.5, (0.5, 0.5, 0.55))
    assert each.ratio("four") == 0.5 and each["one"] == costs["one"]
    with pytest.raises(ValueError, match="counts: 'five' was not measured; there are 'one', 'four'"):
        costs.per({"five": 5})
    with pytest.raises(ValueError, match=r"counts\['four'\]=0: expected a whole number, 1 or more"):
        costs.per({"four": 0})


def test_a_notebook_shows_every_variant_in_a_table():
    costs = Costs({"plain": found(1.0, 1.5, 2.0), "other": found(3.0, 3.0, 3.0, resident=64 * MIB)})
    text = costs._repr_html_()
    for shown in ("plain", "1.5", "1.00", "10", "other", "2.00", "64", "MiB (resident growth)"):
        assert f">{shown}<" in text


# Bars


def test_bars_have_the_lengths_of_the_table():
    costs = Costs({"plain": found(1.0, 2.0, 4.0), "fast": found(0.5, 1.0, 2.0, resident=30 * MIB)})
    figure = costs.chart("Two ways")
    assert figure.numbers == costs.table()
    left, right = figure.axes
    assert [bar.get_width() for bar in left.patches] == [2.0, 1.0]
    assert [bar.get_width() for bar in right.patches] == [10.0, 30.0]
    assert [text.get_text() for text in left.texts] == ["2 s", "1 s  (× 0.50)"]
    whiskers = [path for lines in left.collections for path in lines.get_segments()]
    assert [tuple(path[:, 0]) for path in whiskers] == [(1.0, 4.0), (0.5, 2.0)]
    assert figure._repr_png_()[0].startswith(b"\x89PNG")


def test_further_panels_are_drawn_in_the_order_of_the_variants():
    costs = Costs({"plain": found(2.0), "fast": found(1.0)})
    more = {"first call, seconds": {"fast": 40.0, "plain": 2.0}, "of 255": {"plain": 0, "fast": 0}}
    figure = costs.chart(more=more)
    *_, starts, apart = figure.axes
    assert [bar.get_width() for bar in starts.patches] == [2.0, 40.0]
    assert [bar.get_width() for bar in apart.patches] == [0, 0] and apart.get_xlabel() == "of 255"
    assert [text.get_text() for text in starts.texts] == ["2", "40"]
    assert [row["first call, seconds"] for row in figure.numbers] == [2.0, 40.0]


@pytest.mark.parametrize(("values", "said"), [({"plain": 1}, "'fast' is missing"), ({"slow": 1}, "expected a number")])
def test_a_further_panel_needs_a_number_for_each_variant(values, said):
    with pytest.raises(ValueError, match=said):
        Costs({"plain": found(2.0), "fast": found(1.0)}).chart(more={"of 255": values})


def test_the_note_says_how_and_where_it_was_measured():
    import torch

    note = Costs({"a": found(1.0, 2.0, 3.0)}).chart()._supxlabel.get_text()
    assert "Median of 3 runs in turn" in note and torch.__version__ in note
    assert "One run each" in Costs({"a": found(1.0)}).chart()._supxlabel.get_text()
    assert benchmark_charts.machine(gpu=False) in note and "CPU" in note


def test_a_variant_that_takes_no_time_and_no_memory_can_be_drawn():
    figure = Costs({"nothing": found(0.0, resident=0), "nothing too": found(0.0, resident=0)}).chart()
    assert figure._repr_png_()[0].startswith(b"\x89PNG")
    assert math.isnan(figure.numbers[1]["ratio"])


def test_compiling_pays_back_where_the_lines_cross():
    costs = Costs({"as it is": found(1.0), "whole": found(0.5), "blocks": found(0.75), "slower": found(1.5)})
    first = {"whole": found(40.5), "blocks": found(5.75), "slower": found(9.0)}  # 40, 5 and 7.5 of compiling
    figure = benchmark_charts.payback(costs, first)
    assert figure.numbers == {"whole": 80, "blocks": 20, "slower": None}
    axes = figure.axes[0]
    starts = {line.get_label(): line.get_ydata()[0] for line in axes.lines if len(line.get_xdata()) == 2}
    assert starts == {"as it is": 0.0, "whole": 40.0, "blocks": 5.0, "slower": 7.5}
    (at,) = {line.get_xdata()[-1] for line in axes.lines if len(line.get_xdata()) == 2}
    assert at == 104 and [text.get_text() for text in axes.texts] == ["after 80 calls", "after 20 calls"]
    assert "never pays back: slower" in figure._supxlabel.get_text()
