"""Short calls of every pipeline, small inputs for them, and how their results are compared."""

from __future__ import annotations

import warnings

import numpy as np
from PIL import Image

from helpers.generation.records import Record
from helpers.pipelines import inspection
from tests.support.tiny import SIZE

CALLS = [
    ("sd15", "text2image", None, "StableDiffusionPipeline"),
    ("sd15", "image2image", None, "StableDiffusionImg2ImgPipeline"),
    ("sd15", "inpaint", None, "StableDiffusionInpaintPipeline"),
    ("sd15", "text2image", "controlnet-depth", "StableDiffusionControlNetPipeline"),
    ("sd15", "image2image", "controlnet-depth", "StableDiffusionControlNetImg2ImgPipeline"),
    ("sd15", "inpaint", "controlnet-depth", "StableDiffusionControlNetInpaintPipeline"),
    ("sd15-inpaint", "inpaint", None, "StableDiffusionInpaintPipeline"),
    ("sd15-inpaint", "inpaint", "controlnet-depth", "StableDiffusionControlNetInpaintPipeline"),
    ("sdxl-inpaint", "inpaint", None, "StableDiffusionXLInpaintPipeline"),
    ("sdxl-refiner", "image2image", None, "StableDiffusionXLImg2ImgPipeline"),
    ("sdxl-refiner", "inpaint", None, "StableDiffusionXLInpaintPipeline"),
    ("kandinsky22", "text2image", None, "KandinskyV22CombinedPipeline"),
    ("kandinsky22", "image2image", None, "KandinskyV22Img2ImgCombinedPipeline"),
    ("kandinsky22-inpaint", "inpaint", None, "KandinskyV22InpaintCombinedPipeline"),
    ("upscale-x2", "upscale", None, "StableDiffusionLatentUpscalePipeline"),
    ("upscale-x4", "upscale", None, "StableDiffusionUpscalePipeline"),
]


def noise(seed: int, mode: str = "RGB", size: int = SIZE) -> Image.Image:
    shape = (size, size, 3) if mode == "RGB" else (size, size)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def half_mask(size: int = SIZE) -> Image.Image:
    mask = Image.new("L", (size, size), 0)
    mask.paste(255, (0, 0, size // 2, size))
    return mask


def arguments(pipe, task: str, **more) -> dict:
    """A short call of this pipeline for its task."""
    known = inspection.parameters_of(pipe)
    size = 64 if "Kandinsky" in type(pipe).__name__ else SIZE
    call = {"prompt": "a cat", "num_inference_steps": 2, "height": size, "width": size}
    call |= {"prior_num_inference_steps": 2, "guidance_scale": 2.0, "noise_level": 20}
    if task != "text2image":
        call["image"] = noise(1, size=size)
    if task == "inpaint":
        call["mask_image"] = half_mask(size)
    for name in ("control_image", "image"):
        if name in known and name not in call:
            call[name] = noise(2)
    if "strength" in known:
        call["strength"] = 1.0
    return {name: value for name, value in call.items() if name in known} | more


def same(one: Record, other: Record | Image.Image) -> bool:
    other = other.image if isinstance(other, Record) else other
    return one.image.mode == other.mode and one.image.tobytes() == other.tobytes()


def quietly(record: Record, pipe, **inputs) -> Record:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return record.repeat(pipe, **inputs)
