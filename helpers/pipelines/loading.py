"""load(): a plain diffusers pipeline by its course name, on this machine, with the weights shared.

What it spares the reader: the pipeline class for a task, safetensors and dtype arguments, device and offload. What it
returns is diffusers' own object, called as the diffusers docs call it.
"""

from __future__ import annotations

import gc
import inspect
import logging
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from helpers.catalog import devices, editions, memory_plan, miniatures
from helpers.catalog.checkpoints import CATALOG, Checkpoint
from helpers.catalog.tasks import class_name
from helpers.hub import download
from helpers.pipelines.twins import serialized

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

logger = logging.getLogger(__name__)


@dataclass
class _Held:
    """One checkpoint in memory: its models and tokenizers, which all pipelines made from it share."""

    name: str
    plan: memory_plan.Plan
    components: dict[str, Any]
    config: dict[str, Any]
    digests: dict[str, str] = field(default_factory=dict)  # miniatures only: equal hash, same component
    users: weakref.WeakSet = field(default_factory=weakref.WeakSet)  # the pipelines made from it
    dtypes: dict[str, torch.dtype] = field(init=False)  # of the models, as they were read

    def __post_init__(self) -> None:
        self.dtypes = {part: model.dtype for part, model in self.components.items() if hasattr(model, "dtype")}

    def recast(self) -> set[str]:
        """The models that another number format was given to since: diffusers' from_pipe does that, and to()."""
        return {part for part, dtype in self.dtypes.items() if self.components[part].dtype != dtype}

    def leave_card(self, kept: set[int]) -> str:
        """Move the models to main memory, except those with an id in `kept`; the device they were on."""
        if self.plan.device != "cpu" and self.plan.offload == "none":
            for part in self.components.values():
                if hasattr(part, "parameters") and id(part) not in kept:
                    part.to("cpu")
        return self.plan.device


_held: dict[tuple, _Held] = {}
_lock = threading.RLock()


def load(
    name: str,
    *,
    task: str | None = None,
    controlnet: str | None = None,
    dtype: torch.dtype | str | None = None,
    device: str | None = None,
) -> DiffusionPipeline:
    """A diffusers pipeline for `name`, ready to call; the models of an earlier load are used again, not copied.

    task: "text2image", "image2image" or "inpaint"; default: what the checkpoint is for. controlnet: the course name of
    a ControlNet to join to it. dtype, device: chosen for this machine when left out. Every call returns a new pipeline
    with a scheduler of its own; the models and tokenizers are the same objects as in other pipelines, so a change to
    one of those shows in all of them; models cast to another dtype are read anew. There is no safety checker. On a CPU
    the models are in channels-last order.

    Raises ValueError, before anything is loaded, for an unknown name and for what this checkpoint cannot do;
    MemoryError when it will not fit on this machine.
    """
    checkpoint = CATALOG[name]
    wanted = class_name(checkpoint, task, controlnet)
    device = None if device is None else devices.check_device(device)
    dtype = None if dtype is None else devices.check_dtype(dtype)
    with _lock:
        held = _hold(checkpoint, dtype=dtype, device=device)
        parts = held.components
        if controlnet is not None:
            net = _hold(CATALOG[controlnet], dtype=held.plan.dtype, device=held.plan.device, beside=held)
            parts = parts | net.components
        pipe = _build(wanted, parts, held)
        held.users.add(pipe)
        if controlnet is not None:
            net.users.add(pipe)
    return pipe


def unload(name: str | None = None) -> None:
    """Let go of what load() holds of `name`, or of everything; afterwards use() may change the edition.

    A graphics card is freed at once. Main memory is freed when no variable holds a pipeline any more: `del pipe`.
    """
    if name is not None:
        CATALOG[name]  # raises where there is no such checkpoint
    with _lock:
        _drop([key for key, held in _held.items() if name in (None, held.name)])


def use(edition: str) -> None:
    """Choose the edition, "mini" or "full", for everything loaded from now on.

    Raises ValueError for any other name, and RuntimeError when pipelines of the other edition are in memory:
    `unload()` lets go of them and makes the change possible.
    """
    loaded = sorted({held.name for held in _held.values()})
    if edition in editions.EDITIONS and loaded and edition != editions.edition():
        raise RuntimeError(
            f"use({edition!r}) came after load(): {', '.join(loaded)} of the other edition are in memory. "
            f"Call unload() first, or restart the kernel and call use({edition!r}) before the first load()."
        )
    editions.choose(edition)


def drop_idle(*, beside: _Held | None = None) -> None:
    """Let go of the checkpoints that no pipeline uses any more, `beside` excepted."""
    gc.collect()
    with _lock:
        _drop([idle for idle, held in _held.items() if not held.users and held is not beside])


def _drop(keys: list[tuple]) -> None:
    """Forget these; what no other checkpoint in memory uses leaves the card."""
    if not keys:
        return
    gone = [_held.pop(key) for key in keys]
    kept = {id(part) for held in _held.values() for part in held.components.values()}
    left = [held.leave_card(kept) for held in gone]
    del gone
    gc.collect()
    if any(device != "cpu" for device in left):
        import torch

        torch.cuda.empty_cache() if torch.cuda.is_available() else torch.mps.empty_cache()


def _hold(checkpoint: Checkpoint, *, dtype: Any, device: str | None, beside: _Held | None = None) -> _Held:
    """The checkpoint's components from memory, else from disk or the Hub.

    Where memory is short, checkpoints that no pipeline uses any more make room, `beside` excepted.
    """
    source = checkpoint.source
    plan = memory_plan.plan_memory(checkpoint, dtype=dtype, device=device)
    key = (source, plan.device, dtype if plan.device == "mps" else plan.dtype)  # on MPS free memory decides the dtype
    if key not in _held or _held[key].recast():
        if plan.offload != "none" or not plan.fits:
            drop_idle(beside=beside)
            plan = memory_plan.plan_memory(checkpoint, dtype=dtype, device=device)
        if not plan.fits:
            raise MemoryError(plan.advice)
        _held[key] = _read(checkpoint, source, plan)
    return _held[key]


def _read(checkpoint: Checkpoint, source: str, plan: memory_plan.Plan) -> _Held:
    import diffusers

    kwargs = checkpoint.load_kwargs | {"dtype": plan.dtype, "local_files_only": True}
    digests, folder, prior = {}, source, None
    if checkpoint.mini:
        digests = miniatures.parts(checkpoint.name)
    elif not os.path.isdir(source):
        folder, prior, kwargs["variant"] = download.folders(checkpoint)
        kwargs.pop("revision", None)  # the folder is that commit
    with _quiet(checkpoint.mini):
        if checkpoint.family == "controlnet":
            net = _from_pretrained(diffusers.ControlNetModel, folder, kwargs)
            net.register_to_config(_name_or_path=source)  # not the folder of this machine's cache
            components, config = {"controlnet": net}, {}
        else:
            # diffusers would look for a prior on the Hub, at this checkpoint's commit.
            loader = diffusers.DiffusionPipeline if prior else getattr(diffusers, class_name(checkpoint))
            pipe = _from_pretrained(loader, folder, kwargs | _shared(digests, plan))
            components = dict(pipe.components)
            config = {key: value for key, value in pipe.config.items() if key not in components}
            if prior:
                parts = _from_pretrained(diffusers.DiffusionPipeline, prior, kwargs).components
                components |= {f"prior_{name}": part for name, part in parts.items()}
    import torch

    for part in components.values():
        if isinstance(part, torch.nn.Module):
            if plan.device == "cpu":
                part.to(memory_format=torch.channels_last)  # convolutions are faster so
            if plan.offload == "none":
                part.to(plan.device)
    return _Held(checkpoint.name, plan, components, config | {"_name_or_path": source}, digests)


def _shared(digests: dict[str, str], plan: memory_plan.Plan) -> dict[str, Any]:
    """Components that another checkpoint in memory has too, such as the VAE of sd15 and sd15-inpaint."""
    found = {}
    for held in _held.values():
        if (held.plan.device, held.plan.dtype) == (plan.device, plan.dtype):
            unfit = held.recast()
            same = {digest: held.components.get(part) for part, digest in held.digests.items() if part not in unfit}
            found |= {part: same[digest] for part, digest in digests.items() if same.get(digest) is not None}
    return found


def _build(class_name: str, parts: dict[str, Any], held: _Held) -> DiffusionPipeline:
    """A new pipeline around `parts`. (from_pipe would cast them to float32 and share the scheduler.)"""
    import diffusers

    kind = getattr(diffusers, class_name)
    expected = list(inspect.signature(kind.__init__).parameters)[1:]
    kwargs = {key: value for key, value in held.config.items() if key in expected}
    for key in expected:
        if key in parts:
            part = parts[key]
            kwargs[key] = type(part).from_config(part.config) if "scheduler" in key and part is not None else part
    pipe = (kind if held.plan.device == "cpu" else serialized(kind))(**kwargs)
    pipe.register_to_config(_name_or_path=held.config["_name_or_path"])
    if held.plan.offload == "model":
        pipe.enable_model_cpu_offload(device=held.plan.device)
    elif held.plan.offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=held.plan.device)
    return pipe


def _from_pretrained(loader: Any, source: str, kwargs: dict[str, Any]) -> Any:
    """loader.from_pretrained, and once more without `variant` where the publisher has none."""
    try:
        return loader.from_pretrained(source, **kwargs)
    except (OSError, ValueError) as error:
        variant = kwargs.get("variant")
        if variant is None or variant not in str(error):
            raise
        logger.warning("%s has no %s files; the full ones are used, which are larger.", source, variant)
        return loader.from_pretrained(source, **{key: value for key, value in kwargs.items() if key != "variant"})


@contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    """No progress bars for what takes a moment: they would stay in the notebook."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    changed = [log for log in (diffusers_logging, transformers_logging) if quiet and log.is_progress_bar_enabled()]
    for log in changed:
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log in changed:
            log.enable_progress_bar()
