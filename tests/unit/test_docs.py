"""The teachers' pages: answers to the quiz, a glossary in order, and sections of chapters that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
# [04](../notebooks/04_regular_checkpoints.ipynb), sections 1 to 3 and 5
CITED = re.compile(r"\[[^\]]+\]\(\.\./(notebooks/\w+\.ipynb)\), sections? ((?:\d+(?:, | and | to )?)+)")


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def headings(chapter: str) -> set[str]:
    cells = json.loads((DOCS.parent / chapter).read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return set(re.findall(r"^## (\d+)\. ", text, re.MULTILINE))


@pytest.mark.parametrize("name", ["glossary.md", "quiz-answers.md"])
def test_every_section_that_is_named_exists(name: str) -> None:
    cited = [
        (chapter, number) for chapter, numbers in CITED.findall(page(name)) for number in re.findall(r"\d+", numbers)
    ]
    assert len(cited) >= 10
    assert [(chapter, number) for chapter, number in cited if number not in headings(chapter)] == []


def test_every_question_has_one_answer_among_its_options() -> None:
    questions = re.findall(r"^\*\*(\d+)\.\*\* .+\n\n(a\) .+)$", page("quiz.md"), re.MULTILINE)
    answers = dict(re.findall(r"^\| (\d+) \| \*\*([a-d])\*\* \|", page("quiz-answers.md"), re.MULTILINE))
    assert [number for number, _ in questions] == [str(number) for number in range(1, 11)] == list(answers)
    assert all(f"{answers[number]}) " in options and options.count(" · ") == 3 for number, options in questions)


def test_the_glossary_is_in_order_with_two_lines_a_term() -> None:
    entries = [entry.strip().split("\n") for entry in re.split(r"^### ", page("glossary.md"), flags=re.MULTILINE)[1:]]
    assert [entry[0] for entry in entries] == sorted((entry[0] for entry in entries), key=str.lower)
    assert [entry[0] for entry in entries if len(entry) != 3] == []


def test_readme_and_lesson_plan_give_each_chapter_the_minutes_that_it_says() -> None:
    said = {}
    for path in sorted((DOCS.parent / "notebooks").glob("*.ipynb")):
        first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        found = re.search(r"^# (\w+) .*?\*\*What you will do\*\* \((\d+) minutes\)", first, re.DOTALL)
        assert found, path.name
        said[found[1]] = found[2]
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| \[(\w+) [^|]+ \| (?:.+) \| (\d+) \|$", readme, re.MULTILINE)) == said
    assert dict(re.findall(r"^### (\w+) .+ \((\d+) minutes\)$", page("teaching.md"), re.MULTILINE)) == said
