"""What a pipeline is: its call's parameters, models, checkpoint, latent space and offload, and the size of its output.

Everything here is read from the pipeline object; no model runs.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from PIL import Image

from helpers.catalog.checkpoints import CATALOG, Checkpoint
from helpers.common import paths

# What a class name contains, in the order in which it is asked, and the family of checkpoints that it stands for.
_FAMILIES = {"Kandinsky": "kandinsky22", "LatentUpscale": "upscale-x2", "Upscale": "upscale-x4", "XL": "sdxl"}


def parameters_of(pipe: Any) -> dict[str, inspect.Parameter]:
    """The named parameters of the pipeline's call, in order."""
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    found = inspect.signature(pipe.__class__.__call__).parameters  # a pool's pipeline is of this class, once looked at
    return {name: value for name, value in found.items() if name != "self" and value.kind not in variadic}


def check_pipeline(pipe: Any, *, name: str = "pipe") -> None:
    """TypeError for what is no pipeline of diffusers."""
    if not hasattr(pipe, "components"):
        raise TypeError(f"{name}: expected a diffusers pipeline, as load() returns it, got {type(pipe).__name__}.")


def models(pipe: Any) -> dict[str, Any]:
    """The pipeline's neural networks, by component name."""
    import torch

    return {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}


def checkpoint(pipe: Any) -> Checkpoint | None:
    """The catalogue's entry for what the pipeline was loaded from, in either edition; None if it has none."""
    source = str(pipe.config.get("_name_or_path") or "")
    for entry in CATALOG.values():
        if source == entry.hub_id:
            return entry
    folder = Path(source)
    name = re.sub(r"-[0-9a-f]{12}$", "", folder.name)  # a miniature's folder ends with a hash of its contents
    known = name in dict.keys(CATALOG) and folder.parent == paths.cache_folder() / "miniatures"
    return CATALOG[name] if known else None


def family(pipe: Any) -> str:
    """The catalogue's family for the pipeline's class: "sd", "sdxl", "kandinsky22", "upscale-x2" or "upscale-x4"."""
    name = type(pipe).__name__
    return next((found for part, found in _FAMILIES.items() if part in name), "sd")


def name_of(pipe: Any) -> str:
    """What a message calls the pipeline: its class, with the course name of its checkpoint."""
    entry = checkpoint(pipe)
    return type(pipe).__name__ + (f" ({entry.name!r})" if entry else "")


def autoencoder(pipe: Any) -> Any:
    """The pipeline's VAE, Kandinsky's MoVQ included; None if it has none."""
    return next((part for name in ("vae", "movq") if (part := getattr(pipe, name, None)) is not None), None)


def pixels_a_latent(pipe: Any) -> int:
    """How many pixels wide and high one latent is: 8 for most VAEs, 4 for the x4 upscaler's."""
    config = autoencoder(pipe).config
    return 2 ** (len(config.get("block_out_channels") or config["down_block_out_channels"]) - 1)


def offload_mode(pipe: Any) -> str:
    """How the pipeline's models reach the GPU, by diffusers' names: "none", "model" or "sequential"."""
    hooked = [model for model in models(pipe).values() if hasattr(model, "_hf_hook")]
    if any(tensor.is_meta for model in hooked for tensor in model.parameters()):
        return "sequential"
    # Asked of the models: they are hooked for all that share them, whichever pipeline switched offload on.
    return "model" if hooked else "none"


def adapters(model: Any) -> dict[str, float]:
    """The active LoRA adapters of a model with their scales (of the first layer, where layers differ)."""
    if not getattr(model, "peft_config", None):
        return {}
    layer = next((one for one in model.modules() if hasattr(one, "lora_A")), None)
    if layer is None or layer.disable_adapters:
        return {}
    return {adapter: float(layer.scaling[adapter]) for adapter in layer.active_adapters}


def output_size(pipe: Any, call: dict[str, Any]) -> tuple[int, int] | None:
    """Width and height, in pixels, of the images that `pipe(**call)` makes.

    Pipelines that follow their input's size round it down to whole latents. None where the size depends on an image
    that `call` does not have.
    """
    known, kind = parameters_of(pipe), family(pipe)
    multiple = pixels_a_latent(pipe)
    if kind == "kandinsky22":
        width, height = call.get("width") or 512, call.get("height") or 512
        if _swaps_sides(pipe):
            return height // multiple * multiple, width // multiple * multiple
        return -(-width // multiple**2) * multiple**2, -(-height // multiple**2) * multiple**2
    given = _size_of(pipe, call.get("image"))
    if call.get("padding_mask_crop") is not None:
        return given  # the crop is painted in the size asked for, and pasted back
    if "height" in known and "controlnet" not in pipe.components:
        sample = pipe.unet.config.sample_size
        rows, columns = (sample, sample) if isinstance(sample, int) else sample
        width, height = call.get("width"), call.get("height")
        if type(pipe).__name__ == "StableDiffusionPipeline" and not (width and height):
            width = height = None  # it takes both or neither
        return width or columns * multiple, height or rows * multiple
    width, height = call.get("width") or (given and given[0]), call.get("height") or (given and given[1])
    if width is None or height is None:
        return None
    scale = {"upscale-x2": 2, "upscale-x4": 4}.get(kind, 1)
    return width // multiple * multiple * scale, height // multiple * multiple * scale


def size_arguments(pipe: Any, size: tuple[int, int]) -> dict[str, int]:
    """The height and width that make the pipeline's output `size`, (width, height); empty where it takes none."""
    if "height" not in parameters_of(pipe):
        return {}
    width, height = size[::-1] if _swaps_sides(pipe) else size
    return {"height": height, "width": width}


def _swaps_sides(pipe: Any) -> bool:
    """Kandinsky's image-to-image passes width as height, and height as width, to its image processor."""
    known = parameters_of(pipe)
    return family(pipe) == "kandinsky22" and "image" in known and "mask_image" not in known


def _size_of(pipe: Any, image: Any) -> tuple[int, int] | None:
    """Width and height, in pixels, of an image argument: a PIL image, an array, a tensor, latents, or a list of one."""
    if isinstance(image, (list, tuple)):
        image = image[0] if image else None
    if isinstance(image, Image.Image):
        return image.size
    shape = tuple(getattr(image, "shape", ()))
    if len(shape) < 2:
        return None
    if not hasattr(image, "detach"):  # numpy: channels last
        return shape[-2::-1][:2] if len(shape) > 2 else shape[::-1]
    latent = len(shape) == 4 and shape[1] == autoencoder(pipe).config.latent_channels
    scale = pixels_a_latent(pipe) if latent else 1
    return shape[-1] * scale, shape[-2] * scale
