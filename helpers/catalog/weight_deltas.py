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

    kinds = set(change)
    if kinds == {"new"}:
        return change["new"]
    if kinds not in ({"diff"}, {"down", "up"}):
        told = " and ".join(sorted(kinds))
        raise ValueError(f"{folder}/{FILE} has {told} for {name!r}; expected new, or diff, or down and up.{_CURE}")
    if weight is None:
        raise ValueError(f"{folder}/{FILE} changes {name!r}, which its base has not.{_CURE}")
    if "diff" in change:
        shape, total = change["diff"].shape, change["diff"].astype(np.float32)
    else:
        up, down = change["up"].astype(np.float32), change["down"].astype(np.float32)
        shape = (weight.shape[0], weight.size // weight.shape[0]) if weight.ndim > 1 else weight.shape
        if up.ndim != 2 or down.ndim != 2 or (up.shape[0], down.shape[1]) != shape or up.shape[1] != down.shape[0]:
            raise ValueError(
                f"{folder}/{FILE} has up {up.shape} and down {down.shape} for {name!r} of {weight.shape}.{_CURE}"
            )
        total = np.zeros(shape, dtype=np.float32)
        for column, row in zip(up.T, down, strict=True):  # no matrix product: how those round differs by machine
            total += column[:, None] * row
        shape = weight.shape
    if shape != weight.shape:
        raise ValueError(f"{folder}/{FILE} has a difference of {shape} for {name!r} of {weight.shape}.{_CURE}")
    return (weight.astype(np.float32) + total.reshape(shape)).astype(np.float16)


_CURE = " Restore both: git checkout -- data/miniatures"
