"""Schedulers as plain data: a class name and its configuration; and which schedulers a pipeline works with."""

from __future__ import annotations

import inspect
import json
import reprlib
from typing import Any

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

    known = [key for key in dir(diffusers) if key.endswith("Scheduler")]
    if not isinstance(name, str) or name not in known:
        raise ValueError(
            f"scheduler={reprlib.repr(name)}: diffusers has no such scheduler. {did_you_mean(str(name), known)}"
        )
    return getattr(diffusers, name)


def _defaults(kind: type) -> dict[str, Any]:
    """The arguments of the class with their defaults, in JSON types."""
    parameters = inspect.signature(kind).parameters
    return {name: list(d) if isinstance(d := known.default, tuple) else d for name, known in parameters.items()}
