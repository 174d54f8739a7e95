"""Where an image comes from: checkpoint, commits, schedulers, machine and versions, as plain data to save and compare.

Models are named by what they were loaded from, not by their weights: describing a pipeline takes no time.
"""

from __future__ import annotations

import functools
import platform
import re
import reprlib
from importlib import metadata
from pathlib import Path
from typing import Any

from helpers.catalog import revisions
from helpers.generation import png_record
from helpers.pipelines import few_steps, inspection, pool, runtimes, schedulers

LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "pillow")
COURSE = "inpainting-course"


def describe(pipe: Any) -> dict[str, Any]:
    """What a call's result depends on besides its arguments, in JSON types; `check` lists the fields."""
    import torch

    if (elsewhere := pool.origin(pipe)) is not None:
        return elsewhere | {"pipeline": type(pipe).__name__, "schedulers": schedulers.describe_all(pipe)}
    entry, source = inspection.checkpoint(pipe), _source(pipe)
    net = getattr(pipe, "controlnet", None)
    controlnet = None if net is None else _source(net)
    parts, offload = inspection.models(pipe), inspection.offload_mode(pipe)
    weight = next(parts.get("unet", next(iter(parts.values()))).parameters())
    device = str(weight.device if offload == "none" else pipe._execution_device)
    return {
        "pipeline": type(pipe).__name__,
        "checkpoint": None if entry is None else entry.name,
        "edition": None if entry is None else "full" if source == entry.hub_id else "mini",
        "source": source,
        "controlnet": controlnet,
        "revisions": _revisions(source, controlnet, entry and entry.prior),
        "schedulers": schedulers.describe_all(pipe),
        "dtype": str(weight.dtype).removeprefix("torch."),
        "memory_format": "contiguous_format" if weight.is_contiguous() else "channels_last",
        "device": device,
        "hardware": torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine(),
        "offload": offload,
        "threads": torch.get_num_threads(),
        "runtime": runtimes.runtime_of(parts["unet"]) if "unet" in parts and net is None else "torch",
        "adapters": {name: found for name, part in parts.items() if (found := _adapters(part))},
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The versions of the course, Python and the libraries that make the image."""
    found = {"course": _version(COURSE), "python": platform.python_version()}
    return found | {library: _version(library) for library in LIBRARIES}


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two descriptions, apart from the schedulers, in words."""
    flat = [origin | origin.get("versions", {}) for origin in (then, now)]
    left_out = ("schedulers", "versions", "checkpoint", "edition")  # a checkpoint has a source of its own
    names = [name for name in dict.fromkeys([*flat[0], *flat[1]]) if name not in left_out]
    pairs = [(name, flat[0].get(name), flat[1].get(name)) for name in names]
    return [f"{name} was {before} and is now {after}" for name, before, after in pairs if before != after]


def _adapters(model: Any) -> dict[str, float]:
    """The LoRA that act in a model, beside its weights or in them."""
    return few_steps.fused_into(model) | inspection.adapters(model)


_PLACE = r'"(\w|\\u[0-9a-f]{4})([\w .+-]|\\u[0-9a-f]{4}){0,99}(/\w[\w.-]{0,99})?"'  # a Hub id, or a folder's name
_NAME, _TEXT = '"[a-z][a-z0-9_]{0,59}"', r'"([ !#-\[\]-~]|\\u[0-9a-f]{4}){1,200}"'
_FIELDS = {  # what the JSON of each may be
    "pipeline": r'"\w{1,100}Pipeline"',
    "checkpoint": 'null|"[a-z0-9-]{1,60}"',
    "edition": 'null|"mini"|"full"',
    "source": f"null|{_PLACE}",
    "controlnet": f"null|{_PLACE}",
    "revisions": rf'{{({_PLACE}: "[0-9a-f]{{40}}"(, )?)*}}',
    "schedulers": r"\{.*\}",
    "dtype": r'"(bfloat16|float[0-9]\w{1,12}|u?int8)"',
    "memory_format": '"(contiguous_format|channels_last)"',
    "device": '"(cpu|cuda|mps|xpu|hpu|npu|xla)(:[0-9]{1,2})?"',
    "hardware": _TEXT,
    "offload": '"(none|model|sequential)"',
    "threads": "[1-9][0-9]{0,3}",
    "runtime": r'"(torch|onnxruntime [\w.+-]{1,30})"',
    "adapters": rf"{{({_NAME}: {{({_TEXT}: {png_record.NUMBER}(, )?)*}}(, )?)*}}",
    "versions": rf"{{({_NAME}: {_TEXT}(, )?)*}}",
}


def check(origin: Any) -> dict[str, Any]:
    """The fields of a description, which a file may have brought; ValueError, naming the first that is wrong."""
    import diffusers

    if isinstance(origin, dict):
        origin = {"runtime": "torch"} | origin  # records from before there was a second one do not say
    origin = png_record.check_fields("origin", origin, _FIELDS)
    if origin["pipeline"] not in dir(diffusers):
        raise ValueError(f"pipeline={origin['pipeline']!r}: diffusers has no such class")
    for name, description in origin["schedulers"].items():
        if not re.fullmatch("([a-z_]{1,30}_)?scheduler", name):
            raise ValueError(f"schedulers has {reprlib.repr(name)}, which no pipeline of diffusers has")
        schedulers.settings(description)
    return origin


def _source(part: Any) -> str | None:
    """A Hub id or the name of a folder, never its path: an image should not tell whose machine made it."""
    source = str(getattr(part, "config", {}).get("_name_or_path") or "")
    path = Path(source)
    return (path.name if path.is_absolute() or path.is_dir() else source) or None


def _revisions(*repositories: str | None) -> dict[str, str]:
    """The commits of those repositories that are pinned."""
    pins = revisions.read() if any("/" in (repo or "") for repo in repositories) else {}
    return {repo: pins[repo] for repo in repositories if repo in pins}


@functools.cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
