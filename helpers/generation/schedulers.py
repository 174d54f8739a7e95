"""Schedulers as plain data: a class name and a configuration in JSON types, from which an equal one is built."""

from __future__ import annotations

import inspect
import math
from typing import Any

from helpers.common.validation import did_you_mean

# Those that need no further package and no other kind of model, the best known first.
_FOR_OTHERS = (
    "DDIMScheduler", "PNDMScheduler", "UniPCMultistepScheduler", "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler", "DEISMultistepScheduler", "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler", "DDPMScheduler",
)  # fmt: skip
# Kandinsky's pipelines neither scale the model's input nor work without a generator for each step.
_FOR_KANDINSKY = ("DDPMScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler")


def describe_all(pipe: Any) -> dict[str, dict[str, Any]]:
    """The class and the configuration of each of the pipeline's schedulers, by component name."""
    from diffusers import SchedulerMixin

    found = {name: part for name, part in pipe.components.items() if isinstance(part, SchedulerMixin)}
    return {name: describe(part) for name, part in found.items()}


def describe(scheduler: Any) -> dict[str, Any]:
    """Class name and configuration; `build` makes an equal one of them."""
    known = inspect.signature(type(scheduler).__init__).parameters
    config = {key: _plain(value) for key, value in scheduler.config.items() if key in known}
    return {"class": type(scheduler).__name__, "config": config}


def configuration(description: dict[str, Any]) -> dict[str, Any]:
    """The configuration in a description, its infinities floats again."""
    return {key: _value(value) for key, value in description["config"].items()}


def build(description: dict[str, Any]) -> Any:
    """A new scheduler of that class and configuration; ValueError if diffusers has no such class."""
    kind = class_named(description["class"])
    known = inspect.signature(kind.__init__).parameters
    return kind(**{key: value for key, value in configuration(description).items() if key in known})


def class_named(name: str) -> Any:
    """diffusers' scheduler class of that name, or a ValueError that says which one was probably meant."""
    import diffusers

    known = [key for key in dir(diffusers) if key.endswith("Scheduler")]
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"scheduler={name!r}: diffusers has no such scheduler. {did_you_mean(str(name), known)}")
    return getattr(diffusers, name)


def compatible_schedulers(pipe: Any) -> list[str]:
    """The scheduler classes that this pipeline works with, by name; its own is the first."""
    scheduler = pipe.components.get("scheduler")
    if scheduler is None:
        return []
    own, kind = type(scheduler).__name__, type(pipe).__name__
    if kind == "StableDiffusionLatentUpscalePipeline":  # its model's timesteps are Euler's sigmas
        return [own]
    compatible = {found.__name__ for found in getattr(scheduler, "compatibles", [])}
    allowed = _FOR_KANDINSKY if "Kandinsky" in kind else _FOR_OTHERS
    return [own, *(name for name in allowed if name in compatible and name != own)]


def _plain(value: Any) -> Any:
    """JSON types for what schedulers keep in their configuration."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}  # JSON has no infinity, and DPM-Solver's clipping begins at minus infinity
    return value if isinstance(value, (bool, int, float, str, type(None), dict)) else str(value)


def _value(value: Any) -> Any:
    """The reverse of `_plain`."""
    if isinstance(value, list):
        return [_value(item) for item in value]
    return float(value["float"]) if isinstance(value, dict) and value.keys() == {"float"} else value
