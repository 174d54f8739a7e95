"""How a checkpoint fits into memory: device, dtype and offload, by estimate; and the table of what each GPU does.

Weights are counted, working memory is taken from the image's size, and a tenth is left free.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.catalog import devices, editions
from helpers.catalog.checkpoints import CATALOG, Checkpoint
from helpers.common.sizes import GB
from helpers.common.table import Table
from helpers.common.validation import number

if TYPE_CHECKING:
    import torch

# Bytes for each pixel that the largest step, decoding, works on in float16: 1.2 GB for 512 x 512, 4.8 for 1024 x 1024.
WORKING = 4_600
READING = 850  # the same for a model that reads an image and makes none; measured with SAM's attention
GPUS = (4, 6, 8, 12, 16, 24)  # GB, as they are sold
FREE = 0.92  # of them a program finds free: the driver, the desktop and torch's own libraries take the rest
NAMES = ("sd15", "sd15-inpaint", "sdxl-inpaint", "sdxl-refiner", "kandinsky22", "upscale-x4")
WAYS = {
    "none": "as it is",
    "model": "enable_model_cpu_offload()",
    "sequential": "enable_sequential_cpu_offload()",
}


@dataclass(frozen=True)
class Plan:
    """How to run a checkpoint here. `offload`: "none", "model" or "sequential", as diffusers names its two ways."""

    device: str
    dtype: torch.dtype
    offload: str
    fits: bool
    needs: int  # bytes of the device's memory under `offload`, estimated
    free: int  # bytes
    advice: str = ""  # what to use instead where it does not fit

    def __str__(self) -> str:
        how = {"none": "whole", "model": "one model at a time", "sequential": "layer by layer"}[self.offload]
        text = f"{self.device}, {str(self.dtype).removeprefix('torch.')}, {how}: "
        text += f"{self.needs / GB:.1f} GB of {self.free / GB:.1f} GB free"
        return text if self.fits else f"{text}: {self.advice}"


def plan_memory(
    checkpoint: Checkpoint,
    *,
    free: int | None = None,
    device: str | None = None,
    dtype: Any = None,
    edition: str | None = None,
) -> Plan:
    """How to run a checkpoint of the catalogue in `free` bytes of memory.

    Miniatures run on the CPU unless a device is named: every machine makes the same image there. Offload is for GPUs
    with memory of their own. With `free` given nothing is looked up, so any GPU can be simulated. edition: "mini" or
    "full", where it is not the one in use.
    """
    import torch

    if not isinstance(checkpoint, Checkpoint):
        raise TypeError(f"checkpoint={checkpoint!r}: expected one of the catalogue, as CATALOG['sd15'].")
    full = (edition or editions.edition()) == "full"
    if device is None:
        device = devices.device() if full or os.environ.get("COURSE_DEVICE") else "cpu"
    if dtype is None:
        chosen = devices.dtype(device) if full else torch.float32
    else:
        chosen = devices.check_dtype(dtype)
    free = devices.free_memory(device) if free is None else int(free)
    options = needs(checkpoint, chosen, device=device, full=full)
    if device == "mps" and dtype is None and options["none"] > free:
        chosen = torch.float16  # a risk, but float32 is out of the question
        options = needs(checkpoint, chosen, device=device, full=full)
    for offload, needed in options.items():
        if needed <= free:
            return Plan(device, chosen, offload, True, needed, free)
    advice = _advice(checkpoint, needed, free, chosen, device)
    return Plan(device, chosen, offload, False, needed, free, advice)


def needs(checkpoint: Checkpoint, dtype: torch.dtype, *, device: str = "cuda", full: bool = True) -> dict[str, int]:
    """Bytes of the device's memory that each way of running takes, the fastest first: "none", "model", "sequential"."""
    weights = checkpoint.weights_in("full" if full else "mini").values()
    width, side = dtype.itemsize, checkpoint.size_in("full" if full else "mini")
    side *= {"upscale-x2": 2, "upscale-x4": 4}.get(checkpoint.family, 1)
    per_pixel = READING if checkpoint.family in ("depth", "segmentation") else WORKING
    working = per_pixel * side * side * width // 2
    found = {"none": sum(weights) * width + working}
    if device.startswith("cuda"):
        # The largest model works on latents; decoding needs the most memory, when the large ones have left.
        found["model"] = max(max(weights) * width + working // 4, working + GB // 3)
        found["sequential"] = working + GB // 3
    return {way: int(amount * 1.1) for way, amount in found.items()}


def _advice(checkpoint: Checkpoint, needed: int, free: int, dtype: torch.dtype, device: str) -> str:
    other = _smaller(checkpoint, free, dtype, device)
    smaller = f"a smaller checkpoint such as {other!r}, or " if other else ""
    return (
        f"{checkpoint.name} will not fit: it needs about {needed / GB:.1f} GB and {free / GB:.1f} GB are free. "
        f"Close what else uses the memory, call unload(), or use {smaller}the mini edition: use('mini')."
    )


def _smaller(checkpoint: Checkpoint, free: int, dtype: torch.dtype, device: str) -> str:
    """The name of a full checkpoint that fits and does the same task, best one made for it, and a small one; or ""."""
    task = next(iter(checkpoint.tasks), "upscale")  # the upscalers take different inputs
    fitting = [
        (other.tasks[0] != task, sum(other.parameters.values()), other.name)
        for other in CATALOG.values()
        if task != "upscale" and task in other.tasks and not other.pickled
        if min(needs(other, dtype, device=device).values()) <= free
    ]
    return min(fitting, default=("", "", ""))[2]


def full_plan(checkpoint: Checkpoint, gpu: float) -> Plan:
    """The plan of the full checkpoint, whatever the edition in use, on a CUDA GPU of `gpu` GB."""
    return plan_memory(checkpoint, free=int(gpu * FREE * GB), device="cuda", dtype="float16", edition="full")


def memory_table(gpus: Sequence[float] = GPUS, names: Sequence[str] = NAMES) -> Table:
    """How the full checkpoints run on GPUs of so many GB; ValueError for a GPU of no size, or an unknown name."""
    for gpu in gpus:
        number("gpus", gpu, low=1)
    rows = [[name, *(_in_words(full_plan(CATALOG[name], gpu)) for gpu in gpus)] for name in names]
    note = "float16, one image of the checkpoint's own size; planned, not measured."
    return Table(["My GPU has", *(f"{gpu} GB" for gpu in gpus)], rows, note)


def _in_words(plan: Plan) -> str:
    if not plan.fits:
        return f"does not fit ({plan.needs / GB:.1f} GB)"
    return f"{WAYS[plan.offload]} ({plan.needs / GB:.1f} GB)"
