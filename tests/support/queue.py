"""A queue of its own for each test, and ways to hold a model or a worker at one step."""

from __future__ import annotations

import threading

import pytest

from helpers.generation import job_queue

LONG = 120.0  # seconds: no test waits so long, unless it hangs


@pytest.fixture(autouse=True)
def job_queue_of_its_own(monkeypatch):
    """The queue that all widgets of this test share; the test fails if its worker does not end."""
    made = job_queue.JobQueue()
    monkeypatch.setattr(job_queue, "shared", made)
    yield made
    assert made.close(LONG)


class Hold:
    """Holds a model at its first step until it is opened; `calls` counts the steps."""

    def __init__(self, pipe) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self.calls = 0
        self.hook = pipe.unet.register_forward_pre_hook(self)

    def __call__(self, *_) -> None:
        self.calls += 1
        self.reached.set()
        assert self.opened.wait(LONG)
