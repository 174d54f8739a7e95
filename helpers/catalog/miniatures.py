"""Put a miniature together: from the components in data/miniatures to a folder that from_pretrained takes.

data/miniatures holds each component once (a VAE, a UNet, a tokenizer ...); checkpoints.json says which components make
which checkpoint: ["diffusers", "UNet2DConditionModel", "unet-sd15"], and as a fourth item the folder of a delta where a
model is kept as its difference from another (deltas.py). The folders lie in a cache outside the checkout. Each is named
by a hash of its contents, so new weights get a new folder, and a file that is missing, cut short or altered is written
again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from helpers.catalog import checkpoints, weight_deltas

RECIPES = "checkpoints.json"
SHIPPED = {".json", ".safetensors", ".txt"}  # of a component's folder; never a pickle
DIFFUSERS = "0.42.1"  # the version whose folder layout this is

Data = Path | bytes | Callable[[], bytes]  # a file to copy, what to write, or what makes it

_hashes: dict[tuple, str] = {}
_merged: dict[tuple, str] = {}  # hashes of a base and its delta -> of the model they make


def cache_folder() -> Path:
    """Where the course keeps what it can make again: COURSE_CACHE, else the system's folder for caches."""
    if chosen := os.environ.get("COURSE_CACHE"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "diffusion-inpainting-course"


def recipes() -> dict[str, dict]:
    """What checkpoints.json says, by course name; empty where no miniatures are shipped."""
    file = checkpoints.MINIATURES / RECIPES
    if not file.is_file():
        return {}
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON ({error}). Restore it: git checkout -- data/miniatures") from error


def assemble(name: str) -> Path:
    """The folder with the miniature of `name`, complete and unaltered; made now if it is not there.

    Raises FileNotFoundError when the course ships no such miniature, or when a component of it is missing.
    """
    contents = _contents(name)
    key = hashlib.sha256(repr([(path, digest) for path, (digest, _) in sorted(contents.items())]).encode())
    folder = cache_folder() / "miniatures" / f"{name}-{key.hexdigest()[:12]}"
    try:
        if not folder.is_dir():
            _create(folder, contents)
        _heal(folder, contents)
    except OSError as error:
        raise OSError(
            f"cannot write the miniature {name!r} to {folder} ({error}). "
            "Set the environment's COURSE_CACHE to a folder that you can write to and that has 100 MB free."
        ) from error
    return folder


def digests(name: str) -> dict[str, str]:
    """A hash of each component of the miniature `name`; components with equal hashes are interchangeable."""
    parts: dict[str, list] = {}
    for path, (digest, _) in sorted(_contents(name).items()):
        component, _, file = path.rpartition("/")
        parts.setdefault(component, []).append((file, digest))
    return {part: hashlib.sha256(repr(files).encode()).hexdigest() for part, files in parts.items() if part}


def _contents(name: str) -> dict[str, tuple[str, Data]]:
    """Path in the checkpoint's folder -> (sha256, what to write there)."""
    recipe = recipes().get(name)
    if recipe is None:
        raise FileNotFoundError(
            f"the course does not ship the miniature {name!r} yet. Train it with "
            f"`python -m miniature_training train {name}`, or use the real checkpoint: use('full')."
        )
    contents: dict[str, tuple[str, Data]] = {}
    if "model" in recipe:  # a single model, such as a ControlNet, that from_pretrained takes without a pipeline
        contents |= _component(name, "", recipe["model"])
    else:
        index = {"_class_name": recipe["pipeline"], "_diffusers_version": DIFFUSERS, **recipe.get("config", {})}
        for part, entry in recipe["components"].items():
            index[part] = entry[:2]
            contents |= _component(name, f"{part}/", entry)
        contents["model_index.json"] = _generated(index)
    return contents


def _component(name: str, prefix: str, entry: list) -> dict[str, tuple[str, Data]]:
    """The files of one component; its entry is [library, class, folder in data/miniatures, folder of its delta]."""
    library, _, *folders = entry
    shipped = [_shipped(name, folder, "*" if i == 0 else weight_deltas.FILE) for i, folder in enumerate(folders)]
    contents: dict[str, tuple[str, Data]] = {file.name: (_sha256(file), file) for file in shipped[-1]}
    settings = None
    if len(folders) > 1:
        base, delta = (checkpoints.MINIATURES / folder for folder in folders)
        [weights] = [file for file in shipped[0] if file.suffix == ".safetensors"]
        contents.pop(weight_deltas.FILE)
        contents[weights.name] = _whole(weights, delta)
        settings = weight_deltas.config(base, delta)
    if library == "transformers" and "config.json" in {file.name for files in shipped for file in files}:
        # transformers takes the dtype from here, diffusers always float32: unequal dtypes crash the first call
        file = checkpoints.MINIATURES / folders[0] / "config.json"
        settings = settings or json.loads(file.read_text(encoding="utf-8"))
        settings.pop("torch_dtype", None)
        settings["dtype"] = "float32"
    if settings:
        contents["config.json"] = _generated(settings)
    return {f"{prefix}{file}": content for file, content in contents.items()}


def _shipped(name: str, folder: str, needed: str) -> list[Path]:
    files = sorted(f for f in (checkpoints.MINIATURES / folder).glob("*") if f.suffix in SHIPPED and f.is_file())
    if not any(file.match(needed) for file in files):
        lacking = "none of its files" if needed == "*" else f"no {needed}"
        raise FileNotFoundError(
            f"the miniature {name!r} needs the component {folder!r}, and {checkpoints.MINIATURES / folder} "
            f"has {lacking}. "
            "Restore it: git checkout -- data/miniatures"
        )
    return files


def _whole(base: Path, delta: Path) -> tuple[str, Data]:
    """The weights that a base and a delta make; merged at once only where their hash is not known yet."""
    key = (_sha256(base), _sha256(delta / weight_deltas.FILE))
    if key in _merged:
        return _merged[key], partial(weight_deltas.merge, base, delta)
    data = weight_deltas.merge(base, delta)
    _merged[key] = hashlib.sha256(data).hexdigest()
    return _merged[key], data


def _generated(settings: dict) -> tuple[str, bytes]:
    data = (json.dumps(settings, indent=2) + "\n").encode()
    return hashlib.sha256(data).hexdigest(), data


def _create(folder: Path, contents: dict) -> None:
    """Write all of `contents` beside `folder`, then move it there in one step: nobody sees half of it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        for path, (_, data) in contents.items():
            _write(scratch / path, data)
        scratch.chmod(0o755)
        scratch.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was quicker
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _heal(folder: Path, contents: dict) -> None:
    """Make `folder` hold exactly `contents`; each file is replaced in one step."""
    for path, (digest, data) in contents.items():
        target = folder / path
        if target.is_file() and not target.is_symlink() and _sha256(target) == digest:
            continue
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        fresh = folder.parent / f".{folder.name}-{os.getpid()}-{time.monotonic_ns()}"
        try:
            _write(fresh, data)
            target.parent.mkdir(parents=True, exist_ok=True)
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)
    wanted = {folder / path for path in contents}
    for extra in [path for path in folder.rglob("*") if path not in wanted and not path.is_dir()]:
        extra.unlink(missing_ok=True)  # such as an index file that points from_pretrained to other weights


def _write(target: Path, data: Data) -> None:
    # Copied, not linked: what is written into the cache by mistake must not reach the shipped weights.
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, Path):
        shutil.copyfile(data, target)
    else:
        target.write_bytes(data if isinstance(data, bytes) else data())


def _sha256(file: Path) -> str:
    """The file's hash, remembered for as long as its size, times and place on disk stay the same."""
    status = file.stat()
    key = (str(file), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    if key not in _hashes:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        # Two writes within the clock's tick leave equal times: a file that young is hashed again next time.
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < 2_000_000_000:
            return digest
        _hashes[key] = digest
    return _hashes[key]
