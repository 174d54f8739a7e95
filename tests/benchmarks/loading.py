"""Loading, in processes of their own: nothing that one way brought into memory is there for the other."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.timing import compare, tell

ROOT = Path(__file__).resolve().parents[2]
CASES = {"another checkpoint": ("sd15-inpaint", None), "another task": ("sd15", "image2image")}  # after sd15
MIB = 2**20


def second(quick: bool) -> None:
    """The second pipeline of a family, after sd15: load() against from_pretrained, its seconds and its memory."""
    for title, (name, task) in CASES.items():
        found: dict[str, list[dict[str, float]]] = {"load": [], "from_pretrained": []}
        for _ in range(1 if quick else 5):
            for way, results in found.items():
                results.append(_child("second", way, name, task or ""))
        print(f"  {title}: {name}{f' for {task}' if task else ''}")
        _tell(found, plain="from_pretrained")


def start(quick: bool) -> None:
    """From nothing to the first picture: import, load, first call, second call; helpers and plain diffusers."""
    found: dict[str, list[dict[str, float]]] = {"load": [], "from_pretrained": []}
    for _ in range(1 if quick else 5):
        for way, results in found.items():
            results.append(_child("start", way, "sd15-inpaint", "inpaint"))
    for part in found["load"][0]:
        print(f"  {part}")
        compare({way: [one[part] for one in results] for way, results in found.items()}, plain="from_pretrained")


def _tell(found: dict[str, list[dict[str, float]]], *, plain: str) -> None:
    compare({way: [one["seconds"] for one in results] for way, results in found.items()}, plain=plain)
    grown = {way: statistics.median(one["bytes"] for one in results) for way, results in found.items()}
    for way, size in grown.items():
        tell(f"{way}: memory that it adds", f"{size / MIB:.1f} MiB")
    if grown[plain] > 0:
        tell("ratio", f"{max(0, grown['load']) / grown[plain]:.3f}")


def _child(what: str, *arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.loading", what, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


# ---- In the child


def _open(way: str, name: str, task: str | None) -> Any:
    """A pipeline by the course's way, or as the diffusers docs show it."""
    if way == "load":
        from helpers import load

        return load(name, task=task)
    import diffusers

    from helpers.catalog.checkpoints import CATALOG
    from helpers.catalog.tasks import class_name

    kind = getattr(diffusers, class_name(CATALOG[name], task))
    return kind.from_pretrained(CATALOG[name].source, **CATALOG[name].load_kwargs)


def _second(way: str, name: str, task: str) -> dict[str, float]:
    import psutil

    from helpers.common import memory

    first = _open(way, "sd15", None)
    memory.free()
    before = psutil.Process().memory_full_info().uss
    begun = time.perf_counter()
    other = _open(way, name, task or None)
    seconds = time.perf_counter() - begun
    memory.free()
    grown = psutil.Process().memory_full_info().uss - before
    del first, other
    return {"seconds": seconds, "bytes": grown}


def _start(way: str, name: str, task: str) -> dict[str, float]:
    marks = [time.perf_counter()]
    if way == "load":
        import helpers

        helpers.load  # noqa: B018  (it is imported when it is first named)
    else:
        from diffusers import StableDiffusionInpaintPipeline  # noqa: F401
    marks.append(time.perf_counter())
    pipe = _open(way, name, task)
    pipe.set_progress_bar_config(disable=True)
    marks.append(time.perf_counter())

    from tests.benchmarks import scene

    call = scene.call()
    marks.append(time.perf_counter())  # reading the pictures is in neither
    scene.plain(pipe, 0, **call)
    marks.append(time.perf_counter())
    scene.plain(pipe, 1, **call)
    marks.append(time.perf_counter())
    spans = [after - before for before, after in zip(marks, marks[1:], strict=False)]
    spans.pop(2)
    return dict(zip(("import", "load", "first picture", "second picture"), spans, strict=True)) | {"all": sum(spans)}


if __name__ == "__main__":
    print(json.dumps({"second": _second, "start": _start}[sys.argv[1]](*sys.argv[2:])))
