"""An image and what it was made from in one PNG file: JSON in one iTXt chunk, "inpainting-course".

Input images and tensors stand in the JSON, as base64 of a PNG or a safetensors file. Other programs show the image and
skip the chunk; programs that save the image again lose it.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
import re
import reprlib
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from helpers.common import paths, png
from helpers.common.validation import check_text
from helpers.images.digest import digest_of
from helpers.images.reading import MAX_BYTES, open_image

KEY = "inpainting-course"
FORMAT = 2  # of the JSON
MODES = ("1", "L", "LA", "RGB", "RGBA")  # of images that a PNG holds unchanged
DEPTH = 8  # of lists within lists
BYTES = (bytes, bytearray, memoryview)  # a file's contents
Buffer = bytes | bytearray | memoryview
INTEGERS = 2**64  # are smaller
NUMBER = r"-?[0-9.]{1,25}(e[+-]?[0-9]{1,3})?"  # a pattern for `check_fields`


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
    from safetensors.torch import load

    try:
        data = base64.b64decode(content, validate=True)
        if kind == "image":
            image = open_image(data, name="input")
            image.info.clear()
            return image
        tensor = load(data)["value"]
        return tensor.numpy() if kind == "array" else tensor
    except Exception as error:  # safetensors and torch have errors of their own
        raise ValueError(f"an input {kind} is damaged ({error})") from error


def check_fields(where: str, content: Any, patterns: dict[str, str]) -> dict[str, Any]:
    """The fields that have a pattern; ValueError, naming the first that is missing or whose JSON does not match."""
    for name, pattern in patterns.items():
        if not isinstance(content, dict) or name not in content:
            raise ValueError(f"{where} has no {name}")
        if not re.fullmatch(pattern, json.dumps(content[name]), re.ASCII):
            raise ValueError(f"{name}={reprlib.repr(content[name])} is not what this course writes")
    return {name: content[name] for name in patterns}


def write(path: str | os.PathLike, image: Image.Image, content: dict[str, Any]) -> Path:
    """Write the PNG file; one of that name is the old one or the new one, never half of one.

    ValueError, before anything is written, where `read` would refuse the file: over `MAX_BYTES`. OSError, saying why,
    where the system refuses it.
    """
    path = paths.expand(path)
    if not path.name.lower().endswith(".png"):
        raise ValueError(f"path={str(path)!r}: a record is a PNG file; let the name end in .png.")
    if not os.path.isdir(path.parent):
        raise ValueError(f"path={str(path)!r}: there is no folder {path.parent}. Make it first, or choose another.")
    info, file = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_itxt(KEY, json.dumps({"format": FORMAT} | content))
    image.save(file, format="PNG", pnginfo=info)
    if file.tell() > MAX_BYTES:
        raise ValueError(
            f"path={str(path)!r}: with its inputs this record takes {file.tell() / 2**20:.0f} MiB, and at most "
            f"{MAX_BYTES // 2**20} can be read again. Save the image alone: record.image.save(...)."
        )
    draft = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        draft.write_bytes(file.getbuffer())
        os.replace(draft, path)
    except OSError as error:
        raise OSError(
            f"path={str(path)!r} cannot be written: {error.strerror or error}. Choose another folder or a shorter name."
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return path


def label(path: str | os.PathLike | Buffer) -> str:
    """What messages call a file, or its bytes."""
    return f"path=<{len(bytes(path))} bytes>" if isinstance(path, BYTES) else f"path={os.fspath(path)!r}"


def read(path: str | os.PathLike | Buffer) -> tuple[Image.Image, dict[str, Any]]:
    """The image and its JSON; ValueError, naming the file, for any other file, and for one cut off.

    path: of the file, or its bytes.
    """
    if not isinstance(path, (str, os.PathLike, *BYTES)):
        raise TypeError(f"path is a {type(path).__name__}: expected the path of a PNG file, or its bytes.")
    named = label(path)
    data = bytes(path) if isinstance(path, BYTES) else paths.read_bytes(path, most=MAX_BYTES)
    name = "path" if isinstance(path, BYTES) else named
    image = open_image(data, name=name)  # whole, of a sane size, and of a known kind
    image.info.clear()
    texts = png.texts(data, most=MAX_BYTES) if data.startswith(png.SIGNATURE) else {}
    if KEY not in texts:
        raise ValueError(
            f"{named} holds no record of this course: only PNG files written by Record.save do, and programs that save "
            f"the image again lose it."
        )
    try:
        content = json.loads(texts[KEY])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{named}: its record is damaged ({error}).") from error
    version = content.get("format") if isinstance(content, dict) else None
    if version != FORMAT:
        older = isinstance(version, int) and version < FORMAT
        remedy = "make the image again; load_image still opens it" if older else "update the course"
        raise ValueError(
            f"{named}: its record has format {reprlib.repr(version)} and this course reads {FORMAT}: {remedy}."
        )
    return image, content


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype") and len(value.shape) > 0
