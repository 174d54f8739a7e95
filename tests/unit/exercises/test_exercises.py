"""check() answers every answer with words, never with a traceback."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import exercises
from helpers.exercises import Result, check, describe, exercise


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """Three exercises of this file alone."""
    monkeypatch.setattr(exercises, "_EXERCISES", {})
    monkeypatch.setattr(exercises, "discover", lambda: None)

    @exercise("01.1", right="Half of 8 is `4`.")
    def half(answer):
        if answer != 4:
            return f"Expected half of 8, got {describe(answer)}. Use <b>`8 // 2`</b>."

    @exercise("01.2")
    def fragile(answer):
        return None if answer.strip() == "yes" else "It does not say yes."

    @exercise("02.1")
    def other(answer):
        return None


def test_right_and_wrong_answers():
    right, wrong = check("01.1", 4), check("01.1", 5)
    assert right == Result("01.1", True, "Half of 8 is `4`.") and right
    assert not wrong and wrong.message == "Expected half of 8, got 5. Use <b>`8 // 2`</b>."
    assert str(right) == "✓ Exercise 01.1: Half of 8 is `4`."
    assert repr(wrong).startswith("✗ Exercise 01.1: Expected half of 8")


def test_html_is_coloured_escaped_and_formatted():
    right, wrong = check("01.1", 4)._repr_html_(), check("01.1", 5)._repr_html_()
    assert "#2e8a52" in right and "<code>4</code>" in right
    assert "#b8630f" in wrong and "not yet" in wrong
    assert "&lt;b&gt;<code>8 // 2</code>&lt;/b&gt;" in wrong and "<b>" not in wrong
    assert "<script>" not in check("01.1", "<script>")._repr_html_()


@pytest.mark.parametrize("answer", [4, 5])
def test_the_title_can_be_read_in_both_themes(answer):
    colour = re.search(r"color: #(\w{6})\">", check("01.1", answer)._repr_html_())
    assert colour
    for page in ("ffffff", "111111"):  # JupyterLab's light and dark
        light, dark = sorted((luminance(colour[1]), luminance(page)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 4.2


def luminance(colour: str) -> float:
    """Of "rrggbb", by WCAG 2."""
    shares = [value / 255 for value in bytes.fromhex(colour)]
    linear = [share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_an_answer_that_breaks_its_check_says_so():
    message = check("01.2", 3).message
    assert message.startswith("This answer could not be checked: got 3 (AttributeError")


def test_an_answer_that_breaks_everything():
    class Hostile:
        def __getattr__(self, name):
            raise RuntimeError("no")

        def __eq__(self, other):
            raise RuntimeError("no")

        def __repr__(self):
            raise RuntimeError("no")

    assert not check("01.1", Hostile())
    assert not check("01.2", Hostile())
    assert describe(Hostile()) == "a Hostile"


def test_unknown_ids():
    with pytest.raises(ValueError, match="id='01.9' is no exercise of the course. Did you mean '01.[12]'"):
        check("01.9", 4)
    with pytest.raises(ValueError, match="Known: 01.1, 01.2, 02.1"):
        check("nonsense", 4)
    with pytest.raises(TypeError, match=r'in quotes, such as check\("01.1", answer\)'):
        check(1.1, 4)
    with pytest.raises(TypeError, match="in quotes"):
        check(None, 4)


def test_describe():
    assert describe(Image.new("RGB", (4, 6))) == "a PIL image of 4 x 6 pixels, mode RGB"
    assert describe(np.zeros((2, 3))) == "an array of shape (2, 3), float64"
    assert describe(torch.zeros(2, 3)) == "an array of shape (2, 3), torch.float32"
    assert describe([1, 2]) == "a list of 2"
    assert describe("hello") == "'hello'"
    assert describe("x" * 100) == "a str"


def test_chapters_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.undo()
    (tmp_path / "chapter_98.py").write_text(
        "from helpers.exercises import exercise\n\n\n@exercise('98.1')\ndef one(answer):\n    return 'No.'\n"
    )
    monkeypatch.setattr(exercises, "_EXERCISES", {})
    monkeypatch.setattr(exercises, "__path__", [str(tmp_path)])
    assert check("98.1", 1).message == "No."
