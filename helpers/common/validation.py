"""Checks of names, numbers, sizes and strengths that speak before a model runs.

Each function returns the checked value or raises `ValueError`/`TypeError` with the argument, the value and the remedy.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

from helpers.common.orientation import orientation

MAX_PIXELS = 64_000_000  # of an image that is read or made
MOST_STEPS = 1000  # of a call: as many timesteps as the models were trained on


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """End an error about an unknown `word`: the nearest known names, or all of them where none is near."""
    known = sorted(known)
    lowered = {name.lower(): name for name in known}
    near = [lowered[match] for match in difflib.get_close_matches(word.lower(), lowered, n=3, cutoff=0.6)]
    if near:
        return f"Did you mean {' or '.join(repr(name) for name in near)}?"
    return f"Known: {', '.join(known)}." if known else "None are known."


def whole(name: str, value: Any, *, least: int | None = None, most: int | None = None) -> int:
    """`value` as an int from `least` to `most`; NumPy's integers count, bool and float do not."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}={value!r}: expected a whole number{_between(least, most)}.")
    value = int(value)
    if (least is not None and value < least) or (most is not None and value > most):
        shown = value if value.bit_length() < 100 else f"<{value.bit_length()} bits>"  # Python writes no longer ones
        raise ValueError(f"{name}={shown}: expected a whole number{_between(least, most)}.")
    return value


def number(name: str, value: Any, *, low: float | None = None, high: float | None = None) -> float:
    """`value` as a float from `low` to `high`; NumPy's numbers count, bool, NaN and infinities do not."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r}: expected a number{_between(low, high)}.")
    try:
        value = float(value)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value) or (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(f"{name}={value:g}: expected a number{_between(low, high)}.")
    return value


def check_text(name: str, value: Any) -> str:
    """`value` if it is a text: TypeError for anything else, ValueError for half a character, which no file takes."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a text, got {type(value).__name__} {value!r:.60}.")
    if half := re.search("[\ud800-\udfff]", value):
        raise ValueError(
            f"{name}: {half[0]!r} at position {half.start() + 1} is half a character (a lone surrogate), left by "
            "something that cut a text apart; remove it."
        )
    return value


def _between(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {low} to {high}"
    return f", {low} or more" if low is not None else f", {high} at most" if high is not None else ""


def as_size(size: Any, *, name: str = "size") -> tuple[int, int]:
    """Read (width, height) in pixels from an int (a square), a pair, or a PIL image (once upright, by its EXIF tag)."""
    if hasattr(size, "size") and hasattr(size, "mode"):  # a PIL image
        return size.size[::-1] if orientation(size) > 4 else size.size
    pair = (size, size) if isinstance(size, Integral) else size
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(f"{name}={size!r}: expected one int, a (width, height) pair, or a PIL image.")
    if not all(isinstance(side, Integral) and not isinstance(side, bool) for side in pair):
        raise TypeError(f"{name}={size!r}: width and height are whole pixels; pass ints.")
    if min(pair) < 1:
        raise ValueError(f"{name}={size!r}: width and height must be at least 1 pixel.")
    return check_pixels(int(pair[0]), int(pair[1]), name=name)


def check_pixels(width: int, height: int, *, name: str = "size") -> tuple[int, int]:
    """Return (width, height) if such an image can be made: ValueError for more than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{name}={width} x {height} is {width * height / 1e6:,.0f} million pixels: at most "
            f"{MAX_PIXELS // 10**6} million are made. Ask for fewer."
        )
    return width, height


def check_size(size: Any, *, multiple: int = 8, name: str = "size") -> tuple[int, int]:
    """Return (width, height) if both are multiples of `multiple` pixels, else raise `ValueError`.

    The VAE turns 8 x 8 pixels into one latent, so Stable Diffusion needs multiples of 8; Kandinsky 2.2 needs 64.
    `size` is an int (a square), a (width, height) pair, or a PIL image.
    """
    width, height = as_size(size, name=name)
    if width % multiple or height % multiple:
        down = [max(multiple, side // multiple * multiple) for side in (width, height)]
        raise ValueError(
            f"{name}={width} x {height}: width and height must be multiples of {multiple}. "
            f"Use {down[0]} x {down[1]}, or let fit(image, multiple={multiple}) resize the image."
        )
    return width, height


def check_strength(strength: float, num_inference_steps: int) -> int:
    """Return how many steps really run: `int(strength * num_inference_steps)`; fewer than one raises `ValueError`.

    Strength is 0..1: how much of the noise schedule the image goes through. This is the pipelines' own arithmetic.
    """
    number("strength", strength, low=0, high=1)
    whole("num_inference_steps", num_inference_steps, least=1, most=MOST_STEPS)
    steps = int(num_inference_steps * strength)
    if steps < 1:
        enough = math.ceil(1 / max(strength, 1e-9))
        remedy = f"raise num_inference_steps to at least {enough}, or " if enough <= MOST_STEPS else ""
        raise ValueError(
            f"strength={strength} with num_inference_steps={num_inference_steps} leaves no step to run "
            f"(strength x steps = {strength * num_inference_steps:.2g} < 1): "
            f"{remedy}raise strength to at least {math.ceil(1000 / num_inference_steps) / 1000:g}."
        )
    return steps
