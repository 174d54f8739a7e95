"""Turn a checkpoint that is published as pickles into safetensors: once, and only after an explicit yes.

A pickle can run any code when it is read. torch.load(weights_only=True) reads tensors and refuses everything else; from
then on only the converted copy is read. It lies in the course's cache, with a note of the commit it was made from; the
pickles stay in the Hub cache, as every download does.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.catalog import revisions
from helpers.catalog.checkpoints import Checkpoint
from helpers.common.paths import cache_folder

if TYPE_CHECKING:
    import torch

NOTE = "commit.txt"


def folder(checkpoint: Checkpoint) -> Path:
    """The converted copy of `checkpoint`; ValueError, which says how to make it, where there is none."""
    if (found := converted(checkpoint)) is None:
        raise ValueError(
            f"{checkpoint.hub_id} publishes its weights as pickles only, which can run any code when they are read; "
            f"this course reads safetensors. To have them converted once, with torch.load(weights_only=True): "
            f"course download {checkpoint.name} --pickles. Or load the miniature: use('mini'), then "
            f"load({checkpoint.name!r})."
        )
    return found


def converted(checkpoint: Checkpoint) -> Path | None:
    """Where the converted copy lies; None if there is none, or if it was made from another commit than the pin's."""
    place = place_of(checkpoint)
    note = place / NOTE
    commit = note.read_text(encoding="utf-8") if note.is_file() else None
    return place if commit and revisions.revision(checkpoint.hub_id) in (None, commit) else None


def place_of(checkpoint: Checkpoint) -> Path:
    """The folder that the converted copy of `checkpoint` has on this machine, whether it is there yet or not."""
    return cache_folder() / "converted" / checkpoint.name


def convert(checkpoint: Checkpoint, source: Path, files: Iterable[str]) -> Path:
    """Write `files` of `source`, a commit's folder in the Hub cache, with safetensors for pickles; their new folder.

    The folder appears when all of it is written. Raises ValueError where a pickle holds anything but tensors.
    """
    place = place_of(checkpoint)
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=place.parent))
    try:
        for path in map(Path, files):
            target = scratch / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".bin":  # transformers names the two formats apart
                stem = "model" if path.stem == "pytorch_model" else path.stem
                _write(target.with_name(f"{stem}.safetensors"), read(source / path))
            else:
                shutil.copyfile(source / path, target)
        (scratch / NOTE).write_text(source.name, encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        scratch.chmod(0o755)
        scratch.rename(place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return place


def read(path: Path) -> dict[str, torch.Tensor]:
    """The tensors in a pickle, by name; ValueError where anything else is in it. No code of the file runs."""
    import pickle
    import zipfile

    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} was not read: it holds more than weights, or is damaged ({str(error)[:200]}). "
            "Do not open it in any other way; use the mini edition: use('mini')."
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):  # as training programs save it
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(part, torch.Tensor) for part in state.values()):
        raise ValueError(f"{path} holds no list of weights ({type(state).__name__}): it cannot be converted.")
    return state


def _write(target: Path, state: dict[str, torch.Tensor]) -> None:
    from safetensors.torch import save_file

    # safetensors refuses tensors that share memory, and views
    save_file({name: part.clone().contiguous() for name, part in state.items()}, target, metadata={"format": "pt"})
