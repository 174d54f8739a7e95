"""Which files of a Hub repository a checkpoint is read from: the weights of one format and variant, and the settings.

Repositories hold each model several times (pickles, safetensors, float16, whole checkpoints in one file). What is
chosen here is what diffusers' own from_pretrained asks for with `use_safetensors=True`; no code, no safety checker.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

INDEX = "model_index.json"
SKIPPED = ("safety_checker",)  # components that the course never loads
WEIGHTS = (".safetensors", ".bin", ".msgpack", ".onnx", ".pb", ".h5", ".ckpt", ".pt", ".pth")
CODE = (".py", ".so", ".dll", ".exe", ".sh")
STEMS = {".safetensors": ("diffusion_pytorch_model", "model"), ".bin": ("diffusion_pytorch_model", "pytorch_model")}


@dataclass(frozen=True)
class Choice:
    """The files to fetch, and the `variant` that from_pretrained has to be told to find them."""

    files: tuple[str, ...]
    variant: str | None


def choose(
    names: Iterable[str], index: Mapping[str, Any] | None, *, variant: str | None = None, pickled: bool = False
) -> Choice:
    """The files that a checkpoint is read from, out of all `names` of its repository.

    index: the contents of its model_index.json; None for a single model, such as a ControlNet. variant: the suffix
    that is preferred; a model without it comes in its plain files. pickled: the .bin files instead of safetensors.

    Raises FileNotFoundError where a model has no weights of that format.
    """
    names = sorted(names)
    suffix = ".bin" if pickled else ".safetensors"
    files = [name for name in names if "/" not in name and _is_setting(name)]
    if index is None:
        chosen = {"": _weights(names, "", suffix=suffix, variant=variant)}
        _require(chosen, suffix=suffix)
    else:
        files += [name for name in names if name == "README.md"]  # names a prior, where there is one
        chosen = {}
        for folder in _components(index):
            inside = [name for name in names if name.startswith(f"{folder}/") and name.count("/") == 1]
            if any(name.endswith(WEIGHTS) for name in inside):
                chosen[folder] = _weights(inside, f"{folder}/", suffix=suffix, variant=variant)
                files += [name for name in inside if name == f"{folder}/config.json"]
            else:
                files += [name for name in inside if not name.endswith(CODE)]
        _require(chosen, suffix=suffix)
    files += [name for _, found in chosen.values() for name in found]
    used = {found_variant for found_variant, _ in chosen.values()}
    return Choice(tuple(sorted(files)), variant if variant in used else None)


def _components(index: Mapping[str, Any]) -> list[str]:
    """The folders that model_index.json names, without those that hold nothing."""
    parts = {name: entry for name, entry in index.items() if isinstance(entry, list) and not name.startswith("_")}
    return [name for name, entry in parts.items() if name not in SKIPPED and entry and entry[0] is not None]


def _weights(names: list[str], folder: str, *, suffix: str, variant: str | None) -> tuple[str | None, list[str]]:
    """The weights in `folder` and the index of their pieces: (variant, files) of the best variant that is there."""
    stems = "|".join(STEMS[suffix])
    part = rf"{re.escape(folder)}(?:{stems})(?:\.(?P<early>\w+))?(?:-\d{{5}}-of-\d{{5}})?{re.escape(suffix)}"
    listing = rf"{re.escape(folder)}(?:{stems}){re.escape(suffix)}\.index(?:\.(?P<late>\w+))?\.json"
    found: dict[str | None, list[str]] = {}
    for name in names:
        if match := re.fullmatch(part, name):
            found.setdefault(match["early"], []).append(name)
    for name in names:
        if (match := re.fullmatch(listing, name)) and match["late"] in found:
            found[match["late"]].append(name)
    best = variant if variant in found else None
    return best, found.get(best, [])


def _require(chosen: Mapping[str, tuple[str | None, list[str]]], *, suffix: str) -> None:
    lacking = [folder or "the model" for folder, (_, found) in chosen.items() if not found]
    if lacking or not chosen:
        kind = "safetensors" if suffix == ".safetensors" else suffix
        raise FileNotFoundError(f"no {kind} weights for {', '.join(lacking) or 'any model'}")


def _is_setting(name: str) -> bool:
    return name.endswith(".json") and ".index." not in name
