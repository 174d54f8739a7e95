"""The plain diffusers script that makes a recorded picture: no helpers, nothing left out."""

from __future__ import annotations

import inspect
import math
import os
import pprint
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from helpers.catalog import revisions
from helpers.catalog.checkpoints import CATALOG, Checkpoint
from helpers.generation import compositing, png_record, provenance, schedulers
from helpers.hub import convert_pickles

if TYPE_CHECKING:
    from helpers.generation.records import Record

WIDTH = 120


def write(record: Record, folder: str | os.PathLike | None = None) -> str:
    """The script; with `folder`, the inputs are written there first. Without, it names them beside itself."""
    made = record.origin
    if not made["source"]:
        raise ValueError("this record's pipeline came from no checkpoint, so no script can load it.")
    checkpoint = _published(made)
    if checkpoint and checkpoint.pickled:
        made = made | {"source": provenance.below_home(str(convert_pickles.place_of(checkpoint)))}
    files = _Files(None if folder is None else Path(folder).expanduser())
    call = {name: value for name, value in record.parameters.items() if name not in ("seed", "scheduler")}
    shown = {name: files.expression(name, value) for name, value in call.items() if name not in compositing.NAMES}
    before, after = _around(made, call, shown)
    arguments = [f"{name}={text}" for name, text in shown.items()]
    arguments.append(f'generator=torch.Generator("cpu").manual_seed({record.parameters["seed"]})')
    lines = [*_pipeline(made), "", *before, *_call("image = pipe", arguments, ".images[0]"), *after]
    return "\n".join([*_notes(record, checkpoint), *_imports(made, files), "", *lines]) + "\n"


def _published(made: dict[str, Any]) -> Checkpoint | None:
    """The catalogue's entry for what the full edition loaded; None for miniatures, and for what it does not list."""
    return CATALOG.get(made["checkpoint"]) if made["edition"] == "full" else None


def _notes(record: Record, checkpoint: Checkpoint | None) -> list[str]:
    """What the reader of the script has to know, as comments."""
    notes = [] if record.exact else ["Made in a batch: alone, its pixels may differ a little."]
    if checkpoint and checkpoint.pickled:
        notes.append(f"Published as pickles only; this copy was made by: course download {checkpoint.name} --pickles")
    if checkpoint and checkpoint.prior and any(map(revisions.revision, checkpoint.repositories)):
        notes.append("The course pins this and its prior; diffusers takes one revision for both, so here it is main.")
    if adapters := record.origin["adapters"]:
        notes.append(f"LoRA adapters were active in {', '.join(adapters)}: load them as well.")
    return [f"# {note}" for note in notes]


def _around(made: dict[str, Any], call: dict[str, Any], shown: dict[str, str]) -> tuple[list[str], list[str]]:
    """The lines before and after the call that compositing stands for; the call then names their variables."""
    blur, keep = call.get("blur_factor"), call.get("keep_unmasked")
    if not blur and not keep:
        return [], []
    mask, original = shown["mask_image"], shown["image"]
    own = "Kandinsky" not in made["pipeline"]  # image processors
    first = [] if own else ["from diffusers.image_processor import VaeImageProcessor", ""]
    first.append(f"mask = {mask}")
    if blur:
        processor = "pipe.mask_processor" if own else "VaeImageProcessor"
        first.append(f"mask = {processor}.blur(mask, blur_factor={blur})")
    shown["mask_image"] = "mask"
    if not keep:
        return first, []
    shown["image"] = "original"
    processor = "pipe.image_processor" if own else "VaeImageProcessor()"
    return [*first, f"original = {original}"], [f"image = {processor}.apply_overlay(mask, original, image)"]


class _Files:
    """The inputs as files, and what opens them."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.kinds: set[str] = set()

    def expression(self, name: str, value: Any) -> str:
        if isinstance(value, png_record.Absent):
            raise ValueError(f"the file was saved without its inputs: {name} is missing. repeat() takes it.")
        if isinstance(value, Image.Image):
            self.kinds.add("picture")
            return f"Image.open({self._place(name, value, '.png')})"
        if hasattr(value, "shape"):
            self.kinds.add("tensor")
            opened = f'load_file({self._place(name, value, ".safetensors")})["value"]'
            return opened if hasattr(value, "detach") else f"{opened}.numpy()"
        if isinstance(value, (list, tuple)) and any(_holds_files(item) for item in value):
            items = ", ".join(self.expression(name, item) for item in value)
            return f"[{items}]" if isinstance(value, list) else f"({items},)"
        return pprint.pformat(value, width=WIDTH - 20, sort_dicts=False) if isinstance(value, dict) else _literal(value)

    def _place(self, name: str, value: Any, suffix: str) -> str:
        blobs: dict[str, bytes] = {}
        png_record.encode(value, blobs)
        (digest, data), *_ = blobs.items()
        file = f"{name}-{digest[:8]}{suffix}"
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / file).write_bytes(data)
        return _literal(file if self.folder is None else (self.folder / file).as_posix())


def _imports(made: dict[str, Any], files: _Files) -> list[str]:
    names = sorted({made["pipeline"], *(kept["class"] for kept in made["schedulers"].values())})
    if made["controlnet"]:
        names.insert(0, "ControlNetModel")
    others = []
    if made["module"] != "diffusers":
        names.remove(made["pipeline"])
        others.append(f"from {made['module']} import {made['pipeline']}")
    lines = ["import torch", f"from diffusers import {', '.join(names)}", *others]
    if any(source.startswith("~/") for source in (made["source"], made["controlnet"] or "")):
        lines.insert(0, "from pathlib import Path\n")
    if "picture" in files.kinds:
        lines.append("from PIL import Image")
    if "tensor" in files.kinds:
        lines.append("from safetensors.torch import load_file")
    return lines


def _pipeline(made: dict[str, Any]) -> list[str]:
    """The lines that load the pipeline and bring it into the state it was in."""
    arguments = [_source(made["source"]), f"dtype=torch.{made['dtype']}", "use_safetensors=True"]
    if (checkpoint := _published(made)) is not None:
        if checkpoint.variant:
            arguments.append(f'variant="{checkpoint.variant}"')
        arguments += _revision(made["source"])
        if checkpoint.family == "sd":
            arguments += ["safety_checker=None", "requires_safety_checker=False"]
    if "CombinedPipeline" in made["pipeline"]:
        arguments.append("load_connected_pipeline=True")
    lines = []
    if made["controlnet"]:
        variants = [one.variant for one in CATALOG.values() if one.hub_id == made["controlnet"] and one.variant]
        net = [_source(made["controlnet"]), *arguments[1:3], *(f'variant="{variant}"' for variant in variants)]
        net += _revision(made["controlnet"])
        lines += _call("controlnet = ControlNetModel.from_pretrained", net)
        arguments.insert(1, "controlnet=controlnet")
    lines += _call(f"pipe = {made['pipeline']}.from_pretrained", arguments)
    if made["device"] == "cpu":  # sums differ in their last bits, and so may pixels by one of 255
        lines.insert(0, f"torch.set_num_threads({made['threads']})")
    if made["channels_last"]:
        parts = ", ".join(f"pipe.{part}" for part in made["channels_last"])
        lines += [f"for part in [{parts}]:", "    part.to(memory_format=torch.channels_last)"]
    for option in made["tiling"]:
        lines.append(f"pipe.vae.enable_{option.removeprefix('use_')}()")
    if made["offload"] != "none":
        lines.append(f"pipe.enable_{made['offload']}_cpu_offload()")
    elif made["device"] != "cpu":
        lines.append(f'pipe.to("{made["device"]}")')
    for name, kept in made["schedulers"].items():
        defaults = {key: given.default for key, given in _signature(kept["class"]).items()}
        config = schedulers.configuration(kept).items()
        settings = [f"{key}={_literal(value)}" for key, value in config if _differs(value, defaults.get(key))]
        lines += _call(f"pipe.{name} = {kept['class']}", settings)
        for inner in ("prior_pipe", "decoder_pipe"):  # of Kandinsky's combined pipelines
            if "CombinedPipeline" in made["pipeline"] and name.startswith("prior_") == (inner == "prior_pipe"):
                lines.append(f"pipe.{inner}.scheduler = pipe.{name}")
    return lines


def _revision(source: str) -> list[str]:
    """The commit that load() passes for this Hub id; none for one with a prior, of which it would be asked as well."""
    known = any(one.hub_id == source and not one.prior for one in CATALOG.values())
    pin = revisions.revision(source) if known else None
    return [f'revision="{pin}"'] if pin else []


def _signature(name: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(schedulers.class_named(name).__init__).parameters)


def _differs(value: Any, default: Any) -> bool:
    return value != (list(default) if isinstance(default, tuple) else default)


def _source(source: str) -> str:
    return f"Path.home() / {_literal(source[2:])}" if source.startswith("~/") else _literal(source)


def _holds_files(value: Any) -> bool:
    return isinstance(value, (Image.Image, png_record.Absent)) or hasattr(value, "shape")


def _literal(value: Any) -> str:
    """A Python literal; text in double quotes where that needs no escapes."""
    if isinstance(value, str) and '"' not in value and "\\" not in value and value.isprintable():
        return f'"{value}"'
    if isinstance(value, list):
        return f"[{', '.join(_literal(item) for item in value)}]"
    return f'float("{value}")' if isinstance(value, float) and not math.isfinite(value) else repr(value)


def _call(start: str, arguments: list[str], end: str = "") -> list[str]:
    line = f"{start}({', '.join(arguments)}){end}"
    if len(line) <= WIDTH and len(arguments) < 4:
        return [line]
    return [f"{start}(", *(f"    {argument}," for argument in arguments), f"){end}"]
