"""predict(): a question before a cell; every answer explains."""

from __future__ import annotations

import sys

import pytest

from helpers import predict
from helpers.cli import notebook_runner
from helpers.exercises import Result, predictions
from helpers.exercises.predictions import Question, as_buttons

CHOICES = (("20", "No: `<b>` is the list."), ("`int(12)`", "Yes, 12."), ("A castle", "No, a number."))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch):
    """One question, of this file alone."""
    one = Question("05.1", "How many run at `strength=0.6`?", CHOICES, "b")
    monkeypatch.setattr(predictions, "questions", lambda: {"05.1": one})
    return predict("05.1")


def test_without_widgets_it_is_text_that_says_how_to_answer(asked) -> None:
    assert repr(asked).splitlines() == [
        "Predict 05.1: How many run at `strength=0.6`?",
        "  a) 20",
        "  b) int(12)",
        "  c) A castle",
        'Answer with predict("05.1", "a"), or another of a, b, c.',
    ]


@pytest.mark.parametrize("answer", ["b", " B ", "int(12)", "INT(12)"])
def test_the_right_answer_teaches(asked, answer) -> None:
    assert predict("05.1", answer) == Result("05.1", True, "Yes, 12.", kind="Prediction")
    assert str(predict("05.1", answer)) == "✓ Prediction 05.1: Yes, 12."


@pytest.mark.parametrize("answer", ["a", "A", "20", 20])
def test_a_wrong_answer_teaches_too(asked, answer) -> None:
    result = predict("05.1", answer)
    assert not result and str(result) == "✗ Prediction 05.1: No: `<b>` is the list."
    assert "<code>&lt;b&gt;</code>" in result._repr_html_() and "not yet" in result._repr_html_()


@pytest.mark.parametrize("answer", ["d", "", "castle", 12.5, True, ...])
def test_what_is_no_choice_is_an_error_that_names_them(asked, answer) -> None:
    with pytest.raises(ValueError, match=r'expected one of a, b, c, such as predict\("05.1", "a"\)'):
        predict("05.1", answer)


def test_unknown_ids(asked) -> None:
    with pytest.raises(ValueError, match="id='05.2' is no question of the course. Did you mean '05.1'"):
        predict("05.2")
    with pytest.raises(TypeError, match=r'in quotes, such as predict\("05.1"\)'):
        predict(5.1)


def test_a_press_explains_and_marks_the_button_and_another_may_follow(asked) -> None:
    text, *buttons, said = as_buttons(asked).children
    assert "How many run at <code>strength=0.6</code>?" in text.value and said.value == ""
    assert [button.description for button in buttons] == ["a) 20", "b) int(12)", "c) A castle"]
    buttons[0].click()
    assert "&lt;b&gt;" in said.value and 'role="status"' in said.value
    assert (buttons[0].description, buttons[0].icon) == ("a) 20 (not this one)", "times")
    assert buttons[1].description == "b) int(12)", "it gives the answer away"
    buttons[1].click()
    assert "Yes, 12." in said.value and (buttons[1].description, buttons[1].icon) == ("b) int(12) (right)", "check")


def test_a_notebook_gets_buttons_and_a_page_without_a_kernel_a_folded_answer(asked) -> None:
    data = asked._repr_mimebundle_()
    assert notebook_runner.WIDGET_VIEW in data and data["text/plain"] == repr(asked)
    question_text, folded = data["text/html"].split("<details>")
    assert "<p>a) 20<br>b) <code>int(12)</code><br>c) A castle</p>" in question_text and "b) Yes, 12." in folded
    assert "Yes, 12." in folded and "Yes" not in question_text and "No:" not in data["text/html"]


def test_without_ipywidgets_it_still_shows(asked, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert set(asked._repr_mimebundle_()) == {"text/plain", "text/html"}
