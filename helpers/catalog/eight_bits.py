"""Weights kept in eight bits: half the disk and half the history of float16, and images that look the same.

A matrix or convolution P is stored as P.int8, whole numbers of -127..127, and P.scale, one float32 for each output
channel: P = P.int8 * P.scale, about 1/250 of a channel's largest weight off at most. What is small stays as it is. The
file is an ordinary safetensors file, but no library loads it as a model: it is made whole first.
"""

from __future__ import annotations

from pathlib import Path

SMALL = 2048  # numbers; what has fewer is kept in float16
METADATA = {"format": "pt"}  # what the loaders ask for in a file's header


def packed(weights: dict) -> dict:
    """NumPy arrays by name -> what is stored of them: int8 and scales, or float16."""
    import numpy as np

    result = {}
    for name, value in weights.items():
        if value.ndim < 2 or value.size < SMALL:
            result[name] = value.astype(np.float16)
            continue
        rows = value.reshape(len(value), -1).astype(np.float32)
        scale = np.abs(rows).max(1) / 127
        whole = np.rint(rows / np.where(scale > 0, scale, 1)[:, None]).astype(np.int8)
        result[f"{name}.int8"], result[f"{name}.scale"] = whole.reshape(value.shape), scale
    return result


def unpacked(stored: dict) -> dict:
    """The arrays of a file, in float16, in the order of their names; the same bytes on every machine."""
    import numpy as np

    result = {}
    for key, value in stored.items():
        name = key.removesuffix(".int8")
        if name != key:
            scale = stored[f"{name}.scale"].reshape(-1, *(1,) * (value.ndim - 1))
            result[name] = (value.astype(np.float32) * scale).astype(np.float16)
        elif f"{key.removesuffix('.scale')}.int8" not in stored:
            result[key] = value
    return dict(sorted(result.items()))


def read(file: Path) -> dict:
    """The weights in a safetensors file by name, NumPy arrays; what is in eight bits comes as float16."""
    from safetensors.numpy import load_file

    stored = load_file(file)
    return unpacked(stored) if any(key.endswith(".int8") for key in stored) else stored


def whole(file: Path) -> bytes:
    """An eight-bit file as the float16 file that the libraries load."""
    from safetensors.numpy import save

    return save(read(file), metadata=METADATA)


def used(file: Path) -> bool:
    """Is anything in this safetensors file kept in eight bits?"""
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as opened:
        return any(key.endswith(".int8") for key in opened.keys())
