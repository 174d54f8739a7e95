"""The job queue: order, cancelling at every moment, errors, previews, and company in other threads."""

from __future__ import annotations

import gc
import logging
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from types import SimpleNamespace

import pytest
import torch

from helpers.generation import job_queue
from helpers.generation.job_queue import Job, JobQueue, NoImage
from helpers.pipelines.loading import load
from tests.support.calls import arguments
from tests.support.queue import LONG, Hold, job_queue_of_its_own  # noqa: F401
from tests.support.tiny import failing, inpaint_pipeline, tiny_course  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")


@pytest.fixture
def call(inpaint) -> dict:
    return arguments(inpaint, "inpaint", num_inference_steps=3)


@pytest.fixture
def submit(inpaint, call):
    """Submits a job of the inpainting pipeline with this seed."""

    def submit(seed: int = 0, **listeners) -> Job:
        job = Job(inpaint, call | {"seed": seed}, **listeners)
        job_queue.shared.submit(job)
        return job

    return submit


@pytest.fixture
def hold(inpaint):
    hold = Hold(inpaint)
    yield hold
    hold.opened.set()


def plain(pipe, call: dict, seed: int) -> bytes:
    return pipe(**call, generator=torch.Generator("cpu").manual_seed(seed)).images[0].tobytes()


def pixels(job: Job) -> bytes:
    assert job.wait(LONG) and job.state == "done", job.traceback
    return job.record.image.tobytes()


def test_a_job_makes_the_image_of_the_plain_call_and_tells_each_step(submit, inpaint, call) -> None:
    seen, ended = [], []

    def on_step(job, latents):
        seen.append((job.step, job.steps, latents.clone()))
        latents.fill_(0)  # it is a copy

    job = submit(5, on_step=on_step, on_end=lambda job: ended.append((job.state, threading.current_thread().name)))
    assert pixels(job) == plain(inpaint, call, 5) and job.error is None and job.record.parameters["seed"] == 5
    assert ended == [("done", "course-worker")]
    assert [step for step, _, _ in seen] == list(range(1, seen[0][1] + 1))
    assert all(latents.shape == (1, 4, 4, 4) for _, _, latents in seen) and not torch.equal(seen[0][2], seen[1][2])


def test_jobs_run_in_order_and_submitting_never_waits(submit, hold) -> None:
    order = []
    made = [submit(seed, on_end=lambda job: order.append(job.record.parameters["seed"])) for seed in range(3)]
    assert hold.reached.wait(LONG) and [job.state for job in made] == ["running", "waiting", "waiting"]
    assert not made[0].wait(0.01)
    hold.opened.set()
    assert all(job.wait(LONG) for job in made) and order == [0, 1, 2]


def test_the_scheduler_that_the_pipeline_has_when_the_job_runs_is_used(submit, inpaint, call, hold) -> None:
    from diffusers import DDIMScheduler

    first, second = submit(), submit(1)
    assert hold.reached.wait(LONG)
    inpaint.scheduler = DDIMScheduler.from_config(inpaint.scheduler.config)
    hold.opened.set()
    assert first.wait(LONG) and pixels(second) == plain(inpaint, call, 1)
    assert second.record.origin["schedulers"]["scheduler"]["class"] == "DDIMScheduler"


def test_cancelled_before_it_starts(submit, hold) -> None:
    told = []
    running, waiting = submit(), submit(1, on_end=told.append)
    assert hold.reached.wait(LONG) and waiting.cancel() and waiting.state == "cancelled"
    hold.opened.set()
    assert pixels(running) and waiting.wait(LONG)
    assert told == [waiting] and waiting.step == 0 and waiting.record is None


def test_cancelled_at_a_step_and_the_next_run_is_as_ever(submit, inpaint, call) -> None:
    decoded = []
    hook = inpaint.vae.decoder.register_forward_pre_hook(lambda *_: decoded.append(1))
    job = submit(on_step=lambda job, latents: job.cancel())
    assert job.wait(LONG) and job.state == "cancelled" and job.record is None and not decoded
    assert job.step == 1 and not job.cancel()
    hook.remove()
    assert pixels(submit()) == plain(inpaint, call, 0)


def test_cancelled_while_it_decodes(submit, inpaint) -> None:
    decoding, go_on = threading.Event(), threading.Event()
    inpaint.vae.decoder.register_forward_pre_hook(lambda *_: (decoding.set(), go_on.wait(LONG)) and None)
    job = submit()
    assert decoding.wait(LONG) and job.cancel() and job.cancel()
    go_on.set()
    assert job.wait(LONG) and job.state == "cancelled" and job.record is None


def test_an_error_is_kept_with_its_cause_and_the_worker_works_on(submit, inpaint, call) -> None:
    with failing(inpaint):
        job = submit()
        assert job.wait(LONG) and job.state == "failed" and job.record is None and not job.cancel()
    assert "the cause" in job.traceback and "the weights are gone" in job.traceback
    assert isinstance(job.error, OSError) and isinstance(job.error.__cause__, KeyError)
    assert pixels(submit()) == plain(inpaint, call, 0)


def test_an_image_that_is_none_is_a_failure_with_a_name(submit, inpaint) -> None:
    with torch.no_grad():
        inpaint.unet.conv_out.bias.fill_(float("nan"))
    job = submit()
    assert job.wait(LONG) and job.state == "failed" and job.record.image is not None
    assert isinstance(job.error, NoImage) and "NaN" in str(job.error)


def test_listeners_that_fail_harm_nothing(submit, caplog) -> None:
    def broken(*_):
        raise ValueError("a widget's fault")

    with caplog.at_level(logging.ERROR):
        assert pixels(submit(on_step=broken, on_end=broken))
    assert "a widget's fault" in caplog.text


def test_a_cell_may_call_the_same_pipeline_without_waiting(submit, inpaint, call) -> None:
    expected = {seed: plain(inpaint, call, seed) for seed in (0, 2)}
    reached, opened = threading.Event(), threading.Event()
    job = submit(on_step=lambda *_: (reached.set(), opened.wait(LONG)))
    assert reached.wait(LONG)
    assert plain(inpaint, call, 2) == expected[2] and job.state == "running"  # the job stands in the midst of its call
    opened.set()
    assert pixels(job) == expected[0]


def test_pipelines_without_the_new_callback_can_be_watched_and_cancelled_too() -> None:
    pipe, steps = load("upscale-x4"), []
    call = arguments(pipe, "upscale") | {"seed": 0}
    watched = Job(pipe, call, on_step=lambda job, latents: steps.append(job.step))
    cancelled = Job(pipe, call, on_step=lambda job, latents: job.cancel())
    for job in (watched, cancelled):
        job_queue.shared.submit(job)
    assert pixels(watched) and len(steps) > 1  # diffusers does not report the warm-up steps there
    assert cancelled.wait(LONG) and cancelled.state == "cancelled" and cancelled.step == steps[0]


def test_an_ended_job_holds_no_pipeline() -> None:
    pipe = load("sd15")
    job = Job(pipe, {"prompt": "", "num_inference_steps": 1, "seed": 0})
    job_queue.shared.submit(job)
    assert job.wait(LONG)
    gone = weakref.ref(pipe)
    del pipe
    deadline = time.monotonic() + LONG
    while gone() is not None and time.monotonic() < deadline:
        gc.collect()
    assert gone() is None


def test_a_closed_queue_has_cancelled_its_jobs(inpaint, call, hold) -> None:
    queue = JobQueue()
    jobs = [Job(inpaint, call | {"seed": seed}) for seed in range(3)]
    for job in jobs:
        queue.submit(job)
    assert hold.reached.wait(LONG)
    assert not queue.close(0.01)  # the model computes
    hold.opened.set()
    assert queue.close(LONG) and [job.state for job in jobs] == ["cancelled"] * 3 and jobs[2].wait(0)
    with pytest.raises(RuntimeError, match="this queue was closed"):
        queue.submit(jobs[0])
    assert plain(inpaint, call, 1)


def test_a_process_ends_soon_although_a_step_does_not() -> None:
    script = """if True:
        import time
        from helpers.generation import job_queue
        class Endless(job_queue.Job):
            def __init__(self): self.cancel = lambda: True
            def run(self): time.sleep(600)
        job_queue.shared.submit(Endless())
        print("ready", flush=True)
    """
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    start = time.monotonic()
    process.communicate(timeout=LONG)
    assert time.monotonic() - start < 2 * job_queue.EXIT_WAIT


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that interrupt")
def test_an_interrupt_at_any_instruction_keeps_no_worker_waiting(monkeypatch) -> None:
    """As of a cell that waits for a widget's image, or cancels it."""

    class Interrupt(BaseException):
        pass

    def strike(*_) -> None:
        raise Interrupt

    monkeypatch.setattr(job_queue.calls, "check", lambda pipe, call: call)
    monkeypatch.setattr(
        job_queue, "retry_on_oom", lambda *_, **__: time.sleep(0.0005) or (SimpleNamespace(error=None), [])
    )
    before, struck = signal.signal(signal.SIGALRM, strike), 0
    try:
        for _ in range(1500):
            job = Job(None, {})
            worker = threading.Thread(target=job.run, daemon=True)
            worker.start()
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 1e-3))
                for _ in range(200):
                    job.wait(0.0001)
                    job.cancel()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupt:
                struck += 1
            worker.join(10)
            assert not worker.is_alive() and job.wait(10)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert struck > 300


def test_a_worker_that_an_interrupt_kept_from_starting_is_started_by_the_next_job(submit, monkeypatch) -> None:
    def interrupted(_) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(threading.Thread, "start", interrupted)
        submit(1)
    assert pixels(submit(2))
