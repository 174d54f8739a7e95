"""Drafts: what a quick call is, and the order in which drafts and full images run."""

from __future__ import annotations

import threading

import pytest

from helpers.generation import drafts
from helpers.generation.drafts import RenderQueue, draft_arguments
from helpers.generation.records import make
from helpers.pipelines.loading import load
from helpers.pipelines.schedulers import compatible_schedulers
from tests.support.calls import arguments
from tests.support.queue import LONG, Hold, job_queue_of_its_own  # noqa: F401
from tests.support.tiny import inpaint_pipeline, quiet, tiny_course  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")


@pytest.fixture
def call(inpaint) -> dict:
    return arguments(inpaint, "inpaint", num_inference_steps=25, seed=0)


@pytest.fixture
def hold(inpaint):
    hold = Hold(inpaint)
    yield hold
    hold.opened.set()


@pytest.fixture
def ended():
    return []


@pytest.fixture
def queue(inpaint, ended):
    queue = RenderQueue(inpaint, lock=threading.RLock(), on_step=lambda *_: None, on_end=ended.append)
    yield queue
    queue.cancel()
    assert queue.wait(LONG)


def states(jobs) -> list[tuple]:
    return [(job.call["seed"], job.interactive, job.state) for job in jobs]


@pytest.mark.parametrize(("strength", "steps"), [(1.0, 6), (0.9, 7), (0.6, 10), (0.5, 12), (0.3, 20)])
def test_a_draft_runs_six_steps_of_a_fast_scheduler_with_the_same_seed(inpaint, call, strength, steps) -> None:
    call |= {"strength": strength, "num_inference_steps": 30}
    draft = draft_arguments(inpaint, call)
    assert draft == call | {"num_inference_steps": steps, "scheduler": "UniPCMultistepScheduler"}
    ran = []
    inpaint.unet.register_forward_pre_hook(lambda *_: ran.append(1))
    make(inpaint, **draft)
    assert len(ran) == 6


def test_a_call_that_is_as_quick_has_no_draft(inpaint, call) -> None:
    assert draft_arguments(inpaint, call | {"num_inference_steps": 6}) is None
    assert draft_arguments(inpaint, call | {"num_inference_steps": 20, "strength": 0.3}) is None
    assert draft_arguments(inpaint, call, steps=0) is None
    assert draft_arguments(inpaint, call | {"num_inference_steps": 7}) is not None


def test_the_latent_upscaler_gets_only_what_its_model_bears() -> None:
    assert compatible_schedulers(load("upscale-x2")) == ["EulerDiscreteScheduler"]


def test_drafts_let_each_other_finish_and_only_the_newest_waits(queue, hold, call, ended, monkeypatch) -> None:
    monkeypatch.setattr(drafts, "LET_RUN", LONG)
    for seed in range(100):
        queue.start(call | {"seed": seed}, interactive=True)
        if not seed:
            assert hold.reached.wait(LONG)
    hold.opened.set()
    assert queue.wait(LONG)
    assert states(ended) == [(0, True, "done"), (99, True, "done")]
    assert all(job.kind == "draft" for job in ended) and hold.calls == 12


def test_an_old_draft_gives_way_at_its_next_step(queue, hold, call, ended, monkeypatch) -> None:
    monkeypatch.setattr(drafts, "LET_RUN", LONG)
    queue.start(call, interactive=True)
    assert hold.reached.wait(LONG)
    queue.start(call | {"seed": 1}, interactive=True)
    monkeypatch.setattr(drafts, "LET_RUN", 0.0)  # time passes
    hold.opened.set()
    assert queue.wait(LONG)
    assert states(ended) == [(1, True, "done")] and hold.calls == 1 + 6


def test_a_full_image_supersedes_the_draft_and_what_waits(queue, hold, call, ended) -> None:
    first = queue.start(call, interactive=True)
    assert hold.reached.wait(LONG)
    queue.start(call | {"seed": 1}, interactive=True)
    queue.start(call | {"seed": 2, "num_inference_steps": 9})
    hold.opened.set()
    assert queue.wait(LONG)
    assert first.state == "cancelled" and first.step <= 1
    assert states(ended) == [(2, False, "done")] and ended[0].kind == "full"


def test_a_burst_of_full_images_ends_with_the_last(queue, hold, call, ended) -> None:
    jobs = []
    for seed in range(100):
        jobs.append(queue.start(call | {"seed": seed, "num_inference_steps": 3}))
        if not seed:
            assert hold.reached.wait(LONG)
    hold.opened.set()
    assert queue.wait(LONG)
    assert [job.state for job in jobs] == ["cancelled"] * 99 + ["done"] and ended == jobs[-1:]
    assert ended[0].record.parameters["seed"] == 99


def test_another_widget_is_left_alone(queue, inpaint, hold, call, ended) -> None:
    other = RenderQueue(inpaint, lock=threading.RLock(), on_step=lambda *_: None, on_end=ended.append)
    for seed in range(4):
        (queue if seed % 2 else other).start(call | {"seed": seed, "num_inference_steps": 2})
    hold.opened.set()
    assert queue.wait(LONG) and other.wait(LONG)
    assert states(ended) == [(2, False, "done"), (3, False, "done")]


def test_cancel_ends_what_runs_and_forgets_what_waits(queue, hold, call, ended) -> None:
    assert not queue.cancel()
    queue.start(call, interactive=True)
    assert hold.reached.wait(LONG)
    queue.start(call | {"seed": 1}, interactive=True)
    assert queue.cancel() and not queue.wait(0.01)
    hold.opened.set()
    assert queue.wait(LONG) and not queue.cancel()
    assert states(ended) == [(0, True, "cancelled")]


def test_nothing_is_heard_of_what_was_dropped(queue, hold, call, ended) -> None:
    job = queue.start(call)
    assert hold.reached.wait(LONG)
    queue.drop()
    hold.opened.set()
    assert job.wait(LONG) and job.state == "cancelled" and ended == []


def test_a_draft_that_fails_makes_room_for_what_waits(inpaint, queue, hold, call, ended) -> None:
    def broken(*_):
        hook.remove()
        raise OSError("gone")

    hook = inpaint.unet.register_forward_pre_hook(broken)
    queue.start(call, interactive=True)
    assert hold.reached.wait(LONG)
    queue.start(call | {"seed": 1}, interactive=True)
    hold.opened.set()
    assert queue.wait(LONG)
    assert states(ended) == [(0, True, "failed"), (1, True, "done")]
