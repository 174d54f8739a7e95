"""Explore a pipeline's parameters by hand: drafts while a slider moves, a history, the plain code of every picture."""

from __future__ import annotations

import base64
import io
import re
import tempfile
import time
from os import PathLike
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from PIL import Image

from helpers.generation import drafts
from helpers.generation.records import Record
from helpers.images.contact_sheet import show
from helpers.pipelines import latent_preview
from helpers.widgets.explorer.history import Entry
from helpers.widgets.explorer.session import Studio

STILL_WAIT = 8.0  # seconds that showing the widget waits for its first picture, which stays in the notebook as a still
UNSEEN = 0.4  # seconds: a younger draft shows no previews, which would flicker between the drafts
PACE = 0.04  # seconds between two previews


class Explorer(Studio, anywidget.AnyWidget):
    """A pipeline's parameters as controls; a picture follows every change, and each can be had again from plain code.

    pipe: a diffusers pipeline, such as load("sd15-inpaint").
    image: what `load_image` takes, with sides that are multiples of 8 (Kandinsky: 64); text-to-image takes none.
    mask: for inpainting, what `load_mask` takes, or a MaskPainter: then every stroke makes a new picture.
    control: with a ControlNet, what it looks at: "depth", "canny", "inpaint" (the picture with a hole where it is
        masked), or "given", what is passed as control_image. Text-to-image begins with `image` as it is.
    draft_steps: of the quick pictures while a slider moves; 0 makes none.
    folder: where `code` writes the pictures that its script opens.
    parameters: what the controls start with, under diffusers' names: negative_prompt, strength, guidance_scale,
        num_inference_steps (25), seed (0), scheduler (a class name), padding_mask_crop, controlnet_conditioning_scale,
        control_guidance_start and _end; blur_factor (pixels) and keep_unmasked, which `make` takes too. Any other
        argument of the pipeline's call is passed on as it is.

    record, image: the picture on the screen, a draft as well, and how it was made. parameters: as the controls stand.
    Wrong pipelines, pictures, masks and values raise TypeError or ValueError before any model runs.
    """

    _esm = Path(__file__).parents[1] / "explorer.js"
    _css = Path(__file__).parents[1] / "explorer.css"

    _controls = traitlets.List().tag(sync=True)
    _values = traitlets.Dict().tag(sync=True)
    _locked = traitlets.Bool(True).tag(sync=True)
    _state = traitlets.Dict().tag(sync=True)
    _picture = traitlets.Bytes(help="what is shown, a PNG").tag(sync=True)
    _before = traitlets.Bytes(help="the input picture, a PNG").tag(sync=True)
    _control_png = traitlets.Bytes(help="what the ControlNet looks at, a PNG").tag(sync=True)
    _pins = traitlets.Dict(help="the numbers of the pictures pinned as a and b").tag(sync=True)
    _a = traitlets.Bytes().tag(sync=True)
    _b = traitlets.Bytes().tag(sync=True)

    def __init__(
        self,
        pipe: Any,
        image: Any = None,
        mask: Any = None,
        *,
        prompt: str = "",
        draft_steps: int = drafts.STEPS,
        folder: str | PathLike = "outputs",
        layout: Any = None,
        **parameters: Any,
    ) -> None:
        self._folder, self._input = folder, None
        self._told = 0.0  # when the last preview was sent
        self._asleep = self._late = False
        self._prepare(pipe, image, mask, draft_steps=draft_steps, parameters={"prompt": prompt, **parameters})
        self._input = self._original
        super().__init__(
            _controls=[control.sent() for control in self._form.controls.values()],
            _values=self._first,
            _state={"phase": "idle", "draft": False, "quick": False, "text": "", "details": "", "shown": None},
            _before=_png(self._input),
            **({} if layout is None else {"layout": layout}),
        )
        self.on_msg(self._receive)
        self._go()

    def code(self) -> str:
        """The complete script of the picture on the screen, without helpers; its inputs are written to `folder`."""
        return self._shown().code(self._folder)

    def close(self) -> None:
        """Stop what runs, forget the history, and close the widget."""
        if self._painter is not None:
            self._painter.unobserve(self._painted, "mask_png")
            self._painter = None
        if self._runs is not None:  # None where the constructor refused its arguments
            self._runs.drop()
            self._history.clear()
        super().close()

    def __repr__(self) -> str:
        return f"Explorer({type(self._pipe).__name__}, {summary(self._form.arguments(self._values))})"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
        """Adds a still of the picture and its parameters, all that GitHub or a notebook without a kernel can show."""
        if self._record is None:
            self.wait(STILL_WAIT)
        data, metadata = super()._repr_mimebundle_(**kwargs)
        if (record := self._record) is not None:
            data["image/png"] = base64.b64encode(_png(show(record.image, titles=summary(record.parameters)))).decode()
        return data, metadata

    # ---- What the browser asks for

    def _receive(self, _: Any, content: dict[str, Any], buffers: list[Any]) -> None:
        """Callbacks of a widget run beside the cell that runs: they only ask, and never wait for a model."""
        asked = {
            "change": lambda: self._change(content["values"], moving=bool(content.get("moving"))),
            "lock": lambda: self._lock_seed(bool(content["on"])),
            "cancel": self.cancel,
            "recall": lambda: self._recall(content["number"]),
            "pin": lambda: self._pin(content["place"], content["number"]),
            "restore": lambda: self.restore(bytes(buffers[0])),
            "save": self._send_file,
            "code": lambda: self.send({"kind": "code", "text": self.code()}),
            "hello": self._send_history,
            "views": lambda: self._sleep(not content["count"]),
        }
        try:
            asked[content["kind"]]()
        except Exception as error:  # whatever it is, it belongs on the screen, not in a log
            text = str(error).replace("path=<", "picture=<")
            self.send({"kind": "refused", "asked": str(content.get("kind")), "text": text})

    def _lock_seed(self, on: bool) -> None:
        with self._lock:
            self._locked = on

    def _sleep(self, asleep: bool) -> None:
        """While no view is left, as after the cell ran again, nothing is made; the newest follows when one is back."""
        with self._lock:
            if asleep and self.cancel():
                self._late = True
            self._asleep, late = asleep, self._late
            if late and not asleep:
                self._late = False
                self._go()

    def _painted(self, change: Any) -> None:
        if self._asleep:
            self._late = True
        else:
            super()._painted(change)

    def _pin(self, place: str, number: int | None) -> None:
        if place not in ("a", "b"):
            raise ValueError(f"place={place!r}: expected 'a' or 'b'.")
        with self._lock, self.hold_sync():
            self._history.pin(place, number)
            entry = self._history.get(self._history.pins.get(place))
            setattr(self, f"_{place}", _png(entry.record.image) if entry else b"")
            self._pins = dict(self._history.pins)

    def _send_file(self) -> None:
        record = self._shown()
        with tempfile.TemporaryDirectory() as folder:
            data = record.save(Path(folder) / "picture.png").read_bytes()
        words = re.sub(r"[^a-z0-9]+", "-", str(record.parameters.get("prompt", "")).lower()).strip("-")[:40]
        self.send({"kind": "file", "name": f"{words or 'picture'}-{record.key()}.png"}, [data])

    def _send_history(self) -> None:
        entries = list(self._history)
        self.send({"kind": "history", "entries": [_listed(entry) for entry in entries]}, [e.thumb for e in entries])

    # ---- What the browser is told

    @property
    def _original(self) -> Image.Image | None:
        """The picture that was given."""
        return self._fixed.get("image", self._control and self._control.source)

    def _tell(self, **changes: Any) -> None:
        self._state = self._state | changes

    def _step(self, run: drafts.Run, latents: Any, inset: bool) -> None:
        now, job = time.monotonic(), run.job
        last = job.steps is not None and job.step >= job.steps
        if (now - self._told < PACE and not last) or (run.draft and now - run.since < UNSEEN):
            return
        self._told = now
        seen = None if latents is None else latent_preview.step(self._pipe, latents)
        content = {"kind": "step", "step": job.step, "steps": job.steps, "inset": inset}
        self.send(content, [] if seen is None else [_png(seen)])

    def _put(self, record: Record, entry: Entry | None, new: bool) -> None:
        if new:
            self.send({"kind": "add", "entry": _listed(entry)}, [entry.thumb])
        with self.hold_sync():
            self._picture = _png(record.image)
            if self._original is not self._input:
                self._input = self._original
                self._before = _png(self._input)

    def _steer(self, picture: Image.Image | None) -> None:
        self._control_png = _png(picture)

    def _gone(self, numbers: list[int]) -> None:
        self.send({"kind": "gone", "numbers": numbers})


def summary(parameters: dict[str, Any]) -> str:
    """The parameters that people look at, in one line."""
    shown = []
    for name, value in parameters.items():
        if name in ("image", "mask_image", "control_image", "height", "width") or hasattr(value, "shape"):
            continue
        shown.append(
            f"{name}={value if not isinstance(value, float) else f'{value:g}'}" if name != "prompt" else repr(value)
        )
    return ", ".join(shown)


def _listed(entry: Entry) -> dict[str, Any]:
    return {"number": entry.number, "text": summary(entry.record.parameters)}


def _png(picture: Image.Image | None) -> bytes:
    if picture is None:
        return b""
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=3)
    return file.getvalue()
