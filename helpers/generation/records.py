"""Records: a picture that knows how it was made, and can be made again.

`make(pipe, seed=..., **call)` calls the pipeline as it stands and returns a Record. Its PNG file holds the parameters,
the input pictures and a description of the pipeline, so `Record.load(path).repeat(pipe)` gives the same pixels.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

from helpers.generation import calls, png_record, provenance, schedulers
from helpers.images.digest import digest_of
from helpers.pipelines import inspection

_SEEDS = 2**32  # what a drawn seed stays under, so that it is short enough to note down


@dataclass(eq=False)
class Record:
    """A picture with all that is needed to make it again.

    parameters: the call's arguments under diffusers' names, "seed" in place of a generator, and "scheduler" (a class
        name) where it was chosen. seconds: what the call took. origin: the pipeline, weights and versions, see
        `generation.provenance`. exact: False for one of a batch, whose pixels may differ a little from a single call's.
    error: why there is no usable picture, else None; image may then be None. axes: what a sweep varied.
    """

    image: Image.Image | None
    parameters: dict[str, Any]
    seconds: float
    origin: dict[str, Any] = field(repr=False)
    exact: bool = True
    error: str | None = None
    axes: tuple[str, ...] = ()

    def save(self, path: str | os.PathLike, *, inputs: bool = True) -> Path:
        """Write a PNG with everything in it; returns its path. The file appears whole or not at all.

        inputs: False leaves the input pictures out and keeps their hashes: `repeat` then asks for them.
        ValueError where there is no picture, no such folder, or another ending than .png.
        """
        if self.image is None:
            raise ValueError(f"this record has no picture to save: {self.error}")
        blobs: dict[str, bytes] = {}
        content = {
            "parameters": {name: png_record.encode(value, blobs) for name, value in self.parameters.items()},
            "seconds": round(self.seconds, 4),
            "exact": self.exact,
            "error": self.error,
            "axes": list(self.axes),
            "pixels": digest_of(self.image),
            "origin": self.origin,
        }
        return png_record.write(path, self.image, content, blobs if inputs else {})

    @classmethod
    def load(cls, path: str | os.PathLike | bytes) -> Record:
        """Read what `save` wrote; ValueError for any other file, and a warning if the pixels were edited since.

        path: of the file, or its bytes.
        """
        record, edited = loaded(path)
        if edited:
            warnings.warn(f"{_label(path)}: the picture was edited after it was recorded.", UserWarning, stacklevel=2)
        return record

    def repeat(self, pipe: Any, **inputs: Any) -> Record:
        """Make the picture again with this pipeline; the same environment gives the same pixels.

        The recorded scheduler is used, and the pipeline's own put back. A UserWarning names what differs: weights,
        versions, device. inputs: what the file only names (`save(inputs=False)`); another picture raises ValueError.
        """
        call = self._with_inputs(inputs)
        seed = call.pop("seed")
        call.pop("scheduler", None)  # the origin has it with its configuration
        try:
            swapped = {name: schedulers.build(kept) for name, kept in self.origin["schedulers"].items()}
        except (ValueError, TypeError) as error:
            raise ValueError(f"this record's scheduler cannot be made here: {error}") from error
        known = inspection.parameters_of(pipe)
        for name, default in self.origin.get("defaults", {}).items():  # a library may change its mind
            if name in known and name not in call and name not in calls.REFUSED and known[name].default != default:
                call[name] = default
        calls.check(pipe, call)
        made = _record(calls.run(pipe, [seed], call, schedulers=swapped), self.parameters | inputs)
        made.axes = self.axes
        different = provenance.differences(self.origin, made.origin)
        note = _pixels_note(self, made)
        if different or note:
            listed = "; ".join(different) or "nothing that is recorded"
            warnings.warn(f"repeat: {listed} differs from when it was made. {note}", UserWarning, stacklevel=2)
        return made

    def code(self, folder: str | os.PathLike | None = None) -> str:
        """The complete diffusers script that makes this picture, without helpers, ready to paste.

        It opens the input pictures as files beside it; folder: write them there, and let the script name that folder.
        """
        from helpers.generation import code_export

        return code_export.write(self, folder)

    def key(self) -> str:
        """A short hash of what decides the pixels: two records with equal keys are the same picture."""
        return key_of({name: value for name, value in self.parameters.items() if name != "scheduler"}, self.origin)

    def _with_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        missing = {name: value for name, value in self.parameters.items() if _absent(value)}
        for name, value in inputs.items():
            if name not in missing:
                raise ValueError(f"repeat({name}=...): the record has its own. Change it with make(pipe, ...) instead.")
            if isinstance(missing[name], png_record.Absent) and digest_of(value) != missing[name].digest:
                raise ValueError(f"{name}: this is not the {missing[name].what} that the record was made from.")
        if left := sorted(set(missing) - set(inputs)):
            raise ValueError(f"the file was saved without its inputs: pass {', '.join(f'{n}=...' for n in left)}.")
        return self.parameters | inputs


def loaded(path: str | os.PathLike | bytes) -> tuple[Record, bool]:
    """What `Record.load` reads, and whether the pixels were edited since, for who says it in another way."""
    image, content, blobs = png_record.read(path)
    try:
        parameters = {name: png_record.decode(value, blobs) for name, value in content["parameters"].items()}
        rest = {key: content[key] for key in ("seconds", "origin", "exact", "error")}
        record = Record(image, parameters, **rest, axes=tuple(content["axes"]))
        return record, content["pixels"] != digest_of(image)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{_label(path)}: its record is damaged ({error}).") from error


def make(
    pipe: Any,
    *,
    seed: int | None = None,
    scheduler: Any = None,
    watch: Callable[[Any, int, Any, Any], Any] | None = None,
    **call: Any,
) -> Record:
    """Call the pipeline and return the Record of its picture; a seed is drawn where none is given.

    The picture is that of `pipe(**call, generator=torch.Generator("cpu").manual_seed(seed))`. scheduler: the class or
    its name, for this call alone, with the present one's configuration. watch(pipe, step, timestep, latents) is called
    after each step; what it raises ends the call. What the call raises is passed on; a picture that is not a number
    (NaN), or that a safety checker blackened, comes back with `.error` set.

    TypeError for an unknown argument, and for one that cannot be recorded, before any model runs.
    """
    seed = secrets.randbelow(_SEEDS) if seed is None else seed
    given = {"seed": seed, "scheduler": scheduler}
    parameters = calls.check(pipe, call | {name: value for name, value in given.items() if value is not None})
    call = {name: value for name, value in parameters.items() if name not in given}
    swapped = calls.chosen_scheduler(pipe, parameters)
    return _record(calls.run(pipe, [parameters["seed"]], call, schedulers=swapped, watch=watch), parameters)


def _label(path: str | os.PathLike | bytes) -> str:
    return f"path=<{len(path)} bytes>" if isinstance(path, bytes) else f"path={os.fspath(path)!r}"


def _record(result: calls.Result, parameters: dict[str, Any]) -> Record:
    return Record(result.images[0], parameters, result.seconds, result.origin, error=result.errors[0])


def _pixels_note(then: Record, now: Record) -> str:
    """How far the pixels of a repetition are off, or "" where they are the same."""
    if then.image is None or now.image is None or digest_of(then.image) == digest_of(now.image):
        return ""
    if then.image.size != now.image.size or then.image.mode != now.image.mode:
        return "The picture has another size."
    extrema = ImageChops.difference(then.image, now.image).getextrema()
    largest = max(high for _, high in (extrema if isinstance(extrema[0], tuple) else [extrema]))
    reason = "" if then.exact else ", as one picture of a batch may"
    return f"Its pixels differ by up to {largest} of 255{reason}."


def key_of(parameters: dict[str, Any], made: dict[str, Any]) -> str:
    """See `Record.key`. Where a scheduler is among the parameters, `made` is that of the pipeline without it."""
    parts = ("pipeline", "schedulers", "weights", "dtype", "device", "tiling", "versions", "defaults")
    arguments = {name: png_record.encode(value, None) for name, value in parameters.items()}
    content = [arguments, [made.get(part) for part in parts]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _absent(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_absent(item) for item in value)
    return isinstance(value, png_record.Absent)
