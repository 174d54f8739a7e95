"""`python -m tests.benchmarks [NAME ...]`: the course's ways to make images against plain diffusers calls, in turn.

What counts is the ratio to the plain way, which is named first. Nothing is asserted; --quick shows that they run.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

# Before anything imports huggingface_hub, which reads these once.
os.environ.setdefault("COURSE_EDITION", "mini")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from diffusers import LCMScheduler

from helpers import CATALOG, Explorer, load, load_image, load_mask, measure_each, sweep, unload
from helpers.analysis.benchmark import Costs, Measurement
from helpers.analysis.benchmark_charts import machine
from helpers.common import paths
from helpers.generation import drafts
from helpers.generation.records import make
from helpers.pipelines import few_steps
from helpers.pipelines.schedulers import class_named

STEPS = 25


def inpainting() -> Any:
    """A pipeline of its own for each way, on the same models."""
    pipe = load("sd15-inpaint")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def call(*, quick: bool) -> dict[str, Any]:
    inputs = {"image": load_image("seashore"), "mask_image": load_mask("seashore")}
    return {"prompt": "a red boat at the sea shore", **inputs, "num_inference_steps": 5 if quick else STEPS}


def plain(pipe: Any, seed: int = 0, **arguments: Any) -> Any:
    """The call as the diffusers docs show it."""
    return pipe(**arguments, generator=torch.Generator("cpu").manual_seed(seed)).images[0]


def grid(*, quick: bool) -> Costs:
    """A 5 x 5 grid over strength and guidance_scale, exact: sweep against two nested loops of plain calls."""
    side, given, ours, theirs = 2 if quick else 5, call(quick=quick), inpainting(), inpainting()
    over = {"strength": np.linspace(0.2, 1.0, side).tolist(), "guidance_scale": np.linspace(2.5, 12.5, side).tolist()}
    ways = {
        "naive loop": lambda: [
            plain(theirs, strength=strength, guidance_scale=guidance, **given)
            for strength in over["strength"]
            for guidance in over["guidance_scale"]
        ],
        "sweep": lambda: [record.image for record in sweep(ours, over=over, progress=False, seed=0, **given)],
    }
    return _with_differences(measure_each(ways, repeats=1 if quick else 5))


def seeds(*, quick: bool) -> Costs:
    """Eight seeds: in a loop of plain calls, in an exact sweep, and in one batch."""
    count, given, ours, theirs = 2 if quick else 8, call(quick=quick), inpainting(), inpainting()

    def swept(batch: bool) -> list[Any]:
        records = sweep(ours, over={"seed": range(count)}, batch=batch, progress=False, **given)
        return [record.image for record in records]

    ways = {
        "naive loop": lambda: [plain(theirs, seed, **given) for seed in range(count)],
        "exact sweep": lambda: swept(False),
        "batched": lambda: swept(True),
    }
    return _with_differences(measure_each(ways, repeats=1 if quick else 5))


def prompts(*, quick: bool) -> Costs:
    """A 5 x 5 grid of prompts and seeds: in a loop of plain calls, in an exact sweep, and in batches of both."""
    side, given, ours, theirs = 2 if quick else 5, call(quick=quick), inpainting(), inpainting()
    texts = ["a red boat", "a black cat", "a white house", "a castle", "a green tree"][:side]
    del given["prompt"]

    def swept(batch: bool) -> list[Any]:
        records = sweep(ours, over={"prompt": texts, "seed": range(side)}, batch=batch, progress=False, **given)
        return [record.image for record in records]

    ways = {
        "naive loop": lambda: [plain(theirs, seed, prompt=text, **given) for text in texts for seed in range(side)],
        "exact sweep": lambda: swept(False),
        "batched": lambda: swept(True),
    }
    return _with_differences(measure_each(ways, repeats=1 if quick else 5))


def runtime(*, quick: bool) -> Costs:
    """A plain call, and the same with the UNet in ONNX Runtime."""
    given, theirs, ours = call(quick=quick), inpainting(), load("sd15-inpaint", runtime="onnxruntime")
    ours.set_progress_bar_config(disable=True)
    ways = {"PyTorch": lambda: [plain(theirs, **given)], "ONNX Runtime": lambda: [plain(ours, **given)]}
    return _with_differences(measure_each(ways, repeats=1 if quick else 20))


def _with_differences(costs: Costs) -> Costs:
    for name, one in costs.items():
        pairs = zip(one.result, costs[costs.plain].result, strict=True)
        largest = [np.abs(np.asarray(image, int) - np.asarray(other, int)).max() for image, other in pairs]
        equal = sum(value == 0 for value in largest)
        print(f"  {name}: {equal} of {len(largest)} images equal the plain ones, at most {max(largest)} of 255 off")
    return costs


def floor(*, quick: bool) -> Costs:
    """CPU time of the UNet's forward passes of a call alone, of the plain call that makes them, and of make()."""
    pipe, given = inpainting(), call(quick=quick)
    forwards = recorded(pipe, given)

    @torch.no_grad()
    def bare() -> None:
        for args, kwargs in forwards:
            pipe.unet(*args, **kwargs)

    ways = {"forwards": bare, "call": lambda: plain(pipe, **given), "make()": lambda: make(pipe, seed=0, **given)}
    return in_turn({name: cpu_of(way) for name, way in ways.items()}, repeats=2 if quick else 20)


def start(*, quick: bool) -> Costs:
    """CPU time of a new process until its first image: plain diffusers as the docs show it, and load()."""
    steps, folder = 1 if quick else STEPS, paths.ROOT / "data" / "pictures"
    image, mask = (str(folder / f"seashore{kind}.png") for kind in ("", "_mask"))
    plainly = f"""
import torch
from diffusers import AutoPipelineForInpainting
from diffusers.utils import load_image
pipe = AutoPipelineForInpainting.from_pretrained({CATALOG["sd15-inpaint"].source!r}, dtype=torch.float32)
pipe("a boat", image=load_image({image!r}), mask_image=load_image({mask!r}), num_inference_steps={steps})
"""
    ours = f"""
from helpers import load, load_image, load_mask
pipe = load("sd15-inpaint")
pipe("a boat", image=load_image("seashore"), mask_image=load_mask("seashore"), num_inference_steps={steps})
"""
    ways = {"plain": lambda: cpu_of_process(plainly), "load()": lambda: cpu_of_process(ours)}
    return in_turn(ways, repeats=1 if quick else 5, warmup=0)


def loading(*, quick: bool) -> Costs:
    """CPU time of from_pretrained, of load() of what is in memory, and of load() beside another of its family."""
    import diffusers

    name = "sd15-inpaint"
    load("sd15")
    pipe = load(name)
    source, kind = CATALOG[name].source, getattr(diffusers, type(pipe).__name__)

    def beside() -> float:
        unload(name)  # sd15 stays, whose VAE and text encoder are the same
        return cpu_of(lambda: load(name))()

    ways = {
        "plain": cpu_of(lambda: kind.from_pretrained(source, dtype=torch.float32)),
        "UNet alone": cpu_of(lambda: type(pipe.unet).from_pretrained(source, subfolder="unet", dtype=torch.float32)),
        "beside sd15": beside,
        "again": cpu_of(lambda: load(name)),
    }
    return in_turn(ways, repeats=2 if quick else 15)


def cpu_of(way: Callable[[], Any]) -> Callable[[], float]:
    """The way, which tells what CPU time of this process it took, in seconds: a busy machine disturbs that less."""

    def run() -> float:
        begin = time.process_time()
        way()
        return time.process_time() - begin

    return run


def cpu_of_process(code: str) -> float:
    """The CPU time, in seconds, of a Python that runs this code."""
    before = os.times()
    subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=True, capture_output=True)
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])  # of children: user and system


def in_turn(ways: Mapping[str, Callable[[], float]], *, repeats: int, warmup: int = 1) -> Costs:
    """As `measure_each`, of ways that tell themselves what they took."""
    runs: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(warmup + repeats):
        for name, way in ways.items():
            runs[name].append(way())
    return Costs({name: Measurement(tuple(found[warmup:]), 0) for name, found in runs.items()})


def recorded(pipe: Any, given: dict[str, Any]) -> list[tuple[tuple, dict]]:
    """The arguments of each forward pass of the UNet in this call."""
    found: list[tuple[tuple, dict]] = []
    hook = pipe.unet.register_forward_pre_hook(lambda _, args, kwargs: found.append((args, kwargs)), with_kwargs=True)
    try:
        plain(pipe, **given)
    finally:
        hook.remove()
    return found


def live(*, quick: bool) -> Costs:
    """A finished image of four steps, with the LoRA fused, against the plain call of 25 guided ones."""
    given, theirs = call(quick=quick), inpainting()
    arguments = {name: value for name, value in few_steps.arguments(given).items() if name != "scheduler"}
    ways: dict[str, Callable[[], Any]] = {"plain": lambda: plain(theirs, **given)}
    for name, runtime in (("live", "torch"), ("live, ONNX", "onnxruntime")):
        ours = few_steps.fused(load("sd15-inpaint", runtime=runtime))
        ours.scheduler = LCMScheduler.from_config(ours.scheduler.config)
        ways[name] = lambda ours=ours: plain(ours, **arguments)
    return measure_each(ways, repeats=1 if quick else 15)


def live_slider(*, quick: bool) -> Costs:
    """As `slider`, of live images: what passes beyond the call itself, until one is shown."""
    costs = slider(quick=quick, live=True)
    beyond = np.median(costs["live"].runs) - np.median(costs["plain live"].runs)
    print(f"  slider event to live image, beyond the call: {1000 * beyond:.0f} ms")
    return costs


def slider(*, quick: bool, live: bool = False) -> Costs:
    """An Explorer's slider is moved and released, 50 times: until each image is shown, and the same plain calls."""
    given, ours, theirs, rng = call(quick=False), inpainting(), inpainting(), random.Random(0)
    own, shown, told = theirs.scheduler, threading.Event(), {}
    explorer = Explorer(ours, given.pop("image"), given.pop("mask_image"), seed=0, live=live, **given)
    explorer.wait()
    kind, fused = ("live", few_steps.fused(theirs)) if live else ("draft", theirs)

    def seen(change: Any) -> None:
        if change["new"]["phase"] == "done":
            told.update(at=time.perf_counter(), kind=change["new"]["kind"])
            shown.set()

    def moved(values: dict[str, float], *, moving: bool) -> float:
        """Seconds from the browser's message to the image that it asks for: a draft while moving, else the full one."""
        shown.clear()
        start, content = time.perf_counter(), {"kind": "change", "values": values, "moving": moving}
        explorer.comm.handle_msg({"content": {"data": {"method": "custom", "content": content}}, "buffers": []})
        if not shown.wait(120) or told["kind"] != (kind if moving else "full"):
            raise RuntimeError(f"no {kind if moving else 'full'} image within two minutes: {explorer!r}")
        return told["at"] - start

    explorer.observe(seen, "_state")
    found: dict[str, list[float]] = {f"plain {kind}": [], kind: [], "plain full": [], "full": []}
    for number in range(3 if quick else 53):
        strong = live or rng.random() < 0.5
        values = {"strength": rng.uniform(0.5, 1.0)} if strong else {"guidance_scale": rng.uniform(1.5, 15.0)}
        spent = {kind: moved(values, moving=True), "full": moved(values, moving=False)}
        full = explorer.parameters
        seed = full.pop("seed")
        short = few_steps.arguments(full) if live else drafts.draft_arguments(ours, full) or full
        for name, pipe, arguments in ((f"plain {kind}", fused, dict(short)), ("plain full", theirs, dict(full))):
            chosen = arguments.pop("scheduler", None)
            pipe.scheduler = class_named(chosen).from_config(own.config) if chosen else own
            start = time.perf_counter()
            plain(pipe, seed, **arguments)
            spent[name] = time.perf_counter() - start
        if number >= (1 if quick else 3):  # the first do not count
            for name, value in spent.items():
                found[name].append(value)
    explorer.close()
    costs = Costs({name: Measurement(tuple(runs), 0) for name, runs in found.items()})
    for name in (kind, "full"):
        pair = Costs({one: costs[one] for one in (f"plain {name}", name)})
        print(f"  {name} / plain {name}: {pair.ratio(name):.3f}")
    return costs


ALL = (grid, seeds, prompts, runtime, floor, start, loading, slider, live, live_slider)
BENCHMARKS = {one.__name__: one for one in ALL}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="tiny counts: shows that they run, measures nothing")
    arguments = parser.parse_args(argv)
    print(machine(gpu=False))
    for name in arguments.names or BENCHMARKS:
        print(f"\n{name}: {BENCHMARKS[name].__doc__}", flush=True)
        for row in BENCHMARKS[name](quick=arguments.quick).table():
            print(f"  {row['variant']:<12} {row['seconds']:.3g} s, x {row['ratio']:.3f}, spread {row['spread']:.2g} s")


if __name__ == "__main__":
    main()
