"""What a Studio has to say: hooks that a widget fills in, and errors in words."""

from __future__ import annotations

from typing import Any

from PIL import Image

from helpers.generation import drafts
from helpers.generation.records import Record
from helpers.widgets.explorer.history import Entry


class Screen:
    """Silent, until a widget overrides these. All but `_gone` are called with the Studio's lock held."""

    def _tell(self, **changes: Any) -> None:
        """What goes on: phase, quick, draft, text, details, shown."""

    def _step(self, run: drafts.Run, latents: Any, inset: bool) -> None:
        """A step was run; inset: a draft of the same picture is on the screen."""

    def _put(self, record: Record, entry: Entry | None, new: bool) -> None:
        """A picture is ready; entry: its place in the history, and whether it is new there."""

    def _steer(self, picture: Image.Image | None) -> None:
        """The control picture of what is made now, "RGBA", transparent where it is masked."""

    def _gone(self, numbers: list[int]) -> None:
        """Entries left the history."""


def cause(error: BaseException) -> str:
    """An error and what it came from, in one line each."""
    lines = [f"{type(error).__name__}: {error}"]
    while (error := error.__cause__ or (None if error.__suppress_context__ else error.__context__)) is not None:
        lines.append(f"from {type(error).__name__}: {error}")
    return "\n".join(lines)
