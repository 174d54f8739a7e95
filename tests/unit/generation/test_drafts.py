"""Drafts: what a quick call is, which schedulers work, and the order in which drafts and full pictures run."""

from __future__ import annotations

import pytest

from helpers.generation import drafts, job_queue
from helpers.generation.drafts import Runs, quick, schedulers
from helpers.generation.records import make
from helpers.pipelines.loading import load
from tests.support.calls import arguments
from tests.support.queue import Hold, engine  # noqa: F401
from tests.support.tiny import inpaint_pipeline, quiet, tiny_course  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")
LONG = 120


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
def runs(inpaint, ended):
    runs = Runs(inpaint, on_step=lambda *_: None, on_end=ended.append)
    yield runs
    runs.cancel()
    assert runs.wait(LONG)


def states(ended) -> list[tuple]:
    return [(run.call["seed"], run.moving, run.job.state) for run in ended]


@pytest.mark.parametrize(("strength", "steps"), [(1.0, 6), (0.9, 7), (0.6, 10), (0.5, 12), (0.3, 20)])
def test_a_draft_runs_six_steps_of_a_fast_scheduler_with_the_same_seed(inpaint, call, strength, steps) -> None:
    call |= {"strength": strength, "num_inference_steps": 30}
    draft = quick(inpaint, call)
    assert draft == call | {"num_inference_steps": steps, "scheduler": "UniPCMultistepScheduler"}
    ran = []
    inpaint.unet.register_forward_pre_hook(lambda *_: ran.append(1))
    make(inpaint, **draft)
    assert len(ran) == 6


def test_a_call_that_is_as_quick_has_no_draft(inpaint, call) -> None:
    assert quick(inpaint, call | {"num_inference_steps": 6}) is None
    assert quick(inpaint, call | {"num_inference_steps": 20, "strength": 0.3}) is None
    assert quick(inpaint, call, steps=0) is None
    assert quick(inpaint, call | {"num_inference_steps": 7}) is not None


def test_a_pipeline_without_strength_has_drafts_too() -> None:
    pipe = load("sd15")
    assert quick(pipe, {"prompt": "a cat"}) == {
        "prompt": "a cat", "num_inference_steps": 6, "scheduler": "UniPCMultistepScheduler",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "task"), [("sd15", "text2image"), ("sd15-inpaint", "inpaint"), ("kandinsky22-inpaint", "inpaint")]
)
def test_every_scheduler_that_is_offered_makes_a_picture(name, task) -> None:
    pipe = quiet(name)
    offered = schedulers(pipe)
    assert offered[0] == type(pipe.scheduler).__name__ and len(offered) == len(set(offered)) > 2
    more = {"strength": 0.7} if name == "sd15-inpaint" else {}
    pictures = set()
    for scheduler in offered:
        record = make(pipe, seed=0, scheduler=scheduler, **arguments(pipe, task, num_inference_steps=4, **more))
        assert record.error is None, scheduler
        pictures.add(record.image.tobytes())
    assert len(pictures) > len(offered) / 2  # they do differ


def test_kandinsky_and_the_latent_upscaler_get_only_what_their_models_bear() -> None:
    assert "EulerDiscreteScheduler" not in schedulers(load("kandinsky22-inpaint"))
    assert quick(load("kandinsky22-inpaint"), {"prompt": ""})["scheduler"] == "DPMSolverMultistepScheduler"
    assert schedulers(load("upscale-x2")) == ["EulerDiscreteScheduler"]


def test_drafts_let_each_other_finish_and_only_the_newest_waits(runs, hold, call, ended, monkeypatch) -> None:
    monkeypatch.setattr(drafts, "LET_RUN", LONG)
    for seed in range(100):
        runs.start(call | {"seed": seed}, moving=True)
        if not seed:
            assert hold.reached.wait(LONG)
    hold.opened.set()
    assert runs.wait(LONG)
    assert states(ended) == [(0, True, "done"), (99, True, "done")]
    assert all(run.draft for run in ended) and hold.calls == 12


def test_an_old_draft_gives_way_at_its_next_step(runs, hold, call, ended, monkeypatch) -> None:
    monkeypatch.setattr(drafts, "LET_RUN", LONG)
    runs.start(call, moving=True)
    assert hold.reached.wait(LONG)
    runs.start(call | {"seed": 1}, moving=True)
    monkeypatch.setattr(drafts, "LET_RUN", 0.0)  # time passes
    hold.opened.set()
    assert runs.wait(LONG)
    assert states(ended) == [(1, True, "done")] and hold.calls == 1 + 6


def test_a_full_picture_supersedes_the_draft_and_what_waits(runs, hold, call, ended) -> None:
    runs.start(call, moving=True)
    first = runs.now.job
    assert hold.reached.wait(LONG)
    runs.start(call | {"seed": 1}, moving=True)
    runs.start(call | {"seed": 2, "num_inference_steps": 9})
    hold.opened.set()
    assert runs.wait(LONG)
    assert first.state == "superseded" and first.step <= 1
    assert states(ended) == [(2, False, "done")] and not ended[0].draft


def test_a_burst_of_full_pictures_ends_with_the_last(runs, hold, call, ended) -> None:
    jobs = []
    for seed in range(100):
        runs.start(call | {"seed": seed, "num_inference_steps": 3})
        job_queue.append(runs.now.job)
        if not seed:
            assert hold.reached.wait(LONG)
    hold.opened.set()
    assert runs.wait(LONG)
    assert [job.state for job in jobs] == ["superseded"] * 99 + ["done"]
    assert states(ended) == [(99, False, "done")]
    assert ended[0].job.record.parameters["seed"] == 99


def test_cancel_ends_what_runs_and_forgets_what_waits(runs, hold, call, ended) -> None:
    assert not runs.cancel()
    runs.start(call, moving=True)
    assert hold.reached.wait(LONG)
    runs.start(call | {"seed": 1}, moving=True)
    assert runs.cancel() and not runs.wait(0.01)
    hold.opened.set()
    assert runs.wait(LONG) and not runs.cancel()
    assert states(ended) == [(0, True, "cancelled")]


def test_nothing_is_heard_of_what_was_dropped(runs, hold, call, ended) -> None:
    runs.start(call)
    job = runs.now.job
    assert hold.reached.wait(LONG)
    runs.drop()
    hold.opened.set()
    assert job.wait(LONG) and job.state == "cancelled" and ended == []


def test_a_draft_that_fails_makes_room_for_what_waits(inpaint, runs, hold, call, ended) -> None:

    def broken(*_):
        hook.remove()
        raise OSError("gone")

    hook = inpaint.unet.register_forward_pre_hook(broken)
    runs.start(call, moving=True)
    assert hold.reached.wait(LONG)
    runs.start(call | {"seed": 1}, moving=True)
    hold.opened.set()
    assert runs.wait(LONG)
    assert states(ended) == [(0, True, "failed"), (1, True, "done")]
