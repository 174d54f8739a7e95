"""The plain diffusers script that makes a recorded image: no helpers, nothing left out.

What is written into it was checked (`Record.code`) and stands there as a literal, so that no file can bring code along.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from helpers.catalog import miniatures
from helpers.catalog.checkpoints import CATALOG, Checkpoint
from helpers.common import paths
from helpers.generation import compositing
from helpers.hub import convert_pickles
from helpers.images import as_json
from helpers.images.digest import digest_of
from helpers.pipelines import schedulers

WIDTH = 120


class Step(NamedTuple):
    """A call of the script: its arguments, its pipeline's origin, the image that it made, and whether made alone."""

    parameters: dict[str, Any]
    origin: dict[str, Any]
    image: Image.Image | None
    exact: bool = True


def write(steps: Sequence[Step], *, folder: str | os.PathLike | None = None) -> str:
    """The script, a call a step; where one's image is an argument of the next, the script hands it on.

    folder: where the other inputs are written first; without, the script opens them beside itself. ValueError where no
    script can make an image: its pipeline came from nowhere, or an argument is no literal.
    """
    files = _Files(None if folder is None else paths.expand(folder, name="folder"))
    lines: list[str] = []
    before: Step | None = None
    for step in steps:
        if not step.origin["source"]:
            raise ValueError("this record's pipeline was not loaded from a checkpoint, so no script can load it.")
        if before is None or _loaded(before.origin) != _loaded(step.origin):
            lines += [*_pipeline(step.origin), ""]
        elif before.origin["schedulers"] != step.origin["schedulers"]:
            lines += [*_schedulers(step.origin), ""]
        lines += [*_one_call(step, files, made=before and before.image), ""]
        before = step
    notes = dict.fromkeys(note for step in steps for note in _notes(step.origin, step.exact))
    return "\n".join([*notes, *_imports([step.origin for step in steps], files), "", *lines])


def _loaded(origin: dict[str, Any]) -> dict[str, Any]:
    """What of a pipeline's origin is settled when it is loaded."""
    return {key: value for key, value in origin.items() if key != "schedulers"}


def _one_call(step: Step, files: _Files, *, made: Image.Image | None) -> list[str]:
    """The lines of one call, which leave its image in `image`; made: what they find there."""
    call = {name: value for name, value in step.parameters.items() if name not in ("seed", "scheduler")}
    shown = {name: files.expression(name, value, made) for name, value in call.items() if name not in compositing.NAMES}
    before, after = _around(step.origin, call, shown)
    arguments = [f"{name}={text}" for name, text in shown.items()]
    arguments.append(f"generator=torch.Generator('cpu').manual_seed({_literal('seed', step.parameters['seed'])})")
    return [*before, *_call("image = pipe", arguments, ".images[0]"), *after]


def _entry(source: str | None) -> Checkpoint | None:
    """The catalogue's entry for a Hub id; None for a folder, and for what it does not list."""
    return next((entry for entry in CATALOG.values() if entry.hub_id == source), None)


def _place(source: str) -> str:
    """What from_pretrained takes on this machine: a Hub id, or the folder of a miniature or of converted weights."""
    name = re.sub(r"-[0-9a-f]{12}$", "", source)
    if name != source and name in CATALOG:
        return str(miniatures.assemble(name))
    entry = _entry(source)
    return str(convert_pickles.place_of(entry)) if entry and entry.pickled else source


def _notes(origin: dict[str, Any], exact: bool) -> list[str]:
    """What the reader of the script has to know, as comments."""
    notes = [] if exact else ["Made in a batch: alone, its pixels may differ a little."]
    for source in filter(None, (origin["source"], origin["controlnet"])):
        if "/" not in source and (folder := Path(_place(source))).name != source:
            notes.append(f"Made with the weights of {source!r}; this loads {folder.name!r}.")
        elif "/" not in source and not folder.is_absolute():
            notes.append(f"{source!r} was a folder on the machine that made this image: put its path there.")
    entry = _entry(origin["source"])
    if entry and entry.pickled:
        notes.append(f"Published as pickles only; this copy was made by: course download {entry.name} --pickles")
    if entry and entry.prior and origin["revisions"]:
        notes.append("The course pins this and its prior; diffusers takes one revision for both, so here it is main.")
    if active := {model: left for model, names in origin["adapters"].items() if (left := _unknown(names))}:
        notes.append(f"LoRA adapters were active, with these scales: {active!r}. Load them as well.")
    return [f"# {note}" for note in notes]


def _lora(source: str) -> str | None:
    """What load_lora_weights takes of a LoRA that the course fused; None for an adapter that a cell named."""
    place = _place(source)
    return place if place != source or _entry(source) else None


def _unknown(names: dict[str, float]) -> dict[str, float]:
    return {name: scale for name, scale in names.items() if _lora(name) is None}


def _around(origin: dict[str, Any], call: dict[str, Any], shown: dict[str, str]) -> tuple[list[str], list[str]]:
    """The lines before and after the call that compositing stands for; the call then names their variables."""
    blur, keep = call.get("blur_factor"), call.get("keep_unmasked")
    if not blur and not keep:
        return [], []
    if missing := [name for name in ("image", "mask_image") if name not in shown]:
        raise ValueError(f"blur_factor and keep_unmasked need {' and '.join(missing)}, and the record has none.")
    mask, original = shown["mask_image"], shown["image"]
    own = "Kandinsky" not in origin["pipeline"]  # image processors
    first = [] if own else ["from diffusers.image_processor import VaeImageProcessor", ""]
    first.append(f"mask = {mask}")
    if blur:
        processor = "pipe.mask_processor" if own else "VaeImageProcessor"
        first.append(f"mask = {processor}.blur(mask, blur_factor={_literal('blur_factor', blur)})")
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

    def expression(self, name: str, value: Any, made: Image.Image | None = None) -> str:
        """The Python expression for an argument's value; made: the image that the script has in `image` by then."""
        if isinstance(value, Image.Image):
            if made is not None and digest_of(value) == digest_of(made):
                return "image"
            self.kinds.add("image")
            return f"Image.open({self._place(name, value, '.png')})"
        if hasattr(value, "shape"):
            self.kinds.add("tensor")
            opened = f"load_file({self._place(name, value, '.safetensors')})['value']"
            return opened if hasattr(value, "detach") else f"{opened}.numpy()"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key!r}: {self.expression(name, item)}" for key, item in value.items()) + "}"
        if isinstance(value, (list, tuple)):
            items = ", ".join(self.expression(name, item) for item in value)
            if isinstance(value, list):
                return f"[{items}]"
            return f"({items},)" if len(value) == 1 else f"({items})"
        return _literal(name, value)

    def _place(self, name: str, value: Any, suffix: str) -> str:
        file = f"{name}-{digest_of(value)[:8]}{suffix}"
        if self.folder is None:
            return repr(file)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / file).write_bytes(as_json.file_bytes(value))
        except OSError as error:
            raise OSError(f"folder={str(self.folder)!r} cannot be written to: {error.strerror or error}.") from error
        return repr((self.folder / file).as_posix())


def _imports(origins: list[dict[str, Any]], files: _Files) -> list[str]:
    schedulers = {kept["class"] for origin in origins for kept in origin["schedulers"].values()}
    names = sorted({*(origin["pipeline"] for origin in origins), *schedulers})
    if any(origin["controlnet"] for origin in origins):
        names.insert(0, "ControlNetModel")
    lines = ["import torch", f"from diffusers import {', '.join(names)}"]
    if "image" in files.kinds:
        lines.append("from PIL import Image")
    if "tensor" in files.kinds:
        lines.append("from safetensors.torch import load_file")
    return lines


def _pipeline(origin: dict[str, Any]) -> list[str]:
    """The lines that load the pipeline and bring it into the state it was in."""
    device, combined = origin["device"], "CombinedPipeline" in origin["pipeline"]
    # On a CPU sums differ in their last bits by the number of threads, and so may pixels by one of 255.
    lines = [f"torch.set_num_threads({_literal('threads', origin['threads'])})"] if device == "cpu" else []
    arguments = _loading(origin, origin["source"])
    if origin["controlnet"]:
        lines += _call("controlnet = ControlNetModel.from_pretrained", _loading(origin, origin["controlnet"]))
        arguments.insert(1, "controlnet=controlnet")
    if (entry := _entry(origin["source"])) and entry.family == "sd":
        arguments += ["safety_checker=None", "requires_safety_checker=False"]
    if combined:
        arguments.append("load_connected_pipeline=True")
    lines += _call(f"pipe = {origin['pipeline']}.from_pretrained", arguments)
    for name in origin["adapters"].get("unet", {}):
        if (lora := _lora(name)) is not None:
            lines += [f"pipe.load_lora_weights({lora!r})", "pipe.fuse_lora()", "pipe.unload_lora_weights()"]
    if origin["memory_format"] == "channels_last":  # sums in another order: pixels may differ by one of 255 as well
        lines += ["for part in pipe.components.values():", "    if isinstance(part, torch.nn.Module):"]
        lines.append("        part.to(memory_format=torch.channels_last)")
    if origin["offload"] != "none":
        lines.append(f"pipe.enable_{origin['offload']}_cpu_offload()")
    elif device != "cpu":
        lines.append(f"pipe.to({_literal('device', device)})")
    return lines + _schedulers(origin)


def _schedulers(origin: dict[str, Any]) -> list[str]:
    """The lines that give the pipeline the schedulers of this call."""
    lines, combined = [], "CombinedPipeline" in origin["pipeline"]
    for name, kept in origin["schedulers"].items():
        settings = [f"{key}={_literal(key, value)}" for key, value in schedulers.settings(kept).items()]
        lines += _call(f"pipe.{name} = {kept['class']}", settings)
        for inner in ("prior_pipe", "decoder_pipe"):
            if combined and name.startswith("prior_") == (inner == "prior_pipe"):
                lines.append(f"pipe.{inner}.scheduler = pipe.{name}")
    return lines


def _loading(origin: dict[str, Any], source: str) -> list[str]:
    """The arguments of from_pretrained that load() passes for this source."""
    arguments = [repr(_place(source)), f"dtype=torch.{origin['dtype']}", "use_safetensors=True"]
    entry, commit = _entry(source), origin["revisions"].get(source)
    if entry and entry.variant:
        arguments.append(f"variant={entry.variant!r}")
    if commit and not (entry and (entry.pickled or entry.prior)):  # a prior would be asked for the same commit
        arguments.append(f"revision={commit!r}")
    return arguments


def _literal(name: str, value: Any) -> str:
    """The value as Python writes it; ValueError where that is no literal, as infinity is none."""
    text = repr(value)
    try:
        same = ast.literal_eval(text) == value
    except (ValueError, SyntaxError):
        same = False
    if not same:
        raise ValueError(f"{name}={text[:80]} cannot be written in a script.")
    return text


def _call(start: str, arguments: list[str], end: str = "") -> list[str]:
    line = f"{start}({', '.join(arguments)}){end}"
    if len(line) <= WIDTH and len(arguments) < 4:
        return [line]
    return [f"{start}(", *(f"    {argument}," for argument in arguments), f"){end}"]
