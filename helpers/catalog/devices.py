"""What this machine has: devices, dtypes, memory."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.common.sizes import GB

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "float16", "bfloat16")


def device() -> str:
    """The fastest device that works here: "cuda", "mps" or "cpu"; COURSE_DEVICE overrides it."""
    if chosen := os.environ.get("COURSE_DEVICE"):
        return check_device(chosen)
    return _fastest()


@cache
def _fastest() -> str:
    import torch

    if torch.cuda.is_available():
        try:  # a GPU too old for this torch is "available" and then fails at the first kernel
            torch.zeros(1, device="cuda").add_(1).item()
            return "cuda"
        except RuntimeError:
            return "cpu"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_device(value: Any) -> str:
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


def dtype(kind: str | None = None) -> torch.dtype:
    """The dtype to load in: float16 on a CUDA GPU; float32 on a CPU, where half precision is slow, and on MPS, where
    it can come out black. kind: a device's name; default: the one in use."""
    import torch

    return torch.float16 if (kind or device()).startswith("cuda") else torch.float32


def free_memory(device: str) -> int:
    """Bytes that `device` has free now: the GPU's own memory, or the machine's for "cpu" and "mps"."""
    if device.startswith("cuda"):
        import torch

        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for later
        return torch.cuda.mem_get_info(device)[0] + unused
    import psutil

    return psutil.virtual_memory().available


def describe() -> dict[str, str]:
    """This machine in words, for the doctor: system, processor, cores, memory, GPU."""
    import psutil
    import torch

    facts = {
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "processor": _processor(),
        "cores": f"{psutil.cpu_count(logical=False) or '?'} ({psutil.cpu_count()} threads, torch uses "
        f"{torch.get_num_threads()})",
        "memory": f"{psutil.virtual_memory().total / GB:.1f} GB, {psutil.virtual_memory().available / GB:.1f} GB free",
        "GPU": "none that torch can use",
    }
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        facts["GPU"] = f"{gpu.name}, {gpu.total_memory / GB:.1f} GB, {free_memory('cuda') / GB:.1f} GB free"
        if _fastest() == "cpu":
            facts["GPU"] += " (this torch cannot run on it: the CPU is used)"
    elif torch.backends.mps.is_available():
        facts["GPU"] = "Apple MPS, shares the memory above"
    return facts


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
