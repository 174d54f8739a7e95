"""Where the course, its data and its cache lie; and paths as people write them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from platformdirs import user_cache_path

ROOT = Path(__file__).resolve().parents[2]  # of the checkout
# Folders that the environment may name. A relative one counts from where Python started, also after os.chdir and in
# the kernels that `course run` starts in the notebooks' folder.
VARIABLES = ("COURSE_DATA", "COURSE_CACHE", "COURSE_TRAINING", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME")

try:
    _START = os.getcwd()
except OSError:  # a folder that was removed meanwhile
    _START = str(ROOT)
for _name in VARIABLES:
    if (_value := os.environ.get(_name)) and not _value.startswith("~"):
        os.environ[_name] = os.path.join(_START, _value)


def expand(path: str | os.PathLike, *, name: str = "path") -> Path:
    """`path` with "~" or "~user" at its start replaced by that home folder, where there is one.

    A name that only begins with "~", as an editor's backups do, stays as it is. ValueError for "~/..." where no home
    folder is known: HOME is not set, and the system does not know the user; and for what is no name of a file.
    """
    text = os.fsdecode(path)
    try:
        os.fsencode(text)
    except UnicodeError as error:
        raise ValueError(f"{name}={text[:200]!r} has characters that no file's name can have.") from error
    if "\0" in text:
        raise ValueError(f"{name}={text[:200]!r} has a NUL character, which no file's name can have.")
    first = Path(text).parts[:1]
    if not text.startswith("~") or (first != ("~",) and os.path.lexists(first[0])):
        return Path(text)
    expanded = os.path.expanduser(text)
    if first == ("~",) and expanded == text:
        raise ValueError(f"{name}={text[:200]!r}: no home folder is known here. Set HOME, or give the whole path.")
    return Path(expanded)


DATA = expand(os.environ.get("COURSE_DATA") or ROOT / "data", name="COURSE_DATA").absolute()
MINIATURES = DATA / "miniatures"

if not DATA.is_dir():
    raise ImportError(
        f"the course's data is not in {DATA}: it lies in the course's checkout and is not installed with the package. "
        "Clone the repository and install it from there with `pip install -e .`, or set COURSE_DATA to its data folder."
    )


def cache_folder() -> Path:
    """Where the course keeps what it can make again: COURSE_CACHE, else the system's cache folder.

    ValueError where there is neither, since no home folder is known.
    """
    if chosen := os.environ.get("COURSE_CACHE"):
        return from_start(expand(chosen, name="COURSE_CACHE"))
    try:
        return from_start(user_cache_path("diffusion-inpainting-course", appauthor=False))
    except RuntimeError as error:
        raise ValueError(
            "no home folder is known here, and so no cache. Set the environment's COURSE_CACHE to a folder."
        ) from error


def from_start(path: str | os.PathLike) -> Path:
    """A relative path as an absolute one: it counts from where Python started."""
    return Path(_START, path)


def read_bytes(path: str | os.PathLike, *, most: int, name: str = "path") -> bytes:
    """The bytes of a file, and at most one more than `most`; ValueError, naming it, where it cannot be read."""
    text = os.fsdecode(path)
    place, shown = expand(path, name=name), f"{name}={text[:200]!r}"
    try:
        if place.is_dir():
            raise ValueError(f"{shown} is a folder: pass the path of one image in it.")
        if place.exists() and not place.is_file():
            raise ValueError(f"{shown} is neither a file nor a folder: copy what is in it to a file.")
        with place.open("rb") as file:
            return file.read(most + 1)
    except FileNotFoundError as error:
        if place.is_symlink():
            raise ValueError(f"{shown} is a link to {os.readlink(place)!r}, which is not there.") from error
        raise ValueError(f"{shown}: no such file (looked in {place.parent.absolute()}).") from error
    except OSError as error:
        raise ValueError(f"{shown} cannot be read: {error.strerror or error}.") from error


def write_whole(path: Path, text: str) -> bool:
    """Write a text file, whole or not at all; return whether it changed."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8", newline="\n")
    os.replace(draft, path)
    return True


def try_writing(folder: Path, file: str = "") -> None:
    """Write a file, with a name as long as `file`, to an existing folder and remove it: OSError where that fails."""
    draft = folder / f".{secrets.token_hex(6)}.tmp".ljust(len(os.fsencode(file)), "x")
    try:
        draft.write_bytes(bytes(4096))  # an empty file fits on a full disk
    finally:
        draft.unlink(missing_ok=True)
