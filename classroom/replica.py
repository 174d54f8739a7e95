"""One call of a pipeline as frames: each step's latents, then the output or an error. No network and no Ray here."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from helpers.catalog.checkpoints import CATALOG
from helpers.catalog.tasks import class_name
from helpers.generation import provenance
from helpers.images import as_json
from helpers.pipelines import latent_preview, loading, schedulers
from helpers.pipelines.inspection import parameters_of
from helpers.pipelines.twins import exclusively, set_components, twin

Frame = dict[str, Any]


class _Stopped(BaseException):
    """Raised inside the pipeline to end its call; not an Exception, so that nothing on the way catches it."""


def load(wanted: dict[str, Any]) -> Any:
    """The pipeline that a request names, on this machine."""
    entry, controlnet = CATALOG[wanted["checkpoint"]], wanted["controlnet"]
    tasks = [task for task in entry.tasks if class_name(entry, task, controlnet) == wanted["pipeline"]]
    if not tasks:
        raise ValueError(f"pipeline={wanted['pipeline']!r}: {entry.name!r} makes no such pipeline.")
    pipe = loading.load(entry.name, task=tasks[0], controlnet=controlnet, runtime="torch")  # here, not in a pool
    pipe.set_progress_bar_config(disable=True)
    return pipe


def describe(pipe: Any) -> dict[str, Any]:
    """All of the pipeline but its weights, in JSON types: `helpers.pipelines.pool` builds one like it."""
    parts = {name: None if part is None else _described(part) for name, part in pipe.components.items()}
    config = {name: value for name, value in pipe.config.items() if name not in parts and not name.startswith("_")}
    call = {"parameters": list(parameters_of(pipe))}
    return {"components": parts, "config": config, "origin": provenance.describe(pipe)} | call


def make(pipe: Any, request: dict[str, Any], emit: Callable[[Frame], None], stop: threading.Event) -> None:
    """Make the call of a request; the last frame has its "output", or its "error". After `stop` no step follows."""
    try:
        emit(_made(pipe, request, emit, stop))
    except _Stopped:
        emit({"error": {"type": "PoolError", "message": "this call was cancelled."}})
    except Exception as error:
        message = str(error) if isinstance(error, (TypeError, ValueError)) else f"{type(error).__name__}: {error}"
        emit({"error": {"type": type(error).__name__, "message": message}})


async def stream(work: Callable[..., None], executor: Executor) -> AsyncIterator[Frame]:
    """The frames of `work(emit, stop)`, which runs in the executor. When nobody listens any more, `stop` is set."""
    loop, frames, stop = asyncio.get_running_loop(), asyncio.Queue(), threading.Event()

    def emit(frame: Frame) -> None:
        loop.call_soon_threadsafe(frames.put_nowait, frame)

    loop.run_in_executor(executor, functools.partial(work, emit, stop))
    try:
        last = False
        while not last:
            frame = await frames.get()
            last = "output" in frame or "error" in frame
            yield frame
    finally:
        stop.set()


def _made(pipe: Any, request: dict[str, Any], emit: Callable[[Frame], None], stop: threading.Event) -> Frame:
    import torch

    pipe = twin(pipe)
    set_components(pipe, {name: schedulers.build(told) for name, told in request["schedulers"].items()})
    arguments = {name: as_json.decode(value) for name, value in request["arguments"].items()}
    generators = [torch.Generator("cpu") for _ in request["generators"]]
    for generator, told in zip(generators, request["generators"], strict=True):
        generator.manual_seed(told) if isinstance(told, int) else generator.set_state(as_json.decode(told))

    def seen(name: str, step: int, timestep: Any, latents: Any) -> None:
        if stop.is_set():
            raise _Stopped
        if name in request["watch"] and latents is not None:
            time = timestep.item() if hasattr(timestep, "item") else timestep
            steps = getattr(pipe, "num_timesteps", None)
            shown = as_json.encode(latents.detach())
            emit({"callback": name, "step": step, "timestep": time, "steps": steps, "latents": shown})

    def on_step_end(name: str, _: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen(name, step, timestep, tensors.get("latents"))
        return {}

    known = parameters_of(pipe)
    callbacks: dict[str, Any] = {
        name: functools.partial(on_step_end, name)
        for name in ("callback_on_step_end", "prior_callback_on_step_end")
        if name in known
    }
    if not callbacks and "callback" in known:
        callbacks |= {"callback": functools.partial(seen, "callback"), "callback_steps": 1}
    if stop.is_set():
        raise _Stopped
    generator = {"generator": generators if request["many"] else generators[0]}
    output = exclusively(pipe, lambda: pipe(**arguments, **callbacks, **generator))
    values = {field.name: as_json.encode(getattr(output, field.name)) for field in dataclasses.fields(output)}
    told = {"module": type(output).__module__, "class": type(output).__name__, "values": values}
    return {"output": told, "generators": [as_json.encode(one.get_state()) for one in generators]}


def _described(part: Any) -> dict[str, Any]:
    import torch

    model: Any = part
    library = type(part).__module__.partition(".")[0]
    told: dict[str, Any] = {"library": library, "class": type(part).__name__}
    if isinstance(part, torch.nn.Module):
        text = model.config.to_json_string(use_diff=False) if library == "transformers" else model.to_json_string()
        told |= {"config": json.loads(text), "dtype": str(part.dtype).removeprefix("torch.")}
        told["config"].pop("_name_or_path", None)
        return told | {"preview": _preview(part)}
    if hasattr(part, "set_timesteps"):
        return told | {"config": schedulers.describe(part)["config"]}
    with tempfile.TemporaryDirectory() as folder:
        part.save_pretrained(folder)
        files = [file for file in Path(folder).rglob("*") if file.suffix in (".json", ".txt")]
        return told | {"files": {file.name: file.read_text(encoding="utf-8") for file in files}}


def _preview(model: Any) -> str | None:
    """The map of this VAE's latents to colours, as its file has it."""
    place = Path(str(model.config.get("_name_or_path") or "") if hasattr(model.config, "get") else "")
    files = [place / one / latent_preview.FILE for one in ("", "vae", "movq")] if place.is_absolute() else []
    return next((file.read_text(encoding="utf-8") for file in files if file.is_file()), None)
