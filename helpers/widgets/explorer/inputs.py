"""What an Explorer is given: a pipeline, and the picture and mask that it takes, checked before any model runs."""

from __future__ import annotations

from typing import Any

from PIL import Image

from helpers.common.validation import check_size
from helpers.images.masks import check_mask, load_mask
from helpers.images.reading import load_image
from helpers.pipelines import inspection
from helpers.pipelines.control_images import control_argument
from helpers.widgets.mask_painter import MaskPainter


def task(pipe: Any) -> str:
    """What the pipeline does: "text2image", "image2image" or "inpaint"; TypeError if it is no such pipeline."""
    if isinstance(pipe, str):
        raise TypeError(f"pipe={pipe!r} is a name: pass the pipeline itself, load({pipe!r}).")
    if not callable(pipe) or not hasattr(pipe, "components") or not hasattr(pipe, "config"):
        raise TypeError(
            f"pipe is a {type(pipe).__name__}: expected a diffusers pipeline, such as load('sd15-inpaint')."
        )
    known = inspection.parameters_of(pipe)
    if "num_inference_steps" not in known or "prompt" not in known:
        raise TypeError(
            f"pipe is a {type(pipe).__name__}, whose call has no prompt and num_inference_steps: expected one that "
            "makes pictures, such as load('sd15-inpaint')."
        )
    if "mask_image" in known:
        return "inpaint"
    return "image2image" if "image" in known and control_argument(pipe) != "image" else "text2image"


def pictures(pipe: Any, image: Any, mask: Any) -> dict[str, Any]:
    """The call's image, mask_image, height and width; TypeError or ValueError for what the pipeline cannot use.

    image: what `load_image` takes; with a MaskPainter as mask, None stands for the painter's. mask: what `load_mask`
    takes, or a MaskPainter, whose mask is left out here: it changes. With a ControlNet, text-to-image has an image too.
    """
    kind, name = task(pipe), type(pipe).__name__
    painter = isinstance(mask, MaskPainter)
    if kind != "inpaint" and mask is not None:
        other = f"load(..., task='inpaint'){' for a mask' if kind == 'image2image' else ''}"
        raise ValueError(f"mask: {name} takes none. Leave it out, or use {other}.")
    steered = control_argument(pipe) == "image"
    if kind == "text2image" and not steered:
        if image is not None:
            raise ValueError(
                f"image: {name} makes pictures from the prompt alone. Leave it out, or "
                "use load(..., task='image2image')."
            )
        return _own_size(pipe)
    if image is None and not painter:
        raise ValueError(
            f"image: {name} {'is steered by' if steered else 'starts from'} a picture. "
            f"Pass one: Explorer(pipe, image{', mask' * (kind == 'inpaint')})."
        )
    image = mask.image if image is None else load_image(image)
    check_size(image, multiple=64 if "Kandinsky" in name or "LatentUpscale" in name else 8, name="image")
    found: dict[str, Any] = {"image": image}
    if kind == "inpaint":
        if mask is None:
            raise ValueError(f"mask: {name} needs one. Pass a mask, or a MaskPainter(image) to paint it.")
        if not painter:
            found["mask_image"] = _mask(mask, image)
        elif mask.image.size != image.size:
            check_mask(Image.new("L", mask.image.size, 255), image)  # says what to do about the sizes
    return found | inspection.size_arguments(pipe, image.size)  # or the result has the UNet's size, not the image's


def _mask(mask: Any, image: Image.Image) -> Image.Image:
    if not isinstance(mask, Image.Image) and hasattr(mask, "shape"):
        return check_mask(mask, image, stacklevel=5)
    return load_mask(mask, image=image)


def _own_size(pipe: Any) -> dict[str, int]:
    """Kandinsky makes 512 pixels unless told otherwise, whatever it was trained on."""
    entry = inspection.checkpoint(pipe)
    if entry is None or inspection.family(pipe) != "kandinsky22":
        return {}
    return inspection.size_arguments(pipe, (entry.size, entry.size))
