"""The Explorer's history: order, pins, sameness, and a limit that holds for all of them together."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from helpers.generation.records import Record
from helpers.widgets.explorer.history import THUMB, History

ORIGIN = {"pipeline": "SomePipeline"}


def record(seed: int, side: int = 64) -> Record:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    return Record(Image.fromarray(pixels), {"prompt": "a cat", "seed": seed}, 0.1, ORIGIN)


@pytest.fixture
def lost():
    return []


@pytest.fixture
def history(lost):
    history = History(lost.append)
    yield history
    history.clear()


def test_pictures_come_in_order_with_a_thumb(history) -> None:
    entries = [history.add(record(seed, 200))[0] for seed in range(3)]
    assert [entry.record.parameters["seed"] for entry in history] == [0, 1, 2] and len(history) == 3
    assert [entry.number for entry in entries] == sorted({entry.number for entry in entries})
    assert history.get(entries[1].number) is entries[1] and history.get(-1) is None
    with Image.open(io.BytesIO(entries[0].thumb)) as thumb:
        assert thumb.format == "JPEG" and max(thumb.size) == THUMB


def test_the_same_picture_is_kept_once(history) -> None:
    first, new = history.add(record(1))
    again, newer = history.add(record(1))
    assert new and not newer and again is first and len(history) == 1


def test_five_hundred_pictures_stay_within_the_limit_and_the_oldest_go(history, lost) -> None:
    history.limit = 2**20
    first = history.add(record(0))[0]
    for seed in range(1, 500):
        history.add(record(seed))
        assert history.size <= history.limit
    seeds = [entry.record.parameters["seed"] for entry in history]
    assert seeds == list(range(500 - len(seeds), 500)) and 20 < len(seeds) < 80
    gone = [number for numbers in lost for number in numbers]
    assert gone == list(range(first.number, first.number + 500 - len(seeds)))


def test_pinned_pictures_stay(history) -> None:
    history.limit = 2**18
    a, b = (history.add(record(seed))[0] for seed in (0, 1))
    history.pin("a", a.number)
    history.pin("b", b.number)
    for seed in range(2, 40):
        history.add(record(seed))
    assert history.get(a.number) is a and history.get(b.number) is b
    history.pin("a", None)
    history.add(record(99))
    assert history.get(a.number) is None and history.pins == {"b": b.number}
    history.pin("b", 10**9)  # not there: nothing changes
    assert history.pins == {"b": b.number}


def test_the_newest_is_kept_even_where_it_is_too_large(history) -> None:
    history.limit = 100
    entry = history.add(record(0))[0]
    assert list(history) == [entry]


def test_histories_share_the_limit_and_the_older_one_shrinks(history, lost) -> None:
    history.limit = 2**19
    for seed in range(10):
        history.add(record(seed))
    other = History(lambda numbers: None, limit=history.limit)
    for seed in range(10, 40):
        other.add(record(seed))
        assert history.size + other.size <= history.limit
    assert len(history) == 0 and lost
    other.clear()


def test_an_input_that_all_share_counts_once(history) -> None:
    image = Image.new("RGB", (512, 512))
    entries = []
    for seed in range(3):
        made = record(seed)
        made.parameters["image"] = image
        entries.append(history.add(made)[0])
    assert entries[0].size - entries[1].size > 700_000 and abs(entries[1].size - entries[2].size) < 2_000
