"""The engine behind the widgets: one worker thread runs pipelines, everybody else only asks.

`engine().submit(pipe, **call)` returns a Job at once. Jobs run one after the other; a newer job of the same group
supersedes the older ones; a job can be cancelled at any time, which takes effect at its next step. `on_step` and
`on_end` are called in the worker thread, one at a time, and what they raise harms nothing.
"""

from __future__ import annotations

import atexit
import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError
from typing import Any

from helpers.common.lock import guard, turn
from helpers.generation import calls
from helpers.generation.oom import survive
from helpers.generation.records import Record, make

logger = logging.getLogger(__name__)

ENDED = ("done", "failed", "cancelled", "superseded")


class NoPicture(RuntimeError):
    """The call ended without an error and without a picture: NaN, or black from the safety checker."""


class _Stopped(BaseException):
    """Raised inside the pipeline to end it; no `except Exception` on the way holds it up."""


class Job:
    """One call of a pipeline, as `submit` returns it.

    state: "waiting", "running", then for good "done", "failed", "cancelled" or "superseded". step, steps: how many have
    run, of how many (None before the first). record: the picture, once done, or a failed one to look at. changes: what
    was changed of the pipeline after memory ran out. error: the exception of a failed job; traceback: its text.
    """

    def __init__(self, engine: Engine, pipe: Any, call: dict[str, Any], group: Hashable, *listeners: Any) -> None:
        self.state, self.step, self.steps = "waiting", 0, None
        self.record: Record | None = None
        self.error: BaseException | None = None
        self.traceback, self.changes = "", []
        self.group = group
        self.on_step, self.on_end = listeners
        self._engine, self._pipe, self._call = engine, pipe, call
        self._stop: str | None = None  # the state that was asked for
        self._announced = False  # whether on_end has returned

    def __repr__(self) -> str:
        return f"<Job {self.state}, step {self.step} of {self.steps}{f': {self.error}' if self.error else ''}>"

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def cancel(self) -> bool:
        """End the job, before it starts or at its next step; False if it has ended already. Its picture is dropped."""
        return self._cancel("cancelled")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job has ended and `on_end` has returned; False when `timeout` seconds were not enough."""
        if threading.current_thread() is self._engine._thread:
            raise RuntimeError("wait() was called in the worker thread, which runs the jobs: use on_end instead.")
        with self._engine._change:
            return self._engine._change.wait_for(lambda: self._announced, timeout)

    def result(self, timeout: float | None = None) -> Record:
        """Wait for the Record. Raises the job's error, CancelledError, or TimeoutError."""
        if not self.wait(timeout):
            raise TimeoutError(f"the job is still {self.state} after {timeout} seconds.")
        if self.error is not None:
            raise self.error
        if self.record is None:
            raise CancelledError(f"the job was {self.state}.")
        return self.record

    def _cancel(self, state: str) -> bool:
        with self._engine._change:
            if self.ended:
                return False
            self._stop = self._stop or state
            if self.state == "waiting":
                self.state = self._stop
            self._engine._change.notify_all()
            return True

    def _check(self) -> None:
        if self._stop is not None:
            raise _Stopped

    def _watch(self, pipe: Any, step: int, timestep: Any, latents: Any) -> None:
        """After each step: count, show, and stop where that was asked for."""
        self._check()
        self.step, self.steps = step + 1, getattr(pipe, "num_timesteps", None)
        if self.on_step is not None:
            preview = latents.detach().clone() if latents is not None and latents.ndim == 4 else None
            _told(self.on_step, self, preview)
        self._check()

    def _end(self, state: str, *, record: Record | None = None, error: BaseException | None = None) -> None:
        with self._engine._change:
            if self._stop is not None:  # asked to stop after its last step
                state, record, error = self._stop, None, None
            self.record, self.error = record, error
            self.traceback = "".join(traceback.format_exception(error)) if error else ""
            self.state = state


class Engine:
    """One worker thread and its queue. Use `engine()`, which all widgets share."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._queue: deque[Job] = deque()
        self._running: Job | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def submit(
        self,
        pipe: Any,
        *,
        group: Hashable = None,
        on_step: Callable[[Job, Any], Any] | None = None,
        on_end: Callable[[Job], Any] | None = None,
        **call: Any,
    ) -> Job:
        """Queue a call of `make(pipe, **call)`; returns its Job at once. Bad arguments raise TypeError here and now.

        group: earlier jobs of the same group that have not ended are superseded; None supersedes nothing.
        on_step(job, latents): after each step, with a copy, (B, 4, H/8, W/8), or None. on_end(job): once, whatever the
        end.
        """
        job = Job(self, guard(pipe), calls.check(pipe, call), group, on_step, on_end)
        with self._change:
            if self._closed:
                raise RuntimeError("this engine was closed; engine() returns one that works.")
            if group is not None:
                for other in [*self._queue, self._running]:
                    if other is not None and other.group == group:
                        other._cancel("superseded")
            self._queue.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="course-worker", daemon=True)
                self._thread.start()
            self._change.notify_all()
        return job

    def cancel(self, group: Hashable = None) -> None:
        """Cancel the jobs of a group, or all of them."""
        with self._change:
            for job in [*self._queue, self._running]:
                if job is not None and group in (None, job.group):
                    job.cancel()

    def close(self, timeout: float = 30.0) -> bool:
        """Cancel everything and end the worker; False if that took more than `timeout` seconds. Twice is fine."""
        with self._change:
            self._closed = True
            self.cancel()
            self._change.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return True

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return
                job = self._running = self._queue.popleft()
                if not job.ended:
                    job.state = "running"
            if not job.ended:
                self._run(job)
            if job.on_end is not None:
                _told(job.on_end, job)
            with self._change:
                self._running = None
                job._announced = True
                job._pipe = job._call = job.on_step = job.on_end = None
                self._change.notify_all()
            del job  # while it waits, the worker holds no picture

    def _run(self, job: Job) -> None:
        try:
            with turn(job._check), calls.silent(job._pipe):
                pipe, call = job._pipe, job._call
                record, job.changes = survive(pipe, lambda: make(pipe, watch=job._watch, **call), call=call)
        except _Stopped:
            job._end(job._stop or "cancelled")
        except BaseException as error:  # whatever it is, the worker lives on
            job._end("failed", error=error)
            calls.let_go(error)
        else:
            error = NoPicture(record.error) if record.error else None
            job._end("failed" if error else "done", record=record, error=error)


def _told(listener: Callable[..., Any], *values: Any) -> None:
    """Call a listener; its errors go to the log, not to the job."""
    try:
        listener(*values)
    except BaseException:
        logger.exception("a listener of a job failed")


_shared: Engine | None = None
_shared_lock = threading.Lock()


def engine() -> Engine:
    """The engine of this process; a new one where the last was closed."""
    global _shared
    with _shared_lock:
        if _shared is None or _shared._closed:
            _shared = Engine()
        return _shared


@atexit.register
def _close() -> None:
    """A thread inside torch while Python ends would crash the process."""
    if _shared is not None:
        _shared.close(timeout=10.0)
