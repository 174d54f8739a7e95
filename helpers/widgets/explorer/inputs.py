"""What an Explorer is given: a pipeline, and the image and mask that it takes, checked before any model runs."""

from __future__ import annotations

from typing import Any

from PIL import Image

from helpers.common.validation import check_size
from helpers.images.masks import check_mask, load_mask
from helpers.images.reading import load_image
from helpers.pipelines.control_images import control_argument
from helpers.pipelines.inspection import checkpoint, family, parameters_of, size_arguments
from helpers.widgets.mask_painter import MaskPainter


def task(pipe: Any) -> str:
    """What the pipeline does: "text2image", "image2image" or "inpaint"; TypeError if it is no such pipeline."""
    if isinstance(pipe, str):
        raise TypeError(f"pipe={pipe!r} is a name: pass the pipeline itself, load({pipe!r}).")
    expected = "expected a diffusers pipeline that makes images from a prompt, such as load('sd15-inpaint')."
    if not callable(pipe) or not hasattr(pipe, "components") or not hasattr(pipe, "config"):
        raise TypeError(f"pipe is a {type(pipe).__name__}: {expected}")
    known = parameters_of(pipe)
    if not {"num_inference_steps", "prompt"} <= known.keys():
        raise TypeError(
            f"pipe is a {type(pipe).__name__}, whose call has no prompt and num_inference_steps: {expected}"
        )
    if "mask_image" in known:
        return "inpaint"
    return "image2image" if "image" in known and control_argument(pipe) != "image" else "text2image"


def input_images(pipe: Any, image: Any, mask: Any) -> dict[str, Any]:
    """The call's image, mask_image, height and width; TypeError or ValueError for what the pipeline cannot use.

    image: what `load_image` takes; with a MaskPainter as mask, None stands for the painter's. mask: what `load_mask`
    takes, or a MaskPainter, whose mask is left out here: it changes. With a ControlNet, text-to-image has an image too.
    """
    kind, name = task(pipe), type(pipe).__name__
    painter = mask if isinstance(mask, MaskPainter) else None
    if kind != "inpaint" and mask is not None:
        other = f"load(..., task='inpaint'){' for a mask' if kind == 'image2image' else ''}"
        raise ValueError(f"mask: {name} takes none. Leave it out, or use {other}.")
    controlled = control_argument(pipe) == "image"
    if kind == "text2image" and not controlled:
        if image is not None:
            raise ValueError(
                f"image: {name} makes images from the prompt alone. Leave it out, or use load(..., task='image2image')."
            )
        return _own_size(pipe)
    if image is None and painter is None:
        role = "takes a control image" if controlled else "starts from an image"
        raise ValueError(f"image: {name} {role}. Pass one: Explorer(pipe, image{', mask' * (kind == 'inpaint')}).")
    image = painter.image if painter and image is None else load_image(image)
    check_size(image, multiple=64 if family(pipe) in ("kandinsky22", "upscale-x2") else 8, name="image")
    found: dict[str, Any] = {"image": image}
    if kind == "inpaint":
        if mask is None:
            raise ValueError(f"mask: {name} needs one. Pass a mask, or a MaskPainter(image) to paint it.")
        if painter is None:
            found["mask_image"] = load_mask(mask, image=image)
        elif painter.image.size != image.size:
            check_mask(Image.new("L", painter.image.size, 255), image)  # says what to do about the sizes
    return found | size_arguments(pipe, image.size)  # or the result has the UNet's size, not the image's


def _own_size(pipe: Any) -> dict[str, int]:
    """Kandinsky makes 512 pixels unless told otherwise, whatever it was trained on."""
    entry = checkpoint(pipe) if family(pipe) == "kandinsky22" else None
    return {"height": entry.size, "width": entry.size} if entry else {}
