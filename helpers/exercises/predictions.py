"""Ask before a cell what it will show, and explain after the answer, whichever it was.

A chapter's questions stand beside its exercises, in `chapter_01.py`, …:

    question(
        "01.3",
        "Of 25 steps asked for, how many run at strength 0.5?",
        right="b",
        choices={"25": "Strength decides too: …", "12": "`int(0.5 * 25)`, …"},
    )

`predict("01.3")` shows one as plain buttons of ipywidgets, which the keyboard reaches; without widgets as
text, to which `predict("01.3", "b")` answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from helpers.common.validation import did_you_mean
from helpers.exercises import Result, as_html, discover

LETTERS = "abcdef"
LONGEST = 72  # characters of a choice: a button has one line


@dataclass(frozen=True)
class Question:
    """A question with lettered choices, of which one is `right`; a notebook shows it as buttons, a terminal as text."""

    id: str
    ask: str
    choices: tuple[tuple[str, str], ...]  # what it says, and why it is right or wrong
    right: str

    def answer(self, answer: Any) -> Result:
        """What is said to a letter, or to the text or number of a choice; ValueError for anything else."""
        wanted = str(answer).strip().lower()
        for letter, (text, why) in zip(LETTERS, self.choices, strict=False):
            if wanted in (letter, _plain(text).lower()):
                return Result(self.id, letter == self.right, why, kind="Prediction")
        raise ValueError(f'answer={answer!r}: expected one of {self._letters()}, such as predict("{self.id}", "a").')

    def __repr__(self) -> str:
        lines = [f"  {letter}) {_plain(text)}" for letter, (text, _) in zip(LETTERS, self.choices, strict=False)]
        how = f'Answer with predict("{self.id}", "a"), or another of {self._letters()}.'
        return "\n".join([f"Predict {self.id}: {self.ask}", *lines, how])

    def _repr_html_(self) -> str:
        """For a page without a kernel: the answer is folded away."""
        items = "".join(f"<li>{as_html(text)}</li>" for text, _ in self.choices)
        why = self.choices[LETTERS.index(self.right)][1]
        return (
            f'{self._asked()}<ol type="a">{items}</ol>'
            f"<details><summary>Answer</summary>{self.right}) {as_html(why)}</details>"
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        still = {"text/plain": repr(self), "text/html": self._repr_html_()}
        try:
            data = as_buttons(self)._repr_mimebundle_()
        except ImportError:  # no ipywidgets here
            return still
        return {**data, **still}

    def _asked(self) -> str:
        return f"<p><strong>Predict {self.id}.</strong> {as_html(self.ask)}</p>"

    def _letters(self) -> str:
        return ", ".join(LETTERS[: len(self.choices)])


_QUESTIONS: dict[str, Question] = {}


def question(id: str, ask: str, *, right: str, choices: Mapping[str, str]) -> None:
    """Register the question `id` ("05.1"). choices: what each says, with what is explained to a reader who takes it."""
    if not re.fullmatch(r"\d\d\.\d+", id):
        raise ValueError(f"id={id!r}: expected chapter and number, such as '05.1'.")
    if not 2 <= len(choices) <= len(LETTERS):
        raise ValueError(f"choices of {id}: expected 2 to {len(LETTERS)}, got {len(choices)}.")
    if right not in LETTERS[: len(choices)] or len(right) != 1:
        raise ValueError(f"right={right!r} of {id}: expected one letter, from a to {LETTERS[len(choices) - 1]}.")
    if empty := [text for text, why in choices.items() if not text.strip() or not why.strip()]:
        raise ValueError(f"choices of {id}: {empty[0]!r} has no text or no explanation.")
    if long := [text for text in choices if len(text) > LONGEST]:
        raise ValueError(f"choices of {id}: {long[0]!r} is longer than {LONGEST} characters, a button's one line.")
    new = Question(id, ask, tuple(choices.items()), right)
    if _QUESTIONS.get(id, new) != new:
        raise ValueError(f"id={id!r} is taken by {_QUESTIONS[id].ask!r}: choose another number.")
    _QUESTIONS[id] = new


def predict(id: str, answer: Any = None) -> Question | Result:
    """Ask the question `id` ("05.1"); with an `answer` (a letter, or what the choice says), explain instead.

    It never waits for input, so a chapter runs through. An unknown `id` or answer raises ValueError.
    """
    discover()
    if not isinstance(id, str):
        guess = f"{id:04.1f}" if isinstance(id, float) else "05.1"
        raise TypeError(f'id={id!r}: write the question\'s number in quotes, such as predict("{guess}").')
    if id not in _QUESTIONS:
        raise ValueError(f"id={id!r} is no question of the course. {did_you_mean(id, _QUESTIONS)}")
    return _QUESTIONS[id] if answer is None else _QUESTIONS[id].answer(answer)


def as_buttons(asked: Question) -> Any:
    """An ipywidgets box: the question, a button for each choice, and below them what is said to the last one pressed.

    Native buttons: Tab reaches each, Enter or Space presses it, and its name tells afterwards how it was.
    """
    import ipywidgets

    said = ipywidgets.HTML()
    buttons = []

    def pressed(button: Any) -> None:
        letter = LETTERS[buttons.index(button)]
        result = asked.answer(letter)
        button.icon = "check" if result else "times"
        button.description = f"{_label(asked, letter)} ({'right' if result else 'not this one'})"
        said.value = result._repr_html_()

    for letter, _ in zip(LETTERS, asked.choices, strict=False):
        label = _label(asked, letter)  # the tooltip has all of it where a narrow page cuts the button off
        button = ipywidgets.Button(description=label, tooltip=label, layout={"width": "auto", "max_width": "100%"})
        button.on_click(pressed)
        buttons.append(button)
    layout = {"align_items": "flex-start"}
    return ipywidgets.VBox([ipywidgets.HTML(asked._asked()), *buttons, said], layout=layout)


def _label(asked: Question, letter: str) -> str:
    return f"{letter}) {_plain(asked.choices[LETTERS.index(letter)][0])}"


def _plain(text: str) -> str:
    """Without the backticks, which a button or a terminal cannot set."""
    return text.replace("`", "")
