"""Records: an image that knows how it was made, and can be made again.

`make(pipe, seed=..., **call)` calls the pipeline as it stands and returns a Record. Its PNG file holds the parameters,
the input images and a description of the pipeline, so `Record.load(path).repeat(pipe)` gives the same pixels.
"""

from __future__ import annotations

import hashlib
import json
import keyword
import os
import re
import reprlib
import secrets
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops

from helpers.generation import calls, code_export, png_record, provenance
from helpers.images import as_json
from helpers.images.digest import digest_of
from helpers.pipelines import schedulers

_SEEDS = 2**32  # drawn seeds are smaller, so that they are short enough to write down
_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")  # of an argument
_NOT_IN_CALL = ("seed", "scheduler")
_FIELDS = {  # of a file, besides the parameters and the origin: what the JSON of each may be
    "seconds": "[0-9.]{1,20}(e-[0-9]{1,3})?",
    "exact": "true|false",
    "error": 'null|".*"',
    "axes": r'\[("[a-z][a-z0-9_]{0,59}"(, )?)*\]',
    "control": 'null|"[a-z]{1,20}"',
    "pixels": '"[0-9a-f]{64}"',
}


@dataclass(eq=False)
class Record:
    """An image with all that is needed to make it again.

    parameters: the call's arguments under diffusers' names, "seed" in place of a generator, and "scheduler" (a class
        name) where it was chosen. seconds: what the call took. origin: where the models came from, and the machine and
        versions, see `generation.provenance`. exact: False for one of a batch, whose pixels may differ a little from a
        single call's. error: why the image is unusable, else None; image may then be None. axes: what a sweep varied.
        control: how an Explorer made the control image ("depth", "canny", "inpaint"), which it restores.
    """

    image: Image.Image | None
    parameters: dict[str, Any]
    seconds: float
    origin: dict[str, Any] = field(repr=False)
    exact: bool = True
    error: str | None = None
    axes: tuple[str, ...] = ()
    control: str | None = None

    def save(self, path: str | os.PathLike) -> Path:
        """Write a PNG with everything in it; returns its path. The file appears whole or not at all.

        ValueError where there is no image, no such folder, another ending than .png, over 256 MiB to write, or anything
        else that `load` would refuse. OSError, saying why, where the system refuses to write it.
        """
        if self.image is None:
            raise ValueError(f"this record has no image to save: {self.error}")
        content = {
            "parameters": {name: as_json.encode(value) for name, value in _checked(self.parameters).items()},
            "seconds": round(self.seconds, 4),
            "exact": self.exact,
            "error": self.error,
            "axes": list(self.axes),
            "control": self.control,
            "pixels": digest_of(self.image),
            "origin": provenance.check(self.origin),
        }
        return png_record.write(path, self.image, content)

    @classmethod
    def load(cls, path: str | os.PathLike | png_record.Buffer) -> Record:
        """Read what `save` wrote; ValueError for any other file, and a warning if the pixels were edited since.

        path: of the file, or its bytes.
        """
        record, edited = loaded(path)
        if edited:
            message = f"{png_record.label(path)}: the image was edited after it was recorded."
            warnings.warn(message, UserWarning, stacklevel=2)
        return record

    def repeat(self, pipe: Any) -> Record:
        """Make the image again with this pipeline; the same weights, machine and versions give the same pixels.

        The recorded scheduler is used, and the pipeline keeps its own. A UserWarning names what has changed (where the
        models came from, the machine, the versions) and says by how much the pixels differ.
        """
        call = {name: value for name, value in self.parameters.items() if name not in _NOT_IN_CALL}
        built = {name: schedulers.build(kept) for name, kept in self.origin["schedulers"].items()}
        calls.check_together(pipe, calls.check(pipe, call), scheduler=built.get("scheduler"))
        made = _record(calls.run(pipe, [self.parameters["seed"]], call, schedulers=built), self.parameters)
        made.axes = self.axes
        changed = "; ".join(provenance.differences(self.origin, made.origin))
        difference = _pixel_difference(self, made)
        if changed or difference:
            message = (
                f"repeat: {changed or 'nothing that is recorded has changed'}. {difference or 'The pixels are equal.'}"
            )
            warnings.warn(message, UserWarning, stacklevel=2)
        return made

    def code(self, folder: str | os.PathLike | None = None, *, earlier: Sequence[Record] = ()) -> str:
        """The complete diffusers script that makes this image, without helpers, ready to paste.

        It opens the input images as files beside it; folder: write them there, and let the script name that folder.
        earlier: records whose images this one was made from, oldest first: the script makes them as well.
        """
        made = [
            code_export.Step(_checked(one.parameters), provenance.check(one.origin), one.image, one.exact)
            for one in (*earlier, self)
        ]
        return code_export.write(made, folder=folder)

    def key(self) -> str:
        """A short hash of the parameters and the origin: records with equal keys were made alike."""
        return key_of(self.parameters, self.origin)


def loaded(path: str | os.PathLike | png_record.Buffer) -> tuple[Record, bool]:
    """Like `Record.load`, but returns whether the image was edited since instead of warning."""
    image, content = png_record.read(path)
    try:
        kept = png_record.check_fields("the file", content, _FIELDS)
        parameters = _checked(as_json.decode({"dict": content.get("parameters")}))
        origin = provenance.check(content.get("origin"))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{png_record.label(path)}: its record is damaged or forged: {error}.") from error
    axes, pixels = tuple(kept.pop("axes")), kept.pop("pixels")
    return Record(image, parameters, origin=origin, axes=axes, **kept), pixels != digest_of(image)


def _checked(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters, which a file may have brought; ValueError or TypeError if no call can have had them."""
    if parameters.get("seed") is None:
        raise ValueError("the call has no seed")
    for name, value in parameters.items():
        if not _NAME.fullmatch(name) or keyword.iskeyword(name) or name in calls.REFUSED:
            raise ValueError(f"parameters has {reprlib.repr(name)}, which no recorded call has")
        if name == "scheduler":
            schedulers.class_named(value)
        else:
            calls.check_value(None, name, value)
    return parameters


def make(
    pipe: Any,
    *,
    seed: int | None = None,
    scheduler: Any = None,
    watch: Callable[[Any, int, Any, Any], Any] | None = None,
    **call: Any,
) -> Record:
    """Call the pipeline and return the Record of its image; a seed is drawn where none is given.

    The image is that of `pipe(**call, generator=torch.Generator("cpu").manual_seed(seed))`. scheduler: the class or
    its name, for this call alone, with the present one's configuration. watch(pipe, step, timestep, latents) is called
    after each step; what it raises ends the call. What the call raises is passed on; an image that is NaN, or that a
    safety checker blackened, comes back with `.error` set.

    Before any model runs: TypeError for an unknown argument, and for one that cannot be recorded; ValueError for values
    that the pipeline or its scheduler cannot run, alone or together.
    """
    seed = secrets.randbelow(_SEEDS) if seed is None else seed
    given = {"seed": seed, "scheduler": scheduler}
    parameters = calls.check(pipe, call | {name: value for name, value in given.items() if value is not None})
    calls.check_together(pipe, parameters)
    call = {name: value for name, value in parameters.items() if name not in _NOT_IN_CALL}
    swapped = calls.chosen_scheduler(pipe, parameters)
    return _record(calls.run(pipe, [parameters["seed"]], call, schedulers=swapped, watch=watch), parameters)


def key_of(parameters: dict[str, Any], origin: dict[str, Any]) -> str:
    """See `Record.key`."""
    arguments = {name: as_json.identity(value) for name, value in parameters.items()}
    return hashlib.sha256(json.dumps([arguments, origin], sort_keys=True).encode()).hexdigest()[:12]


def _record(result: calls.Result, parameters: dict[str, Any]) -> Record:
    return Record(result.images[0], parameters, result.seconds, result.origin, error=result.errors[0])


def _pixel_difference(then: Record, now: Record) -> str:
    """By how much the pixels of a repetition differ, in words; "" where they are equal."""
    if then.image is None or now.image is None or digest_of(then.image) == digest_of(now.image):
        return ""
    if then.image.size != now.image.size or then.image.mode != now.image.mode:
        return "The image has another size or mode."
    largest = np.asarray(ImageChops.difference(then.image, now.image)).max()
    reason = "" if then.exact else ", as one image of a batch may"
    return f"The pixels differ by up to {largest} of 255{reason}."
