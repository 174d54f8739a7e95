"""The queue behind the widgets: one worker thread runs their calls, one after the other.

A widget's callback must never wait for a model, or its Cancel button would wait as well: it submits a `Job` and
returns. Each job runs on a twin of its pipeline, so a cell may call the same pipeline meanwhile.
"""

from __future__ import annotations

import atexit
import logging
import math
import queue
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from helpers.common.memory import release_traceback
from helpers.generation import calls
from helpers.generation.oom import retry_on_oom
from helpers.generation.records import Record, make
from helpers.pipelines import few_steps
from helpers.pipelines.twins import exclusively, twin

logger = logging.getLogger(__name__)

WORKER = "course-worker"  # the thread's name
WAIT = 0.2  # seconds
EXIT_WAIT = 2.0  # seconds for the running step when Python ends; Jupyter terminates a kernel after 2.5


class NoImage(RuntimeError):
    """The call ended without an error and without an image: NaN, or black from the safety checker."""


class _Cancelled(BaseException):
    """Raised inside the pipeline to end its call; not an Exception, so that nothing on the way catches it."""


class Job:
    """One call of a pipeline for a widget.

    pipe, call: what `make(pipe, **call)` takes; TypeError for arguments that the pipeline does not.
    prepare: makes further arguments in the worker thread, from the twin; for what itself needs a model.
    interactive: whether the value is still being changed. kind: "full", "draft" (of fewer steps than were asked for) or
    "live" (finished in few steps, by the few-step LoRA). values: of the widget's controls, for the widget. All of these
    stay with the job.
    on_step(job, latents): called in the worker thread after each step, with a copy of the latents, (B, 4, H/8, W/8), or
        None. on_end(job): called there once, however the job ended. What they raise is logged.

    state: "waiting", "running", then for good "done", "failed" or "cancelled". step, steps: how many steps have run, of
    how many (None before the first). before: how many images of others a class's pool makes first. record: the result;
    that of a failed job may have an image to look at. changes: what was changed about the pipeline after memory ran
    out. error, traceback: of a failed job.
    """

    def __init__(
        self,
        pipe: Any,
        call: dict[str, Any],
        *,
        prepare: Callable[[Any], dict[str, Any]] | None = None,
        interactive: bool = False,
        kind: str = "full",
        values: Any = None,
        on_step: Callable[[Job, Any], Any] | None = None,
        on_end: Callable[[Job], Any] | None = None,
    ) -> None:
        self.call, self.interactive, self.values = calls.check(pipe, call), interactive, values
        self.kind = kind
        self.state, self.step, self.steps, self.before = "waiting", 0, None, 0
        self.record: Record | None = None
        self.error: BaseException | None = None
        self.traceback, self.changes = "", []
        self.submitted = time.monotonic()
        self._pipe, self._prepare, self._on_step, self._on_end = pipe, prepare, on_step, on_end
        # Plain locks, and no Condition or Event: their Python code leaves a lock held where an interrupt strikes inside
        # it, and the worker would wait for it for ever. `_running` is held until the job has ended.
        self._change, self._running = threading.Lock(), threading.Lock()
        self._running.acquire()
        self._cancelled = self._announced = False

    @property
    def ended(self) -> bool:
        return self.state in ("done", "failed", "cancelled")

    def cancel(self) -> bool:
        """End the job before it starts or at its next step, and drop its image; False if it has ended already."""
        with self._change:
            if self.ended:
                return False
            self._cancelled = True
            if self.state == "waiting":
                self.state = "cancelled"
            return True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job has ended and `on_end` has returned; False if `timeout` seconds were not enough."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not self._announced and (left := end - time.monotonic()) > 0:
            # Not for longer at once: an interrupt just after may leave it held, which keeps back other waits alone.
            if self._running.acquire(timeout=min(left, WAIT)):
                self._running.release()
        return self._announced

    def run(self) -> None:
        """Run the job, unless it was cancelled; for the worker thread."""
        with self._change:
            if self.state == "waiting":
                self.state = "running"
        if self.state == "running":
            self._run()
        if self._on_end is not None:
            _notify(self._on_end, self)
        self._pipe = self._prepare = self._on_step = self._on_end = None  # an ended job holds no models
        self._announced = True
        self._running.release()

    def _run(self) -> None:
        record = error = None
        try:
            record, self.changes = retry_on_oom(self._pipe, self._attempt, call=self.call)
            error = NoImage(record.error) if record.error else None
        except _Cancelled:
            pass
        except BaseException as raised:  # whatever it is, the worker lives on
            error = raised
        with self._change:
            if self._cancelled:  # perhaps during its last step
                self.state = "cancelled"
            else:
                self.state, self.record, self.error = "failed" if error else "done", record, error
                self.traceback = "".join(traceback.format_exception(error)) if error else ""
        if error is not None:
            release_traceback(error)

    def _attempt(self) -> Record:
        # Made now, so that a scheduler exchanged meanwhile counts.
        pipe = few_steps.fused(self._pipe) if self.kind == "live" else twin(self._pipe)
        pipe.on_wait = self._wait
        self._check()
        prepare = self._prepare
        more = {} if prepare is None else exclusively(pipe, lambda: prepare(pipe))
        return make(pipe, watch=self._watch, **self.call, **more)

    def _check(self) -> None:
        if self._cancelled:
            raise _Cancelled

    def _wait(self, before: int) -> None:
        self._check()
        self.before = before
        if self._on_step is not None:
            _notify(self._on_step, self, None)

    def _watch(self, pipe: Any, step: int, timestep: Any, latents: Any) -> None:
        self._check()
        self.step, self.steps, self.before = step + 1, getattr(pipe, "num_timesteps", None), 0
        if self._on_step is not None:
            preview = latents.detach().clone() if latents is not None and latents.ndim == 4 else None
            _notify(self._on_step, self, preview)
        self._check()


class JobQueue:
    """Jobs in the order they came, and the thread that runs them. All widgets share `shared`."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Job | Callable[[], Any] | None] = queue.SimpleQueue()
        self._running: Job | None = None
        self._closed = False
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def submit(self, job: Job) -> None:
        """Queue a job; it runs when those before it have ended."""
        job.submitted = time.monotonic()
        self._put(job)

    def call(self, action: Callable[[], Any]) -> None:
        """Queue something else, such as loading what the next jobs need; what it raises is logged."""
        self._put(action)

    def _put(self, job: Job | Callable[[], Any]) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError("this queue was closed.")
            self._jobs.put(job)
            if self._thread is None or not self._thread.is_alive():  # an interrupt may have kept it from starting
                self._thread = threading.Thread(target=self._work, name=WORKER, daemon=True)
                self._thread.start()

    def close(self, timeout: float) -> bool:
        """Cancel every job and end the thread; False if that took more than `timeout` seconds. Twice is fine."""
        with self._lock:
            self._closed = True
            self._jobs.put(None)
        if (job := self._running) is not None:
            job.cancel()
        if self._thread is not None:
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not isinstance(job, Job):
                if not self._closed:
                    _notify(job)
                continue
            self._running = job
            if self._closed:  # looked at after `_running` was set, as close() does it the other way round
                job.cancel()
            job.run()
            self._running = job = None  # while it waits, the thread holds no image


def _notify(listener: Callable[..., Any], *values: Any) -> None:
    try:
        listener(*values)
    except BaseException:
        logger.exception("a listener of a job failed, or what was queued beside the jobs")


shared = JobQueue()


@atexit.register
def _close() -> None:
    """A thread inside torch while Python ends may crash the process."""
    shared.close(EXIT_WAIT)
