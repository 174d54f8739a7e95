"""Tensors that are kept: made as ordinary ones, whatever mode the caller is in."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def ordinary_tensors(function: F) -> F:
    """Let a function make ordinary tensors, also where it is called inside `torch.inference_mode()`.

    For what loads models and schedulers, which outlive that block: parameters made in it are "inference tensors" for
    good, which cannot be trained, compiled or changed outside of it.
    """

    @functools.wraps(function)
    def ordinary(*args: Any, **kwargs: Any) -> Any:
        torch = sys.modules.get("torch")
        if torch is None or not torch.is_inference_mode_enabled():
            return function(*args, **kwargs)
        with torch.inference_mode(False):
            return function(*args, **kwargs)

    return ordinary  # pyright: ignore[reportReturnType]
