"""Explore a pipeline's parameters by hand: quick images while a slider moves, a history, the code of every image."""

from __future__ import annotations

import re
import tempfile
import time
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

import traitlets
from ipywidgets import widget_serialization

from helpers.common.png import png_bytes
from helpers.generation.job_queue import Job
from helpers.generation.png_record import Buffer
from helpers.generation.records import Record
from helpers.pipelines import latent_preview
from helpers.widgets.assets import css, esm
from helpers.widgets.explorer.controls import ControlSet
from helpers.widgets.explorer.history import thumb
from helpers.widgets.explorer.session import ExplorerSession
from helpers.widgets.mask_painter import MaskPainter
from helpers.widgets.rendering import RenderWidget

UNSEEN = 0.4  # seconds: a younger draft shows no previews, which would flicker between the drafts
JAVASCRIPT_EXACT = 2**53 - 1  # the largest whole number up to which it holds all
PACE = 0.04  # seconds between two previews


class Explorer(RenderWidget):
    """A pipeline's parameters as controls; an image follows every change, and plain code makes each again.

    pipe: a diffusers pipeline, such as load("sd15-inpaint").
    image: what `load_image` takes, with sides that are multiples of 8 (Kandinsky: 64); text-to-image takes none.
    mask: for inpainting, what `load_mask` takes, or a MaskPainter. It is painted on the image itself, which follows
        the brush; each stroke makes a new one. "Accept" makes the result the image that one paints on next.
    control: with a ControlNet, what it looks at: "depth", "canny", "inpaint" (the image with a hole where it is
        masked), or "given", what is passed as control_image. Text-to-image begins with `image` as it is.
    live: while a value is changed or the mask drawn, make finished images of four steps with the few-step LoRA,
        CATALOG["lcm"], instead of drafts; by itself where the pipeline has one. A value that such images do not follow
        (guidance, the negative prompt, steps, scheduler) is seen in drafts. True raises ValueError, with the reason,
        where there is none.
    folder: where `code` writes the images that its script opens.
    parameters: what the controls start with, under diffusers' names: negative_prompt, strength, guidance_scale,
        num_inference_steps (25), seed (0), scheduler (a class name), padding_mask_crop, controlnet_conditioning_scale,
        control_guidance_start and _end; blur_factor (pixels) and keep_unmasked, which `make` takes too. Any other
        argument of the pipeline's call is passed on as it is.

    record, image: the image on the screen, a draft or a live image as well, and how it was made. parameters: as the
    controls stand.
    Wrong pipelines, images, masks and values raise TypeError or ValueError before any model runs.
    """

    _esm = esm("explorer")
    _css = css("mask_painter", "explorer")

    _controls = traitlets.List().tag(sync=True)
    _values = traitlets.Dict().tag(sync=True)
    _notes = traitlets.Dict(help="what is not read of each text, in words").tag(sync=True)
    _live = traitlets.Bool(None, allow_none=True, help="None: no live images here").tag(sync=True)
    _locked = traitlets.Bool(True).tag(sync=True)
    _before = traitlets.Bytes(help="the input image, a PNG").tag(sync=True)
    _control_png = traitlets.Bytes(help="what the ControlNet looks at, a PNG").tag(sync=True)
    _history = traitlets.List(help="oldest first: number, text, and thumb, a JPEG").tag(sync=True)
    _pins = traitlets.Dict(help="the numbers of the images pinned as a and b").tag(sync=True)
    _painter = traitlets.Instance(MaskPainter, allow_none=True).tag(sync=True, **widget_serialization)
    _steps = traitlets.List(help="the first input and the accepted images: text, and thumb, a JPEG").tag(sync=True)
    _at = traitlets.Int(help="the place among them of the present input").tag(sync=True)
    _a = traitlets.Bytes().tag(sync=True)
    _b = traitlets.Bytes().tag(sync=True)

    _session: ExplorerSession

    def __init__(
        self,
        pipe: Any,
        image: Any = None,
        mask: Any = None,
        *,
        prompt: str = "",
        live: bool | None = None,
        folder: str | PathLike = "outputs",
        layout: Any = None,
        **parameters: Any,
    ) -> None:
        session = ExplorerSession(
            pipe, image, mask, {"prompt": prompt, **parameters}, live=live, on_change=self._follow, on_step=self._step
        )
        self._folder = folder
        self._told = 0.0  # when the last preview was sent
        super().__init__(
            session, layout, _controls=_for_page(session.controls), _values=_exact(session.values),
            _notes=session.notes, _painter=session.painter, _live=session.live,
        )  # fmt: skip
        session.go()

    @property
    def parameters(self) -> dict[str, Any]:
        """The call's arguments as the controls stand, "seed" in place of a generator: `make(pipe, **parameters)`."""
        return self._session.arguments

    @property
    def records(self) -> list[Record]:
        """The history, oldest first."""
        return [entry.record for entry in self._session.history.values()]

    @property
    def steps(self) -> list[Record]:
        """The accepted images that led to the present input, oldest first: each was painted on the one before it."""
        return list(self._session.chain)

    def accept(self) -> None:
        """Make the image on the screen the input of the next ones, as the button does; the mask is then empty.

        ValueError for a draft, for an image that is the input already, and where the pipeline starts from no image.
        """
        self._session.accept()

    def back(self, step: int) -> None:
        """Go back to an accepted image as the input, 1 for the first, or to what was given, 0."""
        self._session.back(step)

    def set(self, **values: Any) -> None:
        """Change controls from Python; the image follows. ValueError or TypeError leave everything as it was."""
        self._session.change(values, strict=True)

    def save(self, path: str | PathLike) -> Path:
        """Save the image on the screen as PNG with everything that made it: `restore` takes it back."""
        return self._session.shown().save(path)

    def restore(self, what: Record | str | PathLike | Buffer) -> None:
        """Bring back a record, or a PNG that holds one: its image, and every control as it was.

        ValueError, and everything stays as it is, for another kind of file and for another pipeline's image.
        """
        self._session.restore(what)

    def code(self) -> str:
        """The complete script of the image on the screen, without helpers, the accepted images before it included.

        Its inputs are written to `folder`.
        """
        return self._session.shown().code(self._folder, earlier=self._session.behind)

    def __repr__(self) -> str:
        session = self._session
        return f"Explorer({session.controls.pipeline}, {summary(session.controls.arguments(session.values))})"

    def _caption(self) -> str:
        return summary(self._session.shown().parameters)

    def _receive(self, _: Any, content: dict[str, Any], buffers: list[Any]) -> None:
        session = self._session
        asked = {
            "change": lambda: session.change(_whole_seed(content["values"]), interactive=bool(content.get("moving"))),
            "live": lambda: session.set_live(bool(content["on"])),
            "draw": lambda: self._draw(buffers),
            "lock": lambda: session.lock_seed(bool(content["on"])),
            "cancel": self.cancel,
            "recall": lambda: session.recall(content["number"]),
            "accept": session.accept,
            "back": lambda: session.back(content["step"]),
            "pin": lambda: session.pin(content["place"], content["number"]),
            "restore": lambda: session.restore(bytes(buffers[0])),
            "save": self._send_file,
            "code": lambda: self.send({"kind": "code", "text": self.code()}),
            "views": lambda: session.look(content["count"] > 0),
        }
        try:
            asked[content["kind"]]()
        except Exception as error:  # whatever it is, it belongs on the screen, not in a log
            text = str(error).replace("path=<", "image=<")
            self.send({"kind": "refused", "asked": str(content.get("kind")), "text": text})

    def _draw(self, buffers: list[Any]) -> None:
        self._session.draw(bytes(buffers[0]) if buffers else None)
        self.send({"kind": "drawn"})  # now the page sends the next mask, so that no more of them wait than one

    def _send_file(self) -> None:
        record = self._session.shown()
        with tempfile.TemporaryDirectory() as folder:
            data = record.save(Path(folder) / "image.png").read_bytes()
        prompt = re.sub(r"[^a-z0-9]+", "-", str(record.parameters.get("prompt", "")).lower()).strip("-")[:40]
        self.send({"kind": "file", "name": f"{prompt or 'image'}-{record.key()}.png"}, [data])

    def _step(self, job: Job, latents: Any) -> None:
        now, last = time.monotonic(), job.steps is not None and job.step >= job.steps
        if (now - self._told < PACE and not last) or (job.kind != "full" and now - job.submitted < UNSEEN):
            return
        self._told = now
        preview = None if latents is None else latent_preview.step(self._session.pipe, latents)
        content = {"kind": "step", "step": job.step, "steps": job.steps, "before": job.before}
        content["inset"] = self._session.is_drafted(job)
        self.send(content, [] if preview is None else [png_bytes(preview, quick=True)])

    def _follow(self) -> None:
        session, history = self._session, self._session.history
        pinned = {place: history[number].record.image for place, number in history.pins.items()}
        with self.hold_sync():
            self._show_image("_before", session.original)
            self._show_image("_control_png", session.control_shown)
            self._show_image("_a", pinned.get("a"))
            self._show_image("_b", pinned.get("b"))
            self._history = [
                {"number": number, "text": summary(entry.record.parameters), "thumb": entry.thumb}
                for number, entry in history.items()
            ]
            self._steps, self._at, self._painter = _thumbs(session.steps), session.at, session.painter
            self._pins, self._locked, self._values = dict(history.pins), session.locked, _exact(session.values)
            self._controls, self._notes, self._live = _for_page(session.controls), session.notes, session.live
            super()._follow()


def _thumbs(steps: tuple[Record, ...]) -> list[dict[str, Any]]:
    """The first input and the accepted images for the page; none before the first is accepted."""
    if not steps:
        return []
    given = {"text": "The image that was given", "thumb": thumb(steps[0].parameters["image"])}
    made = [(record.image, summary(record.parameters)) for record in steps]
    return [given, *({"text": text, "thumb": thumb(image)} for image, text in made if image is not None)]


def _for_page(controls: ControlSet) -> list[dict[str, Any]]:
    """The controls; the page knows of no greatest seed, whose digits it would lose."""
    shown = [asdict(control) for control in controls.controls.values()]
    return [control | {"most": None} if control["kind"] == "seed" else control for control in shown]


def _exact(values: dict[str, Any]) -> dict[str, Any]:
    """The controls' values for the page; a seed that JavaScript's numbers do not hold goes as text."""
    seed = values.get("seed", 0)
    return values if seed <= JAVASCRIPT_EXACT else values | {"seed": str(seed)}


def _whole_seed(values: dict[str, Any]) -> dict[str, Any]:
    """What the page sends, with a seed that came as text as a number."""
    seed = values.get("seed")
    return values | {"seed": int(seed)} if isinstance(seed, str) and re.fullmatch("[0-9]{1,30}", seed) else values


def summary(parameters: dict[str, Any]) -> str:
    """The parameters that people look at, in one line."""
    shown = []
    for name, value in parameters.items():
        if name in ("image", "mask_image", "control_image", "height", "width") or hasattr(value, "shape"):
            continue
        text = f"{value:g}" if isinstance(value, float) else str(value)
        shown.append(repr(value) if name == "prompt" else f"{name}={text}")
    return ", ".join(shown)
