"""The Explorer's history: order, pins, sameness, and a limit in bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from helpers.generation.records import Record
from helpers.widgets.explorer.history import THUMB, History


def add(history: History, seed: int, side: int = 64, **parameters) -> int:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    values = {"prompt": "a cat", "seed": seed}
    record = Record(Image.fromarray(pixels), values | parameters, 0.1, {"pipeline": "SomePipeline"})
    return history.add(record, values)


@pytest.fixture
def history() -> History:
    return History(2**19)


def test_images_come_in_order_with_a_thumb_and_each_is_kept_once(history) -> None:
    assert [add(history, seed, 200) for seed in range(3)] == list(history) == [1, 2, 3]
    assert [entry.values["seed"] for entry in history.values()] == [0, 1, 2]
    assert add(history, 1, 200) == 2 and len(history) == 3
    with Image.open(io.BytesIO(history[1].thumb)) as thumb:
        assert thumb.format == "JPEG" and max(thumb.size) == THUMB


def test_three_hundred_images_stay_within_the_limit_and_the_oldest_go(history) -> None:
    for seed in range(300):
        add(history, seed)
        assert history.size <= history.limit
    seeds = [entry.values["seed"] for entry in history.values()]
    assert seeds == list(range(300 - len(seeds), 300)) and 10 < len(seeds) < 40


def test_pinned_images_stay(history) -> None:
    a, b = add(history, 0), add(history, 1)
    history.pin("a", a)
    history.pin("b", b)
    for seed in range(2, 60):
        add(history, seed)
    assert {a, b} < set(history)
    history.pin("a", None)
    add(history, 99)
    assert a not in history and history.pins == {"b": b}
    history.pin("b", 10**9)  # not there: nothing changes
    assert history.pins == {"b": b}


def test_the_newest_is_kept_even_where_it_is_too_large(history) -> None:
    history.limit = 100
    add(history, 0)
    newest = add(history, 1)
    assert list(history) == [newest]


def test_an_input_that_all_share_counts_once(history) -> None:
    history.limit = 2**24
    image, sizes = Image.new("RGB", (512, 512)), [0]
    for seed in range(3):
        add(history, seed, image=image)
        sizes.append(history.size)
    first, *others = np.diff(sizes)
    assert first > 700_000 and all(other < 40_000 for other in others)
