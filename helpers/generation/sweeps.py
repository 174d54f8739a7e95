"""Sweeps: the same call with one, two or three arguments varied, a Record for each combination.

Exact by default: each image is that of its own call. A sweep with a folder can be stopped and resumed.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from helpers.catalog import devices, memory_plan
from helpers.common import memory, paths, validation
from helpers.generation import calls, compositing, provenance
from helpers.generation.records import Record, key_of
from helpers.images import as_json
from helpers.images.digest import digest_of
from helpers.pipelines import pool
from helpers.pipelines.inspection import output_size
from helpers.pipelines.twins import set_components, twin

AXES = 3
BATCH = 8  # images, at most
PROMPTS = ("prompt", "prompt_2", "negative_prompt", "negative_prompt_2")
TOGETHER = ("seed", *PROMPTS, "image", "mask_image")  # may differ from image to image of one call

Parameters = dict[str, Any]
T = TypeVar("T")
R = TypeVar("R")


def sweep(
    pipe: Any,
    *,
    over: Mapping[str, Any],
    batch: bool = False,
    folder: str | os.PathLike | None = None,
    progress: bool = True,
    **call: Any,
) -> Iterator[Record]:
    """Yield a Record for every combination of the values in `over`; the last argument named changes fastest.

    over: one to three of the call's arguments, "seed" and "scheduler" among them, each with its values:
        `{"strength": [0.6, 0.8, 1.0], "seed": range(4)}`. Without a seed, all have seed 0.
    batch: True makes up to eight images in one call, those that differ in seed, prompts, image or mask alone. Faster,
        for small models on a CPU too; pixels may differ a little from single calls, and the records say so (`exact` is
        False). A batch that is too large for the memory is halved.
    folder: where each image is saved as PNG. An image that is there already, from the same call of the same pipeline,
        is read instead of made.
    progress: whether to show a bar with the time left.

    Where a class's pool makes the images (`pipelines.pool`), several are under way at once, in the same order.

    The sweep works on a twin, so the pipeline stays as it is. A combination that fails becomes a Record with `.error`,
    and the rest go on. Raised before any model runs: TypeError for an unknown argument; ValueError for no values, too
    many axes, values that cannot work, and a folder that cannot be written to.
    """
    axes = _axes(pipe, over, call)
    if "seed" not in axes and call.get("seed") is None:
        call = call | {"seed": 0}
    fixed = calls.check(pipe, call)
    if batch and ("padding_mask_crop" in axes or fixed.get("padding_mask_crop") is not None):
        raise ValueError("batch: padding_mask_crop takes one image at a time. Leave batch out.")
    cells = [fixed | dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    _check(pipe, cells, axes)
    target = None
    if folder is not None:
        names = (_file_name(cell, tuple(axes), "0" * 12, batch) for cell in cells)
        target = _writable(folder, max(names, key=lambda name: len(name.encode())))
    groups = _groups(pipe, cells, tuple(axes), _at_once(pipe, cells)) if batch else [[i] for i in range(len(cells))]
    return _records(pipe, cells, groups, tuple(axes), target, batch, progress)


def _records(
    pipe: Any,
    cells: list[Parameters],
    groups: list[list[int]],
    axes: tuple[str, ...],
    folder: Path | None,
    batch: bool,
    progress: bool,
) -> Iterator[Record]:
    """The records in the cells' order; each group of cells, by number, is made when its first one is wanted."""
    from tqdm.auto import tqdm

    waiting, sent, at_once = {}, 0, pool.in_flight(pipe)
    used = twin(pipe)
    origin = {} if folder is None else provenance.describe(pipe)

    def finished(group: list[int]) -> list[Record]:
        """The group's records, each read from its file or made."""
        files = [folder and folder / _file_name(cells[i], axes, key_of(cells[i], origin), batch) for i in group]
        found = [_read(file) for file in files]
        lacking = [cells[i] for i, one in zip(group, found, strict=True) if one is None]
        made = iter(_make(pipe, used if at_once == 1 else twin(pipe), lacking))
        records = []
        for file, record in zip(files, found, strict=True):
            if record is None:
                record = next(made)
                if file is not None and record.error is None:
                    _write(record, file)
            record.axes = axes
            records.append(record)
        return records

    with (
        tqdm(total=len(cells), unit="image", disable=not progress) as bar,
        contextlib.closing(_in_order(finished, groups, at_once)) as results,
    ):
        for group, records in zip(groups, results, strict=True):
            bar.update(len(group))
            waiting |= dict(zip(group, records, strict=True))
            while sent in waiting:
                yield waiting.pop(sent)
                sent += 1


def _in_order(work: Callable[[T], R], items: Iterable[T], at_once: int) -> Generator[R, None, None]:
    """The results of `work` in the items' order, up to `at_once` of them made at the same time, each in a thread."""
    if at_once == 1:
        yield from map(work, items)
        return
    begun: deque[Future[R]] = deque()
    with ThreadPoolExecutor(at_once) as threads:
        try:
            for item in items:
                begun.append(threads.submit(work, item))
                if len(begun) > at_once:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _make(pipe: Any, used: Any, cells: list[Parameters]) -> list[Record]:
    """The cells' records, from one call of the twin if they are several; failures are records too."""
    if not cells:
        return []
    try:
        calls.check_together(pipe, cells[0])  # what they differ in does not matter
    except ValueError as error:
        origin = provenance.describe(used)
        return [Record(None, cell, 0.0, origin, error=f"ValueError: {error}") for cell in cells]
    try:
        return _call(pipe, used, cells)
    except Exception as error:
        text, ran_out = f"{type(error).__name__}: {error}", memory.ran_out(error)
        memory.release_traceback(error)
    if len(cells) == 1:
        return [Record(None, cells[0], 0.0, provenance.describe(used), error=text)]
    few = (len(cells) + 1) // 2 if ran_out else 1
    warnings.warn(f"batch: {len(cells)} images at once failed ({text}); now {few} at a time are made.", stacklevel=3)
    parts = [cells[start : start + few] for start in range(0, len(cells), few)]
    return [record for part in parts for record in _make(pipe, used, part)]


def _call(pipe: Any, used: Any, cells: list[Parameters]) -> list[Record]:
    """One call for cells that differ in `TOGETHER` alone.

    In the batch every image has an input image of its own: only then does its generator draw what it draws alone.
    """
    first, count = cells[0], len(cells)
    set_components(used, calls.chosen_scheduler(pipe, first))
    call = {name: value for name, value in first.items() if name not in ("seed", "scheduler")}
    if count > 1:
        call = {name: _repeated(name, [cell[name] for cell in cells]) for name in call}
    while True:
        try:
            result = calls.run(used, [cell["seed"] for cell in cells], call)
            break
        except pool.PoolBusy as busy:  # others have their turn first
            time.sleep(busy.retry_after)
    return [
        Record(image, cell, result.seconds / count, result.origin, exact=count == 1, error=error)
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
        if name == "seed" and None in values:
            raise TypeError("over['seed'] has None: expected whole numbers. Leave seed out for seed 0.")
        if not values:
            raise ValueError(f"over[{name!r}] has no values: give at least one.")
        marks = [as_json.identity(value) for value in values]
        if twice := [value for place, value in enumerate(values) if marks[place] in marks[:place]]:
            raise ValueError(f"over[{name!r}] has {twice[0]!r} twice: each value once.")
        axes[name] = values
    return axes


def _repeated(name: str, values: list[Any]) -> Any:
    """The values of several images as their one call takes them: prompts and images in a list, tensors repeated.

    A mask or a control image that is the same for all stays as it is: the pipelines share it among the images.
    """
    value, count = values[0], len(values)
    if (name in PROMPTS and isinstance(value, str)) or (name == "image" and isinstance(value, Image.Image)):
        return values
    if name in TOGETHER and any(one is not value for one in values):
        return values
    if hasattr(value, "repeat_interleave") and len(value) == 1:
        if name.endswith("_embeds") or (name == "image" and value.ndim == 4):  # the first of three: a channel
            return value.repeat_interleave(count, dim=0)
    return value


def _at_once(pipe: Any, cells: list[Parameters]) -> int:
    """How many images a batch may have in the memory that is free, by the largest of them."""
    pixels = max(math.prod(output_size(pipe, cell) or (512, 512)) for cell in cells)
    free = devices.free_memory(str(pipe._execution_device))
    return max(1, min(BATCH, free // (memory_plan.WORKING * pixels * pipe.dtype.itemsize // 2)))


def _groups(pipe: Any, cells: list[Parameters], axes: tuple[str, ...], size: int) -> list[list[int]]:
    """The numbers of the cells that go into one call, up to `size` that differ in `TOGETHER` alone.

    Prompts go together with prompts; images and masks with those of their size, where nothing is composited.
    """
    alike: dict[tuple, list[list[int]]] = {}
    for number, cell in enumerate(cells):
        kinds = []
        for name in axes:
            value = cell.get(name)
            apart = name not in TOGETHER or (name == "mask_image" and any(cell.get(one) for one in compositing.NAMES))
            if isinstance(value, Image.Image) and not apart:
                kinds.append(value.size)
            elif name != "seed":
                kinds.append(str if isinstance(value, str) and not apart else id(value))  # each value is one object
        groups = alike.setdefault(tuple(kinds), [[]])
        if len(groups[-1]) == size:
            groups.append([])
        groups[-1].append(number)
    return sorted(itertools.chain.from_iterable(alike.values()))


def _check(pipe: Any, cells: list[Parameters], axes: dict[str, list[Any]]) -> None:
    """Refuse values of `over` that cannot run with any of the other values that they meet."""
    failed: dict[int, ValueError] = {}
    for place, call in enumerate(cells):
        for name in ("height", "width"):
            if call.get(name) is not None:
                validation.check_size(call[name], name=name)
        try:
            calls.check_together(pipe, call)
        except ValueError as error:
            failed[place] = error
    if len(failed) == len(cells):
        raise failed[len(cells) - 1]
    for name, values in axes.items() if failed else ():
        for value in values:
            met = [place for place, call in enumerate(cells) if call[name] is value]
            if all(place in failed for place in met):
                raise failed[met[-1]]


def _writable(folder: str | os.PathLike, longest: str) -> Path:
    """The folder, made where it is missing, after a file with a name as long as `longest` was written there."""
    path = paths.expand(folder, name="folder").absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        paths.try_writing(path, longest)
    except OSError as error:
        why = "it is a file" if os.path.isfile(path) else error.strerror or error
        raise ValueError(f"folder={str(folder)!r} cannot be written to: {why}. Choose another.") from error
    return path


def _file_name(cell: Parameters, axes: tuple[str, ...], key: str, batched: bool) -> str:
    """The varied values, and the key of all that decides the pixels; at most 255 bytes, as most disks allow."""
    values = [f"{name}={_short(cell.get(name))}" for name in axes]
    return " ".join([*values, f"{key}{'-batch' * batched}.png"])


def _short(value: Any) -> str:
    """A value as part of a file name: up to 32 characters and 40 bytes."""
    text = digest_of(value)[:8] if hasattr(value, "mode") or hasattr(value, "shape") else str(value)
    safe = re.sub(r"[^\w.+-]+", "_", text)[:32]
    return safe.encode()[:40].decode(errors="ignore")


def _write(record: Record, file: Path) -> None:
    """Save the record; what cannot be saved, as on a disk that is full by now, ends no sweep."""
    try:
        record.save(file)
    except (ValueError, OSError) as error:
        warnings.warn(f"an image is not saved: {error}", stacklevel=3)


def _read(file: Path | None) -> Record | None:
    """The record in a file; None where there is none, or none that can be read."""
    if file is None or not file.is_file():
        return None
    try:
        return Record.load(file)
    except ValueError as error:
        warnings.warn(f"{file.name} is made again: {error}", stacklevel=3)
        return None
