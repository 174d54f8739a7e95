"""Ask before a cell what it will show, and explain after the answer, whichever it was.

The questions stand in `questions.toml`. `predict("01.3")` shows one as plain buttons of ipywidgets, which the keyboard
reaches; without widgets as text, to which `predict("01.3", "b")` answers.
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.exercises import Result, as_html, check_id

LETTERS = "abcdef"


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
        # The letters are written out: JupyterLab numbers every list with 1, 2, 3, and the answer names a letter.
        lines = [f"{letter}) {as_html(text)}" for letter, (text, _) in zip(LETTERS, self.choices, strict=False)]
        why = self.choices[LETTERS.index(self.right)][1]
        return (
            f"{self._asked()}<p>{'<br>'.join(lines)}</p>"
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


@functools.cache
def questions() -> dict[str, Question]:
    """Every question of the course by its id ("05.1")."""
    found = tomllib.loads(Path(__file__).with_name("questions.toml").read_text(encoding="utf-8"))
    return {
        id: Question(id, one["ask"], tuple((text, why) for text, why in one["choices"]), one["right"])
        for id, one in found.items()
    }


def predict(id: str, answer: Any = None) -> Question | Result:
    """Ask the question `id` ("05.1"); with an `answer` (a letter, or what the choice says), explain instead.

    It never waits for input, so a chapter runs through. An unknown `id` or answer raises ValueError.
    """
    check_id(id, questions(), kind="question", call='predict("{}")')
    return questions()[id] if answer is None else questions()[id].answer(answer)


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
