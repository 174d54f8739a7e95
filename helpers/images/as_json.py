"""A call's arguments in JSON: numbers and text as they are, images as PNG files, tensors and arrays as safetensors.

Files and what goes over a network hold them so: `decode` runs no code that came with the data.
"""

from __future__ import annotations

import base64
import json
import math
import reprlib
from collections.abc import Callable
from typing import Any

from PIL import Image

from helpers.common import png
from helpers.common.validation import check_text
from helpers.images.digest import digest_of
from helpers.images.reading import open_image

MODES = ("1", "L", "LA", "RGB", "RGBA")  # of images that a PNG holds unchanged
DEPTH = 8  # of lists within lists
INTEGERS = 2**64  # are smaller


def snapshot_argument(value: Any, *, name: str, depth: int = DEPTH) -> Any:
    """A copy of a call's argument that later changes do not reach; TypeError, naming it, if a file could not hold it.

    Allowed: None, numbers, text, PIL images, tensors, arrays, and lists, tuples and dicts of these. ValueError for text
    with half a character in it, a lone surrogate, which tokenizers do not read.
    """
    if isinstance(value, Image.Image):
        if value.mode not in MODES:
            raise TypeError(f"{name} is an image of mode {value.mode!r}; expected {', '.join(MODES)}. Use load_image.")
        return value.copy()
    if _is_array(value) and getattr(value.dtype, "kind", "f") in "biuf":  # numpy has dtypes that a tensor has not
        return value.detach().clone() if hasattr(value, "detach") else value.copy()
    if isinstance(value, (list, tuple, dict)):
        if not depth:
            raise TypeError(f"{name} cannot be recorded: it is nested deeper than {DEPTH} levels.")
        if isinstance(value, dict):
            value = {check_text(name, str(k)): v for k, v in value.items()}
            return {k: snapshot_argument(v, name=f"{name}[{k!r}]", depth=depth - 1) for k, v in value.items()}
        items = (snapshot_argument(v, name=f"{name}[{place}]", depth=depth - 1) for place, v in enumerate(value))
        return tuple(items) if isinstance(value, tuple) else list(items)
    if hasattr(value, "item") and not isinstance(value, str):  # numpy's numbers
        value = value.item()
    if isinstance(value, str):
        return check_text(name, value)
    if value is None or (isinstance(value, int) and abs(value) < INTEGERS):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise TypeError(
        f"{name}={_shown(value)} ({type(value).__name__}) cannot be recorded: pass numbers, text, PIL images, "
        "tensors or lists of these."
    )


def _shown(value: Any) -> str:
    """The value in a message; Python refuses to write whole numbers of thousands of digits."""
    try:
        return repr(str(value)[:80])
    except ValueError:
        return "a number of thousands of digits"


def file_bytes(value: Any) -> bytes:
    """An image as a PNG file, or a tensor or array as a safetensors file with one entry, "value"."""
    if isinstance(value, Image.Image):
        return png.png_bytes(value, quick=True)
    import torch
    from safetensors.torch import save

    tensor = value if hasattr(value, "detach") else torch.from_numpy(value)
    return save({"value": tensor.detach().cpu().contiguous()})


def _base64(value: Any) -> str:
    return base64.b64encode(file_bytes(value)).decode()


def encode(value: Any, *, content: Callable[[Any], str] = _base64) -> Any:
    """`value` in JSON types. content: what stands for the pixels or numbers of an image or tensor."""
    if isinstance(value, Image.Image):
        return {"image": content(value)}
    if _is_array(value):
        return {"tensor" if hasattr(value, "detach") else "array": content(value)}
    if isinstance(value, tuple):
        return {"tuple": [encode(item, content=content) for item in value]}
    if isinstance(value, list):
        return [encode(item, content=content) for item in value]
    if isinstance(value, dict):
        return {"dict": {key: encode(item, content=content) for key, item in value.items()}}
    return value


def identity(value: Any) -> str:
    """A text that is equal for equal values: images and tensors are named by their digest."""
    return json.dumps(encode(value, content=digest_of), sort_keys=True)


def decode(value: Any, *, depth: int = DEPTH + 2) -> Any:
    """The reverse of `encode`; ValueError for anything else."""
    if isinstance(value, int) and abs(value) >= INTEGERS:
        raise ValueError("a whole number of more than 64 bits")
    if not isinstance(value, (list, dict)):
        return value
    if not depth:
        raise ValueError(f"values nested deeper than {DEPTH} levels")
    if isinstance(value, list):
        return [decode(item, depth=depth - 1) for item in value]
    kind, content = next(iter(value.items())) if len(value) == 1 else (None, None)
    if kind == "tuple" and isinstance(content, list):
        return tuple(decode(item, depth=depth - 1) for item in content)
    if kind == "dict" and isinstance(content, dict):
        return {key: decode(item, depth=depth - 1) for key, item in content.items()}
    if kind in ("image", "tensor", "array") and isinstance(content, str):
        return _opened(kind, content)
    raise ValueError(f"unsupported value {reprlib.repr(value)}")


def _opened(kind: str, content: str) -> Any:
    try:
        data = base64.b64decode(content, validate=True)
        if kind == "image":
            image = open_image(data, name="input")
            image.info.clear()
            return image
        from safetensors.torch import load

        tensor = load(data)["value"]
        return tensor.numpy() if kind == "array" else tensor
    except Exception as error:  # safetensors and torch have errors of their own
        raise ValueError(f"an input {kind} is damaged ({error})") from error


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype") and len(value.shape) > 0
