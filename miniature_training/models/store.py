"""Where the components of the miniatures are kept, and how one is written (float16 or eight bits) and read."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from helpers.catalog import eight_bits, weight_deltas
from helpers.common import paths


def scratch() -> Path:
    """The folder for what a training can make again (drawings, latents, its state): COURSE_TRAINING, else training/."""
    return Path(os.environ.get("COURSE_TRAINING") or paths.ROOT / "training")


def shipped(name: str) -> bool:
    """Whether data/miniatures has a component of this name."""
    return (paths.MINIATURES / name).is_dir()


def kept(name: str, make: Callable[[], Any]) -> Any:
    """What `make` makes (one array for a name that ends in .npy, else arrays by name), kept in the scratch folder."""
    file = scratch() / name
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{os.getpid()}-{file.name}")
        np.save(partial, make()) if file.suffix == ".npy" else np.savez(partial, **make())
        partial.replace(file)
    found = np.load(file)
    return found if file.suffix == ".npy" else dict(found)


def save_component(name: str, component, *, eight: bool = False) -> Path:
    """Write a model, tokenizer or scheduler to data/miniatures/<name>; models as float16, read back as float32.

    eight: keep the weights in eight bits, half the size (eight_bits.py).
    """
    target = paths.MINIATURES / name
    with tempfile.TemporaryDirectory() as draft:
        if isinstance(component, torch.nn.Module):
            copy.deepcopy(component).to("cpu", torch.float16, memory_format=torch.contiguous_format).save_pretrained(
                draft, safe_serialization=True
            )
        else:
            component.save_pretrained(draft)
        config = Path(draft) / "config.json"
        if config.exists():
            settings = json.loads(config.read_text())
            settings.pop("_name_or_path", None)
            if "dtype" in settings:  # a transformers config: float16 files must come up as float32
                settings["dtype"] = "float32"
            config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
        if eight:
            [weights] = Path(draft).glob("*.safetensors")
            save_arrays(eight_bits.packed(_arrays(component)), weights, metadata=eight_bits.METADATA)
        target.mkdir(parents=True, exist_ok=True)
        for old in target.iterdir():
            old.unlink()
        for file in Path(draft).iterdir():
            shutil.copyfile(file, target / file.name)
    return target


def _arrays(model: torch.nn.Module) -> dict:
    return {key: value.detach().float().cpu().contiguous().numpy() for key, value in model.state_dict().items()}


def save_delta(name: str, base: str, tuned: torch.nn.Module, *, rank: int) -> Path:
    """Write to data/miniatures/<name> what turns the component `base` into `tuned`, in a fraction of its size.

    Matrices and convolutions keep the `rank` largest singular directions of their difference, which is all of it where
    `tuned` was trained in that rank (factors.py); biases and norms keep it whole, and so does what `base` has not. The
    entry in checkpoints.json names both: ["diffusers", "UNet2DConditionModel", base, name].
    """
    [weights] = (paths.MINIATURES / base).glob("*.safetensors")
    before = {key: torch.from_numpy(value) for key, value in eight_bits.read(weights).items()}
    after = {key: value.detach().float().cpu() for key, value in tuned.state_dict().items()}
    changes: dict[str, torch.Tensor] = {}
    for key, value in after.items():
        if key not in before or before[key].shape != value.shape:
            changes[f"{key}.new"] = value
        elif (difference := value - before[key].float()).any():
            flat = difference.flatten(1) if value.ndim > 1 else difference[None]
            if rank * sum(flat.shape) < flat.numel():
                u, s, v = torch.linalg.svd(flat, full_matrices=False)
                root = s[:rank].sqrt()
                changes[f"{key}.up"], changes[f"{key}.down"] = u[:, :rank] * root, root[:, None] * v[:rank]
            else:
                changes[f"{key}.diff"] = difference
    kept = {key.split(".")[0] for key in after}
    gone = sorted({k if k.split(".")[0] in kept else f"{k.split('.')[0]}." for k in before if k not in after})
    told = {"base": base, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(), "without": " ".join(gone)}
    target = paths.MINIATURES / name
    target.mkdir(parents=True, exist_ok=True)
    changes = {key: value.half().contiguous() for key, value in changes.items()}
    save_file(changes, target / weight_deltas.FILE, metadata=weight_deltas.METADATA | told)
    _save_differing_fields(target, json.loads((paths.MINIATURES / base / "config.json").read_text()), tuned)
    return target


def _save_differing_fields(target: Path, base: dict, tuned: torch.nn.Module) -> None:
    """The config.json of a delta: what differs from the base's, or all of it where the class does."""
    with tempfile.TemporaryDirectory() as draft:
        tuned.save_config(draft) if hasattr(tuned, "save_config") else tuned.config.save_pretrained(draft)
        fields = json.loads((Path(draft) / "config.json").read_text())
    fields.pop("_name_or_path", None)
    if fields.get("_class_name") == base.get("_class_name"):
        fields = {k: v for k, v in fields.items() if k != "dtype" and (k not in base or base[k] != v)}
    (target / "config.json").unlink(missing_ok=True)
    if fields:
        (target / "config.json").write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")


def deltas() -> dict[str, dict[str, str]]:
    """The folders of data/miniatures that hold a delta, and what their headers say: "base" and its "sha256"."""
    folders = sorted(file.parent for file in paths.MINIATURES.glob(f"*/{weight_deltas.FILE}"))
    return {folder.name: weight_deltas.header(folder) for folder in folders}


def rank_of(delta: str) -> int:
    """The rank that a shipped delta's matrices have, 0 where it changes none."""
    with safe_open(paths.MINIATURES / delta / weight_deltas.FILE, framework="numpy") as file:
        downs = [key for key in file.keys() if key.endswith(".down")]  # noqa: SIM118
        return max((file.get_slice(key).get_shape()[0] for key in downs), default=0)


def stale() -> list[str]:
    """The deltas whose base has other weights now than when they were made: they want to be trained again."""
    found = []
    for name, told in deltas().items():
        [weights] = (paths.MINIATURES / told["base"]).glob("*.safetensors")
        if hashlib.sha256(weights.read_bytes()).hexdigest() != told["sha256"]:
            found.append(name)
    return found


def load_component(name: str, kind: type):
    """Read data/miniatures/<name> back as `kind`, in float32: a delta with its base, eight bits made whole."""
    if not shipped(name):
        raise FileNotFoundError(
            f"there is no miniature component {name!r} yet; train it with: python -m miniature_training train {name}"
        )
    folder, delta = paths.MINIATURES / name, None
    if (folder / weight_deltas.FILE).is_file():
        folder, delta = paths.MINIATURES / weight_deltas.header(folder)["base"], folder
    weights = next(iter(folder.glob("*.safetensors")), None)
    if delta or (weights and eight_bits.used(weights)):
        with tempfile.TemporaryDirectory() as draft:
            made = weight_deltas.merge(weights, delta) if delta else eight_bits.whole(weights)
            (Path(draft) / weights.name).write_bytes(made)
            settings = weight_deltas.config(folder, delta or folder)
            (Path(draft) / "config.json").write_text(json.dumps(settings))
            component = kind.from_pretrained(draft)
    else:
        component = kind.from_pretrained(folder)
    return component.float() if isinstance(component, torch.nn.Module) else component


def add_checkpoint(name: str, entry: dict) -> Path:
    """Add a checkpoint to checkpoints.json (or put the new entry in its old place); the course ships it from then on.

    entry: {"pipeline", "size", "components": {part: [library, class, folder]}, "config"}, or {"model", "size"}; what it
    names must lie in data/miniatures, else FileNotFoundError. The file is replaced in one step.
    """
    used = [entry["model"]] if "model" in entry else list(entry["components"].values())
    for folder in (folder for _, _, *folders in used for folder in folders):
        if not shipped(folder):
            raise FileNotFoundError(
                f"{name!r} needs the component {folder!r}, and {paths.MINIATURES / folder} is not there"
            )
    file = paths.MINIATURES / "checkpoints.json"
    checkpoints = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    partial = file.with_name(f".{file.name}-{os.getpid()}")
    partial.write_text(_table(checkpoints | {name: entry}), encoding="utf-8")
    partial.replace(file)
    return file


def _table(checkpoints: dict[str, dict]) -> str:
    """JSON with a line for each component."""

    def block(values: dict, depth: int) -> str:
        lines = []
        for key, value in values.items():
            deeper = depth == 1 or (depth == 2 and key == "components")
            told = block(value, depth + 1) if deeper else json.dumps(value)
            lines.append(f"{'  ' * depth}{json.dumps(key)}: {told}")
        return "{\n" + ",\n".join(lines) + "\n" + "  " * (depth - 1) + "}"

    return block(checkpoints, 1) + "\n"
