"""A queue of its own for each test, and a way to hold a model at its first step."""

from __future__ import annotations

import threading

import pytest

from helpers.generation import job_queue

LONG = 60.0


@pytest.fixture(autouse=True)
def engine(monkeypatch):
    """An engine that remembers no picture of another test."""
    engine = job_queue.Engine()
    monkeypatch.setattr(job_queue, "_shared", engine)
    yield engine
    assert engine.close(LONG)


class Hold:
    """Holds the model at its first step until it is opened."""

    def __init__(self, pipe) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self.calls = 0
        self.hook = pipe.unet.register_forward_pre_hook(self)

    def __call__(self, *_) -> None:
        self.calls += 1
        self.reached.set()
        assert self.opened.wait(LONG)
