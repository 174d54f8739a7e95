"""What the widgets that show a pipeline's images have in common: a session, and the widget that shows its image."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import traitlets
from PIL import Image

from helpers.common.png import png_bytes
from helpers.generation.drafts import RenderQueue
from helpers.generation.job_queue import Job
from helpers.generation.oom import describe_changes
from helpers.generation.records import Record
from helpers.images.contact_sheet import show
from helpers.widgets.still import StillWidget

STILL_WAIT = 8.0  # seconds that showing a widget waits for its first image, which stays in the notebook as a still


class RenderSession:
    """Calls become images, one after the other, and whoever shows them is told.

    on_change(): called with `lock` held after `state` or `record` changed, in the worker thread as well.
    on_step(job, latents): called in the worker thread after each step of the newest job.

    record: the image that is shown, None before the first. state: phase, "idle", "running", "done", "failed",
    "invalid" (the values make no call) or "cancelled"; kind: of the image that is shown, as that of its Job; making: of
    the one that is under way; text, details: of an error; shown: the image's number in a history.
    """

    def __init__(
        self,
        pipe: Any,
        *,
        on_change: Callable[[], Any],
        on_step: Callable[[Job, Any], Any] = lambda job, latents: None,
    ) -> None:
        self.pipe, self.lock = pipe, threading.RLock()
        self.record: Record | None = None
        self.state: dict[str, Any] = {"phase": "idle", "kind": "full", "making": ""}
        self.state |= {"text": "", "details": "", "shown": None}
        self.queue = RenderQueue(pipe, lock=self.lock, on_step=on_step, on_end=self._ended)
        self._on_change = on_change

    def render(self, call: dict[str, Any], *, interactive: bool = False, **others: Any) -> None:
        """Make the image of this call, a draft of it while `interactive`; `others` as for `RenderQueue.start`."""
        with self.lock:
            self.queue.start(call, interactive=interactive, **others)
            self.tell(phase="running", making=_kind(self.queue.current), text="", details="")

    def refuse(self, error: Exception, *, phase: str = "invalid") -> None:
        """Say why there will be no image of the present values."""
        with self.lock:
            self.queue.drop()
            self.tell(phase=phase, text=str(error), details="")

    def tell(self, **changes: Any) -> None:
        """Change the state, and call `on_change`."""
        self.state = self.state | changes
        self._on_change()

    def shown(self) -> Record:
        """The record that is shown; ValueError before the first."""
        if self.record is None:
            raise ValueError("there is no image yet: wait() for the first.")
        return self.record

    def close(self) -> None:
        """Stop what runs; nothing more is told."""
        self.queue.drop()

    def finished(self, job: Job) -> dict[str, Any]:
        """Take the image of a job that is done; returns what changed in the state."""
        self.record = job.record
        return {"kind": job.kind}

    def _ended(self, job: Job) -> None:
        current = self.queue.current
        changes: dict[str, Any] = {"text": "", "details": job.traceback, "making": _kind(current)}
        changes["phase"] = "running" if current else {"done": "done", "failed": "failed"}.get(job.state, "cancelled")
        if job.error is not None:
            changes["text"] = describe_error(job.error)
        elif job.state == "done":
            try:
                changes |= {"text": describe_changes(job.changes) if job.changes else ""} | self.finished(job)
            except Exception as error:  # or it would be "running" for ever
                changes |= {"phase": "failed", "text": describe_error(error)}
        self.tell(**changes)


def _kind(job: Job | None) -> str:
    return "" if job is None else job.kind


class RenderWidget(StillWidget):
    """Shows the image of a session, and leaves a still of it in the notebook."""

    _state = traitlets.Dict().tag(sync=True)
    _picture = traitlets.Bytes(help="what is shown, a PNG").tag(sync=True)

    _session: RenderSession  # absent where the constructor refused its arguments

    def __init__(self, session: RenderSession, layout: Any, **state: Any) -> None:
        self._session = session
        self._sent: dict[str, Any] = {}  # the image of each trait that holds a PNG
        super().__init__(layout, _state=session.state, **state)
        self.on_msg(self._receive)

    @property
    def record(self) -> Record | None:
        """The image on the screen with all that made it; None before the first."""
        return self._session.record

    @property
    def image(self) -> Image.Image | None:
        """The image on the screen."""
        record = self.record
        return None if record is None or record.image is None else record.image.copy()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is running; False if `timeout` seconds were not enough."""
        return self._session.queue.wait(timeout)

    def cancel(self) -> bool:
        """Stop the running image at its next step; False if there was none."""
        return self._session.queue.cancel()

    def close(self) -> None:
        """Stop what runs, and close the widget."""
        if hasattr(self, "_session"):
            self._session.close()
        super().close()

    def _follow(self) -> None:
        """Show what the session says; with its lock held."""
        self._show_image("_picture", None if self.record is None else self.record.image)
        self._state = self._session.state

    def _show_image(self, trait: str, image: Any) -> None:
        if image is not self._sent.get(trait):
            self._sent[trait] = image
            setattr(self, trait, b"" if image is None else png_bytes(image, quick=True))

    def _receive(self, _: Any, content: dict[str, Any], buffers: list[Any]) -> None:
        """What the browser asks for; beside the cell that runs, so nothing here waits for a model."""
        raise NotImplementedError

    def _caption(self) -> str:
        raise NotImplementedError

    def _still(self) -> Image.Image | None:
        if self.record is None:
            self.wait(STILL_WAIT)
        return None if self.image is None else show(self.image, titles=self._caption())


def describe_error(error: BaseException) -> str:
    """An error and what it came from, a line each."""
    lines, at = [], error
    while at is not None:
        lines.append(f"{'from ' * bool(lines)}{type(at).__name__}: {at}")
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return "\n".join(lines)
