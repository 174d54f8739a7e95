"""The work behind an Explorer, apart from the screen: values become calls, calls become pictures with a history."""

from __future__ import annotations

import secrets
import threading
from os import PathLike
from pathlib import Path
from typing import Any

from PIL import Image

from helpers.common.validation import check_strength
from helpers.generation import calls, drafts, png_record, provenance
from helpers.generation.oom import said
from helpers.generation.records import Record, loaded
from helpers.images.digest import digest_of
from helpers.images.masks import share
from helpers.widgets.explorer.control_image import ControlPicture
from helpers.widgets.explorer.controls import Form
from helpers.widgets.explorer.history import History
from helpers.widgets.explorer.inputs import pictures, task
from helpers.widgets.explorer.screen import Screen, cause
from helpers.widgets.mask_painter import MaskPainter


class Studio(Screen):
    """What `Explorer` can do from Python; a subclass puts it on a screen."""

    _runs: drafts.Runs | None = None
    _painter: MaskPainter | None = None
    _control: ControlPicture | None = None
    _values: dict[str, Any]  # of the controls
    _locked = True  # whether a change keeps the seed

    def _prepare(self, pipe: Any, image: Any, mask: Any, *, draft_steps: int, parameters: dict[str, Any]) -> None:
        """Check everything that was given, and be ready for the first `_go`."""
        task(pipe)
        if isinstance(draft_steps, bool) or not isinstance(draft_steps, int) or draft_steps < 0:
            raise ValueError(f"draft_steps={draft_steps!r}: expected a whole number, 0 or more.")
        if twice := {"image", "mask_image"} & parameters.keys():
            raise TypeError(f"{min(twice)}: pass it by position, Explorer(pipe, image, mask).")
        fixed = pictures(pipe, image, mask)
        side = max(fixed["image"].size) if "image" in fixed else 512
        self._control = ControlPicture.of(pipe, fixed, parameters)
        self._form = Form(pipe, side=side, control_picture=self._control)
        given = {name: value for name, value in parameters.items() if name in self._form.controls}
        others = {name: value for name, value in parameters.items() if name not in given}
        self._fixed = fixed | calls.check(pipe, others)
        self._pipe = pipe
        self._first = self._form.defaults | self._form.check(given)
        if isinstance(mask, MaskPainter):
            self._painter = mask
        else:
            self._call(self._first)
        self._record: Record | None = None
        self._drawn: dict[str, Any] | None = None  # the values whose draft is on the screen
        self._spent = False  # whether the seed has made its full picture
        self._lock = threading.RLock()
        self._runs = drafts.Runs(pipe, on_step=self._stepped, on_end=self._ended, lock=self._lock, steps=draft_steps)
        self._history = History(self._gone)
        if self._painter is not None:
            self._painter.observe(self._painted, "mask_png")

    @property
    def record(self) -> Record | None:
        """The picture on the screen, with all that made it; None before the first."""
        return self._record

    @property
    def image(self) -> Image.Image | None:
        """The picture on the screen."""
        return None if self._record is None else self._record.image.copy()

    @property
    def parameters(self) -> dict[str, Any]:
        """The call's arguments as the controls stand, "seed" in place of a generator: `make(pipe, **parameters)`."""
        with self._lock:
            return self._arguments(self._values)

    @property
    def records(self) -> list[Record]:
        """The history, oldest first."""
        return [entry.record for entry in self._history]

    def set(self, **values: Any) -> None:
        """Change controls from Python; the picture follows. ValueError or TypeError leave everything as it was."""
        self._change(values, strict=True)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is running; False when `timeout` seconds were not enough."""
        return self._runs.wait(timeout)

    def cancel(self) -> bool:
        """Stop the running picture at its next step; False if there was none."""
        return self._runs.cancel()

    def save(self, path: str | PathLike) -> Path:
        """Save the picture on the screen as PNG with everything that made it: `restore` takes it back."""
        return self._shown().save(path)

    def restore(self, what: Record | str | PathLike | bytes) -> None:
        """Bring back a record, or a PNG that holds one: its picture, and every control as it was.

        ValueError, and everything stays as it is, for another kind of file and for another pipeline's picture.
        """
        record, edited = (what, False) if isinstance(what, Record) else loaded(what)
        notes = ["The picture was edited after it was recorded."] if edited else []
        with self._lock:
            self._adopt(record)
            if different := provenance.differences(record.origin, provenance.describe(self._pipe)):
                notes.append(f"Shown as it was saved; made again here it may differ: {'; '.join(different)}.")
            self._show(record, keep=True, text=" ".join(notes))

    # ---- Values become calls

    def _change(self, values: dict[str, Any], *, moving: bool = False, strict: bool = False) -> None:
        """New values; strict: what cannot be called raises, and changes nothing."""
        with self._lock:
            checked = self._form.check(values)
            if self._spent and not self._locked and "seed" in self._form.controls and "seed" not in checked:
                checked["seed"] = secrets.randbelow(2**32)
            new = self._values | checked
            if strict:
                self._call(new)
            self._values = new
            if "control" in checked:  # making another kind may take seconds
                self._tell(phase="running", quick=False, text="", details="")
            self._go(moving=moving)

    def _go(self, *, moving: bool = False) -> None:
        """Make the picture of the present values, or say why that cannot be."""
        with self._lock:
            try:
                call = self._call(self._values)
                if self._control is not None:
                    self._steer(self._control.shown(call))
                self._runs.start(call, moving=moving)
            except (TypeError, ValueError, RuntimeError, OSError) as error:
                self._runs.drop()
                self._tell(phase="invalid", text=str(error), details="")
                return
            self._spent = not moving
            if self._runs.now is not None:
                self._tell(phase="running", quick=self._runs.now.draft, text="", details="")

    def _arguments(self, values: dict[str, Any]) -> dict[str, Any]:
        call = self._form.arguments(values) | self._fixed
        if self._painter is not None:
            call["mask_image"] = self._painter.mask
        return call if self._control is None else call | self._control.arguments(values["control"], call)

    def _call(self, values: dict[str, Any]) -> dict[str, Any]:
        """The arguments, checked together: ValueError where these pictures and values cannot make one."""
        call = self._arguments(values)
        if "strength" in call:
            check_strength(call["strength"], call["num_inference_steps"])
        if self._painter is not None and not share(call["mask_image"]):
            raise ValueError("Nothing is painted yet: paint white what should be made anew.")
        if self._control is not None:
            self._control.check(call)
        return call

    def _painted(self, _: Any) -> None:
        if self._painter is not None:
            self._go()

    # ---- Calls become pictures: in the worker thread

    def _stepped(self, run: drafts.Run, latents: Any) -> None:
        self._step(run, latents, self._drawn == self._values)

    def _ended(self, run: drafts.Run) -> None:
        job = run.job
        if job.state == "done":
            try:
                text = said(job.changes) if job.changes else ""
                self._show(job.record, draft=run.draft, keep=not run.moving, text=text)
            except Exception as error:  # or it would say "running" for ever
                self._tell(phase="failed", text=cause(error), details="")
            return
        phase = "running" if self._runs.now else "failed" if job.error else "cancelled"
        text = "" if job.error is None else cause(job.error)
        self._tell(phase=phase, text=text, details=job.traceback)

    def _show(self, record: Record, *, draft: bool = False, keep: bool = False, text: str = "") -> None:
        entry, new = self._history.add(record) if keep else (None, False)
        self._record = record
        self._drawn = dict(self._values) if draft and self._runs.now is None else None
        self._put(record, entry, new)
        now, shown = self._runs.now, entry.number if entry else None
        phase, quick = "running" if now else "done", now is not None and now.draft
        self._tell(phase=phase, quick=quick, text=text, details="", draft=draft, shown=shown)

    def _recall(self, number: int) -> None:
        """Bring a picture of the history back, with its controls."""
        with self._lock:
            if (entry := self._history.get(number)) is not None:
                self._adopt(entry.record)
                self._show(entry.record, keep=True)

    def _adopt(self, record: Record) -> None:
        """Set the controls and inputs to a record's; ValueError, before anything changes, if they do not fit."""
        kind = type(self._pipe).__name__
        if record.image is None:
            raise ValueError(f"this record has no picture: {record.error}")
        if record.origin.get("pipeline") != kind:
            raise ValueError(f"this picture was made by {record.origin.get('pipeline')}; this Explorer has a {kind}.")
        values = self._form.values(record.parameters)
        used = record.origin.get("schedulers", {}).get("scheduler", {}).get("class")
        if used and "scheduler" in values:
            values |= self._form.check({"scheduler": used})
        fixed = {name: self._present(name, value) for name, value in record.parameters.items() if name not in values}
        call = calls.check(self._pipe, fixed)
        if self._control is not None:
            values["control"] = self._control.recognise(call, (self._values["control"], self._control.first))
            fixed.pop(self._control.argument, None)
        if self._painter is not None:
            mask = fixed.pop("mask_image")
            if mask.size != self._painter.image.size or fixed["image"].size != mask.size:
                raise ValueError("this picture has another size than the MaskPainter of this Explorer.")
            self._painter.unobserve(self._painted, "mask_png")
            self._painter.mask = mask
            self._painter.observe(self._painted, "mask_png")
        self._runs.drop()
        self._values, self._fixed, self._spent = values, fixed, True
        if self._control is not None:
            self._control.take(values["control"], call)
            self._steer(self._control.shown(call))

    def _present(self, name: str, value: Any) -> Any:
        """An input of a record; one that its file only names is taken from here, if it is the same."""
        if not isinstance(value, png_record.Absent):
            return value
        here = self._arguments(self._values).get(name)
        if here is None or digest_of(here) != value.digest:
            raise ValueError(f"the file was saved without its inputs, and {name} is not the one that is here.")
        return here

    def _shown(self) -> Record:
        if self._record is None:
            raise ValueError("there is no picture yet: wait() for the first.")
        return self._record
