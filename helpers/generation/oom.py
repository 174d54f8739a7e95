"""Out of memory: free what is unused, change as little as possible, and make the call again.

The error is caught outside the frames that failed, so that what they held is free when the next attempt begins. (Where
Linux overcommits main memory, it ends the process instead of raising an error; nothing can be caught then.)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from helpers.catalog import devices
from helpers.common import memory
from helpers.common.sizes import format_size
from helpers.images.masks import by
from helpers.pipelines import loading
from helpers.pipelines.inspection import autoencoder, offload_mode, output_size
from helpers.pipelines.twins import exclusively, original

T = TypeVar("T")
IMAGES = ("image", "mask_image", "control_image")
# Attention that holds no map of all pairs, so that slicing saves nothing; and what is sliced already.
SPARING = ("AttnProcessor2_0", "AttnAddedKVProcessor2_0", "XFormersAttnProcessor", "XFormersAttnAddedKVProcessor")
SLICED = ("SlicedAttnProcessor", "SlicedAttnAddedKVProcessor")


def rescue(pipe: Any, **call: Any) -> Any:
    """Return `pipe(**call)`, and if memory runs out, on CUDA, MPS or the CPU, make the call again in less of it.

    One thing after another is changed: unused checkpoints are released, one image is made at a time, models are
    offloaded, attention works in slices, the VAE works in tiles (the one change that shows), layers are offloaded.
    Generators start again where they stood. A UserWarning says what was changed; it stays so for the calls that follow.

    MemoryError when nothing helps: it says what was tried and which size to try. Every other error is passed on.
    """
    generator = call.get("generator")
    generators = generator if isinstance(generator, (list, tuple)) else [] if generator is None else [generator]
    states = [one.get_state() for one in generators]
    parts = [call]

    def run() -> Any:
        for one, state in zip(generators, states, strict=True):
            one.set_state(state)
        return _joined([exclusively(pipe, lambda part=part: pipe(**part)) for part in parts])

    def split() -> None:
        parts[:] = _singles(call)

    output, changes = retry_on_oom(pipe, run, call=call, split=split)
    if changes:
        warnings.warn(describe_changes(changes), UserWarning, stacklevel=2)
    return output


def retry_on_oom(
    pipe: Any, run: Callable[[], T], *, call: dict[str, Any], split: Callable[[], Any] | None = None
) -> tuple[T, list[str]]:
    """Return `run()`, which calls the pipeline with `call`, and what was changed until it had enough memory.

    split: makes `run` go on with one image at a time.
    """
    changes: list[str] = []
    remedies: list[tuple[str, bool, Callable[[], Any]]] | None = None
    while True:
        try:
            return run(), changes
        except Exception as error:
            if not memory.ran_out(error):
                raise
            memory.release_traceback(error)
        pipe.maybe_free_model_hooks()
        if remedies is None:
            remedies = [remedy for remedy in _remedies(pipe, call, split) if remedy[1]]
        if not remedies:
            raise MemoryError(_nothing_helped(pipe, call, changes))
        text, _, change = remedies.pop(0)
        change()
        changes.append(text)


def describe_changes(changes: list[str]) -> str:
    """What was changed, in a sentence."""
    return f"Memory ran out; the call was made again with: {', '.join(changes)}."


def _remedies(
    pipe: Any, call: dict[str, Any], split: Callable[[], Any] | None
) -> list[tuple[str, bool, Callable[[], Any]]]:
    """What to change, in this order: a text, whether it can help, and the change. First what leaves the image alone."""
    pipe = original(pipe)  # whose offload its twins to come will have
    vae, size, offload = autoencoder(pipe), _decoded_size(pipe, call), offload_mode(pipe)
    on_gpu = str(pipe._execution_device).startswith("cuda")
    kinds = {type(one).__name__ for one in getattr(getattr(pipe, "unet", None), "attn_processors", {}).values()}
    whole_maps = bool(kinds) and kinds.isdisjoint(SLICED) and not (on_gpu and kinds.issubset(SPARING))
    tiles = getattr(vae, "use_tiling", True) is False and size is not None and max(size) > vae.tile_sample_min_size
    return [
        ("unused checkpoints released", True, loading.release_unused),
        ("one image at a time", split is not None and len(_singles(call)) > 1, lambda: split and split()),
        ("model offload", on_gpu and offload == "none", lambda: pipe.enable_model_cpu_offload()),
        (
            "attention in slices (pipe.disable_attention_slicing() ends it)",
            whole_maps,
            lambda: pipe.enable_attention_slicing("max"),
        ),
        ("the VAE in tiles (pipe.vae.disable_tiling() ends it)", tiles, lambda: vae.enable_tiling()),
        ("sequential offload", on_gpu and offload != "sequential", lambda: pipe.enable_sequential_cpu_offload()),
    ]


def _singles(call: dict[str, Any]) -> list[dict[str, Any]]:
    """A call for a list of prompts as calls for one each; `[call]` for one prompt, and for a call with tensors.

    A single generator is shared and drawn from in the same order, so schedulers that add noise at each step (the
    ancestral ones) make other images of it.
    """
    whole = any(hasattr(value, "shape") for value in call.values()) or not call.get("return_dict", True)
    if whole or isinstance(call.get("prompt"), (str, type(None))) or (call.get("num_images_per_prompt") or 1) > 1:
        return [call]
    count = len(call["prompt"])
    each = {name for name, value in call.items() if isinstance(value, (list, tuple)) and len(value) == count}
    each &= {"prompt", "prompt_2", "negative_prompt", "negative_prompt_2", "generator"} | set(IMAGES)
    return [call | {name: call[name][index] for name in each} for index in range(count)]


def _joined(outputs: list[Any]) -> Any:
    """The outputs of several calls as the one output that their batch would have returned."""
    import numpy as np
    import torch

    first, images = outputs[0], [one.images for one in outputs]
    if len(outputs) > 1:
        join = {np.ndarray: np.concatenate, torch.Tensor: torch.cat}.get(type(images[0]), lambda lists: sum(lists, []))
        first.images = join(images)
        if getattr(first, "nsfw_content_detected", None):
            first.nsfw_content_detected = sum((one.nsfw_content_detected for one in outputs), [])
    return first


def _decoded_size(pipe: Any, call: dict[str, Any]) -> tuple[int, int] | None:
    return output_size(pipe, {**call, "padding_mask_crop": None})  # a crop is painted larger than it is


def _nothing_helped(pipe: Any, call: dict[str, Any], tried: list[str]) -> str:
    free = format_size(devices.free_memory(str(pipe._execution_device)))
    size = _decoded_size(pipe, call)
    asked, advice = "", "Try a smaller image"
    if size is not None:
        width, height = (max(64, side // 128 * 64) for side in size)
        asked, advice = f" for {by(size)} pixels", f"Try {by((width, height))} pixels"
    return (
        f"memory ran out{asked}, also with: {', '.join(tried)}. {free} are free. "
        f"{advice}, close what else uses the memory, or call unload()."
    )
