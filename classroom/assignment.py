"""A chapter as nbgrader's assignment: each exercise is a cell to solve and a locked one that grades it with `check`.

    python -m classroom.assignment 01 02 --folder my-nbgrader-course

The solutions stand where nbgrader cuts them out (`nbgrader generate_assignment 01_basics`); the learner keeps what the
chapter's own cell has.
"""

from __future__ import annotations

import argparse
import copy
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.cli import notebook_runner

if TYPE_CHECKING:
    from nbformat import NotebookNode

_CHECK = re.compile(r'^check\("(\d\d[a-z]?\.\d+)", answer\)\n?', re.MULTILINE)


def convert(chapter: NotebookNode, solutions: NotebookNode, *, points: float = 1) -> NotebookNode:
    """A copy of the chapter, without outputs, that nbgrader takes as an assignment's source.

    points: of each exercise. ValueError where an exercise has no solution, or the other way round.
    """
    import nbformat

    solved = _solved(solutions)
    made = copy.deepcopy(chapter)
    cells = []
    for cell in made.cells:
        cells.append(cell)
        if cell.cell_type != "code":
            continue
        cell.outputs, cell.execution_count = [], None
        if (found := _CHECK.search(cell.source)) is None:
            continue
        exercise = found[1]
        if exercise not in solved:
            raise ValueError(f"exercise {exercise} has no solution in this notebook of solutions.")
        given = _CHECK.sub("", cell.source).rstrip()
        cell.source = f"{given}\n### BEGIN SOLUTION\n{solved.pop(exercise)}\n### END SOLUTION"
        cell.metadata["nbgrader"] = _metadata(exercise, solution=True)
        code = f'from helpers import check\n\nresult = check("{exercise}", answer)\nassert result, result'
        test = nbformat.v4.new_code_cell(code, id=f"{cell.id}-test")
        test.metadata["nbgrader"] = _metadata(f"{exercise}-test", points=points)
        cells.append(test)
    if solved:
        raise ValueError(f"the chapter has no exercise {', '.join(solved)}.")
    made.cells = cells
    return made


def _solved(solutions: NotebookNode) -> dict[str, str]:
    """The code that solves each exercise: that of all cells after the exercise before."""
    found: dict[str, str] = {}
    sources: list[str] = []
    for cell in solutions.cells:
        if cell.cell_type != "code":
            continue
        sources.append(_CHECK.sub("", cell.source).rstrip())
        if asked := _CHECK.search(cell.source):
            found[asked[1]] = "\n\n".join(sources)
            sources = []
    return found


def _metadata(name: str, *, solution: bool = False, points: float | None = None) -> dict:
    """nbgrader's, in its third schema: a cell to solve, or one that grades."""
    told = {
        "schema_version": 3, "grade_id": name.replace(".", "-"), "cell_type": "code", "task": False,
        "solution": solution, "grade": points is not None, "locked": not solution,
    }  # fmt: skip
    return told if points is None else told | {"points": points}


def main() -> int:
    about = "Write chapters as sources of nbgrader's assignments."
    parser = argparse.ArgumentParser(prog="python -m classroom.assignment", description=about)
    parser.add_argument("chapters", nargs="+", help="numbers, such as 01 05")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="nbgrader's course")
    asked = parser.parse_args()
    try:
        for path in notebook_runner.chapters(asked.chapters):
            read = [notebook_runner.read(one) for one in (path, path.parent / "solutions" / path.name)]
            target = asked.folder / "source" / path.stem / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            notebook_runner.write(convert(*read), target)
            print(target)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
