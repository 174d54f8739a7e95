"""Every chapter runs in the full edition, unchanged, on checkpoints from the small Hub and with no other network.

The pictures are noise; what this shows is that no cell takes the miniatures for granted: their sizes, their folders,
the drawn world's judge. COURSE_HUB_SIZES=real runs the chapters on pictures of the real sizes, which takes longer.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import notebooks
from tests.hub import checkpoints
from tests.hub.conftest import Machine
from tests.hub.server import Hub

SIZES = checkpoints.REAL if os.environ.get("COURSE_HUB_SIZES") == "real" else checkpoints.SMALL


@pytest.fixture(scope="module")
def small_hub() -> Iterator[Hub]:
    with Hub() as hub:
        checkpoints.serve(hub, SIZES)
        yield hub


@pytest.fixture(scope="module")
def reader(small_hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """One reader's machine: what a chapter has fetched is there in the next."""
    machine = Machine(tmp_path_factory.mktemp("reader"), small_hub)
    machine.env["COURSE_TEST_SIZES"] = json.dumps(SIZES)
    return machine


@pytest.fixture
def as_reader(reader: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's environment, which a kernel inherits."""
    for name in set(os.environ) - set(reader.env) - {"PYTEST_CURRENT_TEST"}:
        monkeypatch.delenv(name)
    for name, value in reader.env.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("path", notebooks.chapters(), ids=lambda path: path.stem)
def test_it_runs(path: Path, small_hub: Hub, as_reader: None, tmp_path: Path) -> None:
    small_hub.requests.clear()
    copy = shutil.copy(path, tmp_path)
    executed = notebooks.execute(Path(copy), cwd=tmp_path, edition="full")
    assert any(cell.cell_type == "code" and cell.outputs for cell in executed.cells), "no cell shows anything"
    refused = [one.path for one in small_hub.requests if one.status >= 500]
    assert refused == []
