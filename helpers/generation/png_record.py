"""An image and what it was made from in one PNG file: JSON in one iTXt chunk, "inpainting-course".

Input images and tensors stand in the JSON, as base64 of a PNG or a safetensors file. Other programs show the image and
skip the chunk; programs that save the image again lose it.
"""

from __future__ import annotations

import io
import json
import os
import re
import reprlib
import secrets
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from helpers.common import paths, png
from helpers.images.reading import MAX_BYTES, open_image

KEY = "inpainting-course"
FORMAT = 2  # of the JSON
BYTES = (bytes, bytearray, memoryview)  # a file's contents
Buffer = bytes | bytearray | memoryview
NUMBER = r"-?[0-9.]{1,25}(e[+-]?[0-9]{1,3})?"  # a pattern for `check_fields`


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
