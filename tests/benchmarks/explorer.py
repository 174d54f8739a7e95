"""The Explorer, driven from Python by the messages that its sliders send; what a browser then draws is not in it."""

from __future__ import annotations

import random
import threading
import time
from functools import partial
from typing import Any

from tests.benchmarks import scene
from tests.benchmarks.timing import seconds, tell, tell_ratio, tell_times


class Hands:
    """Moves the controls of an Explorer and takes the time until something is on the screen."""

    def __init__(self, **parameters: Any) -> None:
        from helpers import Explorer

        call = scene.call(**parameters)
        self.pipe = scene.pipe()
        self.explorer = Explorer(self.pipe, call.pop("image"), call.pop("mask_image"), seed=0, **call)
        self.explorer.wait()
        self._seen, self._shown = threading.Event(), {}
        self.explorer.observe(self._told, "_state")

    def send(self, moving: bool, **values: Any) -> float:
        """A slider's message, as the widget receives it; the moment it was sent."""
        content = {"kind": "change", "values": values, "moving": moving}
        self._seen.clear()
        start = time.perf_counter()
        self.explorer.comm.handle_msg({"content": {"data": {"method": "custom", "content": content}}, "buffers": []})
        return start

    def until_shown(self, moving: bool, **values: Any) -> float:
        """Seconds from the message to the picture that it asks for: a draft while moving, else the full one."""
        start = self.send(moving, **values)
        if not self._seen.wait(120):
            raise TimeoutError(f"nothing was shown for {values} within two minutes: {self.explorer!r}")
        if self._shown["draft"] is not moving:
            raise RuntimeError(f"draft={self._shown['draft']} was shown where draft={moving} was asked for")
        return self._shown["at"] - start

    def _told(self, change: Any) -> None:
        state = change["new"]
        if state["phase"] == "done":
            self._shown = {"at": time.perf_counter(), "draft": state["draft"]}
            self._seen.set()

    def job(self) -> Any:
        """The job under way."""
        return self.explorer._session.queue.current

    def close(self) -> None:
        self.explorer.close()


def _values(rng: random.Random) -> dict[str, float]:
    """What a hand changes: one slider, to a value that it has not had."""
    if rng.random() < 0.5:
        return {"strength": round(rng.uniform(0.5, 1.0), 4)}
    return {"guidance_scale": round(rng.uniform(1.5, 15.0), 4)}


def slider(quick: bool) -> None:
    """A slider is moved and released, 50 times: to the first draft, to the full picture; and the same plain calls."""
    from helpers.generation import drafts
    from helpers.generation.schedulers import class_named

    hands, theirs, rng = Hands(), scene.pipe(), random.Random(0)
    own = theirs.scheduler
    found: dict[str, list[float]] = {"draft": [], "plain draft": [], "full": [], "plain full": []}
    for number in range(3 if quick else 53):
        values = _values(rng)
        spent = {"draft": hands.until_shown(True, **values)}
        spent["full"] = hands.until_shown(False, **values)
        call = hands.explorer.parameters
        seed = call.pop("seed")
        short = drafts.draft_arguments(hands.pipe, call) or call
        for name, arguments in (("plain draft", short), ("plain full", call)):
            arguments = dict(arguments)
            chosen = arguments.pop("scheduler", None)
            theirs.scheduler = class_named(chosen).from_config(own.config) if chosen else own
            spent[name] = seconds(partial(scene.plain, theirs, seed, **arguments))
        if number >= (1 if quick else 3):
            for name, value in spent.items():
                found[name].append(value)
    hands.close()
    tell_times("slider moved -> first draft on the screen", found["draft"])
    tell_times("plain call with the draft's steps and scheduler", found["plain draft"])
    tell_ratio("ratio", found["draft"], found["plain draft"])
    tell_times("slider released -> full picture", found["full"])
    tell_times(f"plain call with its {scene.STEPS} steps", found["plain full"])
    tell_ratio("ratio", found["full"], found["plain full"])


def stop(quick: bool) -> None:
    """A value changes while a full picture is being made: until the old job has ended, in seconds and in its steps."""
    hands, rng, waits, steps = Hands(num_inference_steps=50), random.Random(1), [], []
    whole = hands.until_shown(False, guidance_scale=3.0)
    for number in range(2 if quick else 50):
        hands.send(False, guidance_scale=round(4 + number / 10, 3))
        job = hands.job()
        while job.step < 2 and not job.ended:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.5 * whole)
        start = hands.send(False, guidance_scale=round(4.05 + number / 10, 3))
        job.wait()
        if job.state == "cancelled":
            waits.append(time.perf_counter() - start)
            steps.append(waits[-1] / (whole / 50))
        hands.explorer.cancel()
        hands.explorer.wait()
    hands.close()
    tell_times("change -> the running job has ended", waits)
    tell("in steps of that job", f"median {sorted(steps)[len(steps) // 2]:.2f}, longest {max(steps):.2f}")


def memory(quick: bool) -> None:
    """Resident memory of the process while an Explorer makes 500 pictures, each one new."""
    import psutil

    process = psutil.Process()
    hands = Hands(num_inference_steps=2)
    marks, first = ((2, 4, 8) if quick else (10, 50, 100, 200, 300, 400, 500)), None
    for number in range(1, marks[-1] + 1):
        hands.until_shown(False, seed=number)
        if number in marks:
            now = process.memory_info().rss / 2**20
            first = now if first is None else first
            kept = len(hands.explorer.records)
            tell(f"after {number} pictures", f"{now:.0f} MiB ({now - first:+.1f}), {kept} in the history")
    hands.close()
