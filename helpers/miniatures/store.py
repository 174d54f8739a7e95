"""Where the miniatures' components lie, and how one is written (float16 safetensors) and read."""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
from pathlib import Path

import torch

FOLDER = Path(__file__).resolve().parents[2] / "data" / "miniatures"


def save_component(name: str, component) -> Path:
    """Write a model, tokenizer or scheduler to data/miniatures/<name>; models as float16, read back as float32."""
    target = FOLDER / name
    with tempfile.TemporaryDirectory() as scratch:
        if isinstance(component, torch.nn.Module):
            copy.deepcopy(component).to("cpu", torch.float16, memory_format=torch.contiguous_format).save_pretrained(
                scratch, safe_serialization=True
            )
        else:
            component.save_pretrained(scratch)
        config = Path(scratch) / "config.json"
        if config.exists():
            settings = json.loads(config.read_text())
            settings.pop("_name_or_path", None)
            if "dtype" in settings:  # a transformers config: float16 files must come up as float32
                settings["dtype"] = "float32"
            config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
        target.mkdir(parents=True, exist_ok=True)
        for old in target.iterdir():
            old.unlink()
        for file in Path(scratch).iterdir():
            shutil.copyfile(file, target / file.name)
    return target


def load_component(name: str, kind: type):
    """Read data/miniatures/<name> back as `kind`, in float32."""
    if not (FOLDER / name).is_dir():
        raise FileNotFoundError(
            f"there is no miniature component {name!r} yet; train it with: python -m helpers.miniatures train {name}"
        )
    component = kind.from_pretrained(FOLDER / name)
    return component.float() if isinstance(component, torch.nn.Module) else component


def add_checkpoint(name: str, entry: dict) -> Path:
    """Add a checkpoint to checkpoints.json (or put the new entry in its old place); the course ships it from then on.

    entry: {"pipeline", "size", "components": {part: [library, class, folder]}, "config"}, or {"model", "size"}; what it
    names must lie in data/miniatures, else FileNotFoundError. The file is replaced in one step.
    """
    used = [entry["model"]] if "model" in entry else list(entry["components"].values())
    for folder in (folder for _, _, *folders in used for folder in folders):
        if not (FOLDER / folder).is_dir():
            raise FileNotFoundError(f"{name!r} needs the component {folder!r}, and {FOLDER / folder} is not there")
    file = FOLDER / "checkpoints.json"
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
