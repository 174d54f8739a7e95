"""The catalogue's column of chapters, which `course download 05` goes by, is what the chapters' code loads."""

from __future__ import annotations

import ast
import re

import pytest

from helpers.catalog.checkpoints import CATALOG, DEPTH_ESTIMATOR, SEGMENTER
from helpers.cli import notebook_runner

# What no chapter names, by the helper that loads it.
UNNAMED = {
    DEPTH_ESTIMATOR: re.compile(r"\b(depth_map|depth_agreement)\(|partial\(depth_agreement"),
    SEGMENTER: re.compile(r"\bselect\("),
}


def loaded(code: str) -> set[str]:
    """Every course name that stands as a string in the code, and what its helpers load."""
    lines = ["" if line.lstrip().startswith(("%", "!")) else line for line in code.splitlines()]
    words = {node.value for node in ast.walk(ast.parse("\n".join(lines))) if isinstance(node, ast.Constant)}
    unnamed = {name for name, used in UNNAMED.items() if used.search(code)}
    return {name for name in CATALOG if name in words} | unnamed


@pytest.mark.parametrize("number", [path.stem.split("_")[0] for path in notebook_runner.chapters()])
def test_the_column_of_chapters_is_what_chapter_and_solution_load(number):
    paths = [path for path in notebook_runner.chapters(["all"]) if path.stem.split("_")[0] == number]
    cells = [cell for path in paths for cell in notebook_runner.read(path).cells]
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    assert {name for name, checkpoint in CATALOG.items() if number in checkpoint.chapters} == loaded(code)
