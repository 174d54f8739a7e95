"""Where a picture comes from: the pipeline, its weights and the machine, as plain data that can be compared."""

from __future__ import annotations

import functools
import hashlib
import platform
import weakref
from importlib import metadata
from pathlib import Path
from typing import Any

from helpers.generation import schedulers
from helpers.pipelines import inspection

LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "pillow")
COURSE = "inpainting-course"
WHOLE = 512 * 2**20  # bytes: a larger model is hashed by a sample of each tensor
SAMPLE = 65_536  # elements

_digests: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def describe(pipe: Any) -> dict[str, Any]:
    """What a call's result depends on besides its arguments: JSON types only.

    Hashing the weights takes a moment at first; afterwards only a change to them is looked for.
    """
    import torch

    parts, entry = inspection.models(pipe), inspection.checkpoint(pipe)
    offload = inspection.offload_mode(pipe)
    device = _device(pipe, parts, offload)
    vae = parts.get("vae")
    return {
        "edition": None if entry is None else "full" if pipe.config["_name_or_path"] == entry.hub_id else "mini",
        "checkpoint": None if entry is None else entry.name,
        "source": _source(pipe.config),
        "pipeline": type(pipe).__name__,
        "module": "diffusers" if type(pipe).__module__.startswith("diffusers.") else type(pipe).__module__,
        "controlnet": _controlnet(parts.get("controlnet")),
        "schedulers": schedulers.describe_all(pipe),
        "weights": {part: digest(model) for part, model in parts.items()},
        "dtype": str(getattr(parts.get("unet"), "dtype", None) or pipe.dtype).removeprefix("torch."),
        "channels_last": [part for part, model in parts.items() if _channels_last(model)],
        "tiling": [option for option in ("use_slicing", "use_tiling") if getattr(vae, option, False)],
        "adapters": [part for part, model in parts.items() if getattr(model, "peft_config", None)],
        "offload": offload,
        "device": device,
        "hardware": torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "defaults": _defaults(pipe),
    }


def versions() -> dict[str, str]:
    """The versions of the course, Python and the libraries that make the picture."""
    found = {"course": _version(COURSE), "python": platform.python_version()}
    return found | {library: _version(library) for library in LIBRARIES}


def digest(model: Any) -> str | None:
    """A hash of a model's weights, whatever their memory order and device; None where they are not in memory.

    Models over 512 MiB are hashed by a sample of each tensor, and their hash begins with "sampled-".
    """
    import torch

    now = stamp(model)
    if (kept := _digests.get(model)) and kept[0] == now:
        return kept[1]
    tensors = sorted(model.state_dict().items())
    if any(tensor.is_meta for _, tensor in tensors):
        return None  # sequential offload keeps them elsewhere
    sampled = sum(tensor.numel() * tensor.element_size() for _, tensor in tensors) > WHOLE
    found = hashlib.sha256()
    for name, tensor in tensors:
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().reshape(-1)  # in the order of its axes, also where channels come last
        if sampled:
            flat = flat[:: max(1, flat.numel() // SAMPLE)]
        found.update(flat.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    _digests[model] = now, f"{'sampled-' * sampled}{found.hexdigest()[:32]}"
    return _digests[model][1]


def stamp(model: Any) -> tuple:
    """A value that changes when the model's weights do: found in milliseconds, and good within this process only."""
    import torch

    tensors = [*model.parameters(), *model.buffers()]
    if any(tensor.is_meta for tensor in tensors):
        return tuple((id(tensor), tensor._version) for tensor in tensors)
    marks = tuple((t.data_ptr(), t._version, t.dtype, t.stride()) for t in tensors)
    # Versions miss what is written through .data: the norms see it.
    by_device: dict[Any, list] = {}
    for tensor in tensors:
        if tensor.is_floating_point() and tensor.numel():
            by_device.setdefault(tensor.device, []).append(tensor)
    with torch.no_grad():
        norms = [torch.stack([n.float() for n in torch._foreach_norm(real)]).tolist() for real in by_device.values()]
    return marks, str(norms)


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two descriptions, in words; what cannot change a picture (its path) is left out."""
    found = []
    single = ("pipeline", "checkpoint", "edition", "dtype", "device", "hardware", "offload", "threads")
    for key in (*single, "channels_last", "tiling", "adapters"):
        if then.get(key) != now.get(key):
            found.append(f"{key}: {then.get(key)} then, {now.get(key)} now")
    for part in sorted({*then.get("weights", {}), *now.get("weights", {})}):
        if then.get("weights", {}).get(part) != now.get("weights", {}).get(part):
            found.append(f"the weights of {part}")
    for library in sorted({*then.get("versions", {}), *now.get("versions", {})}):
        old, new = then.get("versions", {}).get(library), now.get("versions", {}).get(library)
        if old != new:
            found.append(f"{library} {old} then, {new} now")
    return found


def _defaults(pipe: Any) -> dict[str, Any]:
    listed = {name: parameter.default for name, parameter in inspection.parameters_of(pipe).items()}
    return {name: value for name, value in listed.items() if isinstance(value, (bool, int, float, str))}


def _controlnet(net: Any) -> str | None:
    return None if net is None else _source(getattr(net, "config", {})) or None


def _source(config: Any) -> str:
    return below_home(str(config.get("_name_or_path") or ""))


def below_home(source: str) -> str:
    """A path below the home folder from "~", for a picture should not tell whose machine it was; all else as it is."""
    path = Path(source)
    inside = path.is_absolute() and path.is_relative_to(Path.home())
    return f"~/{path.relative_to(Path.home()).as_posix()}" if inside else source


def _device(pipe: Any, parts: dict[str, Any], offload: str) -> str:
    first = next((tensor for model in parts.values() for tensor in model.parameters()), None)
    return str(pipe._execution_device if offload != "none" or first is None else first.device)


def _channels_last(model: Any) -> bool:
    """Whether its first convolution that has a width is stored with the channels last."""
    import torch

    kernel = next((p for p in model.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[3] > 1), None)
    if kernel is None or kernel.is_contiguous():
        return False
    return kernel.is_contiguous(memory_format=torch.channels_last)


@functools.cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
