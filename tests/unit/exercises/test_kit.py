"""What several exercises refuse in the same words, and that every check foresees every kind of answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import exercises
from helpers.exercises.kit import describe, equal
from helpers.generation.records import Record
from tests.support.answers import hint

RED = Image.new("RGB", (24, 16), "red")
JUNK = [
    3, 0.5, float("nan"), True, "x", "", b"\0", [], {}, {1: 2}, (RED, RED), RED, np.zeros((2, 3)), torch.zeros(2),
    object(), print,
]  # fmt: skip
NUMBERS = {
    "01.3": "a number, such as 25",
    "04.1": "a number, such as 9",
    "05.1": "a number of steps, such as 25",
    "08.1": "a number of steps, such as 10",
    "09.1": "a number",
}
LISTS = {
    "01.2": "a list of three images, [first, second, third]",
    "02.4": "a list of two images, [painted, composed]",
    "03.4": "a list of three embeddings, [first, again, other]",
    "04.4": "a list of three images, [regular, special, kept]",
    "06.1": "four numbers, such as (1, 2, 3, 4)",
    "06.3": "a list of three, the latents after each call",
    "06.5": "two pipelines, [pipe, other]",
}
IMAGES = {
    "01.1": "a PIL image (the call's .images[0])",
    "01.4": "a PIL image (the call's .images[0])",
    "02.1": "a mask, a PIL image of mode L",
    "02.2": "a mask, a PIL image of mode L",
    "02.3": "a mask, a PIL image of mode L",
    "03.2": "a PIL image",
    "05.5": "a PIL image",
    "06.4": "a PIL image",
    "08.3": "a PIL image",
}
RECORDS = {"05.2": "a list of Records", "05.3": "a Record", "05.4": "a list of 2 Records"}
RECORDS |= {"08.4": "a list of 2 Records", "09.3": "a list of 3 Records", "09.4": "a list of 2 Records"}


def ids() -> list[str]:
    exercises.discover()
    return sorted(exercises._EXERCISES)


@pytest.mark.parametrize("id", ids())
def test_no_answer_and_no_kind_of_answer_surprises_a_check(id: str) -> None:
    for answer in (None, ...):
        assert "No answer yet" in hint(id, answer)
    for answer in JUNK:
        assert hint(id, answer)


@pytest.mark.parametrize("id", NUMBERS)
def test_what_is_no_number_is_named(id: str) -> None:
    for answer in ("18", True, [1]):
        assert hint(id, answer) == f"Expected {NUMBERS[id]}, got {describe(answer)}."


@pytest.mark.parametrize("id", LISTS)
def test_what_is_no_list_of_so_many_is_named(id: str) -> None:
    for answer in ("x", 3, [RED], {1: 2}):
        assert hint(id, answer) == f"Expected {LISTS[id]}, got {describe(answer)}."


@pytest.mark.parametrize("id", IMAGES)
def test_what_is_no_image_is_named(id: str) -> None:
    for answer in ("x", 3, [RED], np.zeros((16, 24))):
        assert hint(id, answer).startswith(f"Expected {IMAGES[id]}, got {describe(answer)}.")


@pytest.mark.parametrize("id", RECORDS)
def test_what_is_no_list_of_records_is_named(id: str) -> None:
    expected = RECORDS[id]
    assert hint(id, RED) == f"Expected {expected}, as sweep yields them, got a PIL image of 24 x 16 pixels, mode RGB."
    assert hint(id, []) == f"Expected {expected}, got a list of 0."
    count = {"a Record": 1, "a list of 3 Records": 3}.get(expected, 2)
    assert "got a PIL image of 24 x 16 pixels, mode RGB among them" in hint(id, [RED] * count)
    failed = Record(None, {"seed": 0}, 0.0, {}, error="MemoryError: no room")
    assert hint(id, [failed] * count) == f"{count} of them failed: MemoryError: no room"


def test_equal_values_are_of_one_type_with_one_content() -> None:
    assert equal(RED, RED.copy()) and equal(torch.ones(2), torch.ones(2)) and equal(1.0, 1.0)
    assert not equal(RED, RED.convert("L")) and not equal(np.ones(2), torch.ones(2)) and not equal(1, 1.0)
    assert not equal(np.ones(2), np.ones(3)) and not equal(RED, "red")


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8, np.float32, np.float64])
def test_numpys_numbers_are_numbers(kind):
    assert exercises.check("07.1", kind(4))
    assert "3 of them make" in hint("07.1", kind(3))
    for exercise in NUMBERS:
        assert "Expected a number" not in (hint(exercise, kind(200)) or "")
    if np.issubdtype(kind, np.integer):
        assert "whole numbers" not in hint("06.1", [kind(200)] * 4)
