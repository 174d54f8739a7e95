"""Every chapter, and every solution, runs from its first cell to its last on the miniatures."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from helpers import notebooks

PATHS = notebooks.chapters(["all"])


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(notebooks.NOTEBOOKS).with_suffix("")))
def test_it_runs(path: Path, tmp_path: Path) -> None:
    # A copy in a folder of its own: what a chapter saves must not land in the checkout.
    copy = shutil.copy(path, tmp_path)
    executed = notebooks.execute(Path(copy), cwd=tmp_path, edition="mini")
    assert any(cell.cell_type == "code" and cell.outputs for cell in executed.cells), "no cell shows anything"


def test_there_are_chapters() -> None:
    assert [path.stem for path in notebooks.chapters()][:1] == ["00_welcome"]
