"""Which files of a Hub repository a checkpoint is read from: the weights of one format and variant, and the settings.

Repositories hold each model several times (pickles, safetensors, float16, whole checkpoints in one file). What is
chosen here is what diffusers' own from_pretrained asks for with `use_safetensors=True`; no code, no safety checker.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

INDEX = "model_index.json"
SKIPPED = ("safety_checker",)  # components that the course never loads
WEIGHTS = (".safetensors", ".bin", ".msgpack", ".onnx", ".pb", ".h5", ".ckpt", ".pt", ".pth")
CODE = (".py", ".so", ".dll", ".exe", ".sh")
STEMS = {
    ".safetensors": "diffusion_pytorch_model|model|pytorch_lora_weights",
    ".bin": "diffusion_pytorch_model|pytorch_model",
}


def choose(
    names: Iterable[str], index: Mapping[str, Any] | None, *, variant: str | None = None, pickled: bool = False
) -> tuple[tuple[str, ...], str | None]:
    """The files that a checkpoint is read from, out of all `names` of its repository, and the variant they are of.

    index: the contents of its model_index.json; None for a single model, such as a ControlNet. variant: the suffix
    that is preferred; a model without it comes in its plain files. pickled: the .bin files instead of safetensors.

    Raises FileNotFoundError where a model has no weights of that format.
    """
    names = sorted(names)
    suffix = ".bin" if pickled else ".safetensors"
    files = [name for name in names if "/" not in name and name.endswith(".json") and ".index." not in name]
    weights: dict[str, dict[str | None, list[str]]] = {}
    if index is None:
        weights["the model"] = _weights([name for name in names if "/" not in name], suffix)
    else:
        files += [name for name in names if name == "README.md"]  # names a prior, where there is one
        for folder in _components(index):
            inside = [name for name in names if name.startswith(f"{folder}/") and name.count("/") == 1]
            if f"{folder}/config.json" in inside or any(name.endswith(WEIGHTS) for name in inside):  # a model
                weights[folder] = _weights(inside, suffix)
                files += [name for name in inside if name == f"{folder}/config.json"]
            else:
                files += [name for name in inside if not name.endswith(CODE)]
    lacking = [model for model, found in weights.items() if not found.keys() & {variant, None}]
    if lacking or not weights:
        kind = "safetensors" if suffix == ".safetensors" else suffix
        raise FileNotFoundError(f"no {kind} weights for {', '.join(lacking) or 'any model'}")
    used = {model: variant if variant in found else None for model, found in weights.items()}
    files += [name for model, found in weights.items() for name in found[used[model]]]
    return tuple(sorted(files)), variant if variant in used.values() else None


def _components(index: Mapping[str, Any]) -> list[str]:
    """The folders that model_index.json names, without those that hold nothing."""
    parts = {name: entry for name, entry in index.items() if isinstance(entry, list) and not name.startswith("_")}
    return [name for name, entry in parts.items() if name not in SKIPPED and entry and entry[0] is not None]


def _weights(names: Iterable[str], suffix: str) -> dict[str | None, list[str]]:
    """Variant -> its weights, with the index of their shards."""
    variant = r"(?:\.(?P<{}>\w+))?"
    weights = rf"(?:{STEMS[suffix]}){variant.format('weights')}(?:-\d{{5}}-of-\d{{5}})?{re.escape(suffix)}"
    shards = rf"(?:{STEMS[suffix]}){re.escape(suffix)}\.index{variant.format('index')}\.json"
    found: dict[str | None, list[str]] = {}
    for name in names:
        if match := re.fullmatch(f"(?:.*/)?(?:{weights}|{shards})", name):
            found.setdefault(match["weights"] or match["index"], []).append(name)
    return {key: files for key, files in found.items() if any(name.endswith(suffix) for name in files)}
