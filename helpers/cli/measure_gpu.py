"""`course measure-gpu`: measure what the full checkpoints cost on a CUDA GPU, and write data/gpu_run.json.

The models have the true shapes and random weights, so nothing is downloaded. GPUs of 4 to 24 GB are simulated by a
limit on what torch may take of this one. Chapter 09 shows the figures. Some minutes and 45 GB of main memory.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from helpers.catalog import memory_plan
from helpers.catalog.checkpoints import CATALOG
from helpers.common import memory, paths
from helpers.common.sizes import GB

SIMULATED = (4, 6, 8, 12, 24)  # GB
PLANNED = ("sd15-inpaint", "sdxl-inpaint", "kandinsky22")


def register(commands) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("measure-gpu", help="measure the full checkpoints on this GPU, for chapter 09")
    parser.add_argument("--out", type=Path, help="default: data/gpu_run.json (with --quick: nowhere)")
    parser.add_argument("--quick", action="store_true", help="try it out with the miniatures: measures nothing")
    parser.set_defaults(act=_measure_gpu)


def _measure_gpu(arguments: argparse.Namespace) -> int:
    import torch

    gpu = torch.cuda.is_available()
    if not gpu and not arguments.quick:
        raise ValueError("there is no CUDA GPU here. --quick tries the command out without one.")
    bench = Bench(quick=arguments.quick)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # random weights make noise, and pipelines say so
        measure_sd15(bench)
        measure_plans(bench)
    out = arguments.out or (None if arguments.quick else paths.DATA / "gpu_run.json")
    if out is not None:
        machine = f"{torch.cuda.get_device_name() if gpu else 'CPU'}, torch {torch.__version__}"
        run = {"machine": machine, "date": datetime.date.today().isoformat(), "rows": bench.rows}
        out.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"written: {out}")
    return 0


class Bench:
    """What is measured, and on which device. quick: miniatures on the CPU, each call once."""

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self._models: dict[str, dict[str, Any]] = {}

    def pipeline(self, name: str, *, dtype: str = "float16", offload: str = "none") -> Any:
        """A new pipeline on the device, or offloaded in one of diffusers' two ways."""
        import torch

        from helpers import load
        from helpers.cli import full_size

        memory.free()
        if self.quick:
            pipe = load(name, dtype=dtype, device="cpu")
        else:
            if name not in self._models:
                self._models = {name: {part: model.half() for part, model in full_size.models(name).items()}}
            kept = {part: copy.deepcopy(model) for part, model in self._models[name].items()}
            pipe = full_size.pipeline(name, kept).to(getattr(torch, dtype))
            pipe.to("cuda") if offload == "none" else getattr(pipe, f"enable_{offload}_cpu_offload")()
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def call(self, name: str) -> dict[str, Any]:
        """Arguments that every pipeline of this name takes, at its checkpoint's own size."""
        import torch
        from PIL import Image

        side = CATALOG[name].size_in("mini" if self.quick else "full")
        given: dict[str, Any] = {"prompt": "a boat", "num_inference_steps": 2 if self.quick else 10}
        given |= {"guidance_scale": 4.0, "height": side, "width": side, "generator": torch.Generator().manual_seed(0)}
        if name == "kandinsky22":
            given["prior_num_inference_steps"] = 2 if self.quick else 5
        if "inpaint" in CATALOG[name].tasks[:1]:
            given |= {"image": Image.new("RGB", (side, side), "grey"), "mask_image": Image.new("L", (side, side), 255)}
        return given

    def measure(self, fn: Callable[[], Any]) -> dict[str, Any]:
        """Seconds and peaks; or the error, where memory ran out."""
        from helpers import measure

        try:
            found = measure(fn, repeats=1 if self.quick else 2, warmup=0 if self.quick else 1)
        except Exception as error:
            if not memory.ran_out(error):
                raise
            return {"seconds": None, "worked": "out of memory"}
        return {
            "seconds": found.seconds, "allocated": found.allocated, "reserved": found.reserved, "worked": "yes",
        }  # fmt: skip

    def note(self, what: str, **row: Any) -> None:
        self.rows.setdefault(what, []).append(row)
        print(what, row, flush=True)


def measure_sd15(bench: Bench) -> None:
    """Each dtype and each way of offload, on Stable Diffusion 1.5."""
    call = bench.call("sd15")
    for dtype in ("float32", "float16", "bfloat16"):
        pipe = bench.pipeline("sd15", dtype=dtype)
        bench.note("dtype", variant=dtype, **bench.measure(partial(pipe, **call)))
        del pipe
    for offload in () if bench.quick else ("none", "model", "sequential"):
        pipe = bench.pipeline("sd15", offload=offload)
        bench.note("offload", variant=offload, **bench.measure(partial(pipe, **call)))
        del pipe


def measure_plans(bench: Bench) -> None:
    """Each checkpoint on each simulated GPU, in the way that load() would choose: the plan, and what it took."""
    import torch

    for name in PLANNED:
        for size in SIMULATED[-1:] if bench.quick else SIMULATED:
            plan = memory_plan.full_plan(CATALOG[name], size)
            row = {"checkpoint": name, "GPU, GB": size, "way": memory_plan.WAYS[plan.offload], "needs": plan.needs}
            if not plan.fits:
                bench.note("plan", **row | {"way": "does not fit"}, worked="not tried")
                continue
            try:
                if not bench.quick:
                    total = torch.cuda.get_device_properties(0).total_memory
                    torch.cuda.set_per_process_memory_fraction(min(1.0, size * memory_plan.FREE * GB / total))
                dtype = "float32" if bench.quick else "float16"
                pipe, call = bench.pipeline(name, dtype=dtype, offload=plan.offload), bench.call(name)
                bench.note("plan", **row, **bench.measure(partial(pipe, **call)))
                del pipe
            finally:
                if not bench.quick:
                    torch.cuda.set_per_process_memory_fraction(1.0)
