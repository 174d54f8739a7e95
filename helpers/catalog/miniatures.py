"""Put a miniature together: from the components in data/miniatures to a folder that from_pretrained takes.

data/miniatures holds each component once (a VAE, a UNet, a tokenizer ...); checkpoints.json says which components make
which checkpoint: ["diffusers", "UNet2DConditionModel", "unet-sd15"], and as a fourth item the folder of a delta where a
model is kept as its difference from another (weight_deltas.py). Weights kept in eight bits (eight_bits.py) become
float16. The folders lie in a cache outside the checkout, each named by a hash of what it is made of: new weights get a
new folder, and an old one is never changed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from helpers.catalog import eight_bits, weight_deltas
from helpers.common import paths

RECIPES = "checkpoints.json"
SHIPPED = {".json", ".safetensors", ".txt"}  # of a component's folder; never a pickle
DIFFUSERS = "0.42.1"  # the version whose folder layout this is

# What a file of the folder is made of: its hash, and a file to copy, bytes to write, or what makes them.
Content = tuple[str, Path | bytes | Callable[[], bytes]]


def recipes() -> dict[str, dict]:
    """What checkpoints.json says, by course name; empty where no miniatures are shipped."""
    file = paths.MINIATURES / RECIPES
    if not file.is_file():
        return {}
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON ({error}). Restore it: git checkout -- data/miniatures") from error


def parts(name: str) -> dict[str, str]:
    """Each component of the miniature `name` -> a hash of its files: equal hashes are the same component.

    A single model, such as a ControlNet, is the component "". Raises FileNotFoundError or ValueError where something
    that it is made of is missing or broken; writes nothing.
    """
    components = _components(name)
    return {
        part: hashlib.sha256(repr(sorted((file, digest) for file, (digest, _) in files.items())).encode()).hexdigest()
        for part, files in components.items()
    }


def assemble(name: str) -> Path:
    """The folder with the miniature of `name`; made now if it is not there.

    Raises FileNotFoundError when the course ships no such miniature, or when a component of it is missing.
    """
    contents = _contents(name)
    folder = _folder(name, contents)
    if not folder.is_dir():
        try:
            _create(folder, contents)
        except OSError as error:
            raise OSError(
                f"cannot write the miniature {name!r} to {folder} ({error}). "
                "Set the environment's COURSE_CACHE to a folder that you can write to and that has 100 MB free."
            ) from error
    return folder


def place(name: str) -> Path:
    """The folder that `assemble` returns, named by a hash of what it is made of; nothing is written."""
    return _folder(name, _contents(name))


def _folder(name: str, contents: dict[str, Content]) -> Path:
    key = hashlib.sha256(repr([(path, digest) for path, (digest, _) in sorted(contents.items())]).encode())
    return paths.cache_folder() / "miniatures" / f"{name}-{key.hexdigest()[:12]}"


def _contents(name: str) -> dict[str, Content]:
    """Path in the checkpoint's folder -> what lies there."""
    contents = {
        f"{part}/{file}".lstrip("/"): c for part, files in _components(name).items() for file, c in files.items()
    }
    recipe = recipes()[name]
    if "components" in recipe:
        index = {"_class_name": recipe["pipeline"], "_diffusers_version": DIFFUSERS, **recipe.get("config", {})}
        contents["model_index.json"] = _generated(index | {part: e[:2] for part, e in recipe["components"].items()})
    return contents


def _components(name: str) -> dict[str, dict[str, Content]]:
    """Each component of a miniature -> its files."""
    recipe = recipes().get(name)
    if recipe is None:
        raise FileNotFoundError(
            f"the course does not ship the miniature {name!r} yet. Train it with "
            f"`python -m miniature_training train {name}`, or use the real checkpoint: use('full')."
        )
    entries = {"": recipe["model"]} if "model" in recipe else recipe["components"]
    return {part: _component(name, *entry) for part, entry in entries.items()}


def _component(name: str, library: str, _class: str, folder: str, delta: str | None = None) -> dict[str, Content]:
    """The files of one component, of data/miniatures/<folder> changed by data/miniatures/<delta>."""
    shipped = _shipped(name, folder, "*")
    base = paths.MINIATURES / folder
    settings = (
        json.loads((base / "config.json").read_text(encoding="utf-8")) if base / "config.json" in shipped else None
    )
    if delta is None:
        contents: dict[str, Content] = {file.name: (_sha256(file), _float16(file)) for file in shipped}
    else:
        changes = paths.MINIATURES / delta
        contents = {file.name: (_sha256(file), file) for file in _shipped(name, delta, weight_deltas.FILE)}
        digest, _ = contents.pop(weight_deltas.FILE)
        [weights] = [file for file in shipped if file.suffix == ".safetensors"]
        contents[weights.name] = f"{_sha256(weights)} {digest}", partial(weight_deltas.merge, weights, changes)
        settings = weight_deltas.config(base, changes)
        if settings:
            contents["config.json"] = _generated(settings)
    if library == "transformers" and settings:
        # transformers takes the dtype from here, diffusers always float32: unequal dtypes crash the first call
        settings.pop("torch_dtype", None)
        contents["config.json"] = _generated(settings | {"dtype": "float32"})
    return contents


def _float16(file: Path) -> Path | Callable[[], bytes]:
    """The file itself, or what makes it whole where it holds weights in eight bits."""
    packed = file.suffix == ".safetensors" and eight_bits.used(file)
    return partial(eight_bits.whole, file) if packed else file


def _shipped(name: str, folder: str, needed: str) -> list[Path]:
    files = sorted(f for f in (paths.MINIATURES / folder).glob("*") if f.suffix in SHIPPED and f.is_file())
    if not any(file.match(needed) for file in files):
        lacking = "none of its files" if needed == "*" else f"no {needed}"
        raise FileNotFoundError(
            f"the miniature {name!r} needs the component {folder!r}, and {paths.MINIATURES / folder} has {lacking}. "
            "Restore it: git checkout -- data/miniatures"
        )
    return files


def _generated(settings: dict) -> Content:
    data = (json.dumps(settings, indent=2) + "\n").encode()
    return hashlib.sha256(data).hexdigest(), data


def _create(folder: Path, contents: dict[str, Content]) -> None:
    """Write all of `contents` beside `folder`, then move it there in one step: nobody sees half of it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        for path, (_, data) in contents.items():
            target = scratch / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(data, Path):  # copied, not linked: what is written into the cache never reaches the originals
                shutil.copyfile(data, target)
            else:
                target.write_bytes(data if isinstance(data, bytes) else data())
        scratch.chmod(0o755)
        scratch.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was quicker
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _sha256(file: Path) -> str:
    status = file.stat()
    return _hashed(file, status.st_size, status.st_mtime_ns)


@cache
def _hashed(file: Path, size: int, mtime_ns: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
