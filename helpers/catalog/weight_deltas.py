"""A model kept as its difference from another one that is shipped anyway, put together again bit for bit.

A delta's folder holds delta.safetensors. Of a parameter P of the base it may change, all in float16:
P.down (rank, rest) and P.up (out, rank): their product is added, a convolution seen as (out, in * height * width)
    (https://arxiv.org/abs/2106.09685);
P.diff: added as it is;   P.new: put in its place, or beside the others where the base has no P.
Its metadata may name, under "without", parameters of the base that the model has not: full names, or "up_blocks." for
all that begins so. A config.json says which fields differ; one of another class replaces the base's whole.
"""

from __future__ import annotations

import json
from pathlib import Path

from helpers.catalog import eight_bits

FILE = "delta.safetensors"
METADATA = {"format": "pt"}  # what the loaders ask for in a file's header


def merge(base: Path, delta: Path) -> bytes:
    """The whole model as the bytes of a safetensors file: the weights in file `base`, changed by folder `delta`.

    A base in eight bits is made whole first. The same two files give the same bytes on every machine. Raises ValueError
    where they do not fit together.
    """
    from safetensors.numpy import load_file, save

    weights = eight_bits.read(base)
    without = tuple(header(delta).get("without", "").split())
    names = {name for name in weights if any(name == gone or name.startswith(_prefix(gone)) for gone in without)}
    weights = {name: value for name, value in weights.items() if name not in names}
    changes: dict[str, dict] = {}
    for key, value in load_file(delta / FILE).items():
        name, _, kind = key.rpartition(".")
        changes.setdefault(name, {})[kind] = value
    for name, change in changes.items():
        weights[name] = _changed(name, weights.get(name), change, delta.name)
    return save(weights, metadata=METADATA)


def config(base: Path, delta: Path) -> dict | None:
    """The config.json of the whole model: folder `base`'s, changed by folder `delta`'s; None if both have none."""
    settings = [json.loads(file.read_text(encoding="utf-8")) for file in _configs(base, delta)]
    if not settings:
        return None
    if settings[-1].get("_class_name", settings[0].get("_class_name")) != settings[0].get("_class_name"):
        return settings[-1]
    return {key: value for part in settings for key, value in part.items()}


def header(delta: Path) -> dict[str, str]:
    """The metadata of a delta: "base", its folder, "sha256" of the weights it was made from, and "without"."""
    from safetensors import safe_open

    with safe_open(delta / FILE, framework="numpy") as file:
        return file.metadata() or {}


def _configs(*folders: Path) -> list[Path]:
    return [folder / "config.json" for folder in folders if (folder / "config.json").is_file()]


def _prefix(gone: str) -> str:
    return gone if gone.endswith(".") else f"{gone}\0"  # which no name begins with


def _changed(name: str, weight, change: dict, folder: str):
    """One parameter, in float16."""
    import numpy as np

    if "new" in change:
        return change["new"]
    if weight is None:
        raise ValueError(
            f"{folder}/{FILE} changes {name!r}, which its base has not. Restore both: git checkout -- data/miniatures"
        )
    if "diff" in change:
        total = change["diff"].astype(np.float32)
    else:
        up, down = change["up"].astype(np.float32), change["down"].astype(np.float32)
        total = np.zeros((len(up), down.shape[1]), dtype=np.float32)
        for column, row in zip(up.T, down, strict=True):  # no matrix product: how those round differs by machine
            total += column[:, None] * row
    return (weight.astype(np.float32) + total.reshape(weight.shape)).astype(np.float16)
