"""Chapters as nbgrader's assignments: every exercise is there, keeps what the learner is given, and grades itself."""

from __future__ import annotations

import ast
import copy
import itertools
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from classroom import assignment
from helpers.cli import notebook_runner

CHAPTERS = [path for path in notebook_runner.chapters() if path.stem != "10_where_next"]  # which asks nothing
REGION = re.compile(r"^### BEGIN SOLUTION\n(.*?)\n### END SOLUTION", re.MULTILINE | re.DOTALL)


def pair(path: Path) -> tuple[Any, Any]:
    return notebook_runner.read(path), notebook_runner.read(path.parent / "solutions" / path.name)


def graded(notebook: Any) -> list[tuple[Any, Any]]:
    """Each cell to solve, with the cell after it."""
    pairs = itertools.pairwise(notebook.cells)
    return [(one, after) for one, after in pairs if one.metadata.get("nbgrader", {}).get("solution")]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_becomes_an_assignment(path: Path) -> None:
    chapter, solutions = pair(path)
    before = copy.deepcopy(chapter)
    made = assignment.convert(chapter, solutions, points=2)
    assert chapter == before
    nbformat.validate(made)
    asked = re.findall(r'^check\("([\w.]+)", answer\)', "\n".join(cell.source for cell in chapter.cells), re.MULTILINE)
    pairs = graded(made)
    assert asked and len(made.cells) == len(chapter.cells) + len(asked) == len(chapter.cells) + len(pairs)
    kept = {cell.id: cell for cell in chapter.cells}
    for exercise, (solved, test) in zip(asked, pairs, strict=True):
        name = exercise.replace(".", "-")
        common = {"schema_version": 3, "cell_type": "code", "task": False}
        mine, theirs = solved.metadata["nbgrader"], test.metadata["nbgrader"]
        assert mine == common | {"grade_id": name, "solution": True, "grade": False, "locked": False}
        graded_by = {"grade_id": f"{name}-test", "solution": False, "grade": True, "locked": True, "points": 2}
        assert theirs == common | graded_by
        [solution] = REGION.findall(solved.source)
        released = REGION.sub("raise NotImplementedError()", solved.source)
        given = kept[solved.id].source.replace(f'\ncheck("{exercise}", answer)', "")
        assert released == f"{given}\nraise NotImplementedError()"
        names = [node.id for node in ast.walk(ast.parse(solution)) if isinstance(node, ast.Name)]
        assert "answer" in names and "check(" not in re.sub(r"import .*", "", solved.source)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in made.cells)


def test_the_solution_is_graded_as_right_and_the_stub_as_wrong() -> None:
    chapter, solutions = pair(notebook_runner.chapters(["03"])[0])
    (solved, test), *_ = graded(assignment.convert(chapter, solutions))
    names: dict[str, Any] = {}
    exec(solved.source, names)
    exec(test.source, names)
    stub: dict[str, Any] = {}
    exec(REGION.sub("", solved.source), stub)
    with pytest.raises(AssertionError, match="03.1"):
        exec(test.source, stub)


def test_a_notebook_of_other_solutions_is_refused() -> None:
    first, second = [pair(path) for path in notebook_runner.chapters(["01", "02"])]
    with pytest.raises(ValueError, match="exercise 01.1 has no solution"):
        assignment.convert(first[0], second[1])
    short = copy.deepcopy(first[0])
    short.cells = [cell for cell in short.cells if cell.id != "exercise-4"]
    with pytest.raises(ValueError, match="no exercise 01.4"):
        assignment.convert(short, first[1])


def test_the_command_writes_where_nbgrader_looks(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["assignment", "00", "1", "--folder", str(tmp_path)])
    assert assignment.main() == 0
    written = [tmp_path / "source" / name / f"{name}.ipynb" for name in ("00_welcome", "01_basics")]
    assert capsys.readouterr().out.split() == [str(path) for path in written]
    for path in written:
        nbformat.validate(notebook_runner.read(path))
    monkeypatch.setattr("sys.argv", ["assignment", "10", "--folder", str(tmp_path)])
    assert assignment.main() == 1 and "10_where_next" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["assignment", "77", "--folder", str(tmp_path)])
    assert assignment.main() == 1 and "77" in capsys.readouterr().err
