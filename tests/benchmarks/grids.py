"""Many pictures at once: a grid, and seeds in a batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.benchmarks import scene
from tests.benchmarks.timing import compare, in_turn, tell


def grid(quick: bool) -> None:
    """A 5 x 5 grid over strength and guidance_scale, exact: sweep against two nested loops of plain calls."""
    from helpers import sweep

    side = 2 if quick else 5
    over = {"strength": np.linspace(0.2, 1.0, side).tolist(), "guidance_scale": np.linspace(2.5, 12.5, side).tolist()}
    call = scene.call(num_inference_steps=5 if quick else scene.STEPS)
    ours, theirs, made = scene.pipe(), scene.pipe(), {}

    def swept() -> None:
        made["sweep"] = [record.image for record in sweep(ours, over=over, progress=False, seed=0, **call)]

    def looped() -> None:
        made["loop"] = [
            scene.plain(theirs, strength=strength, guidance_scale=guidance, **call)
            for strength in over["strength"]
            for guidance in over["guidance_scale"]
        ]

    compare(in_turn({"sweep": swept, "naive loop": looped}, 1 if quick else 5, warmup=not quick), plain="naive loop")
    _tell_differences(made["sweep"], made["loop"])


def seeds(quick: bool) -> None:
    """Eight seeds: in one batch, in an exact sweep, and in a loop of plain calls."""
    from helpers import sweep

    count = 2 if quick else 8
    call = scene.call(num_inference_steps=5 if quick else scene.STEPS)
    ours, theirs, made = scene.pipe(), scene.pipe(), {}

    def swept(batch: bool) -> None:
        records = sweep(ours, over={"seed": range(count)}, batch=batch, progress=False, **call)
        made[batch] = [record.image for record in records]

    def looped() -> None:
        made["loop"] = [scene.plain(theirs, seed, **call) for seed in range(count)]

    ways = {"batched": lambda: swept(True), "exact sweep": lambda: swept(False), "naive loop": looped}
    compare(in_turn(ways, 1 if quick else 5, warmup=not quick), plain="naive loop")
    _tell_differences(made[True], made["loop"], "batched: ")
    _tell_differences(made[False], made["loop"], "exact sweep: ")


def _tell_differences(ours: list[Any], theirs: list[Any], name: str = "") -> None:
    largest = [np.abs(np.asarray(a, int) - np.asarray(b, int)).max() for a, b in zip(ours, theirs, strict=True)]
    equal = sum(value == 0 for value in largest)
    tell(f"{name}pictures that are equal", f"{equal} of {len(largest)}, largest difference {max(largest)} of 255")
