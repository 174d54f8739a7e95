"""Drafts: quick pictures while a value is still being chosen, and the full one once it is.

`quick(pipe, call)` is the same call with few steps of a fast scheduler. `Runs` keeps one widget's calls in order on the
engine: a full picture supersedes whatever runs; drafts let each other finish, so that pictures keep coming while a
slider moves, and only the newest waits.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from helpers.generation.job_queue import Job, engine
from helpers.pipelines import inspection

STEPS = 6  # of a draft that are really run
LET_RUN = 1.0  # seconds: a draft older than this gives way to a newer value

# Those that need no further package and no other kind of model, the best known first.
SCHEDULERS = (
    "DDIMScheduler", "PNDMScheduler", "UniPCMultistepScheduler", "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler", "DEISMultistepScheduler", "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler", "DDPMScheduler",
)  # fmt: skip
# Kandinsky's pipelines neither scale what goes into the model nor do without a generator for each step.
_KANDINSKY = ("DDPMScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler")
_FAST = ("UniPCMultistepScheduler", "DPMSolverMultistepScheduler")  # good pictures with few steps


def schedulers(pipe: Any) -> list[str]:
    """The scheduler classes that this pipeline works with, by name; its own is the first."""
    scheduler = pipe.components.get("scheduler")
    if scheduler is None:
        return []
    own = type(scheduler).__name__
    if type(pipe).__name__ == "StableDiffusionLatentUpscalePipeline":  # its model's timesteps are Euler's sigmas
        return [own]
    compatible = {kind.__name__ for kind in getattr(scheduler, "compatibles", [])}
    allowed = _KANDINSKY if "Kandinsky" in type(pipe).__name__ else SCHEDULERS
    return [own, *(name for name in allowed if name in compatible and name != own)]


def quick(pipe: Any, call: dict[str, Any], *, steps: int = STEPS) -> dict[str, Any] | None:
    """The arguments of a draft of this call: about `steps` steps, of a fast scheduler where the pipeline takes one.

    None where the call itself runs no more steps than that. The seed, and so the noise, is the same.
    """
    known = inspection.parameters_of(pipe)
    if "num_inference_steps" not in known or steps < 1:
        return None
    strength = call.get("strength", known["strength"].default) if "strength" in known else 1.0
    wanted = math.ceil(steps / strength) if strength else steps
    if wanted >= call.get("num_inference_steps", known["num_inference_steps"].default):
        return None
    fast = next((name for name in _FAST if name in schedulers(pipe)), None)
    return call | {"num_inference_steps": wanted} | ({"scheduler": fast} if fast else {})


@dataclass
class Run:
    """A call on its way: draft is True for one with few steps, moving for one whose value was not chosen yet."""

    call: dict[str, Any]
    moving: bool
    draft: bool
    job: Job | None = None
    since: float = field(default_factory=time.monotonic)


class Runs:
    """The calls of one widget, on the engine that all widgets share.

    on_step(run, latents), on_end(run): called in the worker thread for the newest run alone; on_end, which finds the
    end in `run.job`, with `lock` held. lock: the widget's own, so that its state changes in one thread at a time.
    """

    def __init__(
        self,
        pipe: Any,
        *,
        on_step: Callable[[Run, Any], Any],
        on_end: Callable[[Run], Any],
        lock: threading.RLock | None = None,
        steps: int = STEPS,
    ) -> None:
        self.pipe, self.steps = pipe, steps
        self.now: Run | None = None  # what is waiting or running
        self._next: dict[str, Any] | None = None  # the newest call that waits for a draft to end
        self._lock = threading.RLock() if lock is None else lock
        self._group = object()
        self._on_step, self._on_end = on_step, on_end

    def start(self, call: dict[str, Any], *, moving: bool = False) -> None:
        """Make this picture; while `moving`, a draft of it. It takes the place of what was asked for before."""
        with self._lock:
            self._next = None
            if moving and self.now is not None and self.now.moving and self._age() < LET_RUN:
                self._next = call
            else:
                self._submit(call, moving)

    def cancel(self) -> bool:
        """End what runs and forget what waits; False if there was nothing."""
        with self._lock:
            self._next = None
            return self.now is not None and self.now.job.cancel()

    def drop(self) -> None:
        """Cancel, and hear nothing of it."""
        with self._lock:
            self.cancel()
            self.now = None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is under way; False when `timeout` seconds were not enough."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:  # not between two runs
                run = self.now
            if run is None:
                return True
            if not run.job.wait(None if end is None else max(0.0, end - time.monotonic())):
                return False

    def _age(self) -> float:
        return time.monotonic() - self.now.since

    def _submit(self, call: dict[str, Any], moving: bool) -> None:
        short = quick(self.pipe, call, steps=self.steps) if moving else None
        run = Run(short or call, moving, short is not None)
        # The lock is held: the worker finds `now` set, whenever it calls back.
        run.job = engine().submit(self.pipe, group=self._group, on_step=self._stepped, on_end=self._ended, **run.call)
        self.now = run

    def _stepped(self, job: Job, latents: Any) -> None:
        with self._lock:
            if self.now is None or self.now.job is not job:
                return
            if self._next is not None and self._age() >= LET_RUN:
                call, self._next = self._next, None
                self._submit(call, moving=True)
                return
            run = self.now
        self._on_step(run, latents)

    def _ended(self, job: Job) -> None:
        with self._lock:
            run = self.now
            if run is None or run.job is not job:
                return
            call, self.now, self._next = self._next, None, None
            try:
                if call is not None:
                    self._submit(call, moving=True)
            finally:
                self._on_end(run)
