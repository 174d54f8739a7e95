"""`python -m tests.gpu.memory_plan`: measure the full checkpoints' costs on a CUDA card, and write data/gpu_run.json.

The models have the true shapes and random weights (see `fullsize`), so nothing is downloaded. Cards of 4 to 24 GB are
played by a limit on what torch may take of this one. Chapter 09 shows the figures. About ten minutes, 45 GB of main
memory and 30 GB of disk for a while. --quick tries it out with tiny models, on the CPU where there is no card.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from helpers.common import paths

BUDGETS = (4, 6, 8, 12, 24)  # GB
PLANNED = ("sd15-inpaint", "sdxl-inpaint", "kandinsky22")
STEPS = 10
LIMIT = 540  # seconds: after these no new measurement begins


class Bench:
    """What is measured, on which device, and until when."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        import torch

        self.folder, self.quick = folder, quick
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.end = time.monotonic() + LIMIT
        self.rows: dict[str, list[dict[str, Any]]] = {}

    def note(self, what: str, **row: Any) -> None:
        self.rows.setdefault(what, []).append(row)
        print(what, row, flush=True)

    def late(self) -> bool:
        return time.monotonic() > self.end

    def call(self, name: str) -> dict[str, Any]:
        """Arguments that every pipeline of this name takes, at its checkpoint's own size."""
        import torch
        from PIL import Image

        from helpers.catalog.checkpoints import CATALOG

        steps = 2 if self.quick else STEPS
        given: dict[str, Any] = {"prompt": "a boat", "num_inference_steps": steps, "guidance_scale": 4.0}
        side = 64 if self.quick else CATALOG[name].size
        given |= {"height": side, "width": side, "generator": torch.Generator().manual_seed(0)}
        if name.startswith("kandinsky"):
            given["prior_num_inference_steps"] = 2 if self.quick else 5
        if "inpaint" in CATALOG[name].tasks:
            given |= {"image": Image.new("RGB", (side, side), "grey"), "mask_image": Image.new("L", (side, side), 255)}
        return given

    def measure(self, fn: Callable[[], Any], **how: Any) -> dict[str, Any]:
        """Seconds and peaks; or the error, where memory ran out."""
        from helpers.analysis.benchmark import measure
        from helpers.common import memory

        try:
            found = measure(fn, **{"repeats": 1 if self.quick else 2} | how)
        except Exception as error:
            if not memory.ran_out(error):
                raise
            return {"seconds": None, "worked": "out of memory"}
        peaks = {"allocated": found.allocated, "reserved": found.reserved}
        return {"seconds": found.seconds, **peaks, "worked": "yes"}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.memory_plan", description=__doc__)
    parser.add_argument("--out", type=Path, help="default: data/gpu_run.json (with --quick: nowhere)")
    parser.add_argument("--quick", action="store_true", help="tiny models: shows that it runs, measures nothing")
    arguments = parser.parse_args(argv)
    import torch

    if not torch.cuda.is_available() and not arguments.quick:
        parser.error("there is no CUDA card here. --quick tries the command out without one.")
    from helpers.analysis import benchmark_charts, gpu_results
    from helpers.generation import provenance

    out = arguments.out or (None if arguments.quick else paths.DATA / "gpu_run.json")
    with tempfile.TemporaryDirectory(prefix="full-size-") as folder:
        bench = Bench(Path(folder), quick=arguments.quick)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # random weights paint noise, and pipelines say so
            for part in (single, plans):
                part(bench)
    today = datetime.date.today().isoformat()
    if out is not None:
        gpu_results.write(
            out,
            machine=benchmark_charts.machine(gpu=torch.cuda.is_available()),
            date=today,
            versions=provenance.versions(),
            rows=bench.rows,
        )
        print(f"written: {out}")


@contextlib.contextmanager
def checkpoint(bench: Bench, name: str) -> Iterator[None]:
    """The catalogue's entry reads a folder of random weights while the block runs."""
    from helpers import unload
    from helpers.catalog.checkpoints import CATALOG

    folder = bench.folder / name
    if not folder.is_dir():
        _save(bench, name, folder)
    own = CATALOG[name]
    dict.__setitem__(CATALOG, name, dataclasses.replace(own, hub_id=str(folder), variant="fp16", pickled=False))
    try:
        yield
    finally:
        unload()
        dict.__setitem__(CATALOG, name, own)
        _clean()


def _save(bench: Bench, name: str, folder: Path) -> None:
    from tests.gpu import fullsize

    fullsize.save(name, folder, device=bench.device, tiny=bench.quick)
    _clean()


def single(bench: Bench) -> None:
    """One thing after another, on Stable Diffusion 1.5: formats, offload, VAE, attention, batches, compiling."""
    import torch
    from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

    with checkpoint(bench, "sd15"):
        call = bench.call("sd15")
        for dtype in ("float32", "float16", "bfloat16"):
            pipe = _load("sd15", dtype=dtype, device=bench.device)
            bench.note("dtype", variant=dtype, **bench.measure(lambda pipe=pipe: pipe(**call)))
            del pipe
            _forget()
        for way in ("none", "model", "sequential"):
            if bench.device == "cuda":
                pipe = _load("sd15", dtype="float16", device="cpu")
                pipe.to("cuda") if way == "none" else getattr(pipe, f"enable_{way}_cpu_offload")()
                bench.note("offload", variant=way, **bench.measure(lambda pipe=pipe: pipe(**call)))
                del pipe
                _forget()
        pipe = _load("sd15", dtype="float16" if bench.device == "cuda" else "float32", device=bench.device)
        own = pipe.unet.attn_processors
        for variant, processor in {"SDPA": AttnProcessor2_0(), "AttnProcessor": AttnProcessor()}.items():
            pipe.unet.set_attn_processor(processor)
            bench.note("attention", variant=variant, **bench.measure(lambda: pipe(**call)))
        pipe.unet.set_attn_processor(own)
        channels, side = pipe.vae.config.latent_channels, call["height"] // 8
        factor = 2 if bench.quick else 4
        large = torch.randn(1, channels, factor * side, factor * side, device=bench.device, dtype=pipe.dtype)
        batch = torch.randn(8, channels, side, side, device=bench.device, dtype=pipe.dtype)
        for variant, latents, option in (
            (f"one of {8 * factor * side} pixels", large, None), ("the same in tiles", large, "use_tiling"),
            (f"eight of {8 * side} pixels", batch, None), ("the same in slices", batch, "use_slicing"),
        ):  # fmt: skip
            if option:
                setattr(pipe.vae, option, True)
            with torch.no_grad():
                bench.note("vae", variant=variant, **bench.measure(lambda latents=latents: pipe.vae.decode(latents)))
            pipe.vae.use_tiling = pipe.vae.use_slicing = False
        for count in (1, 2, 4, 8):
            several = call | {"prompt": [call["prompt"]] * count}
            found = bench.measure(lambda several=several: pipe(**several))
            each = {"seconds a picture": found["seconds"] and found["seconds"] / count}
            bench.note("batch", variant=f"{count} at once", **each, **found)
        if bench.device == "cuda":
            _compile(bench, pipe, call)


def _compile(bench: Bench, pipe: Any, call: dict[str, Any]) -> None:
    """The first call with each kind of compiling, and the later ones."""
    import copy

    own = pipe.unet
    bench.note("compile", variant="as it is", first=None, **bench.measure(lambda: pipe(**call)))
    for variant, method in {"blocks compiled": "compile_repeated_blocks", "whole UNet compiled": "compile"}.items():
        if bench.late():
            return
        pipe.unet = copy.deepcopy(own)
        getattr(pipe.unet, method)()
        first = bench.measure(lambda: pipe(**call), repeats=1, warmup=0)["seconds"]
        bench.note("compile", variant=variant, first=first, **bench.measure(lambda: pipe(**call)))
    pipe.unet = own


def plans(bench: Bench) -> None:
    """Each checkpoint on each card, as load() would run it: what was planned, and what it took."""
    import torch

    from helpers.catalog import devices, memory_plan
    from helpers.catalog.checkpoints import CATALOG
    from helpers.common.sizes import GB

    own, total = devices.free_memory, None
    if bench.device == "cuda":
        total = torch.cuda.get_device_properties(0).total_memory
    for name in PLANNED:
        if bench.late():
            bench.note("plan", checkpoint=name, worked="not reached: the time was up")
            continue
        with checkpoint(bench, name):
            for card in BUDGETS[:1] + BUDGETS[-1:] if bench.quick else BUDGETS:
                row = {"checkpoint": name, "card, GB": card}
                plan = memory_plan.full_plan(CATALOG[name], card)
                room = int(card * memory_plan.FREE * GB)
                free = room if total else 64 * GB
                if not plan.fits:
                    bench.note("plan", **row, way="does not fit", needs=plan.needs, worked="not tried")
                    continue
                devices.free_memory = lambda device, free=free: free
                try:
                    if total:
                        torch.cuda.set_per_process_memory_fraction(min(1.0, room / total))
                    pipe = _load(name, device=bench.device, dtype=None if total else "float32")
                    call = bench.call(name)
                    found = bench.measure(lambda pipe=pipe, call=call: pipe(**call))
                    bench.note("plan", **row, way=memory_plan.WAYS[plan.offload], needs=plan.needs, **found)
                    del pipe, call
                finally:
                    devices.free_memory = own
                    if total:
                        torch.cuda.set_per_process_memory_fraction(1.0)
                    _forget()


def _load(name: str, **how: Any) -> Any:
    from helpers import load

    pipe = load(name, **how)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _forget() -> None:
    from helpers import unload

    unload()
    _clean()


def _clean() -> None:
    from helpers.common import memory

    memory.free()


if __name__ == "__main__":
    os.environ |= {"COURSE_EDITION": "full", "HF_HUB_OFFLINE": "1"}
    main()
