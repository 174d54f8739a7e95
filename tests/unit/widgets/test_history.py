"""The Explorer's history: order, sameness, pins, and its limit."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from helpers.generation.records import Record
from helpers.widgets.explorer.history import THUMB, History


def add(history: History, seed: int) -> int:
    pixels = np.random.default_rng(seed).integers(0, 256, (200, 200, 3), np.uint8)
    values = {"prompt": "a cat", "seed": seed}
    return history.add(Record(Image.fromarray(pixels), values, 0.1, {"pipeline": "SomePipeline"}), values)


def test_images_come_in_order_with_a_thumb_and_each_is_kept_once() -> None:
    history = History()
    assert [add(history, seed) for seed in range(3)] == list(history) == [1, 2, 3]
    assert [entry.values["seed"] for entry in history.values()] == [0, 1, 2]
    assert add(history, 1) == 2 and len(history) == 3
    with Image.open(io.BytesIO(history[1].thumb)) as thumb:
        assert thumb.format == "JPEG" and max(thumb.size) == THUMB


def test_the_oldest_that_is_not_pinned_goes() -> None:
    history = History(limit=10)
    for seed in range(30):
        add(history, seed)
        history.pin("a", 3)
    assert list(history) == [3, *range(22, 31)] and history.pins == {"a": 3}
    history.pin("a", 10**9)  # not there: nothing changes
    history.pin("b", 22)
    assert history.pins == {"a": 3, "b": 22}
    history.pin("a", None)
    add(history, 99)
    assert list(history) == [22, *range(23, 32)]
