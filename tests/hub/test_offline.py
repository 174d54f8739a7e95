"""What a reader does at home and then on a train: course download, and chapters without any network."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.hub import checkpoints
from tests.hub.server import Hub


@pytest.fixture
def hub() -> Iterator[Hub]:
    """The Hub with small pictures, to save time."""
    with Hub() as hub:
        checkpoints.serve(hub, checkpoints.SMALL)
        yield hub


def test_after_course_download_chapters_run_with_every_connection_refused(hub, machine) -> None:
    machine.env |= {"COURSE_TEST_SIZES": json.dumps(checkpoints.SMALL), "OMP_NUM_THREADS": "1"}
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
