"""Schedulers as plain data: a class name and a configuration in JSON types, from which an equal one is built."""

from __future__ import annotations

import inspect
import math
from typing import Any

from helpers.common.validation import did_you_mean


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
