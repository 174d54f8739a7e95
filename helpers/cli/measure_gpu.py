"""`course measure-gpu`: time real calls of the full checkpoints on a CUDA GPU, for the tables of chapter 09.

GPUs of 4 to 24 GB are simulated by a limit on what torch may take of this one. The figures are kept in
data/gpu_run.json with the GPU's name.
"""

from __future__ import annotations

import argparse
import datetime
import json
from functools import partial
from typing import Any

from helpers.catalog import devices, memory_plan
from helpers.catalog.checkpoints import CATALOG
from helpers.common import memory, paths
from helpers.common.sizes import GB, GIB
from helpers.common.table import Table

COMMAND = "course measure-gpu"
SIMULATED = (4, 6, 8, 12, 24)  # GB
PLANNED = ("sd15-inpaint", "sdxl-inpaint", "kandinsky22")
IN_GIB = {"allocated": "allocated, GiB", "reserved": "reserved, GiB", "needs": "planned for, GiB"}


def gpu_measurements(what: str) -> Table:
    """The stored measurements of "offload", "dtype" or "plan", as a table.

    Where there are none, the table is empty and its note says how to make them.
    """
    path = paths.DATA / "gpu_run.json"
    run = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"rows": {}}
    rows = run["rows"].get(what)
    if not rows:
        note = f"Not measured yet ({what}): it needs a CUDA GPU. On a machine with one, run: {COMMAND}"
        return Table((), note=note)
    names: list[str] = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_text(name, row.get(name)) for name in names] for row in rows]
    return Table([IN_GIB.get(name, name) for name in names], cells, f"Measured on {run['machine']}, {run['date']}.")


def _text(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name in IN_GIB:
        return f"{value / GIB:.2f}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def register(commands) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("measure-gpu", help="measure the full checkpoints on this GPU, for chapter 09")
    parser.set_defaults(act=_measure_gpu)


def _measure_gpu(_: argparse.Namespace) -> int:
    import torch

    from helpers import use

    if not torch.cuda.is_available():
        raise ValueError("there is no CUDA GPU here.")
    paths.try_writing(paths.DATA)  # now, and not after minutes of measuring
    use("full")
    rows: dict[str, list[dict[str, Any]]] = {
        "dtype": [{"variant": dtype} | measured("sd15", dtype=dtype) for dtype in devices.DTYPES],
        "offload": [{"variant": way} | measured("sd15", offload=way) for way in memory_plan.WAYS],
        "plan": [planned(name, size) for name in PLANNED for size in SIMULATED],
    }
    machine = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    run = {"machine": machine, "date": datetime.date.today().isoformat(), "rows": rows}
    (paths.DATA / "gpu_run.json").write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    for what in rows:
        print(gpu_measurements(what), end="\n\n")
    return 0


def planned(name: str, size: int) -> dict[str, Any]:
    """What a checkpoint takes on a simulated GPU of `size` GB, run as load() would there, beside its plan."""
    import torch

    plan = memory_plan.full_plan(CATALOG[name], size)
    row = {"checkpoint": name, "GPU, GB": size, "way": memory_plan.WAYS[plan.offload], "needs": plan.needs}
    if not plan.fits:
        return row | {"way": "does not fit", "worked": "not tried"}
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, size * memory_plan.FREE * GB / total))
    try:
        return row | measured(name, offload=plan.offload)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def measured(name: str, *, dtype: str = "float16", offload: str = "none") -> dict[str, Any]:
    """Seconds and peaks of one call of ten steps at the checkpoint's own size; or that memory ran out."""
    import torch
    from PIL import Image

    from helpers import load, measure, unload

    unload()
    pipe, side = load(name, dtype=dtype, device="cpu"), CATALOG[name].size
    pipe.set_progress_bar_config(disable=True)
    call: dict[str, Any] = {"prompt": "a boat", "num_inference_steps": 10, "height": side, "width": side}
    if CATALOG[name].tasks[0] == "inpaint":
        call |= {"image": Image.new("RGB", (side, side), "grey"), "mask_image": Image.new("L", (side, side), 255)}
    try:
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.to(memory_format=torch.contiguous_format)  # as load() leaves it on a GPU
        pipe.to("cuda") if offload == "none" else getattr(pipe, f"enable_{offload}_cpu_offload")()
        found = measure(partial(pipe, **call), repeats=2)
    except Exception as error:
        if not memory.ran_out(error):
            raise
        return {"seconds": None, "worked": "out of memory"}
    peaks = {"allocated": found.allocated, "reserved": found.reserved}
    return {"seconds": found.seconds, **peaks, "worked": "yes"}
