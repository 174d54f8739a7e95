"""The control image of an Explorer: which kinds fit its pipeline, made when they are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from helpers.generation import calls
from helpers.images.digest import digest_of
from helpers.images.masks import by, share
from helpers.pipelines import control_images
from helpers.pipelines.inspection import parameters_of

LABELS = {"inpaint": "The image with a hole", "depth": "Depth", "canny": "Edges", "given": "As given"}
MAKERS = {"inpaint": "inpaint_condition", "depth": "depth_map", "canny": "canny_edges"}
KEPT = 8  # control images that are remembered


class ControlImage:
    """What the pipeline's ControlNet looks at.

    argument: of the call, that takes it. kinds: those that fit this pipeline: "inpaint" where there is a mask, "depth",
    "canny", and "given", the one that was passed. default: the kind to begin with. source: the image that it is made of
    where the call itself has none, as in text-to-image.
    """

    def __init__(self, pipe: Any, given: Any = None) -> None:
        self.argument = str(control_images.control_argument(pipe))
        self.given = None if given is None else calls.check_value(pipe, self.argument, given)
        self.source = self.given if self.argument == "image" else None
        masked = "mask_image" in parameters_of(pipe)
        self.kinds = tuple(kind for kind in LABELS if masked or kind != "inpaint")
        trained = str(getattr(pipe.controlnet, "config", {}).get("_name_or_path", "")).replace("\\", "/").split("/")[-1]
        likely = [kind for kind in self.kinds if kind in trained.lower()]
        self.default = "given" if self.given is not None else [*likely, self.kinds[0] if masked else "canny"][0]
        self._made: dict[tuple[str, ...], Any] = {}

    @classmethod
    def of(cls, pipe: Any, fixed: dict[str, Any], parameters: dict[str, Any]) -> ControlImage | None:
        """That of a pipeline with a ControlNet, None for others; takes what was given for it out of the arguments."""
        argument = control_images.control_argument(pipe)
        if argument is None:
            return None
        return cls(pipe, (fixed if argument == "image" else parameters).pop(argument, None))

    def arguments(self, kind: str, call: dict[str, Any]) -> dict[str, Any]:
        """The call's argument with the control image of this kind; none while nothing is masked."""
        if "mask_image" in call and not share(call["mask_image"]):
            return {}
        return {self.argument: self._image(kind, call)}

    def check(self, call: dict[str, Any]) -> None:
        """ValueError where the pipeline would refuse the control, or look at another place than the one it paints."""
        start, end = call.get("control_guidance_start", 0.0), call.get("control_guidance_end", 1.0)
        if start >= end:
            raise ValueError(
                f"control_guidance_start={start:g} is not before control_guidance_end={end:g}, so the ControlNet would "
                "never act. Lower the start, or set controlnet_conditioning_scale=0."
            )
        control, image = call.get(self.argument), call.get("image")
        if call.get("padding_mask_crop") is not None and not isinstance(control, Image.Image):
            raise ValueError(
                f"padding_mask_crop={call['padding_mask_crop']}: the pipeline crops control images, but not the tensor "
                'that the kind "inpaint" is; its ControlNet would look at the whole image. Leave one of them out.'
            )
        if isinstance(control, Image.Image) and isinstance(image, Image.Image) and control.size != image.size:
            raise ValueError(
                f"{self.argument} is {by(control.size)} pixels, image {by(image.size)}: they must be equal. "
                f"Use {self.argument} = fit({self.argument}, image)."
            )

    def shown(self, call: dict[str, Any]) -> Image.Image | None:
        """The control image of a call for the eye: "RGBA", transparent where it is masked."""
        control = call.get(self.argument)
        if control is None or isinstance(control, Image.Image):
            return None if control is None else control.convert("RGBA")
        values = np.asarray(control)[0].transpose(1, 2, 0)  # (H, W, 3)
        alpha = (values >= 0).all(axis=-1, keepdims=True)
        return Image.fromarray((np.concatenate([values.clip(0, 1), alpha], axis=-1) * 255).round().astype(np.uint8))

    def _image(self, kind: str, call: dict[str, Any]) -> Any:
        if kind == "given":
            if self.given is None:
                others = " or ".join(repr(name) for name in self.kinds if name != "given")
                raise ValueError(f'control="given", but none was: pass {self.argument}=..., or choose {others}.')
            return self.given
        image = call["image"] if self.source is None else self.source
        inputs = [image, call["mask_image"]] if kind == "inpaint" else [image]
        key = (kind, *map(digest_of, inputs))
        if key not in self._made:
            self._made[key] = getattr(control_images, MAKERS[kind])(*inputs)
            if len(self._made) > KEPT:
                del self._made[next(iter(self._made))]
        return self._made[key]
