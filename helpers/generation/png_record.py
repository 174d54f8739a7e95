"""A picture and what it was made from in one PNG file: text for the parameters, a private chunk for each input.

The text is JSON under the key "inpainting-course"; input pictures and tensors follow in chunks "inPt", each a SHA-256
and then a PNG or a safetensors file. Other programs show the picture and pass over the rest.
"""

from __future__ import annotations

import io
import json
import math
import os
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from helpers.images.digest import digest_of
from helpers.images.reading import MAX_BYTES, open_image

KEY, CHUNK = "inpainting-course", b"inPt"
FORMAT = 1  # of the JSON; a reader refuses what is newer
MODES = ("1", "L", "LA", "RGB", "RGBA")  # of pictures that a PNG holds unchanged

_kept: weakref.WeakValueDictionary = weakref.WeakValueDictionary()  # one copy of each input, whoever holds it


@dataclass(frozen=True)
class Absent:
    """An input that the file only names: pass one with this hash to `repeat`."""

    digest: str
    what: str


def kept(value: Any, *, name: str) -> Any:
    """A copy of a call's argument that later changes do not reach; TypeError, naming it, if a file could not hold it.

    Allowed: None, numbers, text, PIL pictures, tensors, arrays, and lists, tuples and dicts of these.
    """
    if isinstance(value, Image.Image):
        if value.mode not in MODES:
            raise TypeError(
                f"{name} is a picture of mode {value.mode!r}; expected {', '.join(MODES)}. Read it with load_image."
            )
        return _shared(digest_of(value), value.copy)
    if _is_array(value):
        copy = value.detach().clone if hasattr(value, "detach") else value.copy
        return _shared(f"{type(value).__name__} {getattr(value, 'device', '')} {digest_of(value)}", copy)
    if isinstance(value, (list, tuple)):
        return type(value)(kept(item, name=f"{name}[{place}]") for place, item in enumerate(value))
    if isinstance(value, dict):
        return {str(key): kept(item, name=f"{name}[{key!r}]") for key, item in value.items()}
    if hasattr(value, "item") and not isinstance(value, str):  # numpy's numbers
        value = value.item()
    if value is None or isinstance(value, (bool, int, str, Absent)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise TypeError(
        f"{name}={str(value)[:80]!r} ({type(value).__name__}) cannot be kept in a record: pass numbers, text, "
        "PIL pictures, tensors or lists of these."
    )


def _shared(key: str, copy: Callable[[], Any]) -> Any:
    """The copy that other records have already, unless somebody changed it."""
    held = _kept.get(key)
    if held is None or digest_of(held) != key.split()[-1]:
        held = _kept[key] = copy()
    return held


def encode(value: Any, inputs: dict[str, bytes] | None) -> Any:
    """`value` in JSON types; pictures and tensors go to `inputs` by their hash, or stay out of it where it is None."""
    if isinstance(value, Absent):
        return {"absent": value.digest, "what": value.what}
    if isinstance(value, Image.Image):
        digest = digest_of(value)
        if inputs is not None:
            inputs[digest] = _png(value)
        return {"picture": digest, "what": f"{value.mode} picture, {value.width} x {value.height}"}
    if _is_array(value):
        from safetensors.torch import save

        digest, kind = digest_of(value), "tensor" if hasattr(value, "detach") else "array"
        if inputs is not None:
            inputs[digest] = save({"value": _tensor(value)})
        return {kind: digest, "what": f"{kind} {tuple(value.shape)}"}
    if isinstance(value, tuple):
        return {"tuple": [encode(item, inputs) for item in value]}
    if isinstance(value, list):
        return [encode(item, inputs) for item in value]
    if isinstance(value, dict):
        return {"dict": {key: encode(item, inputs) for key, item in value.items()}}
    return value


def decode(value: Any, inputs: dict[str, bytes]) -> Any:
    """The reverse of `encode`; an input that is not there becomes `Absent`."""
    if isinstance(value, list):
        return [decode(item, inputs) for item in value]
    if not isinstance(value, dict):
        return value
    if "tuple" in value:
        return tuple(decode(item, inputs) for item in value["tuple"])
    if "dict" in value:
        return {key: decode(item, inputs) for key, item in value["dict"].items()}
    for kind in ("picture", "tensor", "array", "absent"):
        if digest := value.get(kind):
            if digest not in inputs:
                return Absent(digest, str(value.get("what")))
            return _opened(kind, digest, inputs[digest])
    raise ValueError(f"a value of unknown kind: {str(value)[:80]}")


def write(path: str | os.PathLike, picture: Image.Image, content: dict[str, Any], inputs: dict[str, bytes]) -> Path:
    """Write the PNG in one step: a file of that name is the old one or the new one, never half of one."""
    path = Path(path).expanduser()
    if path.suffix.lower() != ".png":
        raise ValueError(f"path={str(path)!r}: the parameters need a PNG file; let the name end in .png.")
    if not path.parent.is_dir():
        raise ValueError(f"path={str(path)!r}: there is no folder {path.parent}. Make it first, or choose another.")
    info = PngImagePlugin.PngInfo()
    info.add_itxt(KEY, json.dumps({"format": FORMAT} | content, ensure_ascii=False, allow_nan=False))
    for digest, data in inputs.items():
        info.add(CHUNK, bytes.fromhex(digest) + data)
    handle, scratch = tempfile.mkstemp(prefix=f".{path.stem[:40]}-", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            picture.save(file, format="PNG", pnginfo=info)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(scratch, 0o666 & ~mask)  # mkstemp's files are for their owner alone
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
    return path


def read(path: str | os.PathLike | bytes) -> tuple[Image.Image, dict[str, Any], dict[str, bytes]]:
    """The picture, its JSON and its inputs; ValueError, naming the file, for any other PNG or one cut off.

    path: also the bytes of such a file.
    """
    if isinstance(path, bytes):
        name, label, data = "path", f"path=<{len(path)} bytes>", path
    else:
        path = Path(path).expanduser()
        name = label = f"path={str(path)!r}"
        if not path.is_file():
            raise ValueError(f"{label}: no such file.")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    picture = open_image(data, name=name)  # whole, of a sane size, and of a known kind
    with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as opened:
        opened.load()
        text, chunks = getattr(opened, "text", {}), getattr(opened, "private_chunks", [])
    if KEY not in text:
        others = f" It has the texts {', '.join(map(repr, text))} of another program." if text else ""
        raise ValueError(
            f"{label} has no record of this course in it: only PNG files that Record.save wrote have one, and programs "
            f"that save a picture again lose it.{others}"
        )
    try:
        content = json.loads(text[KEY])
        version = content["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{label}: its record is damaged ({error}).") from error
    if not isinstance(version, int) or version > FORMAT:
        raise ValueError(
            f"{label}: its record has format {version!r} and this course reads up to {FORMAT}: update the course."
        )
    inputs = {chunk[1][:32].hex(): chunk[1][32:] for chunk in chunks if chunk[0] == CHUNK}
    picture.info.clear()
    return picture, content, inputs


def _opened(kind: str, digest: str, data: bytes) -> Any:
    if kind == "picture":
        value = open_image(data, name="input")
        value.info.clear()
    else:
        from safetensors.torch import load

        value = load(data)["value"]
        value = value.numpy() if kind == "array" else value
    if digest_of(value) != digest:
        raise ValueError("an input in the file is damaged: its hash is another.")
    return value


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype") and len(value.shape) > 0


def _tensor(value: Any) -> Any:
    import numpy as np
    import torch

    value = torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
    return value.detach().cpu().contiguous()


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="PNG", compress_level=1)
    return file.getvalue()
