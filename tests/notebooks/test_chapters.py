"""Every chapter and every solution runs on the miniatures to its last cell, and solutions pass their checks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from helpers.cli import notebook_runner
from tests.notebooks.running import checked, verdicts

GUARD = Path(__file__).parents[1] / "hub" / "guard"
PATHS = notebook_runner.chapters(["all"])


@pytest.mark.parametrize(
    "path", PATHS, ids=lambda path: str(path.relative_to(notebook_runner.NOTEBOOKS).with_suffix(""))
)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_TEST_ROUNDS", "1")  # timed cells run as they are; how long they took nobody asks here
    monkeypatch.setenv("PYTHONPATH", str(GUARD), prepend=os.pathsep)
    # A copy in a folder of its own: what a chapter saves must not land in the checkout.
    copy = shutil.copy(path, tmp_path)
    executed = notebook_runner.execute(Path(copy), cwd=tmp_path, edition="mini")
    assert any(cell.cell_type == "code" and cell.outputs for cell in executed.cells), "no cell shows anything"
    if path.parent.name == "solutions":
        said = verdicts(executed)
        assert list(said) == checked(notebook_runner.NOTEBOOKS / path.name), "the chapter's exercises, in their order"
        assert [text for text in said.values() if not text.startswith("✓")] == []


def test_there_are_chapters() -> None:
    assert [path.stem for path in notebook_runner.chapters()][:1] == ["00_welcome"]
