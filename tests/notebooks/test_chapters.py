"""Every chapter and every solution runs to its last cell, once, and what all chapters have in common.

Chapters 01 to 10 run where their claims are measured (test_claims_*.py). Here run the solutions, in this process too,
and chapter 00 in a kernel, as readers run it; with COURSE_TEST_ALL=1, all chapters and solutions in kernels.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import helpers
from helpers.cli import notebook_runner
from helpers.exercises import Result
from tests.notebooks.running import cells, checked, exercises, visited

GUARD = Path(__file__).parents[1] / "hub" / "guard"
CHAPTERS = notebook_runner.chapters()
TAUGHT = [path for path in CHAPTERS if path.stem != "10_where_next"]  # which asks nothing
SOLUTIONS = [path for path in notebook_runner.chapters(["all"]) if path.parent.name == "solutions"]
IN_A_KERNEL = [*CHAPTERS, *SOLUTIONS] if os.environ.get("COURSE_TEST_ALL") == "1" else CHAPTERS[:1]


def every(paths: list[Path]) -> pytest.MarkDecorator:
    names = [str(path.relative_to(notebook_runner.NOTEBOOKS).with_suffix("")) for path in paths]
    return pytest.mark.parametrize("path", paths, ids=names)


def number(path: Path) -> str:
    return path.stem.split("_")[0]


@pytest.fixture
def clean() -> Iterator[None]:
    """No model and no setting is left for the next page."""
    yield
    helpers.unload()
    torch.set_grad_enabled(True)


@every(IN_A_KERNEL)
def test_it_runs_in_a_kernel(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_TEST_ROUNDS", "1")  # timed cells run as they are; how long they took nobody asks here
    monkeypatch.setenv("PYTHONPATH", str(GUARD), prepend=os.pathsep)
    # A copy in a folder of its own: what a chapter saves must not land in the checkout.
    copy = shutil.copy(path, tmp_path)
    executed = notebook_runner.execute(Path(copy), cwd=tmp_path, edition="mini")
    assert any(cell.cell_type == "code" and cell.outputs for cell in executed.cells), "no cell shows anything"


@every(SOLUTIONS)
@pytest.mark.usefixtures("clean")
def test_a_solution_passes_its_checks(path: Path) -> None:
    results = [value for value in visited(path).displayed.values() if isinstance(value, Result)]
    assert [one.id for one in results] == checked(notebook_runner.NOTEBOOKS / path.name)
    assert [str(one) for one in results if not one] == []


@every(CHAPTERS[1:])
def test_its_claims_run_it(path: Path) -> None:
    claims = Path(__file__).with_name(f"test_claims_{number(path)}.py").read_text(encoding="utf-8")
    assert path.name in claims and "visited(CHAPTER" in claims


@every(TAUGHT)
def test_its_exercises_are_open_in_order_and_those_of_its_solutions(path: Path) -> None:
    numbers, solution = checked(path), notebook_runner.NOTEBOOKS / "solutions" / path.name
    assert numbers == [f"{number(path)}.{place}" for place in range(1, len(numbers) + 1)]
    assert len(exercises(path)) == len(numbers) >= (3 if path in CHAPTERS[1:] else 1)
    assert numbers == checked(solution)
    assert all("No answer yet" in helpers.check(one, ...).message for one in numbers)
    assert all(re.search(r"= \.\.\.$|: \.\.\.", cells(path)[id], re.MULTILINE) for id in exercises(path))


@every([path for path in CHAPTERS if number(path) not in ("00", "01", "02")])
def test_no_cell_names_a_size(path: Path) -> None:
    assert [text for text in cells(path).values() if re.search(r"\b(128 ?[x,] ?128|512)\b", text)] == []


def test_there_are_chapters() -> None:
    assert [path.stem for path in CHAPTERS][:1] == ["00_welcome"]
