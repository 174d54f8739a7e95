"""A class's pool: pipelines whose calls are made by an engine elsewhere, while everything around the call stays here.

With COURSE_POOL=http://... load() returns one. It is a pipeline of diffusers' own class, with real schedulers and
tokenizers, and models that have a configuration but no weights; until somebody looks into it, it can be called, and
nothing of torch, diffusers or transformers is imported. Its call sends the arguments, the schedulers and the
generators' states, and gets back each step's latents, the output and the generators' new states: the pixels are those
that the pool's machine makes of the same call. The wire carries JSON, with images as PNG and tensors as safetensors
(`images.as_json`); nothing on it is a program.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import importlib
import inspect
import json
import os
import reprlib
import secrets
import sys
import tempfile
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from helpers.catalog import miniatures
from helpers.catalog.checkpoints import CATALOG
from helpers.catalog.editions import edition
from helpers.common import paths
from helpers.common.notices import warn
from helpers.common.tensors import ordinary_tensors
from helpers.images import as_json
from helpers.pipelines import latent_preview, schedulers
from helpers.pipelines.prompt_reading import teach

VARIABLE = "COURSE_POOL"
TOKENS = ("COURSE_POOL_TOKEN", "JUPYTERHUB_API_TOKEN")  # in the environment: who asks
CALLBACKS = ("callback_on_step_end", "prior_callback_on_step_end", "callback")
VERSIONS = ("torch", "diffusers", "transformers")  # equal on both sides, or the pixels might differ in silence
LONGEST = 2**28  # bytes of an answer's line
SILENCE = 60.0  # seconds: the pool says something every few seconds while it works
LOADING = 600.0  # seconds that the pool may take to read a checkpoint
# What the pool may raise here under its own name; anything else is a PoolError.
_ERRORS = {kind.__name__: kind for kind in (TypeError, ValueError, MemoryError, NotImplementedError, AttributeError)}


class PoolError(RuntimeError):
    """The pool cannot make this call: it does not answer, does not know who asks, or has other weights or versions."""


class PoolBusy(PoolError):
    """The pool makes no more images just now; retry_after: in how many seconds to ask again."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class _Lost(Exception):
    """The answer ended before the image."""


def address() -> str | None:
    """The pool's address, which COURSE_POOL says; None without one. ValueError where it is no address."""
    text = os.environ.get(VARIABLE, "").strip().rstrip("/")
    if not text:
        return None
    parts = urllib.parse.urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{VARIABLE}={text!r}: expected an address such as http://127.0.0.1:8100.")
    return text


def connect(name: str, pipeline: str, *, controlnet: str | None = None, dtype: Any = None) -> Any:
    """Return a pipeline of that class whose calls are made by the pool at `address()`.

    PoolError where the pool does not answer, does not let this user in, or has other weights, another edition or other
    versions than this machine.
    """
    wanted = {
        "checkpoint": name,
        "pipeline": pipeline,
        "controlnet": controlnet,
        "dtype": None if dtype is None else str(dtype).removeprefix("torch."),
        "edition": edition(),
        "sources": [_source(one) for one in (name, controlnet) if one is not None],
        "versions": versions(),
    }
    return type(pipeline, (_Unbuilt,), {})(_description(wanted), wanted)


def versions() -> dict[str, str]:
    """The versions that must be equal on both sides."""
    return {library: metadata.version(library) for library in VERSIONS}


def origin(pipe: Any) -> dict[str, Any] | None:
    """Where the pool's models come from, as `generation.provenance` describes them; None for a pipeline of its own."""
    described = vars(pipe).get("_pool")
    return None if described is None else described["origin"]


def in_flight(pipe: Any) -> int:
    """How many calls of this pipeline are worth making at once: 1 where they are made here."""
    described = vars(pipe).get("_pool")
    return 1 if described is None else int(described["in_flight"])


def like(made: Any, pipe: Any) -> Any:
    """`made`, a pipeline on the models of `pipe`: its calls are made by the pool as well if those of `pipe` are."""
    if (known := vars(pipe).get("_pool")) is not None:
        wanted = known["wanted"] | {"pipeline": type(made).__name__}
        made.__class__ = pooled(type(made))
        made._pool = _kept(_description(wanted), wanted)
    return made


@functools.cache
def pooled(kind: type) -> type:
    """A subclass of a pipeline class, of the same name, whose calls are made by the pool."""
    call = inspect.unwrap(kind.__call__)

    @functools.wraps(kind.__call__)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        bound = inspect.signature(call).bind(self, *args, **kwargs).arguments  # TypeError, as for any function
        bound.pop("self")
        return _call(self, bound | bound.pop("kwargs", {}))

    body = {"__call__": __call__, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), body)


class _Unbuilt:
    """A pipeline that nobody has looked into: it can be called, and asked for no progress bar.

    Whatever else is asked of it turns it, for good, into the pipeline of diffusers' class that it stands for.
    """

    def __init__(self, described: dict[str, Any], wanted: dict[str, Any]) -> None:
        vars(self).update(_pool=_kept(described, wanted), _described=described)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        names = vars(self).get("_described", {}).get("parameters", ())[: len(args)]
        if len(names) < len(args) or kwargs.keys() & {*names, *CALLBACKS}:  # too many, twice, or shown this pipeline
            return _build(self)(*args, **kwargs)
        return _call(self, dict(zip(names, args, strict=True)) | kwargs)

    def set_progress_bar_config(self, **config: Any) -> None:
        vars(self)["_progress_bar_config"] = config

    def __getattr__(self, name: str) -> Any:
        return getattr(_build(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_build(self), name, value)

    def __repr__(self) -> str:
        return repr(_build(self))

    def __dir__(self) -> list[str]:
        return dir(_build(self))

    def __reduce_ex__(self, protocol: Any) -> Any:  # copies, such as twins
        return _build(self).__reduce_ex__(protocol)

    __class__ = property(lambda self: type(_build(self)))  # isinstance() asks for it


_building = threading.RLock()


def _build(pipe: Any) -> Any:
    """Turn an `_Unbuilt` into what it stands for, and return it; another thread may have done so."""
    with _building:
        if (described := vars(pipe).get("_described")) is not None:
            made = _built(described, pipe._pool["wanted"])
            vars(pipe).update(vars(made) | vars(pipe))
            del vars(pipe)["_described"]
            object.__dict__["__class__"].__set__(pipe, type(made))
    return pipe


def _call(pipe: Any, arguments: dict[str, Any]) -> Any:
    built = "_described" not in vars(pipe)
    callbacks = {name: given for name in CALLBACKS if (given := arguments.pop(name, None)) is not None}
    as_dict = arguments.pop("return_dict", True)
    for name in ("callback_on_step_end_tensor_inputs", "prior_callback_on_step_end_tensor_inputs"):
        if (tensors := arguments.pop(name, None)) not in (None, ["latents"]):
            raise TypeError(f"{name}={tensors!r}: the pool sends the latents alone. {_HERE}")
    parts = pipe.components if built else {}
    if changed := [one for one, part in parts.items() if getattr(part, "peft_config", None)]:
        raise PoolError(f"{changed[0]} has a LoRA here, which the pool's weights have not. {_HERE}")
    given = arguments.pop("generator", None)
    if given is None and (torch := sys.modules.get("torch")) is not None:
        given = torch.default_generator
    generators = given if isinstance(given, (list, tuple)) else [given]
    values = {name: as_json.snapshot_argument(value, name=name) for name, value in arguments.items()}
    request = pipe._pool["wanted"] | {
        "origin": pipe._pool["origin"],
        "schedulers": schedulers.describe_all(pipe) if built else {},
        "arguments": {name: as_json.encode(value) for name, value in values.items()},
        "generators": [secrets.randbits(63) if one is None else as_json.encode(one.get_state()) for one in generators],
        "many": isinstance(given, (list, tuple)),
        "watch": list(callbacks),
    }
    try:
        answer = _made(pipe, request, callbacks)
    except _Lost:
        warn("the pool lost this image on the way (a replica ended); it is made once more.")
        try:
            answer = _made(pipe, request, callbacks)
        except _Lost as error:
            raise PoolError(
                f"the pool lost this image twice. Try again in a minute, or tell your teacher. {_HERE}"
            ) from error
    output = _output(answer["output"])
    if len(answer["generators"]) != len(generators):
        raise _stranger(answer["generators"])
    for generator, state in zip(generators, answer["generators"], strict=True):
        if generator is not None:
            generator.set_state(as_json.decode(state))
    return output if as_dict else tuple(getattr(output, name) for name in answer["output"]["values"])


def _made(pipe: Any, request: dict[str, Any], callbacks: dict[str, Callable]) -> dict[str, Any]:
    """The pool's last frame, with the output; on the way the callbacks are called, and `pipe.on_wait` if it is set."""
    frames: Any = _answers(str(address()), "calls", request, patience=SILENCE)
    with contextlib.closing(frames):
        for frame in frames:
            if "output" in frame:
                return frame
            if "before" in frame and (on_wait := vars(pipe).get("on_wait")) is not None:
                on_wait(frame["before"])
            elif "step" in frame:
                _step(pipe, frame, callbacks)
            elif "lost" in frame:
                break
    raise _Lost


def _step(pipe: Any, frame: dict[str, Any], callbacks: dict[str, Callable]) -> None:
    import torch

    name, latents = frame["callback"], as_json.decode(frame["latents"])
    step, timestep, callback = frame["step"], torch.tensor(frame["timestep"]), callbacks[name]
    pipe._num_timesteps = frame["steps"]
    if name == "callback":
        callback(step, timestep, latents)
        return
    before = latents.clone()
    returned = callback(pipe, step, timestep, {"latents": latents}) or {}
    if not set(returned) <= {"latents"} or not torch.equal(returned.get("latents", latents), before):
        raise TypeError(f"{name} changes what the next step gets; the pool's calls can be watched only. {_HERE}")


_HERE = 'load(..., device="cpu") makes images on this machine instead.'


def _answers(where: str, door: str, request: dict[str, Any], *, patience: float) -> Iterator[dict[str, Any]]:
    """Ask the pool, and yield each line of its answer; the error that it tells is raised. Closing it ends the call."""
    parts = urllib.parse.urlsplit(where)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    token = next((found for name in TOKENS if (found := os.environ.get(name))), "")
    connection = kind(str(parts.hostname), parts.port, timeout=patience)
    try:
        headers = {"Authorization": f"token {token}", "Content-Type": "application/json"}
        connection.request("POST", f"{parts.path}/{door}", json.dumps(request).encode(), headers)
        response = connection.getresponse()
        if response.status != 200:
            raise _error(response.status, response.headers, response.read(LONGEST))
        while line := response.readline(LONGEST):
            frame = _frame(line)
            if "error" in frame:
                raise _told(frame["error"])
            yield frame
    except OSError as error:
        if isinstance(error, (ConnectionResetError, BrokenPipeError)):
            raise _Lost from error
        raise PoolError(
            f"{VARIABLE}={where} does not answer ({error.strerror or error or 'timed out'}). Ask your teacher whether "
            f"the engine runs. {_HERE}"
        ) from error
    except http.client.HTTPException as error:  # IncompleteRead: it ended in the middle
        raise _Lost from error
    finally:
        connection.close()


def _description(wanted: dict[str, Any]) -> dict[str, Any]:
    """All of a pipeline but its weights, as the pool has it."""
    described = next(_answers(str(address()), "describe", wanted, patience=LOADING), {})
    if "components" not in described:
        raise _stranger(described)
    return described


# What a frame has besides its first entry, of which kinds.
_FRAMES = {
    "error": {"error": dict},
    "output": {"output": dict, "generators": list},
    "step": {"step": int, "callback": str, "latents": dict, "timestep": (int, float)},
    "components": {"components": dict, "config": dict, "origin": dict, "parameters": list, "in_flight": int},
}


def _frame(line: bytes) -> dict[str, Any]:
    try:
        frame = json.loads(line)
    except (ValueError, RecursionError):
        frame = None
    if not line.endswith(b"\n"):  # cut off
        raise _Lost
    fields = [one for first, known in _FRAMES.items() if first in (frame or ()) for one in known.items()]
    if not isinstance(frame, dict) or not all(isinstance(frame.get(name), kind) for name, kind in fields):
        raise _stranger(line)
    return frame


def _stranger(said: Any) -> PoolError:
    return PoolError(f"what answers at {address()} is not the course's engine: it said {reprlib.repr(said)}.")


def _error(status: int, headers: Any, body: bytes) -> Exception:
    """What a refusal says; an answer that the engine did not write says its status alone."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        told = json.loads(body)["error"]
        if status in (429, 503):
            return PoolBusy(str(told["message"]), float(headers.get("Retry-After", 5)))
        return _told(told)
    return PoolError(f"the pool at {address()} answered {status}: {body[:200].decode(errors='replace')}")


def _told(told: dict[str, Any]) -> Exception:
    return _ERRORS.get(str(told.get("type")), PoolError)(str(told.get("message")))


def _source(name: str) -> str:
    entry = CATALOG[name]
    return miniatures.place(name).name if entry.mini else entry.hub_id


@ordinary_tensors
def _built(described: dict[str, Any], wanted: dict[str, Any]) -> Any:
    import diffusers
    from transformers import PreTrainedTokenizerBase

    parts = {name: None if told is None else _component(told) for name, told in described["components"].items()}
    kind = getattr(diffusers, wanted["pipeline"])
    expected = inspect.signature(kind.__init__).parameters
    config = {name: value for name, value in described["config"].items() if name in expected}
    pipe = pooled(kind)(**{name: parts.get(name) for name in expected if name in parts}, **config)
    source = _place(described["origin"]["source"], wanted["checkpoint"])
    pipe.register_to_config(_name_or_path=source)
    if wanted["controlnet"]:
        pipe.controlnet.register_to_config(
            _name_or_path=_place(described["origin"]["controlnet"], wanted["controlnet"])
        )
    teach(
        [part for part in parts.values() if wanted["edition"] == "mini" and isinstance(part, PreTrainedTokenizerBase)]
    )
    pipe._pool = _kept(described, wanted)
    return pipe


def _kept(described: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    return {"wanted": wanted, "origin": described["origin"], "in_flight": described["in_flight"]}


def _place(source: str, name: str) -> str:
    """A checkpoint's source as this machine's load() would write it: a miniature's is a path in the cache."""
    return str(paths.cache_folder() / "miniatures" / source) if CATALOG[name].mini else source


def _component(told: dict[str, Any]) -> Any:
    """A scheduler, tokenizer or processor, or a model without weights, of diffusers or transformers."""
    import torch

    if told["library"] not in ("diffusers", "transformers"):
        raise PoolError(f"the pool has a component of {told['library']!r}: expected diffusers or transformers.")
    kind: Any = getattr(importlib.import_module(told["library"]), told["class"])
    if "files" in told:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in told["files"].items():
                (Path(folder) / Path(name).name).write_text(text, encoding="utf-8")
            return kind.from_pretrained(folder)
    if "dtype" not in told:
        return kind.from_config(told["config"])
    model: Any
    with torch.device("meta"):
        if told["library"] == "diffusers":
            model = kind.from_config(told["config"])
        else:
            model = kind(kind.config_class.from_dict(told["config"]))
    if told["dtype"] != "float32":
        model = model.to(getattr(torch, told["dtype"]))
    model.eval()
    if told.get("preview"):
        model.register_to_config(_name_or_path=_preview(told["preview"]))
    for module in model.modules():
        module.register_forward_pre_hook(_no_weights)
    return model


def _preview(text: str) -> str:
    """The folder with the latents' map of colours, where `latent_preview` finds it."""
    folder = paths.cache_folder() / "pool" / hashlib.sha256(text.encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    paths.write_whole(folder / latent_preview.FILE, text)
    return str(folder)


def _no_weights(*_: Any) -> None:
    raise PoolError(f"this model's weights are in the pool, which makes whole images only. {_HERE}")


def _output(told: dict[str, Any]) -> Any:
    """diffusers' own output object; where diffusers is not imported, one that is read in the same ways."""
    if not isinstance(told.get("values"), dict):
        raise _stranger(told)
    values = {name: as_json.decode(value) for name, value in told["values"].items()}
    if "diffusers" not in sys.modules:
        return _Output(values)
    from diffusers.utils.outputs import BaseOutput

    kind = None
    with contextlib.suppress(ImportError):
        if (module := str(told.get("module"))).startswith("diffusers.pipelines."):
            kind = getattr(importlib.import_module(module), str(told.get("class")), None)
    if not isinstance(kind, type) or not issubclass(kind, BaseOutput):
        raise PoolError(f"the pool returned {told.get('class')!r}, which is no output of a pipeline.")
    return kind(**values)


class _Output(dict):
    """output.images, output["images"] and output[0]."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"this output has {', '.join(self)}, and no {name!r}.", name=name, obj=self)

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        return tuple(value for value in self.values() if value is not None)
