"""Check the answers to a chapter's exercises, with a hint where one is wrong.

Each chapter has a module `chapter_01.py`, … beside this one, found by its name:

    @exercise("01.1", right="The seed alone decides the noise.")
    def same_seed(answer):
        expect_image(answer)
        if answer.tobytes() != first.tobytes():
            return "The images differ. Make a new generator, with the same seed, for every call."

A check returns None where the answer is right, else a hint that says what came and what was expected. What several
chapters ask (`expect_image`, `expect_records`, …) is in `kit` and raises its hint. `predictions` asks the questions of
`questions.toml` before a cell.
"""

from __future__ import annotations

import html
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from helpers.common.validation import did_you_mean
from helpers.exercises import reporting
from helpers.exercises.kit import Hint, describe

__all__ = ["Result", "as_html", "check", "describe", "discover", "exercise"]


@dataclass(frozen=True)
class Result:
    """What is said to an answer: `passed`, and a `message` for the reader; true where the answer is right."""

    id: str
    passed: bool
    message: str
    kind: str = "Exercise"

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        return f"{'✓' if self.passed else '✗'} {self.kind} {self.id}: {self.message}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        # The text keeps the page's own colour. Those of the title are as far from white as from a dark theme's black.
        colour, mark, word = ("#2e8a52", "✓", "right") if self.passed else ("#b8630f", "✗", "not yet")
        title = f"{mark} {self.kind} {self.id}: {word}."
        return (
            f'<div role="status" style="border-left: 4px solid {colour}; padding: 0.4em 0.8em">'
            f'<strong style="color: {colour}">{title}</strong> {as_html(self.message)}</div>'
        )


def as_html(text: str) -> str:
    """The text as HTML: what stands between backticks as code, and its line ends."""
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", html.escape(text)).replace("\n", "<br>")


# id: what finds the fault of an answer, and what is said of a right one
_EXERCISES: dict[str, tuple[Callable[[Any], str | None], str]] = {}


def exercise(id: str, *, right: str = "Well done.") -> Callable[[Callable[[Any], str | None]], Callable]:
    """Register a function that checks the answer of exercise `id` ("01.2"); `right` is said of a right answer."""

    def register(find_fault: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
        _EXERCISES[id] = (find_fault, right)
        return find_fault

    return register


def check_id(id: Any, known: Iterable[str], *, kind: str, call: str) -> None:
    """TypeError or ValueError where `id` is not the number of an exercise or a question, which is its `kind`."""
    if not isinstance(id, str):
        guess = f"{id:04.1f}" if isinstance(id, float) else "01.1"
        raise TypeError(f"id={id!r}: write the {kind}'s number in quotes, such as {call.format(guess)}.")
    if id not in known:
        raise ValueError(f"id={id!r} is no {kind} of the course. {did_you_mean(id, known)}")


def check(id: str, answer: Any) -> Result:
    """Check `answer` to the exercise `id` ("01.2") and return a `Result` that a notebook shows in colour.

    A wrong answer never raises, whatever it is; an unknown `id` raises ValueError.
    """
    discover()
    check_id(id, _EXERCISES, kind="exercise", call='check("{}", answer)')
    find_fault, right = _EXERCISES[id]
    if answer is None or answer is ...:
        return Result(id, False, f"No answer yet (got {describe(answer)}): replace the `...` and run the cell again.")
    try:
        hint = find_fault(answer)
    except Hint as raised:
        hint = str(raised)
    except Exception as error:  # an answer of a kind that its check did not foresee
        hint = f"This answer could not be checked: got {describe(answer)} ({type(error).__name__}: {error})."
    result = Result(id, True, right) if hint is None else Result(id, False, str(hint))
    reporting.tell(id, result.passed, result.message, describe(answer))
    return result


def discover() -> None:
    """Import every chapter's module, so that its exercises are known."""
    for module in pkgutil.iter_modules(__path__):
        if module.name.startswith("chapter_"):
            importlib.import_module(f"{__name__}.{module.name}")
