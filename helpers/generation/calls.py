"""One call of a pipeline: its arguments checked, its generator and scheduler set, its picture examined."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from PIL import Image

from helpers.common.lock import turn
from helpers.common.validation import did_you_mean
from helpers.generation import compositing, png_record, provenance
from helpers.generation.schedulers import class_named
from helpers.pipelines import inspection

# Arguments that say how a result is handed over, or that a record sets itself, and what to do instead.
REFUSED = {
    "generator": "pass seed=... (a whole number): a generator does not tell where it stands",
    "num_images_per_prompt": "a record is one picture; sweep over seed for several",
    "return_dict": "leave it out",
    "callback": "pass watch=..., which may look on but change nothing",
    "callback_steps": "leave it out",
    "callback_on_step_end": "pass watch=..., which may look on but change nothing",
    "callback_on_step_end_tensor_inputs": "leave it out: watch gets the latents",
}


@dataclass
class Result:
    """What a call gave: a picture and perhaps an error for each seed."""

    images: list[Image.Image]
    errors: list[str | None]
    seconds: float
    origin: dict[str, Any]


def check(pipe: Any, call: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `make`, checked against the pipeline's signature and copied; what is None anyway is left out."""
    known = inspection.parameters_of(pipe)
    own = ("seed", "scheduler", *(compositing.NAMES if "mask_image" in known else ()))
    checked = {}
    for name, value in call.items():
        if name in REFUSED:
            raise TypeError(f"{name}: {REFUSED[name]}.")
        if name not in known and name not in own:
            takes = [known_name for known_name in known if known_name not in REFUSED]
            hint = did_you_mean(name, [*takes, *own])
            raise TypeError(f"{name}={str(value)[:60]!r}: {type(pipe).__name__} does not take it. {hint}")
        if value is not None or (name in known and known[name].default is not None):
            checked[name] = check_value(pipe, name, value)
    return checked


def check_value(pipe: Any, name: str, value: Any) -> Any:
    """One argument, checked as far as its name tells, and copied; a scheduler becomes its class's name."""
    if value is None:
        return None
    if name == "seed":
        if hasattr(value, "item"):
            value = value.item()
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise TypeError(f"seed={value!r}: expected a whole number, 0 or more.")
    elif name == "scheduler":
        value = value if isinstance(value, str) else getattr(value, "__name__", type(value).__name__)
        class_named(value)
        if "scheduler" not in pipe.components:
            raise TypeError(f"scheduler={value!r}: {type(pipe).__name__} has no scheduler to exchange.")
    elif name in compositing.NAMES:
        return compositing.check_value(name, value)
    elif name == "output_type" and value != "pil":
        raise TypeError(f"output_type={value!r}: a record holds a picture, so it is 'pil'; leave it out.")
    elif name == "prompt" and not isinstance(value, str):
        raise TypeError(f"prompt is a {type(value).__name__}: a record is one picture; pass one text.")
    return png_record.snapshot_argument(value, name=name)


def chosen_scheduler(pipe: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    """The scheduler that the checked parameters name, with the configuration of the pipeline's own; {} for none."""
    if (name := parameters.get("scheduler")) is None:
        return {}
    return {"scheduler": class_named(name).from_config(pipe.scheduler.config)}


def run(
    pipe: Any,
    seeds: list[int],
    call: dict[str, Any],
    *,
    schedulers: dict[str, Any] | None = None,
    watch: Callable[[Any, int, Any, Any], Any] | None = None,
) -> Result:
    """Call the pipeline once, when it is this thread's turn, with a generator a seed and these schedulers in place."""
    import torch

    call, finish = compositing.around(pipe, call)
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    last: dict[str, Any] = {}
    decoded: list[bool] = []
    with turn(), _exchanged(pipe, schedulers or {}), _decodes(pipe, decoded):
        made = provenance.describe(pipe)
        start = time.perf_counter()
        try:
            output = pipe(
                **call, **_watching(pipe, watch, last), generator=generators if len(generators) > 1 else generators[0]
            )
        except BaseException:
            pipe.maybe_free_model_hooks()  # offloading would keep the models where the call left them
            raise
        seconds = time.perf_counter() - start
    images = list(output.images)
    if len(images) != len(seeds) or not all(isinstance(image, Image.Image) for image in images):
        raise ValueError(f"the call made {len(images)} pictures for {len(seeds)} seeds: pass one prompt and one image.")
    flagged = getattr(output, "nsfw_content_detected", None) or [False] * len(images)
    errors = [_fault(place, last.get("latents"), decoded, flagged) for place in range(len(images))]
    return Result([finish(image, place) for place, image in enumerate(images)], errors, seconds, made)


def _fault(place: int, latents: Any, decoded: list[bool], flagged: list[bool]) -> str | None:
    """Why the picture at `place` is none, if it is none."""
    cure = "Load with dtype=torch.float32, or lower guidance_scale."
    if latents is not None and len(latents) > place and not latents[place].isfinite().all():
        return f"NaN: the latents stopped being numbers during denoising, so the picture is black or noise. {cure}"
    if len(decoded) > place and not decoded[place]:
        return f"NaN: the VAE decoded the latents to what is no number, so the picture is black. {cure}"
    if flagged[place]:
        return "black: the safety checker took the picture for unsafe and blackened it. Another seed may pass."
    return None


def _watching(pipe: Any, watch: Callable | None, last: dict[str, Any]) -> dict[str, Any]:
    """The callback arguments that this pipeline takes; none where it has no callback (then nobody can look on)."""
    known = inspection.parameters_of(pipe)

    def on_step_end(inner: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        last["latents"] = tensors.get("latents")
        if watch:
            watch(inner, step, timestep, tensors.get("latents"))
        return {}  # nothing is changed

    def on_step(step: int, timestep: Any, latents: Any) -> None:  # the form of the upscalers
        on_step_end(pipe, step, timestep, {"latents": latents})

    if "callback_on_step_end" in known:
        prior = {"prior_callback_on_step_end": on_step_end} if "prior_callback_on_step_end" in known else {}
        return {"callback_on_step_end": on_step_end} | prior
    return {"callback": on_step, "callback_steps": 1} if "callback" in known else {}


@contextmanager
def _exchanged(pipe: Any, schedulers: dict[str, Any]) -> Iterator[None]:
    """Other schedulers for a while, also in the pipelines that a combined pipeline holds."""
    holders = [pipe, *(getattr(pipe, name) for name in ("prior_pipe", "decoder_pipe") if hasattr(pipe, name))]
    swaps = [(getattr(pipe, name), new) for name, new in schedulers.items() if hasattr(pipe, name)]
    done = []
    try:
        for old, new in swaps:
            for holder in holders:
                for name in [name for name, part in holder.components.items() if part is old]:
                    done.append((holder, name, old))
                    setattr(holder, name, new)
        yield
    finally:
        for holder, name, old in reversed(done):
            setattr(holder, name, old)


@contextmanager
def _decodes(pipe: Any, finite: list[bool]) -> Iterator[None]:
    """Note for each picture that the VAE decodes whether it is made of numbers."""
    parts = [getattr(pipe, name, None) for name in ("vae", "movq")]
    model = next((part for part in parts if part is not None), None)
    if model is None:
        yield
        return
    plain = model.decode

    def decode(*args: Any, **kwargs: Any) -> Any:
        output = plain(*args, **kwargs)
        finite.extend(bool(sample.isfinite().all()) for sample in output[0])
        return output

    before = vars(model).get("decode")
    object.__setattr__(model, "decode", decode)
    try:
        yield
    finally:
        if before is None:
            object.__delattr__(model, "decode")
        else:
            object.__setattr__(model, "decode", before)


@contextmanager
def silent(pipe: Any) -> Iterator[None]:
    """No progress bar of the pipeline's own for a while; such whiles may overlap, of several threads too."""
    with _silencing:
        held = _silenced.setdefault(id(pipe), [0, getattr(pipe, "_progress_bar_config", None)])
        held[0] += 1
        pipe.set_progress_bar_config(disable=True)
    try:
        yield
    finally:
        with _silencing:
            held[0] -= 1
            if not held[0]:  # the last to end puts back what the first has found
                del _silenced[id(pipe)]
                pipe.set_progress_bar_config(**held[1] or {})


_silencing = threading.Lock()
_silenced: dict[int, list] = {}  # of each pipeline that is silent: in how many whiles, and its settings before


def let_go(error: BaseException) -> None:
    """Let go of what a failed call still holds: its frames, and with them its tensors."""
    import gc

    import torch

    chain: BaseException | None = error
    while chain is not None:
        chain.__traceback__ = None
        chain = chain.__cause__ or chain.__context__
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
