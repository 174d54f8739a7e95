"""The engine: order, superseding, cancelling at every moment, errors, previews, and company in other threads."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import CancelledError

import pytest
import torch

from helpers.generation import job_queue
from helpers.generation.job_queue import Engine, NoPicture
from helpers.pipelines.loading import load
from tests.support.calls import arguments
from tests.support.tiny import failing, inpaint_pipeline, tiny_course  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")
LONG = 240  # seconds: no test waits so long, unless it hangs


@pytest.fixture
def engine():
    engine = Engine()
    yield engine
    assert engine.close(LONG)


@pytest.fixture
def call(inpaint) -> dict:
    return arguments(inpaint, "inpaint", num_inference_steps=3)


def plain(pipe, call: dict, seed: int) -> bytes:
    return pipe(**call, generator=torch.Generator("cpu").manual_seed(seed)).images[0].tobytes()


class Gate:
    """A listener that holds the worker at one step until it is opened."""

    def __init__(self, step: int = 1) -> None:
        self.step, self.reached, self.opened = step, threading.Event(), threading.Event()

    def __call__(self, job, latents) -> None:
        if job.step == self.step:
            self.reached.set()
            assert self.opened.wait(LONG)


def test_a_job_makes_the_picture_of_the_plain_call(engine, inpaint, call) -> None:
    seen, ended = [], []
    job = engine.submit(
        inpaint, seed=5, **call, on_step=lambda job, latents: seen.append((job.step, job.steps, latents)),
        on_end=lambda job: ended.append((job.state, threading.current_thread().name)),
    )  # fmt: skip
    record = job.result(LONG)
    assert record.image.tobytes() == plain(inpaint, call, 5)
    assert job.state == "done" and job.error is None and record.parameters["seed"] == 5
    assert ended == [("done", "course-worker")]
    assert [step for step, _, _ in seen] == list(range(1, seen[0][1] + 1))
    assert all(latents.shape == (1, 4, 4, 4) for _, _, latents in seen)
    assert not torch.equal(seen[0][2], seen[1][2])


def test_previews_are_copies(engine, inpaint, call) -> None:
    job = engine.submit(inpaint, seed=5, **call, on_step=lambda job, latents: latents.fill_(0))
    assert job.result(LONG).image.tobytes() == plain(inpaint, call, 5)


def test_jobs_run_in_order_and_submitting_never_waits(engine, inpaint, call) -> None:
    gate, order = Gate(), []
    made = [engine.submit(inpaint, seed=0, **call, on_step=gate, on_end=lambda job: order.append(0))]
    assert gate.reached.wait(LONG)
    for seed in (1, 2):
        made.append(engine.submit(inpaint, seed=seed, **call, on_end=lambda job, seed=seed: order.append(seed)))
    assert [job.state for job in made] == ["running", "waiting", "waiting"]
    gate.opened.set()
    assert all(job.wait(LONG) for job in made)
    assert order == [0, 1, 2] and [job.state for job in made] == ["done"] * 3


def test_a_burst_of_changes_ends_with_the_last(engine, inpaint, call) -> None:
    gate, ended = Gate(), []
    first = engine.submit(inpaint, group="mine", seed=0, **call, on_step=gate, on_end=ended.append)
    assert gate.reached.wait(LONG)
    burst = [engine.submit(inpaint, group="mine", seed=seed, **call, on_end=ended.append) for seed in range(1, 101)]
    gate.opened.set()
    assert all(job.wait(LONG) for job in [first, *burst])
    assert [job.state for job in [first, *burst]] == ["superseded"] * 100 + ["done"]
    assert ended == [first, *burst]  # each once, in order
    assert burst[-1].record.image.tobytes() == plain(inpaint, call, 100)
    assert first.record is None and first.step == 1


def test_another_group_is_left_alone(engine, inpaint, call) -> None:
    gate = Gate()
    mine = engine.submit(inpaint, group="mine", seed=0, **call, on_step=gate)
    other = engine.submit(inpaint, group="other", seed=1, **call)
    none = [engine.submit(inpaint, seed=seed, **call) for seed in (2, 3)]
    engine.submit(inpaint, group="third", seed=4, **call).cancel()
    gate.opened.set()
    assert [job.wait(LONG) and job.state for job in (mine, other, *none)] == ["done"] * 4


def test_cancelled_before_it_starts(engine, inpaint, call) -> None:
    gate, told = Gate(), []
    running = engine.submit(inpaint, seed=0, **call, on_step=gate)
    waiting = engine.submit(inpaint, seed=1, **call, on_end=told.append)
    assert gate.reached.wait(LONG)
    assert waiting.cancel() and waiting.state == "cancelled"
    gate.opened.set()
    assert running.wait(LONG) and running.state == "done"
    assert waiting.wait(LONG) and told == [waiting] and waiting.step == 0 and waiting.record is None
    with pytest.raises(CancelledError, match="the job was cancelled"):
        waiting.result(0)


@pytest.mark.parametrize("step", [1, "last"])
def test_cancelled_at_a_step_and_the_next_run_is_as_ever(engine, inpaint, call, step) -> None:
    decoded = []
    inpaint.vae.decoder.register_forward_pre_hook(lambda *_: decoded.append(1))
    gate = Gate(4 if step == "last" else step)  # PNDM takes one step more than asked for
    job = engine.submit(inpaint, seed=0, **call, on_step=gate)
    assert gate.reached.wait(LONG) and job.step == gate.step
    assert step == 1 or job.step == job.steps
    assert job.cancel()
    gate.opened.set()
    assert job.wait(LONG) and job.state == "cancelled" and job.record is None and decoded == []
    assert engine.submit(inpaint, seed=0, **call).result(LONG).image.tobytes() == plain(inpaint, call, 0)


def test_cancelled_while_it_decodes(engine, inpaint, call) -> None:
    decoding, go_on = threading.Event(), threading.Event()
    hook = inpaint.vae.decoder.register_forward_pre_hook(lambda *_: (decoding.set(), go_on.wait(LONG)) and None)
    job = engine.submit(inpaint, seed=0, **call)
    assert decoding.wait(LONG) and job.cancel()
    go_on.set()
    assert job.wait(LONG) and job.state == "cancelled" and job.record is None
    hook.remove()


def test_cancelled_twice_and_after_the_end(engine, inpaint, call) -> None:
    gate = Gate()
    job = engine.submit(inpaint, seed=0, **call, on_step=gate)
    assert gate.reached.wait(LONG)
    assert job.cancel() and job.cancel()
    gate.opened.set()
    assert job.wait(LONG) and job.state == "cancelled" and not job.cancel()
    done = engine.submit(inpaint, seed=0, **call)
    assert done.wait(LONG) and not done.cancel() and done.state == "done" and done.record is not None


def test_a_listener_may_cancel_its_own_job(engine, inpaint, call) -> None:
    job = engine.submit(inpaint, seed=0, **call, on_step=lambda job, latents: job.cancel())
    assert job.wait(LONG) and job.state == "cancelled" and job.step == 1


def test_an_error_is_kept_with_its_cause_and_the_engine_works_on(engine, inpaint, call) -> None:
    with failing(inpaint):
        job = engine.submit(inpaint, seed=0, **call)
        assert job.wait(LONG) and job.state == "failed" and job.record is None
    assert "the cause" in job.traceback and "the weights are gone" in job.traceback
    with pytest.raises(OSError, match="the weights are gone") as caught:
        job.result(0)
    assert isinstance(caught.value.__cause__, KeyError)
    assert engine.submit(inpaint, seed=0, **call).result(LONG).image.tobytes() == plain(inpaint, call, 0)


def test_not_a_number_is_a_failure_with_a_name(engine, inpaint, call) -> None:
    with torch.no_grad():
        inpaint.unet.conv_out.bias.fill_(float("nan"))
    job = engine.submit(inpaint, seed=0, **call)
    with pytest.raises(NoPicture, match="NaN: the latents stopped being numbers"):
        job.result(LONG)
    assert job.state == "failed" and job.record.image is not None


def test_listeners_that_fail_harm_nothing(engine, inpaint, call, caplog) -> None:
    def broken(*_):
        raise ValueError("a widget's fault")

    with caplog.at_level(logging.ERROR):
        job = engine.submit(inpaint, seed=0, **call, on_step=broken, on_end=broken)
        assert job.wait(LONG) and job.state == "done"
    assert "a widget's fault" in caplog.text


def test_bad_arguments_are_refused_where_they_are_given(engine, inpaint, call) -> None:
    with pytest.raises(TypeError, match="Did you mean 'strength'"):
        engine.submit(inpaint, strenth=0.5, **call)
    assert engine._thread is None


def test_the_kernel_may_call_the_same_pipeline_meanwhile(engine, inpaint, call) -> None:
    expected = {seed: plain(inpaint, call, seed) for seed in range(4)}
    gate = Gate()
    submitted = [engine.submit(inpaint, seed=0, **call, on_step=gate), engine.submit(inpaint, seed=1, **call)]
    assert gate.reached.wait(LONG)
    threading.Timer(0.2, gate.opened.set).start()
    mine = {seed: plain(inpaint, call, seed) for seed in (2, 3)}  # in this thread, as a cell would
    assert mine == {seed: expected[seed] for seed in (2, 3)}
    assert [job.result(LONG).image.tobytes() for job in submitted] == [expected[0], expected[1]]


def test_a_job_that_waits_for_its_turn_can_be_cancelled(engine, inpaint, call) -> None:
    from helpers.common.lock import turn

    with turn():
        job = engine.submit(inpaint, seed=0, **call)
        while job.state == "waiting":
            threading.Event().wait(0.01)
        assert job.cancel() and job.wait(LONG) and job.state == "cancelled"


def test_closed_while_running(inpaint, call) -> None:
    engine, gate = Engine(), Gate()
    running = engine.submit(inpaint, seed=0, **call, on_step=gate)
    waiting = engine.submit(inpaint, seed=1, **call)
    assert gate.reached.wait(LONG)

    def open_once_it_is_closed() -> None:
        while running._stop is None:
            time.sleep(0.005)
        gate.opened.set()

    threading.Thread(target=open_once_it_is_closed, daemon=True).start()
    assert engine.close(LONG) and engine.close()
    assert (running.state, waiting.state) == ("cancelled", "cancelled")
    assert running.wait(0) and waiting.wait(0)
    with pytest.raises(RuntimeError, match="this engine was closed"):
        engine.submit(inpaint, seed=1, **call)
    assert plain(inpaint, call, 1)


def test_closed_from_its_own_thread(inpaint, call) -> None:
    engine = Engine()
    job = engine.submit(inpaint, seed=0, **call, on_step=lambda *_: engine.close())
    assert job.wait(LONG) and job.state == "cancelled" and engine.close(LONG)


def test_waiting_in_the_worker_is_refused(engine, inpaint, call) -> None:
    said = []

    def waits(job) -> None:
        try:
            job.wait()
        except RuntimeError as error:
            said.append(str(error))

    assert engine.submit(inpaint, seed=0, **call, on_end=waits).wait(LONG)
    assert "use on_end instead" in said[0]


def test_a_result_that_is_late_says_so(engine, inpaint, call) -> None:
    gate = Gate()
    job = engine.submit(inpaint, seed=0, **call, on_step=gate)
    assert gate.reached.wait(LONG)
    with pytest.raises(TimeoutError, match="still running after 0.01 seconds"):
        job.result(0.01)
    engine.cancel()
    gate.opened.set()
    assert job.wait(LONG)


def test_an_ended_job_holds_no_pipeline(engine, inpaint, call) -> None:
    job = engine.submit(inpaint, seed=0, **call)
    job.result(LONG)
    assert job._pipe is None and job._call is None and job.on_end is None


def test_pipelines_without_the_new_callback_can_be_watched_and_cancelled_too(engine) -> None:
    pipe = load("upscale-x4")
    call = arguments(pipe, "upscale")
    steps = []
    assert engine.submit(pipe, seed=0, **call, on_step=lambda job, latents: steps.append(job.step)).result(LONG)
    assert steps == sorted(set(steps)) and len(steps) > 1  # diffusers does not report the warm-up steps there
    job = engine.submit(pipe, seed=1, **call, on_step=lambda job, latents: job.cancel())
    assert job.wait(LONG) and job.state == "cancelled" and job.step == steps[0]


def test_there_is_one_engine_until_it_is_closed(monkeypatch) -> None:
    monkeypatch.setattr(job_queue, "_shared", None)
    first = job_queue.engine()
    assert job_queue.engine() is first
    first.close()
    assert job_queue.engine() is not first
