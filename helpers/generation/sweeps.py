"""Sweeps: the same call with one, two or three arguments varied, a Record for each combination.

Exact by default: each picture is that of its own call. A sweep with a folder can be stopped at any time and goes on
where it was.
"""

from __future__ import annotations

import itertools
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.common import validation
from helpers.common.lock import turn
from helpers.generation import batching, calls, png_record, provenance
from helpers.generation.records import Record, key_of
from helpers.images.digest import digest_of
from helpers.pipelines import inspection

AXES = 3
AT_ONCE = 8  # pictures in a batch, unless told otherwise


@dataclass
class _Cell:
    place: int
    parameters: dict[str, Any]
    file: Path | None = None  # where it is kept, or will be


def sweep(
    pipe: Any,
    *,
    over: Mapping[str, Any],
    batch: bool | int = False,
    folder: str | os.PathLike | None = None,
    progress: bool = True,
    **call: Any,
) -> Iterator[Record]:
    """Yield a Record for every combination of the values in `over`; the last argument named changes fastest.

    over: one to three of the call's arguments, "seed" and "scheduler" among them, each with its values:
        `{"strength": [0.6, 0.8, 1.0], "seed": range(4)}`. Without a seed, all have seed 0.
    batch: True makes up to eight seeds in one call, a number up to that many. Faster, for small models on a CPU too;
        pixels may differ a little from single calls, and the records say so (`exact` is False).
    folder: where each picture is saved as PNG; those that are there already, made by this pipeline, are not made again.
    progress: a bar with the time left.

    A combination that fails becomes a Record with `.error`, and the rest go on. Raised before any model runs: TypeError
    for an unknown argument, ValueError for no values, for too many axes, and for values that cannot work.
    """
    axes = _axes(pipe, over, call)
    fixed = calls.check(pipe, {"seed": 0} | call if "seed" not in axes else call)
    size = _batch_size(batch, axes, fixed)
    cells = [
        _Cell(place, fixed | dict(zip(axes, values, strict=True)))
        for place, values in enumerate(itertools.product(*axes.values()))
    ]
    _check(pipe, cells)
    target = None if folder is None else _folder(folder)
    return _records(pipe, cells, tuple(axes), size, target, progress)


def _records(
    pipe: Any, cells: list[_Cell], axes: tuple[str, ...], size: int, folder: Path | None, progress: bool
) -> Iterator[Record]:
    from tqdm.auto import tqdm

    if folder is not None:
        with turn():
            here = provenance.describe(pipe)
        for cell in cells:
            _find(cell, axes, folder, here, size > 1)
    done = sum(cell.file is not None and cell.file.is_file() for cell in cells)
    bar = tqdm(total=len(cells), initial=done, unit="picture", disable=not progress)
    with bar, calls.silent(pipe):
        for group in _groups(cells, axes, size):
            kept = [_read(cell) for cell in group]
            missing = [cell for cell, record in zip(group, kept, strict=True) if record is None]
            made = iter(_make(pipe, missing) if missing else [])
            for cell, record in zip(group, kept, strict=True):
                if record is None:
                    record = next(made)
                    record.axes = axes
                    _keep(cell, record)
                    bar.update()
                yield record


def _make(pipe: Any, cells: list[_Cell]) -> list[Record]:
    """The cells' records, from one call if they are several; failures are records too."""
    if len(cells) > 1:
        try:
            return _batched(pipe, cells)
        except Exception as error:
            warnings.warn(
                f"batch: {len(cells)} pictures at once failed ({error}); they are made one by one.", UserWarning,
                stacklevel=4,
            )  # fmt: skip
            calls.let_go(error)
    return [_single(pipe, cell.parameters) for cell in cells]


def _single(pipe: Any, parameters: dict[str, Any]) -> Record:
    call = {name: value for name, value in parameters.items() if name not in ("seed", "scheduler")}
    try:
        swapped = calls.chosen_scheduler(pipe, parameters)
        result = calls.run(pipe, [parameters["seed"]], call, schedulers=swapped)
    except Exception as error:
        calls.let_go(error)
        return Record(None, parameters, 0.0, provenance.describe(pipe), error=f"{type(error).__name__}: {error}")
    return Record(result.images[0], parameters, result.seconds, result.origin, error=result.errors[0])


def _batched(pipe: Any, cells: list[_Cell]) -> list[Record]:
    """One call for cells that differ in the seed alone.

    Every picture has an image of its own in the batch: only then does its generator draw in the order of a single call.
    """
    first, count = cells[0].parameters, len(cells)
    call = {
        name: batching.repeated(name, value, count)
        for name, value in first.items()
        if name not in ("seed", "scheduler")
    }
    seeds = [cell.parameters["seed"] for cell in cells]
    result = calls.run(pipe, seeds, call, schedulers=calls.chosen_scheduler(pipe, first))
    return [
        Record(image, cell.parameters, result.seconds / count, result.origin, exact=False, error=error)
        for cell, image, error in zip(cells, result.images, result.errors, strict=True)
    ]


def _axes(pipe: Any, over: Mapping[str, Any], call: dict[str, Any]) -> dict[str, list[Any]]:
    """The varied arguments and their checked values."""
    if not isinstance(over, Mapping):
        raise TypeError(f"over={over!r}: expected a dict such as {{'strength': [0.6, 0.8, 1.0]}}.")
    if not 1 <= len(over) <= AXES:
        raise ValueError(f"over names {len(over)} arguments; expected 1 to {AXES}. Fix the others in the call.")
    axes = {}
    for name, values in over.items():
        if name in call:
            raise ValueError(f"{name} is in over and in the call as well: leave one of them out.")
        if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__iter__"):
            raise TypeError(f"over[{name!r}]={values!r}: expected a list of values.")
        values = [calls.check(pipe, {name: value}).get(name) for value in values]
        if not values:
            raise ValueError(f"over[{name!r}] has no values: give at least one.")
        marks = [png_record.identity(value) for value in values]
        if twice := [value for place, value in enumerate(values) if marks[place] in marks[:place]]:
            raise ValueError(f"over[{name!r}] has {twice[0]!r} twice: each value once.")
        axes[name] = values
    return axes


def _batch_size(batch: bool | int, axes: dict[str, list[Any]], fixed: dict[str, Any]) -> int:
    if not isinstance(batch, int) or batch < 0:
        raise ValueError(f"batch={batch!r}: expected True, False or how many pictures to make at once.")
    size = AT_ONCE if batch is True else int(batch)
    if size < 2:
        return 1
    if list(axes)[-1] != "seed":
        raise ValueError(f"batch={batch!r} makes several seeds in one call: name 'seed' last in over, or drop batch.")
    if "padding_mask_crop" in axes or fixed.get("padding_mask_crop") is not None:
        raise ValueError("batch: padding_mask_crop takes one picture at a time. Leave batch out.")
    return size


def _groups(cells: list[_Cell], axes: tuple[str, ...], size: int) -> Iterator[list[_Cell]]:
    """The cells in order, those that go into one call together."""
    if size == 1:
        yield from ([cell] for cell in cells)
        return
    for _, alike in itertools.groupby(cells, lambda cell: [id(cell.parameters.get(name)) for name in axes[:-1]]):
        alike = list(alike)
        yield from (alike[start : start + size] for start in range(0, len(alike), size))


def _check_alone(parameters: dict[str, Any]) -> None:
    """What no pipeline accepts, said before the first of them runs; a product of two values may still fail later."""
    if (strength := parameters.get("strength")) is not None:
        validation.check_range(strength)
    for name in ("height", "width"):
        if (side := parameters.get(name)) is not None:
            validation.check_size(side, name=name)
    steps = parameters.get("num_inference_steps")
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise ValueError(f"num_inference_steps={steps!r}: expected a whole number, 1 or more.")


def _check(pipe: Any, cells: list[_Cell]) -> None:
    """Refuse what no cell can run: a strength too low for all steps that it meets, steps too few for all strengths."""
    default = getattr(inspection.parameters_of(pipe).get("num_inference_steps"), "default", None)
    pairs = []
    for call in (cell.parameters for cell in cells):
        _check_alone(call)
        strength, steps = call.get("strength"), call.get("num_inference_steps", default)
        otherwise = any(call.get(name) is not None for name in ("denoising_start", "timesteps", "sigmas"))
        if strength is not None and isinstance(steps, int) and not otherwise:
            pairs.append((strength, steps))
    most = [max(values) for values in zip(*pairs, strict=True)]
    for strength, steps in pairs:
        validation.check_strength(strength, most[1])
        validation.check_strength(most[0], steps)


def _folder(folder: str | os.PathLike) -> Path:
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"folder={str(folder)!r} cannot be made: {error.strerror or error}.") from error
    return path


def _find(cell: _Cell, axes: tuple[str, ...], folder: Path, here: dict[str, Any], batched: bool) -> None:
    """Give the cell its file; one made earlier gets the name of its place in this sweep."""
    key = key_of(cell.parameters, here)
    labels = " ".join(f"{name}={_short(cell.parameters.get(name))}" for name in axes)
    exact, inexact = (f"{cell.place:04d} {labels} {key}{mark}.png" for mark in ("", "-batch"))
    cell.file = folder / (inexact if batched else exact)
    # A batched sweep takes exact pictures as well, but not the other way round.
    for pattern, name in ((f"* {key}.png", exact), (f"* {key}-batch.png", inexact))[: 1 + batched]:
        if earlier := sorted(folder.glob(pattern)):
            cell.file = folder / name
            if cell.file not in earlier:
                os.replace(earlier[0], cell.file)
            return


def _read(cell: _Cell) -> Record | None:
    if cell.file is None or not cell.file.is_file():
        return None
    try:
        return Record.load(cell.file)
    except ValueError as error:
        warnings.warn(f"{cell.file.name} is made again: {error}", UserWarning, stacklevel=3)
        return None


def _keep(cell: _Cell, record: Record) -> None:
    if cell.file is not None and record.image is not None and record.error is None:
        record.save(cell.file)


def _short(value: Any) -> str:
    """A value as part of a file name."""
    text = digest_of(value)[:8] if hasattr(value, "mode") or hasattr(value, "shape") else str(value)
    return re.sub(r"[^\w.+-]+", "_", text)[:32]
