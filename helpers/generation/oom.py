"""Out of memory: give back what is free, change as little as possible, and make the call again.

The error is caught outside the frames that failed, so that what they held is free when the next attempt begins. What
was changed is said, and stays for the calls that follow. (Where Linux lends more main memory than there is, it ends
the process instead of raising an error; nothing can be caught then.)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from helpers.catalog import devices
from helpers.common import memory
from helpers.common.lock import turn
from helpers.generation import batching, calls
from helpers.images.masks import by
from helpers.pipelines import inspection, loading

T = TypeVar("T")
VALUES = 18  # that decoding holds for each pixel and each channel of the VAE's widest layer; measured: 12 to 18
SLICED = {"SlicedAttnProcessor", "SlicedAttnAddedKVProcessor"}
# Attention that holds no map of all pairs: slicing it makes it slower, and saves nothing.
SPARING = {"AttnProcessor2_0", "AttnAddedKVProcessor2_0", "XFormersAttnProcessor", "XFormersAttnAddedKVProcessor"}


def rescue(pipe: Any, **call: Any) -> Any:
    """`pipe(**call)` that survives running out of memory: returns the pipeline's output.

    After an error of memory, on CUDA, MPS or the CPU, one thing after another is changed that can help where it failed:
    what no pipeline uses is given back, one picture is made at a time, the VAE works in slices, models are offloaded,
    attention works in slices, the VAE in tiles (the one step that a picture shows), layers are offloaded. Generators
    begin again where they stood. A UserWarning says what was changed; it stays so for the calls that follow.

    Raises MemoryError when nothing helps: it names the size that would fit, and slices and tiles are undone. Every
    other error is passed on.
    """
    generators = [one for one in batching.listed(call.get("generator")) if hasattr(one, "get_state")]
    states = [one.get_state() for one in generators]
    parts = [call]

    def run() -> Any:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        with turn():
            return batching.joined([pipe(**part) for part in parts])

    def split() -> None:
        parts[:] = batching.singles(call)

    output, changes = survive(pipe, run, call=call, split=split if pictures(call) > 1 else None)
    if changes:
        warnings.warn(said(changes), UserWarning, stacklevel=2)
    return output


def survive(
    pipe: Any, run: Callable[[], T], *, call: dict[str, Any], split: Callable[[], Any] | None = None
) -> tuple[T, list[str]]:
    """What `run()` returns, and what was changed until it did.

    `run` calls `pipe`; `call` says what for. split: makes `run` go on with one picture at a time.
    """
    failed, result = _attempt(pipe, run)
    if not failed:
        return result, []
    remedies = [_Remedy("what no pipeline uses given back", "", loading.drop_idle)]
    remedies += [_Remedy("one picture at a time", "", split)] if split else []
    remedies += _remedies(pipe, call)
    done: list[_Remedy] = []
    while failed:
        memory.free()
        remedy = next((one for one in remedies if one.part in ("", *failed)), None)
        if remedy is None:
            fits = _size_that_fits(pipe, call)
            for one in reversed(done):
                one.undo()
            raise MemoryError(_hopeless(pipe, call, [one.says for one in done], fits))
        remedies.remove(remedy)
        remedy.do()
        done.append(remedy)
        failed, result = _attempt(pipe, run)
    return result, [one.says for one in done]


def said(changes: list[str]) -> str:
    """What happened, in a sentence."""
    return f"Memory ran out; the call was made again with: {', '.join(changes)}."


def pictures(call: dict[str, Any]) -> int:
    """How many pictures a call makes."""
    return batching.prompt_count(call) * (call.get("num_images_per_prompt") or 1)


@dataclass(eq=False)
class _Remedy:
    says: str
    part: str  # where it helps: the name of a model, or "" for wherever
    do: Callable[[], Any]
    undo: Callable[[], Any] = lambda: None


def _attempt(pipe: Any, run: Callable[[], T]) -> tuple[list[str], T | None]:
    """No names and the result; or the models in which memory ran out, or could have, and nothing left of the frames."""
    try:
        return [], run()
    except Exception as error:
        if not memory.ran_out(error):
            raise
        models = {id(part): name for name, part in inspection.models(pipe).items()}
        found = [models[mark] for mark in _owners(error) if mark in models]
        pipe.maybe_free_model_hooks()
        calls.let_go(error)
    return found or [*models.values()], None


def _owners(error: BaseException) -> Iterator[int]:
    """The ids of the objects whose methods the error went through."""
    trace = error.__traceback__
    while trace is not None:
        yield id(trace.tb_frame.f_locals.get("self"))
        trace = trace.tb_next


def _remedies(pipe: Any, call: dict[str, Any]) -> list[_Remedy]:
    """What can still be changed of this pipeline: first what leaves the picture as it is, then what is quick."""
    found = []
    name = "movq" if hasattr(pipe, "movq") else "vae"
    vae, unet, offload = getattr(pipe, name, None), getattr(pipe, "unet", None), inspection.offload_mode(pipe)
    card = str(pipe._execution_device).startswith("cuda")
    if getattr(vae, "use_slicing", True) is False and pictures(call) > 1:
        says = f"the VAE in slices ({name}.disable_slicing() ends it)"
        found.append(_Remedy(says, name, vae.enable_slicing, vae.disable_slicing))
    if card and offload == "none":
        found.append(_Remedy("model offload", "", pipe.enable_model_cpu_offload))
    kinds = {type(one).__name__ for one in getattr(unet, "attn_processors", {}).values()}
    if kinds and not kinds & SLICED and not (card and kinds <= SPARING):
        found.append(_sliced_attention(pipe, unet))
    if getattr(vae, "use_tiling", True) is False and max(_size(pipe, call)) > vae.tile_sample_min_size:
        says = f"the VAE in tiles ({name}.disable_tiling() ends it)"
        found.append(_Remedy(says, name, vae.enable_tiling, vae.disable_tiling))
    if card and offload != "sequential":
        found.append(_Remedy("sequential offload", "", pipe.enable_sequential_cpu_offload))
    return found


def _sliced_attention(pipe: Any, unet: Any) -> _Remedy:
    before = dict(unet.attn_processors)  # disable_attention_slicing() would not bring back every kind
    says = "attention in slices (pipe.disable_attention_slicing() ends it)"
    return _Remedy(says, "unet", lambda: pipe.enable_attention_slicing("max"), lambda: unet.set_attn_processor(before))


def _size(pipe: Any, call: dict[str, Any]) -> tuple[int, int]:
    """Width and height of what is decoded, in pixels; of a crop too."""
    return inspection.output_size(pipe, {**call, "padding_mask_crop": None}) or (0, 0)


def _size_that_fits(pipe: Any, call: dict[str, Any]) -> tuple[int, int] | None:
    """A width and height, estimated from what is free now; None where not even a small picture would fit."""
    width, height = _size(pipe, call)
    vae = getattr(pipe, "movq", None) or pipe.vae
    values = VALUES * vae.config.block_out_channels[0] * width * height
    share = 0.9 * devices.free_memory(str(pipe._execution_device)) / (values * vae.dtype.itemsize)
    share = min(share, 0.5) ** 0.5  # of a side; half the area at most, for the whole did not fit
    step = 64 if min(width, height) >= 128 else 8
    found = tuple(int(side * share) // step * step for side in (width, height))
    return found if min(found) >= step else None


def _hopeless(pipe: Any, call: dict[str, Any], tried: list[str], fits: tuple[int, int] | None) -> str:
    free = devices.free_memory(str(pipe._execution_device)) / devices.GB
    known = inspection.parameters_of(pipe)
    text = f"memory ran out for {by(_size(pipe, call))} pixels, also with: {', '.join(tried)}. {free:.1f} GB are free. "
    if fits is None:
        return text + "Not even a small picture would fit: close what else uses the memory, or call unload()."
    sides = f"height={fits[1]}, width={fits[0]}" if "height" in known else f"an image of {by(fits)}"
    return text + f"About {by(fits)} would fit: pass {sides}, or close what else uses the memory, or call unload()."
