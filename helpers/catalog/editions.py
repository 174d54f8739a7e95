"""The two editions: mini (the miniatures that ship with the course) and full (the checkpoints of the Hub)."""

from __future__ import annotations

import os

EDITIONS = ("mini", "full")

_chosen: str | None = None


def edition() -> str:
    """The edition in use: what `use()` chose, else the environment's COURSE_EDITION, else "mini".

    Raises ValueError when COURSE_EDITION is neither "mini" nor "full".
    """
    if _chosen is not None:
        return _chosen
    value = os.environ.get("COURSE_EDITION") or "mini"
    if value not in EDITIONS:
        raise ValueError(f"COURSE_EDITION is {value!r}; expected 'mini' or 'full'. Change it or unset it.")
    return value


def choose(name: str | None) -> None:
    """Make "mini" or "full" the edition in use; None goes back to the environment's. `use()` checks what is loaded."""
    global _chosen
    if name is not None and name not in EDITIONS:
        raise ValueError(f"edition is {name!r}; expected 'mini' or 'full'.")
    _chosen = name
