"""Every chapter runs in the full edition, unchanged, on checkpoints from the small Hub and with no other network.

Only with COURSE_TEST_ALL=1; else chapter 01 in test_offline.py stands for all. The images are noise; what this shows is
that no cell takes the miniatures for granted: their sizes, their folders, the drawn world's classifier.
COURSE_HUB_SIZES=real runs the chapters on images of the real sizes, which takes longer.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from nbformat import NotebookNode

from helpers.catalog.checkpoints import CATALOG
from helpers.cli import notebook_runner
from tests.hub import checkpoints
from tests.hub.conftest import Machine
from tests.hub.server import Hub

pytestmark = pytest.mark.skipif(not os.environ.get("COURSE_TEST_ALL"), reason="COURSE_TEST_ALL=1 runs every chapter")
SIZES = checkpoints.REAL if os.environ.get("COURSE_HUB_SIZES") == "real" else checkpoints.SMALL
PATHS = notebook_runner.chapters()
# Kernels; each computes on one core, and half of its time is imports.
AT_ONCE = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2


@pytest.fixture(scope="module")
def small_hub() -> Iterator[Hub]:
    with Hub() as hub:
        checkpoints.serve(hub, SIZES)
        yield hub


@pytest.fixture(scope="module")
def runs(
    small_hub: Hub, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Path, Future]]:
    """The chapters that this session asks for, all started: path -> the executed notebook, or what stopped it.

    They share one reader's machine: what one has fetched is there for the next.
    """
    folder = tmp_path_factory.mktemp("reader")
    machine = Machine(folder, small_hub)
    wanted = [item.callspec.params["path"] for item in request.session.items if item.path == Path(__file__)]
    convert_pickles(machine, wanted)
    environment = machine.env | {
        "COURSE_TEST_SIZES": json.dumps(SIZES),
        "COURSE_TEST_ROUNDS": "1",
        "OMP_NUM_THREADS": "1",
        "TORCHDYNAMO_DISABLE": "1",  # compiling takes a minute and knows no edition: 09 on the miniatures does it
    }
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(AT_ONCE) as pool:
        for name in set(os.environ) - set(environment) - {"PYTEST_CURRENT_TEST"}:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        yield {path: pool.submit(_run, path, folder / path.stem) for path in wanted}
        pool.shutdown(cancel_futures=True)


def convert_pickles(machine: Machine, paths: list[Path]) -> None:
    """Do what load() asks the reader to do before a chapter reads a checkpoint that is published as pickles."""
    written = "".join(path.read_text(encoding="utf-8") for path in paths)
    pickled = [name for name, checkpoint in CATALOG.items() if checkpoint.pickled and name in written]
    if pickled:
        asked = machine.course("download", *pickled, "--pickles", "--yes")
        assert asked.returncode == 0, asked.stderr


def _run(path: Path, folder: Path) -> NotebookNode:
    """Execute a copy in a folder of its own: what a chapter saves must not land in the checkout."""
    folder.mkdir()
    copy = shutil.copy(path, folder)
    return notebook_runner.execute(Path(copy), cwd=folder, edition="full")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_runs(path: Path, runs: dict[Path, Future]) -> None:
    executed = runs[path].result()
    assert any(cell.cell_type == "code" and cell.outputs for cell in executed.cells), "no cell shows anything"
