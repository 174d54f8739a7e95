"""What the checks of several chapters ask of an answer: each `expect_...` raises `Hint` where it is not so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from PIL import Image

from helpers.analysis.image_metrics import Change
from helpers.generation.records import Record
from helpers.images.masks import by

REPAINTED = 4.0  # grey levels inside the mask: less than any new subject changes
RETURNED = "a PIL image (the call's .images[0])"


class Hint(Exception):
    """What is wrong with an answer, in words for the reader; `check` shows it like a returned hint."""


def describe(answer: Any) -> str:
    """Say in a few words what an answer is, for a hint; never raises."""
    if answer is None or answer is ...:
        return "None" if answer is None else "..."
    answer = answer.item() if isinstance(answer, np.generic) else answer
    name = type(answer).__name__
    try:
        if hasattr(answer, "shape") and hasattr(answer, "dtype"):  # asked first: a tensor has a method called mode
            return f"an array of shape {tuple(answer.shape)}, {answer.dtype}"
        if hasattr(answer, "mode") and hasattr(answer, "size"):
            return f"a PIL image of {answer.width} x {answer.height} pixels, mode {answer.mode}"
        if isinstance(answer, (list, tuple, dict, set)):
            return f"a {name} of {len(answer)}"
        text = repr(answer)
        return text if len(text) <= 60 and isinstance(answer, (str, int, float, bool)) else f"a {name}"
    except Exception:
        return f"a {name}"


def expect_number(answer: Any, what: str = "a number") -> None:
    if isinstance(answer, bool) or not isinstance(answer, Real):
        raise Hint(f"Expected {what}, got {describe(answer)}.")


def expect_list(answer: Any, count: int, what: str) -> None:
    """A list or tuple of so many; what it should hold is the caller's question."""
    if not isinstance(answer, (list, tuple)) or len(answer) != count:
        raise Hint(f"Expected {what}, got {describe(answer)}.")


def expect_image(
    answer: Any, size: tuple[int, int] | None = None, like: str = "", *, what: str = "a PIL image", more: str = ""
) -> None:
    """A PIL image, of that size, which is that of `like`. more: what else to say to an answer of another kind."""
    if not isinstance(answer, Image.Image):
        raise Hint(f"Expected {what}, got {describe(answer)}.{more}")
    if size is not None and answer.size != size:
        raise Hint(f"Expected {by(size)} pixels, {like}, got {by(answer.size)}.")


def expect_images(
    answer: Sequence[Any], names: Sequence[str], size: tuple[int, int], like: str, *, what: str = "a PIL image"
) -> None:
    """Named PIL images of one size, which is that of `like`."""
    for name, one in zip(names, answer, strict=True):
        if not isinstance(one, Image.Image):
            raise Hint(f"{name}: expected {what}, got {describe(one)}.")
        if one.size != size:
            raise Hint(f"{name} has {by(one.size)} pixels, expected {by(size)} as {like} has.")


def expect_repainted(changed: Change, advice: str) -> None:
    if changed.inside < REPAINTED:
        raise Hint(f"Inside the mask hardly anything changed ({changed.inside:.1f} grey levels). {advice}")


def expect_records(answer: Any, count: int | None = None) -> list[Record]:
    """The answer as records with images: `count` of them, or any number."""
    expected = "a list of Records" if count is None else "a Record" if count == 1 else f"a list of {count} Records"
    if isinstance(answer, Record) or not isinstance(answer, (list, tuple)):
        raise Hint(f"Expected {expected}, as sweep yields them, got {describe(answer)}.")
    if not answer or (count is not None and len(answer) != count):
        raise Hint(f"Expected {expected}, got a list of {len(answer)}.")
    if wrong := [one for one in answer if not isinstance(one, Record)]:
        raise Hint(f"Expected {expected}, as sweep yields them, got {describe(wrong[0])} among them.")
    if failed := [one for one in answer if one.error or one.image is None]:
        raise Hint(f"{len(failed)} of them failed: {failed[0].error}")
    return list(answer)


def expect_one_difference(one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> None:
    """Two records' parameters that are equal in all but `name`."""
    names = sorted({*one, *other} - {name})
    if different := [name for name in names if not equal(one.get(name), other.get(name))]:
        raise Hint(f"They differ in {', '.join(different)} as well, so nobody can say which one made the difference.")


def equal(one: Any, other: Any) -> bool:
    """Whether two values are of one type and equal, images, tensors and arrays included."""
    if isinstance(one, Image.Image) and isinstance(other, Image.Image):
        return one.mode == other.mode and one.size == other.size and one.tobytes() == other.tobytes()
    shapes = [getattr(value, "shape", None) for value in (one, other)]
    if type(one) is not type(other) or shapes[0] != shapes[1]:
        return False
    same: Any = one == other
    return bool(same if shapes[0] is None else same.all())


def called(function: Any, *given: Any, told: str, more: str = "", **named: Any) -> Any:
    """What the reader's function returns. told: the call as the hint writes it. more: what else to say if it raises."""
    try:
        return function(*given, **named)
    except Exception as error:
        raise Hint(f"{told} stopped with {type(error).__name__}: {error}.{more}") from error
