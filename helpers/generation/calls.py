"""One call of a pipeline: its arguments are checked, its generators and schedulers set, its images examined."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from helpers.common.tensors import ordinary_tensors
from helpers.common.validation import MOST_STEPS, check_strength, did_you_mean, number, whole
from helpers.generation import compositing, input_images, provenance
from helpers.images import as_json
from helpers.pipelines import few_steps
from helpers.pipelines.inspection import parameters_of
from helpers.pipelines.schedulers import check_steps, class_named
from helpers.pipelines.twins import exclusively, set_components, twin

# Arguments that a record sets itself, or that change how a result is returned, and what to do instead.
REFUSED = {
    "generator": "pass seed=... (a whole number): a generator's state cannot be recorded",
    "num_images_per_prompt": "a record is one image; sweep over seed for several",
    "return_dict": "leave it out",
    "callback": "pass watch=..., which sees every step but changes nothing",
    "callback_steps": "leave it out",
    "callback_on_step_end": "pass watch=..., which sees every step but changes nothing",
    "callback_on_step_end_tensor_inputs": "leave it out: watch gets the latents",
}

SEEDS = 2**64  # are smaller: those that a torch.Generator takes
# Numbers among the arguments: the lowest and the highest that any pipeline takes (None: no limit).
_NUMBERS: dict[str, tuple[float | None, float | None]] = {
    "strength": (0, 1), "guidance_scale": (0, None), "prior_guidance_scale": (0, None), "guidance_rescale": (0, 1),
    "eta": (0, 1), "denoising_start": (0, 1), "denoising_end": (0, 1), "controlnet_conditioning_scale": (None, None),
    "control_guidance_start": (0, 1), "control_guidance_end": (0, 1), "aesthetic_score": (None, None),
    "negative_aesthetic_score": (None, None),
}  # fmt: skip
_WHOLE: dict[str, tuple[int, int | None]] = {
    "seed": (0, SEEDS - 1), "num_inference_steps": (1, MOST_STEPS), "prior_num_inference_steps": (1, MOST_STEPS),
    "noise_level": (0, None), "clip_skip": (0, None),
}  # fmt: skip
_OR_NONE = ("denoising_start", "denoising_end", "clip_skip")  # None: the pipelines' own default


@dataclass
class Result:
    """What a call returned: an image for each seed, with an error where it is unusable."""

    images: list[Image.Image]
    errors: list[str | None]
    seconds: float
    origin: dict[str, Any]


def check(pipe: Any, call: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `make`, checked against the pipeline's signature and copied, without needless Nones."""
    known = parameters_of(pipe)
    own = ("seed", "scheduler", *(compositing.NAMES if "mask_image" in known else ()))
    checked = {}
    for name, value in call.items():
        if name in REFUSED:
            raise TypeError(f"{name}: {REFUSED[name]}.")
        check_known(pipe, name, value, own)
        if value is not None or (name in known and known[name].default is not None):
            checked[name] = check_value(pipe, name, value)
    return checked


def check_known(pipe: Any, name: str, value: Any, own: Iterable[str] = ()) -> None:
    """TypeError for an argument that is neither the pipeline's nor one of `own`, with the name that was meant."""
    known = parameters_of(pipe)
    if name not in known and name not in own:
        hint = did_you_mean(name, [*(one for one in known if one not in REFUSED), *own])
        raise TypeError(f"{name}={str(value)[:60]!r}: {type(pipe).__name__} does not take it. {hint}")


def check_number(name: str, value: Any) -> Any:
    """Return an argument, checked if it is one of the numbers that any pipeline takes; TypeError or ValueError."""
    return _check_number(name, value) if value is not None and (name in _NUMBERS or name in _WHOLE) else value


def check_value(pipe: Any, name: str, value: Any) -> Any:
    """Return one argument, checked as far as its name allows, and copied; of a scheduler, the name of its class."""
    if name in _NUMBERS or name in _WHOLE:
        return _check_number(name, value)
    if value is None:
        return None
    if name == "scheduler":
        value = value if isinstance(value, str) else getattr(value, "__name__", type(value).__name__)
        class_named(value)
        if "scheduler" not in pipe.components:
            raise TypeError(f"scheduler={value!r}: {type(pipe).__name__} has no scheduler to replace.")
    elif name in compositing.NAMES:
        return compositing.check_value(name, value)
    elif name == "output_type" and value != "pil":
        raise TypeError(f"output_type={value!r}: a record holds a PIL image, so leave it out.")
    elif name == "prompt" and not isinstance(value, str):
        raise TypeError(f"prompt is a {type(value).__name__}: a record is one image; pass one string.")
    elif name in input_images.NAMES:
        value = input_images.check_value(name, value)
    return as_json.snapshot_argument(value, name=name)


def _check_number(name: str, value: Any) -> Any:
    """A number, or a list of them where there are several ControlNets, as Python's own; TypeError or ValueError."""
    if value is None and name in _OR_NONE:
        return None
    if name.startswith("control") and isinstance(value, (list, tuple)):
        return type(value)(_check_number(name, one) for one in value)
    scalar = hasattr(value, "item") and not getattr(value, "shape", ())  # NumPy's, torch's
    plain: Any = value.item() if value is not None and scalar else value
    try:
        if name in _WHOLE:
            return whole(name, plain, least=_WHOLE[name][0], most=_WHOLE[name][1])
        number(name, plain, low=_NUMBERS[name][0], high=_NUMBERS[name][1])
    except TypeError as error:
        raise TypeError(f"{error} Or leave it out.") from None
    return plain if isinstance(plain, int) else float(plain)


def check_together(pipe: Any, call: dict[str, Any], *, scheduler: Any = None) -> None:
    """ValueError where these arguments, each right by itself, make no call: images, or what is left to run.

    call: as `check` returns it. scheduler: the one that will run; by default what the call says, or the pipeline's.
    """
    input_images.check(pipe, call)
    known = parameters_of(pipe)

    def value_of(name: str) -> Any:
        return call.get(name, known[name].default) if name in known else None

    if any(call.get(name) is not None for name in ("timesteps", "sigmas")):
        return  # the schedule itself
    steps, strength, start = map(value_of, ("num_inference_steps", "strength", "denoising_start"))
    if not isinstance(steps, int):
        return
    start, end = (one if one and 0 < one < 1 else None for one in (start, value_of("denoising_end")))  # as SDXL does
    strength = 1.0 if strength is None or start is not None else strength
    check_strength(strength, steps)
    scheduler = scheduler or chosen_scheduler(pipe, call).get("scheduler") or pipe.components.get("scheduler")
    few_steps.check_guidance(scheduler, value_of("guidance_scale"))
    check_steps(scheduler, steps, strength=strength, start=start, end=end)
    if (prior := value_of("prior_num_inference_steps")) is not None:
        check_steps(pipe.components.get("prior_scheduler"), prior, name="prior_num_inference_steps")


@ordinary_tensors
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
    """Call the pipeline once, with a generator for each seed; with other schedulers, on a twin that has them."""
    import torch

    if schedulers:
        pipe = twin(pipe, quiet=False)
        set_components(pipe, schedulers)
    call, finish = compositing.apply_compositing(pipe, call)
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    last: dict[str, Any] = {}
    call |= _callbacks(pipe, watch, last) | {"generator": generators if len(generators) > 1 else generators[0]}

    def timed() -> tuple[Any, float, dict[str, Any]]:
        origin, start = provenance.describe(pipe), time.perf_counter()
        try:
            return pipe(**call), time.perf_counter() - start, origin
        except BaseException:
            pipe.maybe_free_model_hooks()  # or offload would leave the models where the call stopped
            raise

    # A NaN becomes 0 where numpy casts the decoded image to bytes. Its error state belongs to this thread alone.
    casts = io.StringIO()
    with np.errstate(invalid="log", call=casts):
        output, seconds, origin = exclusively(pipe, timed)
    images = list(output.images)
    if len(images) != len(seeds) or not all(isinstance(image, Image.Image) for image in images):
        raise ValueError(f"the call made {len(images)} images for {len(seeds)} seeds: pass one prompt and one image.")
    unsafe = getattr(output, "nsfw_content_detected", None) or [False] * len(images)
    latents = last.get("latents")
    latents = [None] * len(images) if latents is None or len(latents) != len(images) else latents
    errors = [
        output_error(own, "in cast" in casts.getvalue() and (len(images) == 1 or image.getbbox() is None), flag)
        for own, image, flag in zip(latents, images, unsafe, strict=True)
    ]
    return Result([finish(image, place) for place, image in enumerate(images)], errors, seconds, origin)


def output_error(latents: Any, decoded_nan: bool, unsafe: bool) -> str | None:
    """Why an image is unusable, or None if it is not: from its last latents, and what is known of its decoding."""
    cure = "Load with dtype=torch.float32, or lower guidance_scale."
    if latents is not None and not latents.isfinite().all():
        return f"NaN: the latents became NaN or Inf during denoising, so the image is black or noise. {cure}"
    if decoded_nan:
        return f"NaN: the VAE decoded the latents to NaN, so the image is black. {cure}"
    if unsafe:
        return "black: the safety checker flagged the image and blackened it. Another seed may pass."
    return None


def _callbacks(pipe: Any, watch: Callable | None, last: dict[str, Any]) -> dict[str, Any]:
    """The callback arguments that this pipeline takes; {} where it has none, so that nothing can be watched."""
    known = parameters_of(pipe)

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
