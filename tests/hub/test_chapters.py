"""Every chapter runs in the full edition, unchanged, on checkpoints from the small Hub and with no other network.

Only with COURSE_TEST_ALL=1; else chapter 01 in test_offline.py stands for all. The images are noise; what this shows is
that no cell takes the miniatures for granted: their sizes, their folders, the drawn world's classifier.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.catalog.checkpoints import CATALOG
from helpers.cli import notebook_runner
from tests.hub import checkpoints
from tests.hub.conftest import Machine
from tests.hub.server import Hub

pytestmark = pytest.mark.skipif(not os.environ.get("COURSE_TEST_ALL"), reason="COURSE_TEST_ALL=1 runs every chapter")
PATHS = notebook_runner.chapters()


@pytest.fixture(scope="module")
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of one reader's machine for all chapters: what one has fetched is there for the next."""
    with Hub() as hub, pytest.MonkeyPatch.context() as patch:
        checkpoints.serve(hub, checkpoints.SMALL)
        machine = Machine(tmp_path_factory.mktemp("reader"), hub)
        wanted = [item.callspec.params["path"] for item in request.session.items if item.path == Path(__file__)]
        convert_pickles(machine, wanted)
        environment = machine.env | {
            "COURSE_TEST_SIZES": json.dumps(checkpoints.SMALL),
            "COURSE_TEST_ROUNDS": "1",
            "TORCHDYNAMO_DISABLE": "1",  # compiling takes a minute and knows no edition: 09 on the miniatures does it
        }
        for name in set(os.environ) - set(environment) - {"PYTEST_CURRENT_TEST"}:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        yield machine.folder


def convert_pickles(machine: Machine, paths: list[Path]) -> None:
    """Do what load() asks the reader to do before a chapter reads a checkpoint that is published as pickles."""
    written = "".join(path.read_text(encoding="utf-8") for path in paths)
    pickled = [name for name, checkpoint in CATALOG.items() if checkpoint.pickled and name in written]
    if pickled:
        asked = machine.course("download", *pickled, "--pickles", "--yes")
        assert asked.returncode == 0, asked.stderr


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_runs(path: Path, reader: Path) -> None:
    folder = reader / path.stem  # what a chapter saves must not land in the checkout
    folder.mkdir()
    executed = notebook_runner.execute(Path(shutil.copy(path, folder)), cwd=folder, edition="full")
    assert any(cell.cell_type == "code" and cell.outputs for cell in executed.cells), "no cell shows anything"
