"""A learner's own copy, as `make lab` opens it, and its questions, answered by keyboard in both themes."""

from __future__ import annotations

import pytest

from helpers.cli import copies

SETUP = """from helpers import predict
from helpers.exercises import predictions
choices = (("20", "No: it is less."), ("12", "Yes, twelve."))
predictions.questions()["00.99"] = predictions.Question("00.99", "How many run?", choices, "b")"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_question_is_answered_by_keyboard_and_every_answer_explains(open_notebook, theme: str) -> None:
    notebook = open_notebook(SETUP, 'predict("00.99")', theme=theme)
    notebook.run(0)
    notebook.run(1)
    output = notebook.cell(1).locator(".jp-OutputArea-output")
    first = output.get_by_role("button", name="a) 20")
    first.wait_for()
    assert output.get_by_text("How many run?").count() == 1 and output.locator("details").count() == 0
    first.focus()
    notebook.page.keyboard.press("Enter")
    output.get_by_text("No: it is less.").wait_for()
    assert output.get_by_role("button", name="a) 20 (not this one)").count() == 1
    notebook.page.keyboard.press("Tab")
    notebook.page.keyboard.press("Space")
    output.get_by_role("status").get_by_text("Yes, twelve.").wait_for()
    assert output.get_by_role("button", name="b) 12 (right)").count() == 1
    assert output.get_by_text("No: it is less.").count() == 0


def test_a_copy_has_no_outputs_and_leads_to_its_solutions_copy(lab, open_notebook) -> None:
    copies.update(lab.root / copies.FOLDER.name)
    notebook = open_notebook.show(lab.root / copies.FOLDER.name / "00_welcome.ipynb")
    page = notebook.page
    assert page.locator(".jp-Notebook:visible .jp-OutputArea-output").count() == 0
    link = page.locator(".jp-Notebook:visible a", has_text="solutions").first
    link.scroll_into_view_if_needed()
    link.click()
    page.wait_for_url(f"**/{copies.FOLDER.name}/solutions/00_welcome.ipynb*", timeout=60_000)
