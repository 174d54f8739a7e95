"""Drafts: quick images while a value is still being chosen, and the full one once it is.

`draft_arguments(pipe, call)` is the same call with few steps of a fast scheduler; where there is a LoRA for it, a draft
may be a live image instead, which is finished in four (`few_steps`). `RenderQueue` keeps the calls of one
widget in order: a full image replaces whatever runs; drafts let each other finish, so that images keep coming while a
slider moves, and only the newest value waits.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

from helpers.generation import job_queue
from helpers.generation.job_queue import Job
from helpers.pipelines import few_steps
from helpers.pipelines.inspection import parameters_of
from helpers.pipelines.schedulers import compatible_schedulers

STEPS = 6  # that a draft really runs
LET_RUN = 1.0  # seconds: a draft older than this gives way to a newer value
_FAST = ("UniPCMultistepScheduler", "DPMSolverMultistepScheduler")  # good images in few steps


def draft_arguments(pipe: Any, call: dict[str, Any], *, steps: int = STEPS) -> dict[str, Any] | None:
    """The arguments of a draft of this call: about `steps` steps, of a fast scheduler where the pipeline takes one.

    None where the call itself runs no more steps than that. The seed, and so the noise, is the same.
    """
    known = parameters_of(pipe)
    if "num_inference_steps" not in known or steps < 1:
        return None
    strength = call.get("strength", known["strength"].default) if "strength" in known else 1.0
    wanted = math.ceil(steps / strength) if strength else steps
    if wanted >= call.get("num_inference_steps", known["num_inference_steps"].default):
        return None
    fast = next((name for name in _FAST if name in compatible_schedulers(pipe)), None)
    return call | {"num_inference_steps": wanted} | ({"scheduler": fast} if fast else {})


class RenderQueue:
    """The calls of one widget: one job under way, and at most one that waits for a draft to end.

    on_step(job, latents), on_end(job): called in the worker thread for the newest job only; on_end with `lock` held.
    lock: the widget's own, so that its state changes in one thread at a time.
    """

    def __init__(
        self,
        pipe: Any,
        *,
        lock: threading.RLock,
        on_step: Callable[[Job, Any], Any],
        on_end: Callable[[Job], Any],
        draft_steps: int = STEPS,
    ) -> None:
        self.pipe, self.draft_steps = pipe, draft_steps
        self.current: Job | None = None
        self._next: Job | None = None
        self._lock, self._on_step, self._on_end = lock, on_step, on_end

    def start(self, call: dict[str, Any], *, interactive: bool = False, live: bool = False, **others: Any) -> Job:
        """Make this image, or a draft of it while `interactive`, in place of what was asked for before.

        live: the draft is to be a live image. others: `prepare` and `values` of the Job. Arguments that the pipeline
        does not take raise TypeError.
        """
        kind = "full"
        if interactive and live:
            call, kind = few_steps.arguments(call), "live"
        elif interactive and (short := draft_arguments(self.pipe, call, steps=self.draft_steps)):
            call, kind = short, "draft"
        job = Job(
            self.pipe, call, interactive=interactive, kind=kind, on_step=self._stepped, on_end=self._ended, **others
        )
        with self._lock:
            current = self.current
            if interactive and current is not None and current.interactive and not self._is_old(current):
                self._next = job
            else:
                self._submit(job)
        return job

    def cancel(self) -> bool:
        """Cancel what runs and forget what waits; False if there was nothing."""
        with self._lock:
            self._next = None
            return self.current is not None and self.current.cancel()

    def drop(self) -> None:
        """Cancel, and hear nothing of it."""
        with self._lock:
            self.cancel()
            self.current = None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is under way; False if `timeout` seconds were not enough."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:  # not between two jobs
                job = self.current
            if job is None:
                return True
            if not job.wait(None if end is None else max(0.0, end - time.monotonic())):
                return False

    @staticmethod
    def _is_old(job: Job) -> bool:
        return time.monotonic() - job.submitted >= LET_RUN

    def _submit(self, job: Job) -> None:
        # The lock is held: the worker finds `current` set, whenever it calls back.
        if self.current is not None:
            self.current.cancel()
        self.current, self._next = job, None
        job_queue.shared.submit(job)

    def _stepped(self, job: Job, latents: Any) -> None:
        with self._lock:
            if job is not self.current:
                return
            if self._next is not None and self._is_old(job):
                self._submit(self._next)
                return
        self._on_step(job, latents)

    def _ended(self, job: Job) -> None:
        with self._lock:
            if job is not self.current:
                return
            self.current, waiting = None, self._next
            if waiting is not None:
                self._submit(waiting)
            self._on_end(job)
