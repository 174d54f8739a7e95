"""The work behind an Explorer: values become calls, calls become images, and a history keeps them."""

from __future__ import annotations

import contextlib
import secrets
from os import PathLike
from typing import Any

from PIL import Image

from helpers.common.validation import whole
from helpers.generation import calls, job_queue, provenance
from helpers.generation.job_queue import Job
from helpers.generation.png_record import Buffer
from helpers.generation.records import Record, loaded
from helpers.images.masks import by, share
from helpers.pipelines import few_steps
from helpers.pipelines.prompt_reading import Reading
from helpers.widgets.explorer.control_image import ControlImage
from helpers.widgets.explorer.controls import ControlSet
from helpers.widgets.explorer.history import History
from helpers.widgets.explorer.inputs import input_images, task
from helpers.widgets.mask_painter import MaskPainter, unpacked
from helpers.widgets.rendering import RenderSession

# Controls that a live image does not follow: it is guided without guidance, in four steps. They are seen in drafts.
UNSEEN_LIVE = {"guidance_scale", "negative_prompt", "num_inference_steps", "scheduler"}


class ExplorerSession(RenderSession):
    """What an Explorer does, apart from the screen; the arguments are the Explorer's, `others` those of RenderSession.

    values: of the controls. live: whether live images are made while a value is changed, None where none can be.
    locked: whether a change keeps the seed. control_shown: what the ControlNet looks at, with alpha. painter: what the
    mask is painted with, None where there is no mask. steps: the accepted images, each painted on the one before it;
    `at` of them led to the present input image. behind: those that led to the image shown.
    Wrong pipelines, images, masks and values raise TypeError or ValueError.
    """

    def __init__(
        self, pipe: Any, image: Any, mask: Any, parameters: dict[str, Any], *, live: bool | None = None, **others: Any
    ) -> None:
        task(pipe)
        lacking = few_steps.lacking(pipe) if live is not False else ""
        if live and lacking:
            raise ValueError(f"live=True: {lacking}. Without live images: leave live out.")
        super().__init__(pipe, **others)
        if twice := {"image", "mask_image"} & parameters.keys():
            raise TypeError(f"{min(twice)}: pass it by position, Explorer(pipe, image, mask).")
        fixed = input_images(pipe, image, mask)
        side = max(fixed["image"].size) if "image" in fixed else 512
        parameters = dict(parameters)
        self._control = ControlImage.of(pipe, fixed, parameters)
        self.controls = ControlSet(pipe, side=side, control_image=self._control)
        given = {name: parameters.pop(name) for name in [*parameters] if name in self.controls.controls}
        self._fixed = fixed | calls.check(pipe, parameters)
        self.values = self.controls.defaults | self.controls.check(given)
        self._reading, self._notes = Reading(pipe), {}
        self.locked = True
        self.live = None if lacking or live is False else True
        self.control_shown: Image.Image | None = None
        self.history = History()
        self._drafted: dict[str, Any] | None = None  # the values whose draft is shown
        self._spent = False  # whether the seed has made its full image
        self._visible, self._late, self._restoring = True, False, False
        self.steps: tuple[Record, ...] = ()
        self.at = 0
        self.behind: tuple[Record, ...] = ()
        self.painter = mask if isinstance(mask, MaskPainter) else None
        self._own_painter = self.painter is None and "mask_image" in self._fixed
        if self.painter is None:
            self._call(self.values)
        if self._own_painter:
            self.painter = MaskPainter(self._fixed["image"], self._fixed["mask_image"])
        if self.painter is not None:
            self.painter.observe(self._painted, "mask_bits")

    @property
    def original(self) -> Image.Image | None:
        """The image that was given."""
        return self._fixed.get("image", self._control and self._control.source)

    @property
    def arguments(self) -> dict[str, Any]:
        """Those of the call, as the controls stand."""
        with self.lock:
            self._follow_scheduler()
            return self._arguments(self.values)

    @property
    def notes(self) -> dict[str, str]:
        """What the pipeline does not read of its texts as they stand, by control: cut off, unknown, weights."""
        texts: dict[str, Any] = {
            name: self.values[name] for name, one in self.controls.controls.items() if one.kind == "text"
        }
        known = self._notes
        self._notes = {one: known[one] if one in known else self._reading.note(one) for one in texts.values()}
        return {name: self._notes[text] for name, text in texts.items()}

    def is_drafted(self, job: Job) -> bool:
        """Whether a draft of this job's image is shown."""
        return self._drafted is not None and self._drafted == job.values

    def close(self) -> None:
        """Stop what runs, let go of the painter, and forget the history."""
        super().close()
        self._let_go_of_painter()
        self.history, self.steps, self.behind, self.at = History(), (), (), 0

    def change(self, values: dict[str, Any], *, interactive: bool = False, strict: bool = False) -> None:
        """New values; strict: what cannot be called raises, and changes nothing."""
        with self.lock:
            self._follow_scheduler()
            checked = self.controls.check(values)
            if self._spent and not self.locked and "seed" not in checked:
                checked["seed"] = secrets.randbelow(2**32)
            new = self.values | checked
            if strict:
                self._call(new)
            self.values = new
            live = bool(self.live) and not checked.keys() & UNSEEN_LIVE
            if "control" in checked:  # making another kind may take seconds
                self.tell(phase="running", making="", text="", details="")
            self.go(interactive=interactive, live=live)

    def draw(self, bits: bytes | None) -> None:
        """Make a live image, or a draft, of a stroke's mask so far, packed as `mask_bits`; None: it was given up."""
        with self.lock:
            if self.painter is not None:
                mask = None if bits is None else unpacked(bits, self.painter.image.size)
                self.go(interactive=mask is not None, live=bool(self.live), mask=mask)

    def go(self, *, interactive: bool = False, live: bool = False, mask: Image.Image | None = None) -> None:
        """Make the image of the present values, or say why that cannot be; mask: another than the painter's."""
        with self.lock:
            self._follow_scheduler()
            try:
                call = self._call(self.values, mask)
                if self._control is not None:
                    self.control_shown = self._control.shown(call)
                self.render(call, interactive=interactive, live=live, values=self.values)
                self._spent = not interactive
            except (TypeError, ValueError, RuntimeError, OSError) as error:
                self.refuse(error)

    def look(self, visible: bool) -> None:
        """While nobody looks, as after the cell ran again, nothing is made; the newest image follows on return."""
        with self.lock:
            if not visible and self.queue.cancel():
                self._late = True
            self._visible = visible
            if visible and self._late:
                self._late = False
                self.go()
            if visible:
                self._warm()

    def set_live(self, on: bool) -> None:
        """Make live images, or drafts, from the next change on; nothing where there is no LoRA for it."""
        with self.lock:
            self.live = None if self.live is None else on
            self.tell()
            self._warm()

    def lock_seed(self, on: bool) -> None:
        with self.lock:
            self.locked = on
            self.tell()

    def pin(self, place: str, number: int | None) -> None:
        """Pin an image of the history as "a" or "b", or unpin with None."""
        with self.lock:
            self.history.pin(place, number)
            self.tell()

    def recall(self, number: int) -> None:
        """Bring an image of the history back, with its controls; nothing happens where it was dropped meanwhile."""
        with self.lock:
            if (entry := self.history.get(number)) is not None:
                self._adopt(entry.record, entry.values, steps=entry.steps)

    @property
    def chain(self) -> tuple[Record, ...]:
        """The accepted images that led to the present input image, oldest first."""
        return self.steps[: self.at]

    def accept(self) -> None:
        """Make the image that is shown the input of the next ones; with a mask, painting begins anew on it.

        ValueError for a draft, for an image that is the input already, and for one of another size than its input.
        """
        with self.lock:
            record, given = self.shown(), self._fixed.get("image")
            if given is None:
                raise ValueError(f"accept: {self.controls.pipeline} starts from no image, so none can be its input.")
            if (kind := self.state["kind"]) != "full":
                kind = "live image" if kind == "live" else kind
                raise ValueError(f"accept: this is a {kind}. Wait for the full image, then accept it.")
            if self.at and record is self.steps[self.at - 1]:
                raise ValueError("accept: this image is the input already. Make a new one, then accept that.")
            if record.image is None or (size := record.image.size) != given.size:
                raise ValueError(
                    f"accept: the image is {by(size)} pixels, its input {by(given.size)}. Only an image of its "
                    "input's size can be the next input."
                )
            self.steps = (*self.behind, record)
            self._begin_at(len(self.steps))

    def back(self, number: int) -> None:
        """Go to an accepted image, 1 and up, or to the first input, 0; later ones stay until another is accepted."""
        with self.lock:
            self._begin_at(whole("step", number, least=0, most=len(self.steps)))

    def restore(self, what: Record | str | PathLike | Buffer) -> None:
        """See `Explorer.restore`."""
        record, edited = (what, False) if isinstance(what, Record) else loaded(what)
        notes = ["The image was edited after it was recorded."] if edited else []
        with self.lock:
            self._follow_scheduler()
            values = self._values_of(record)
            if different := provenance.differences(record.origin, provenance.describe(self.pipe)):
                notes.append(f"Shown as it was saved; made again here it may differ: {'; '.join(different)}.")
            self._adopt(record, values, text=" ".join(notes))

    def finished(self, job: Job) -> dict[str, Any]:
        changes = super().finished(job)
        if job.values.get("control") not in (None, "given"):
            self.shown().control = job.values["control"]
        self._drafted, self.behind = job.values if job.kind != "full" else None, self.chain
        if job.interactive:
            return changes | {"shown": None}
        values = job.values | self._scheduler_of(self.shown())  # it may have been exchanged before the job began
        if self.values == job.values:
            self.values = values
        return changes | {"shown": self.history.add(self.shown(), values, self.chain)}

    def _arguments(self, values: dict[str, Any], mask: Image.Image | None = None) -> dict[str, Any]:
        call = self.controls.arguments(values) | self._fixed
        if self.painter is not None:
            call["mask_image"] = self.painter.mask if mask is None else mask
        return call if self._control is None else call | self._control.arguments(values["control"], call)

    def _call(self, values: dict[str, Any], mask: Image.Image | None = None) -> dict[str, Any]:
        """The arguments, checked together: ValueError where these images and values cannot make a call."""
        call = self._arguments(values, mask)
        calls.check_together(self.pipe, call)
        if self.painter is not None and not share(call["mask_image"]):
            raise ValueError("Nothing is painted yet: paint white what should be made anew.")
        if self._control is not None:
            self._control.check(call)
        return call

    def _follow_scheduler(self) -> None:
        """Where a cell exchanged the pipeline's scheduler, the control that stood for the old one follows."""
        before = self.controls.own_scheduler
        if self.controls.follow(self.pipe) and "scheduler" in self.values:
            chosen = self.values["scheduler"]
            if chosen == before or chosen not in self.controls.controls["scheduler"].choices:
                self.values = self.values | {"scheduler": self.controls.own_scheduler}

    def _scheduler_of(self, record: Record) -> dict[str, Any]:
        """The control's value for the scheduler that made the image; none where there is no such control."""
        used = record.origin.get("schedulers", {}).get("scheduler", {}).get("class")
        return self.controls.check({"scheduler": used}) if used and "scheduler" in self.controls.controls else {}

    def _painted(self, _: Any) -> None:
        with self.lock:
            if not self._visible:
                self._late = True
            elif not self._restoring:
                self.go()

    def _warm(self) -> None:
        """Load the few-step LoRA after what is queued, or the first live image would take that much longer."""

        def load() -> None:
            with contextlib.suppress(Exception):  # the first live image says what is wrong
                few_steps.fused(self.pipe)

        if self.live:
            job_queue.shared.call(load)

    def _values_of(self, record: Record) -> dict[str, Any]:
        """What the controls show for a record; ValueError if it is not of this pipeline."""
        mine = type(self.pipe).__name__
        if record.image is None:
            raise ValueError(f"this record has no image: {record.error}")
        if record.origin.get("pipeline") != mine:
            raise ValueError(f"this image was made by {record.origin.get('pipeline')}; this Explorer has a {mine}.")
        if record.parameters.get("scheduler") == few_steps.SCHEDULER:
            raise ValueError(
                "this is a live image, whose controls were still moving: make the full one, and save that."
            )
        values = self.controls.values(record.parameters) | self._scheduler_of(record)
        if self._control is not None:
            restorable = self._control.source is None and record.control in self._control.kinds
            values["control"] = record.control if restorable else "given"
        return values

    def _adopt(self, record: Record, values: dict[str, Any], *, text: str = "", steps: tuple[Record, ...] = ()) -> None:
        """Show a record, and set the controls and inputs to its own; ValueError, before anything changes."""
        fixed = {name: value for name, value in record.parameters.items() if name not in values}
        call = calls.check(self.pipe, fixed)
        if self.painter is not None:
            self._paint(fixed.get("image"), fixed.get("mask_image"))
        self.queue.drop()
        if self._control is not None:
            fixed.pop(self._control.argument, None)
            if values["control"] == "given":
                self._control.given = call.get(self._control.argument)
            self.control_shown = self._control.shown(call)
        self.values, self._fixed, self._spent = values, fixed, True
        self.record, self._drafted, self.behind, self.at = record, None, steps, len(steps)
        if self.chain != steps:
            self.steps = steps
        number = self.history.add(record, values, steps)
        self.tell(phase="done", kind="full", making="", text=text, details="", shown=number)

    def _begin_at(self, at: int) -> None:
        """Go on from this accepted image."""
        if not self.steps:
            return
        self.queue.drop()
        self.at, self._drafted = at, None
        self.record = self.steps[at - 1] if at else None
        self.behind = self.steps[: max(0, at - 1)]
        image = self.record.image if self.record else self.steps[0].parameters["image"]
        self._fixed = self._fixed | {"image": image}
        if self.painter is None:
            self.go()
            return
        self._paint(image, None)
        self.tell(
            phase="idle", kind="full", making="", details="", shown=self.history.number(self.record),
            text="Paint over what should be made anew next.",
        )  # fmt: skip

    def _paint(self, image: Any, mask: Any) -> None:
        """Have the painter show an image and a mask (None: all black), which is no stroke."""
        sizes = {getattr(one, "size", None) for one in (image, image if mask is None else mask)}
        if self.painter is None or sizes != {self.painter.image.size}:
            if not self._own_painter:
                raise ValueError("this image has another size than the MaskPainter of this Explorer.")
            painter = MaskPainter(image, mask)
            self._let_go_of_painter()
            self.painter = painter
            painter.observe(self._painted, "mask_bits")
            return
        self._restoring = True
        try:
            self.painter.image, self.painter.mask = image, mask
        finally:
            self._restoring = False

    def _let_go_of_painter(self) -> None:
        if self.painter is not None:
            self.painter.unobserve(self._painted, "mask_bits")
            if self._own_painter:
                self.painter.close()
            self.painter = None
