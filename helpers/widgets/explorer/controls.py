"""Controls: which of a call's arguments an Explorer shows, their ranges, and their way into the call and back."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from helpers.common.validation import did_you_mean, number, whole
from helpers.generation import compositing
from helpers.generation.calls import SEEDS
from helpers.images.as_json import snapshot_argument
from helpers.pipelines.inspection import parameters_of
from helpers.pipelines.schedulers import compatible_schedulers
from helpers.widgets.explorer.control_image import LABELS, ControlImage

STEPS = 25  # unless told otherwise; the pipelines' own 50 to 100 are slow to look at


@dataclass(frozen=True)
class Control:
    """One argument on the screen. kind: "text", "slider", "seed", "choice" or "switch".

    low, high, step: of the slider; a number may lie beyond it, from `least` to `most`. optional: it may be off (None).
    whole: whole numbers only. default: where the call has none.
    """

    name: str
    label: str
    kind: str
    help: str
    group: str = "picture"
    low: float = 0
    high: float = 1
    step: float = 1
    least: int = 0
    most: int | None = None
    whole: bool = False
    optional: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()  # of the choices, where their names are not for reading

    def check(self, value: Any) -> Any:
        """The value in its proper type; TypeError or ValueError, naming it, if the control cannot hold it."""
        if self.optional and value is None:
            return None
        if self.kind in ("text", "switch"):
            if not isinstance(value, str if self.kind == "text" else bool):
                expected = "text" if self.kind == "text" else "True or False"
                raise TypeError(f"{self.name}={reprlib.repr(value)}: expected {expected}.")
            return snapshot_argument(value, name=self.name)
        if self.kind == "choice":
            value = value if value is None or isinstance(value, str) else getattr(value, "__name__", repr(value))
            if value not in self.choices:
                advice = did_you_mean(str(value), self.choices)
                raise ValueError(f"{self.name}={value!r}: this pipeline does not work with it. {advice}")
            return value
        if self.whole:
            return whole(self.name, value, least=self.least, most=self.most)
        return number(self.name, value, low=self.least, high=self.most)


_TABLE = (
    Control("prompt", "Prompt", "text", "What the image should show"),
    Control("negative_prompt", "Negative prompt", "text", "What it should not show"),
    Control("strength", "Strength", "slider", "How much of the image is made anew: 1 starts from noise",
            low=0.05, step=0.05, most=1),
    Control("guidance_scale", "Guidance scale", "slider", "How closely the prompt is followed; 1 is not at all",
            high=20, step=0.5),
    Control("num_inference_steps", "Steps", "slider", "More steps, more detail, more time",
            low=1, high=60, least=1, most=1000, whole=True),
    Control("seed", "Seed", "seed", "The same seed and settings make the same image",
            most=SEEDS - 1, whole=True, default=0),
    Control("scheduler", "Scheduler", "choice", "The method that takes the noise away"),
    Control("control", "Control image", "choice", "What the ControlNet looks at", group="control"),
    Control("controlnet_conditioning_scale", "Conditioning scale", "slider",
            "How strongly the control image acts; 0 is not at all", group="control", high=2, step=0.05),
    Control("control_guidance_start", "Guidance start", "slider", "The share of the steps after which it begins to act",
            group="control", step=0.05, most=1),
    Control("control_guidance_end", "Guidance end", "slider", "The share of the steps after which it acts no more",
            group="control", step=0.05, most=1),
    Control("blur_factor", "Mask blur", "slider",
            "Softens the mask's edge, in pixels. It shows with Keep unmasked or Crop; the model cuts at 50 %",
            group="mask", high=32, default=0.0),
    Control("padding_mask_crop", "Crop around the mask", "slider",
            "Works on the masked part alone, with this many pixels around it, at full size",
            group="mask", high=64, whole=True, optional=True),
    Control("keep_unmasked", "Keep unmasked", "switch", "Puts the pixels outside the mask back as they were",
            group="mask", default=False),
)  # fmt: skip
_NEUTRAL = {"negative_prompt": "", "blur_factor": 0, "keep_unmasked": False, "padding_mask_crop": None}


class ControlSet:
    """The controls that a pipeline takes; their values become arguments of a call, and back.

    side: the longer side of the image in pixels, which the mask's sliders follow. control_image: that of a pipeline
    with a ControlNet.
    """

    def __init__(self, pipe: Any, *, side: int, control_image: ControlImage | None = None) -> None:
        known = parameters_of(pipe)
        schedulers = compatible_schedulers(pipe)
        self.pipeline = type(pipe).__name__
        self.own_scheduler = schedulers[0] if schedulers else None
        own = {"seed": True, "scheduler": len(schedulers) > 1, "control": control_image is not None}
        own |= dict.fromkeys(compositing.NAMES, "mask_image" in known)
        self.controls: dict[str, Control] = {}
        for control in _TABLE:
            if control.name not in known and not own.get(control.name):
                continue
            default: Any = known[control.name].default if control.name in known else control.default
            if control.name == "scheduler":
                control, default = replace(control, choices=tuple(schedulers)), self.own_scheduler
            elif control.name == "control" and control_image is not None:
                kinds, default = control_image.kinds, control_image.default
                control = replace(control, choices=kinds, labels=tuple(LABELS[kind] for kind in kinds))
            elif control.name == "num_inference_steps":
                default = STEPS
            elif control.group == "mask" and control.kind == "slider":
                control = replace(control, high=max(8, side // (4 if control.optional else 8)))
            self.controls[control.name] = replace(
                control, default="" if control.kind == "text" else control.check(default)
            )

    def follow(self, pipe: Any) -> bool:
        """Offer the schedulers of the pipeline's own, which may have been exchanged; whether it was."""
        schedulers = compatible_schedulers(pipe)
        if not schedulers or schedulers[0] == self.own_scheduler:
            return False
        self.own_scheduler = schedulers[0]
        if (control := self.controls.get("scheduler")) is not None:
            self.controls["scheduler"] = replace(control, choices=tuple(schedulers), default=self.own_scheduler)
        return True

    @property
    def defaults(self) -> dict[str, Any]:
        return {name: control.default for name, control in self.controls.items()}

    def check(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values, each in its proper type; TypeError for a name that is no control here."""
        checked = {}
        for name, value in values.items():
            if name not in self.controls:
                advice = did_you_mean(name, self.controls)
                raise TypeError(f"{name}={value!r}: {self.pipeline} has no such control. {advice}")
            checked[name] = self.controls[name].check(value)
        return checked

    def arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The call's arguments; what would change nothing is left out, so that the plain call stays short."""
        found = {name: value for name, value in values.items() if name not in _NEUTRAL or value != _NEUTRAL[name]}
        found.pop("control", None)  # it is a way to make an argument, and none itself
        if found.get("scheduler") == self.own_scheduler:
            found.pop("scheduler", None)
        if isinstance(found.get("blur_factor"), float) and found["blur_factor"].is_integer():
            found["blur_factor"] = int(found["blur_factor"])
        return found

    def values(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """What the controls show for these arguments of a call; the pipeline's default where one is not named."""
        shown = self.defaults | {name: value for name, value in parameters.items() if name in self.controls}
        texts = {name for name, control in self.controls.items() if control.kind == "text"}
        return self.check({name: "" if value is None and name in texts else value for name, value in shown.items()})
