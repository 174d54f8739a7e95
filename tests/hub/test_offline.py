"""What a reader does at home and then on a train: course download, and chapters without any network."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.hub import checkpoints
from tests.hub.conftest import Machine
from tests.hub.server import Hub


@pytest.fixture
def reader(tmp_path) -> Iterator[tuple[Machine, Hub]]:
    """A machine and the Hub it reaches, with small pictures to save time."""
    with Hub() as hub:
        checkpoints.serve(hub, checkpoints.SMALL)
        machine = Machine(tmp_path, hub)
        machine.env |= {"COURSE_TEST_SIZES": json.dumps(checkpoints.SMALL), "OMP_NUM_THREADS": "1"}
        yield machine, hub


def test_after_course_download_chapters_run_with_every_connection_refused(reader) -> None:
    machine, hub = reader
    fetched = machine.course("download", "01", "--yes")
    assert fetched.returncode == 0, fetched.stderr
    assert "✓ sd15\n✓ sd15-inpaint\n✓ kandinsky22-inpaint\n✓ pictures\n" in fetched.stdout
    machine.offline()  # chapter 01 loads by plain from_pretrained too
    hub.requests.clear()
    run = machine.course("run", "--check", "--edition", "full", "01", timeout=900)
    assert run.returncode == 0, run.stderr
    assert hub.requests == []
    lacking = machine.course("download", "sdxl-refiner", "--yes")
    assert lacking.returncode == 1 and "Unset it, then: course download sdxl-refiner" in lacking.stderr


def test_the_address_comes_from_the_environment(reader) -> None:
    machine, hub = reader
    told = machine.course("download", "sd15", "--yes", HF_ENDPOINT=f"{hub.url}/")
    assert told.returncode == 0 and f"From {hub.url}:" in told.stdout
    other = machine.course("download", "comic", "--yes", HF_ENDPOINT="http://127.0.0.1:9")
    assert other.returncode == 1 and "http://127.0.0.1:9 cannot be reached" in other.stderr
    assert "Traceback" not in other.stderr
