"""The Explorer, driven from Python by the messages that its sliders send; what a browser then draws is not in it."""

from __future__ import annotations

import random
import threading
import time
from functools import partial
from typing import Any

from tests.benchmarks import scene
from tests.benchmarks.timing import seconds, tell_ratio, tell_times


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
