"""Widgets of the tiny course, with a stand-in for their page, closed when the test ends."""

from __future__ import annotations

import warnings

import pytest

from helpers import Explorer
from tests.support.calls import half_mask, noise
from tests.support.queue import LONG, job_queue_of_its_own  # noqa: F401
from tests.support.tiny import inpaint_pipeline, tiny_course  # noqa: F401
from tests.support.widgets import Browser


@pytest.fixture
def explore(monkeypatch):
    """Makes Explorers of few steps, and waits for their first image; each has its page as `browser`."""
    monkeypatch.setattr("helpers.pipelines.latent_preview.step", lambda pipe, latents: noise(9))
    made = []

    def explore(pipe, *inputs, wait: bool = True, **parameters) -> Explorer:
        parameters = {"prompt": "a cat", "num_inference_steps": 3} | parameters
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a mask that is half the image
            explorer = Explorer(pipe, *inputs, **parameters)
        explorer.browser = Browser(explorer)
        made.append(explorer)
        assert not wait or explorer.wait(LONG)
        return explorer

    yield explore
    for explorer in made:
        explorer.close()


@pytest.fixture
def explorer(explore, inpaint) -> Explorer:
    return explore(inpaint, noise(1), half_mask())


@pytest.fixture
def browser(explorer) -> Browser:
    return explorer.browser
