"""What this machine has, and how a checkpoint fits on it: device, dtype, offload.

The memory figures are estimates: weights are counted, working memory is taken from the picture's size. They leave a
tenth free.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

GB = 1_000_000_000
# Bytes for each pixel that the largest step, decoding, works on in float16: 1.2 GB for 512 x 512, 4.8 for 1024 x 1024.
WORKING = 4_600
DTYPES = ("float32", "float16", "bfloat16")


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


def device() -> str:
    """The fastest device that works here: "cuda", "mps" or "cpu"; COURSE_DEVICE overrides it."""
    return _device()


def _device() -> str:
    if chosen := os.environ.get("COURSE_DEVICE"):
        return check_device(chosen)
    return _fastest()


@cache
def _fastest() -> str:
    import torch

    if torch.cuda.is_available():
        try:  # a card too old for this torch is "available" and then fails at the first kernel
            torch.zeros(1, device="cuda").add_(1).item()
            return "cuda"
        except RuntimeError:
            return "cpu"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_device(value: object) -> str:
    """`value` as a device name that exists on this machine, or a ValueError that says which do."""
    import torch

    try:
        name = str(torch.device(value))
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device is {value!r}; expected 'cpu', 'cuda' or 'mps'.") from error
    kind, _, index = name.partition(":")
    here = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if int(index or 0) >= here.get(kind, 0):
        have = ", ".join(repr(kind) for kind, count in here.items() if count)
        raise ValueError(f"device is {value!r}, which this machine does not have; it has {have}. Leave device out.")
    return name


def check_dtype(value: object) -> torch.dtype:
    """`value`, a torch dtype or its name, as a floating-point dtype that pipelines run in, or a ValueError."""
    import torch

    name = str(value).removeprefix("torch.")
    if name not in DTYPES:
        raise ValueError(f"dtype is {value!r}; expected torch.{', torch.'.join(DTYPES)}, or its name.")
    return getattr(torch, name)


def dtype(device: str | None = None) -> torch.dtype:
    """float16 on a CUDA card; float32 on a CPU, where half is slow, and on MPS, where it can come out black."""
    return _dtype(_device() if device is None else check_device(device))


def _dtype(device: str) -> torch.dtype:
    import torch

    return torch.float16 if device.startswith("cuda") else torch.float32


def free_memory(device: str) -> int:
    """Bytes that `device` has free now: the card's own memory, or the machine's for "cpu" and "mps"."""
    if device.startswith("cuda"):
        import torch

        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for later
        return torch.cuda.mem_get_info(device)[0] + unused
    import psutil

    return psutil.virtual_memory().available


def plan(what: Any, *, free: int | None = None, device: str | None = None, dtype: Any = None) -> Plan:
    """How to run `what`, a Checkpoint of the catalogue or its weights' size in bytes, in `free` bytes of memory.

    Miniatures run on the CPU unless a device is named: every machine draws the same picture there. Offload is for
    cards with memory of their own. With `free` given nothing is looked up, so any card can be simulated.
    """
    import torch

    mini = getattr(what, "mini", False)
    if device is None:
        device = "cpu" if mini and not os.environ.get("COURSE_DEVICE") else _device()
    if dtype is None:
        chosen = torch.float32 if mini else _dtype(device)
    else:
        chosen = check_dtype(dtype)
    free = free_memory(device) if free is None else int(free)
    options = _options(what, chosen, offload=device.startswith("cuda"))
    if device == "mps" and dtype is None and options["none"] > free:
        chosen = torch.float16  # a risk, but float32 is out of the question
        options = _options(what, chosen, offload=False)
    for offload, needs in options.items():
        if needs <= free:
            return Plan(device, chosen, offload, True, needs, free)
    return Plan(device, chosen, offload, False, needs, free, _advice(what, needs, free, chosen, device))


def _options(what: Any, dtype: torch.dtype, *, offload: bool) -> dict[str, int]:
    """Bytes that each way of running takes, the fastest first."""
    if isinstance(what, bool) or not isinstance(what, int) and not hasattr(what, "weights"):
        raise TypeError(f"plan() takes a Checkpoint, as CATALOG['sd15'], or a number of bytes, not {what!r}.")
    width = dtype.itemsize
    if isinstance(what, int):
        total, largest, side = what, what * 4 // 5, 512
    else:
        total, largest = sum(what.weights.values()) * width, max(what.weights.values()) * width
        side = what.size * {"upscale-x2": 2, "upscale-x4": 4}.get(what.family, 1)
    working = WORKING * side * side * width // 2
    needs = {"none": total + working}
    if offload:
        # The largest model works on latents; decoding needs the most memory, when the large ones have left.
        needs["model"] = max(largest + working // 4, working + GB // 3)
        needs["sequential"] = working + GB // 3
    return {way: int(amount * 1.1) for way, amount in needs.items()}


def _advice(what: Any, needs: int, free: int, dtype: torch.dtype, device: str) -> str:
    name = getattr(what, "name", "it")
    other = _smaller(what, free, dtype, device)
    smaller = f"a smaller checkpoint such as {other!r}, or " if other else ""
    return (
        f"{name} will not fit: it needs about {needs / GB:.1f} GB and {free / GB:.1f} GB are free. "
        f"Close what else uses the memory, call unload(), or use {smaller}the mini edition: use('mini')."
    )


def _smaller(what: Any, free: int, dtype: torch.dtype, device: str) -> str:
    """The name of a checkpoint that fits and does the same task, best one made for it, and a small one; or ""."""
    from helpers.catalog.checkpoints import CATALOG

    task = next(iter(getattr(what, "tasks", ())), "upscale")  # the upscalers take different inputs
    fitting = [
        (other.tasks[0] != task, sum(other.weights.values()), other.name)
        for other in CATALOG.values()
        if task != "upscale" and task in other.tasks and not other.pickled
        if min(_options(other, dtype, offload=device.startswith("cuda")).values()) <= free
    ]
    return min(fitting, default=("", "", ""))[2]


def describe() -> dict[str, str]:
    """This machine in words, for the doctor: system, processor, cores, memory, graphics card."""
    import psutil
    import torch

    facts = {
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": f"{psutil.cpu_count(logical=False) or '?'} ({psutil.cpu_count()} threads, torch uses "
        f"{torch.get_num_threads()})",
        "memory": f"{psutil.virtual_memory().total / GB:.1f} GB, {psutil.virtual_memory().available / GB:.1f} GB free",
        "graphics": "none that torch can use",
    }
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        facts["graphics"] = f"{card.name}, {card.total_memory / GB:.1f} GB, {free_memory('cuda') / GB:.1f} GB free"
        if _fastest() == "cpu":
            facts["graphics"] += " (this torch cannot run on it: the CPU is used)"
    elif torch.backends.mps.is_available():
        facts["graphics"] = "Apple MPS, shares the memory above"
    return facts


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
