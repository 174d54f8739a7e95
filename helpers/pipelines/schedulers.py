"""Schedulers as plain data: a class name and its configuration; and which schedulers a pipeline works with."""

from __future__ import annotations

import functools
import inspect
import json
import math
import reprlib
from typing import Any

from helpers.common.tensors import ordinary_tensors
from helpers.common.validation import did_you_mean

# Those that need no further package and no other kind of model, the best known first.
SCHEDULERS = (
    "DDIMScheduler", "PNDMScheduler", "UniPCMultistepScheduler", "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler", "DEISMultistepScheduler", "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler", "DDPMScheduler",
)  # fmt: skip
# Kandinsky's pipelines do not scale the model's input, and pass a generator to each step.
KANDINSKY = ("DDPMScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler")


def compatible_schedulers(pipe: Any) -> list[str]:
    """The scheduler classes that this pipeline works with, by name; its own is the first."""
    scheduler = pipe.components.get("scheduler")
    if scheduler is None:
        return []
    own = type(scheduler).__name__
    if type(pipe).__name__ == "StableDiffusionLatentUpscalePipeline":  # its model's timesteps are Euler's sigmas
        return [own]
    compatible = {kind.__name__ for kind in getattr(scheduler, "compatibles", [])}
    allowed = KANDINSKY if "Kandinsky" in type(pipe).__name__ else SCHEDULERS
    return [own, *(name for name in allowed if name in compatible and name != own)]


def describe_all(pipe: Any) -> dict[str, dict[str, Any]]:
    """The class and configuration of each of the pipeline's schedulers, by component name."""
    from diffusers.schedulers.scheduling_utils import SchedulerMixin

    found = {name: part for name, part in pipe.components.items() if isinstance(part, SchedulerMixin)}
    return {name: describe(part) for name, part in found.items()}


def describe(scheduler: Any) -> dict[str, Any]:
    """The class name and configuration, in JSON types; `build` makes an equal scheduler of them."""
    known, config = _defaults(type(scheduler)), json.loads(scheduler.to_json_string())
    return {"class": type(scheduler).__name__, "config": {key: config[key] for key in config if key in known}}


def settings(description: dict[str, Any]) -> dict[str, Any]:
    """The constructor arguments that make this scheduler: those that differ from its class's defaults.

    ValueError if diffusers has no such class, and if the description is not one that `describe` returns.
    """
    if not isinstance(description, dict) or not isinstance(config := description.get("config"), dict):
        raise ValueError(f"schedulers has {reprlib.repr(description)}: expected a class and its config")
    defaults = _defaults(class_named(description.get("class")))
    found = {key: value for key, value in config.items() if key in defaults and value != defaults[key]}
    for key, value in found.items():
        items = value if isinstance(value, list) else [value]
        if not all(item is None or isinstance(item, (bool, int, float, str)) for item in items):
            raise ValueError(f"schedulers: {key} of {description['class']} is not a number, text, or a list of these")
    return found


@ordinary_tensors
def build(description: dict[str, Any]) -> Any:
    """A new scheduler of that class and configuration; ValueError where diffusers cannot make it."""
    arguments = settings(description)
    try:
        return class_named(description["class"])(**arguments)
    except Exception as error:  # diffusers checks some values itself, by errors of many kinds
        raise ValueError(f"{description['class']} cannot be made with {arguments}: {error}") from error


def class_named(name: Any) -> Any:
    """diffusers' scheduler class of that name, or a ValueError that suggests the name that was probably meant."""
    import diffusers

    found = getattr(diffusers, name, None) if isinstance(name, str) and name.endswith("Scheduler") else None
    if found is None:
        known = [key for key in dir(diffusers) if key.endswith("Scheduler")]
        raise ValueError(
            f"scheduler={reprlib.repr(name)}: diffusers has no such scheduler. {did_you_mean(str(name), known)}"
        )
    return found


def check_steps(
    scheduler: Any,
    steps: int,
    *,
    strength: float = 1.0,
    start: float | None = None,
    end: float | None = None,
    name: str = "num_inference_steps",
) -> None:
    """ValueError where this scheduler cannot run that many steps: nothing is left to run, it fails, or ends in NaN.

    Found out by trying it on four latents, without a model: PNDM may need four steps, and near 1000 the solvers of
    higher order divide by zero, all depending on the configuration. strength, start, end: which part of the steps runs,
    as the pipelines count (start and end are SDXL's denoising_start and denoising_end).
    """
    if type(scheduler).__name__ not in (*SCHEDULERS, "UnCLIPScheduler"):
        return
    described = json.dumps(describe(scheduler), sort_keys=True)

    def problem_of(count: int) -> str | None:
        return _problem(described, count, max(count - int(count * strength), 0), start, end)

    problem = problem_of(steps)
    if problem is None:
        return
    others = range(steps + 1, 11) if steps < 10 else (steps - 1, steps - 2, steps * 9 // 10, steps // 2)
    works = next((other for other in others if problem_of(other) is None), None)
    remedy = f"Use {name}={works}, or another scheduler." if works else "Use another scheduler, or another part of it."
    shown = ", ".join(
        f"{key}={value}" for key, value in
        {"strength": strength, "denoising_start": start, "denoising_end": end}.items() if value not in (None, 1.0)
    )  # fmt: skip
    raise ValueError(f"{name}={steps}{shown and f' with {shown}'}: {type(scheduler).__name__} {problem}. {remedy}")


@functools.lru_cache(maxsize=512)
def _problem(described: str, steps: int, skipped: int, start: float | None, end: float | None) -> str | None:
    """What is wrong with so many steps of the scheduler so described, without the first; None where they run."""
    import torch

    with torch.no_grad():
        try:
            scheduler = build(json.loads(described))  # once: some take a quarter of a second
            scheduler.set_timesteps(steps)
            order = getattr(scheduler, "order", 1)
            times, trained = scheduler.timesteps.tolist(), scheduler.config.num_train_timesteps
            low = round(trained * (1 - end)) if end is not None else -math.inf
            high = round(trained * (1 - start)) if start is not None else math.inf
            left = [place for place in range(skipped * order, len(times)) if low <= times[place] < high]
            if not left:
                return "has no step left to run"
            if not _finite(scheduler, steps, left[0], left[-1] + 1):
                return "ends in NaN"
        except Exception as error:  # IndexError, ValueError, ZeroDivisionError: whatever the arithmetic trips over
            return f"fails ({': '.join([type(error).__name__, *str(error).splitlines()[:1]])[:100]})"
    return None


def _finite(scheduler: Any, steps: int, first: int, last: int) -> bool:
    """Whether the timesteps from `first` to before `last`, with noise for a model's output, give numbers."""
    import torch

    scheduler.set_timesteps(steps)
    noise = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 1, 1, generator=noise)
    times = scheduler.timesteps[first:last]
    if first:
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)
        latents = scheduler.add_noise(latents, latents.flip(1), times[:1])
    channels = 8 if str(scheduler.config.get("variance_type")).startswith("learned") else 4  # with the variance
    drawn = {"generator": noise} if "generator" in inspect.signature(scheduler.step).parameters else {}
    for time in times:
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(latents, time)
        output = torch.randn(1, channels, 1, 1, generator=noise)
        latents = scheduler.step(output, time, latents, **drawn).prev_sample
    return bool(latents.isfinite().all())


def _defaults(kind: type) -> dict[str, Any]:
    """The arguments of the class with their defaults, in JSON types."""
    parameters = inspect.signature(kind).parameters
    return {name: list(d) if isinstance(d := known.default, tuple) else d for name, known in parameters.items()}
