"""Where the miniatures' components lie, and how one is written (float16 safetensors) and read."""

from __future__ import annotations

import copy
import json
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
