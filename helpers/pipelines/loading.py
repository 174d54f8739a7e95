"""load(): a plain diffusers pipeline by its course name, with shared weights.

It chooses the pipeline class for a task, the arguments for safetensors and dtype, the device and the offload mode. What
it returns is diffusers' own object, called as the diffusers docs call it.
"""

from __future__ import annotations

import gc
import inspect
import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from helpers.catalog import devices, editions, memory_plan, miniatures
from helpers.catalog.checkpoints import CATALOG, Checkpoint
from helpers.catalog.tasks import class_name
from helpers.common import memory
from helpers.common.tensors import ordinary_tensors
from helpers.hub import download
from helpers.pipelines import pool, runtimes
from helpers.pipelines.prompt_reading import teach
from helpers.pipelines.twins import serialized, set_components

if TYPE_CHECKING:
    import torch
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

# What reads images and makes none: the classes of transformers that load the model and its processor, by family.
READERS = {
    "depth": ("AutoModelForDepthEstimation", "AutoImageProcessor"),
    "segmentation": ("SamModel", "SamProcessor"),
}


@dataclass
class LoadedCheckpoint:
    """One checkpoint in memory: its models and tokenizers, which all pipelines made from it share."""

    name: str
    plan: memory_plan.Plan
    components: dict[str, Any]
    config: dict[str, Any]
    hashes: dict[str, str] = field(default_factory=dict)  # miniatures only: equal hash, same component
    users: weakref.WeakSet = field(default_factory=weakref.WeakSet)  # the pipelines made from it
    dtypes: dict[str, torch.dtype] = field(init=False)  # of the models, as they were loaded

    def __post_init__(self) -> None:
        self.dtypes = {part: model.dtype for part, model in self.components.items() if hasattr(model, "dtype")}

    def dtype_changed(self) -> set[str]:
        """The models that were cast to another dtype since: diffusers' from_pipe does that, and to()."""
        return {part for part, dtype in self.dtypes.items() if self.components[part].dtype != dtype}

    def move_to_cpu(self, kept: set[int]) -> None:
        """Move the models to main memory, except those with an id in `kept`."""
        if self.plan.device != "cpu" and self.plan.offload == "none":
            for part in self.components.values():
                if hasattr(part, "parameters") and id(part) not in kept:
                    part.to("cpu")


_loaded: dict[tuple, LoadedCheckpoint] = {}
_lock = threading.RLock()


@ordinary_tensors
def load(
    name: str,
    *,
    task: str | None = None,
    controlnet: str | None = None,
    dtype: torch.dtype | str | None = None,
    device: str | None = None,
    runtime: str | None = None,
) -> DiffusionPipeline:
    """Return a diffusers pipeline for `name`, ready to call; models that are in memory already are shared, not copied.

    task: "text2image", "image2image" or "inpaint"; by default what the checkpoint was trained for. controlnet: the
    course name of a ControlNet to add. dtype, device: chosen for this machine by default. Every call returns a new
    pipeline with its own scheduler; the models and tokenizers are the same objects as in other pipelines, so a change
    to one of those shows in all of them. Models that were cast to another dtype are loaded again. There is no safety
    checker. On a CPU the models are in channels-last memory format. runtime: "onnxruntime" runs the UNet there, on a
    CPU in a little over half the time and within 1 of 255 of PyTorch's image; the extra `runtime` installs it.

    With COURSE_POOL=http://... in the environment, and neither device nor runtime given, the pipeline's calls are made
    by a class's engine: see `pipelines.pool`, and its PoolError.

    Raises ValueError, before anything is loaded, for an unknown name and for what this checkpoint cannot do;
    ModuleNotFoundError when the runtime is not installed, MemoryError when it does not fit on this machine.
    """
    checkpoint = CATALOG[name]
    wanted = class_name(checkpoint, task, controlnet)
    device = None if device is None else devices.check_device(device)
    dtype = None if dtype is None else devices.check_dtype(dtype)
    here = device is not None or runtime is not None
    runtime = runtimes.check_runtime(runtime)
    if not here and pool.address() is not None:
        return pool.connect(name, wanted, controlnet=controlnet, dtype=dtype)
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
    if runtime != "torch":
        set_components(pipe, {"unet": runtimes.onnx_unet(pipe.unet)})
    return pipe


@ordinary_tensors
def image_reader(name: str) -> dict[str, Any]:
    """The "model" and "processor" of a checkpoint that reads images and makes none, in memory until `unload()`.

    The depth estimator and the segmenter. On a GPU that has no room left for it the model stays in main memory. Raises
    as `load` does, and FileNotFoundError where this edition has none.
    """
    checkpoint = CATALOG[name]
    with _lock:
        source = checkpoint.source
        held = next((held for (where, *_), held in _loaded.items() if where == source), None)
        if held is None:
            plan = memory_plan.plan_memory(checkpoint)
            if plan.offload != "none":  # there is no pipeline that would move it
                plan = memory_plan.plan_memory(checkpoint, device="cpu")
            if not plan.fits:
                raise MemoryError(plan.advice)
            held = _loaded[source, plan.device, plan.dtype] = _read_reader(checkpoint, source, plan)
        return held.components


def unload(name: str | None = None) -> None:
    """Release what load(), depth_map() and select() keep of `name`, or everything; then use() may change the edition.

    GPU memory is freed at once, main memory when no variable refers to a pipeline any more: `del pipe`.
    """
    if name is not None:
        CATALOG[name]  # raises where there is no such checkpoint
    with _lock:
        _drop([key for key, held in _loaded.items() if name in (None, held.name)])


def use(edition: str) -> None:
    """Choose the edition, "mini" or "full", for everything loaded from now on.

    Raises ValueError for any other name, and RuntimeError when pipelines of the other edition are in memory:
    `unload()` releases them.
    """
    loaded = sorted({held.name for held in _loaded.values()})
    if edition in editions.EDITIONS and loaded and edition != editions.edition():
        raise RuntimeError(
            f"use({edition!r}) came after load(): {', '.join(loaded)} of the other edition are in memory. "
            f"Call unload() first, or restart the kernel and call use({edition!r}) before the first load()."
        )
    editions.choose(edition)


def release_unused(*, beside: LoadedCheckpoint | None = None) -> None:
    """Release the checkpoints that no pipeline uses any more, except `beside`."""
    gc.collect()
    with _lock:
        _drop([idle for idle, held in _loaded.items() if not held.users and held is not beside])


@ordinary_tensors
def _drop(keys: list[tuple]) -> None:
    """Forget these; models that no other loaded checkpoint uses leave the GPU."""
    if not keys:
        return
    gone = [_loaded.pop(key) for key in keys]
    kept = {id(part) for held in _loaded.values() for part in held.components.values()}
    for held in gone:
        held.move_to_cpu(kept)
    del gone, held
    memory.free()


def _hold(
    checkpoint: Checkpoint, *, dtype: Any, device: str | None, beside: LoadedCheckpoint | None = None
) -> LoadedCheckpoint:
    """The checkpoint's components from memory, else from disk or the Hub.

    Where memory is short, checkpoints that no pipeline uses any more are released, except `beside`.
    """
    source = checkpoint.source
    plan = memory_plan.plan_memory(checkpoint, dtype=dtype, device=device)
    key = (source, plan.device, dtype if plan.device == "mps" else plan.dtype)  # on MPS free memory decides the dtype
    if key not in _loaded or _loaded[key].dtype_changed():
        if plan.offload != "none" or not plan.fits:
            release_unused(beside=beside)
            plan = memory_plan.plan_memory(checkpoint, dtype=dtype, device=device)
        if not plan.fits:
            raise MemoryError(plan.advice)
        _loaded[key] = _read(checkpoint, source, plan)
    return _loaded[key]


def _read(checkpoint: Checkpoint, source: str, plan: memory_plan.Plan) -> LoadedCheckpoint:
    import diffusers
    import torch
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline
    from transformers import PreTrainedTokenizerBase

    kwargs: dict[str, Any] = checkpoint.load_kwargs | {"dtype": plan.dtype, "local_files_only": True}
    hashes: dict[str, str] = {}
    folder, prior, shared = source, None, {}
    if checkpoint.mini:
        hashes = miniatures.parts(checkpoint.name)
        shared = _shared(hashes, plan)
        hide_progress_bars()
    else:
        folder, prior, kwargs["variant"] = download.folders(checkpoint)
        kwargs.pop("revision", None)  # the folder is that commit
    if checkpoint.family == "controlnet":
        net: Any = ControlNetModel.from_pretrained(folder, **kwargs)
        net.register_to_config(_name_or_path=source)  # not the folder of this machine's cache
        components, config = {"controlnet": net}, {}
    else:
        # diffusers would look for a prior on the Hub, at this checkpoint's commit.
        loader = DiffusionPipeline if prior else getattr(diffusers, class_name(checkpoint))
        pipe = loader.from_pretrained(folder, **(kwargs | shared))
        components = dict(pipe.components)
        config = {key: value for key, value in pipe.config.items() if key not in components}
        if prior:
            parts = DiffusionPipeline.from_pretrained(prior, **kwargs).components
            components |= {f"prior_{name}": part for name, part in parts.items()}
    if checkpoint.mini:
        teach([part for part in components.values() if isinstance(part, PreTrainedTokenizerBase)])
    for name, part in components.items():
        if isinstance(part, torch.nn.Module):
            if plan.device == "cpu" and name not in shared:
                part.to(memory_format=torch.channels_last)  # makes convolutions faster
            if plan.offload == "none":
                part.to(plan.device)
    return LoadedCheckpoint(checkpoint.name, plan, components, config | {"_name_or_path": source}, hashes)


def _read_reader(checkpoint: Checkpoint, source: str, plan: memory_plan.Plan) -> LoadedCheckpoint:
    import transformers

    hide_progress_bars()
    folder = source if checkpoint.mini else download.folders(checkpoint)[0]
    model, processor = (getattr(transformers, kind) for kind in READERS[checkpoint.family])
    kwargs: dict[str, Any] = {"dtype": plan.dtype, "use_safetensors": True, "local_files_only": True}
    parts = {
        "model": model.from_pretrained(folder, **kwargs).to(plan.device),
        "processor": processor.from_pretrained(folder, local_files_only=True),
    }
    return LoadedCheckpoint(checkpoint.name, plan, parts, {"_name_or_path": source})


def _shared(hashes: dict[str, str], plan: memory_plan.Plan) -> dict[str, Any]:
    """Components that another checkpoint in memory has too, such as the VAE of sd15 and sd15-inpaint."""
    found = {}
    for held in _loaded.values():
        if (held.plan.device, held.plan.dtype) == (plan.device, plan.dtype):
            unfit = held.dtype_changed()
            same = {digest: held.components.get(part) for part, digest in held.hashes.items() if part not in unfit}
            found |= {part: same[digest] for part, digest in hashes.items() if same.get(digest) is not None}
    return found


def _build(class_name: str, parts: dict[str, Any], held: LoadedCheckpoint) -> DiffusionPipeline:
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


def hide_progress_bars() -> None:
    """From now on diffusers and transformers load without progress bars: they would stay in the notebook."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
