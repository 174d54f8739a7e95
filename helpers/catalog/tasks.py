"""What a checkpoint can do, and the pipeline class of diffusers that does it."""

from __future__ import annotations

from helpers.catalog.checkpoints import CATALOG, Checkpoint

# Families of checkpoints, and the class that does a task with one. "+control": with a ControlNet.
CLASSES = {
    "sd": {
        "text2image": "StableDiffusionPipeline",
        "image2image": "StableDiffusionImg2ImgPipeline",
        "inpaint": "StableDiffusionInpaintPipeline",
        "text2image+control": "StableDiffusionControlNetPipeline",
        "image2image+control": "StableDiffusionControlNetImg2ImgPipeline",
        "inpaint+control": "StableDiffusionControlNetInpaintPipeline",
    },
    "sdxl": {
        "image2image": "StableDiffusionXLImg2ImgPipeline",
        "inpaint": "StableDiffusionXLInpaintPipeline",
    },
    "kandinsky22": {
        "text2image": "KandinskyV22CombinedPipeline",
        "image2image": "KandinskyV22Img2ImgCombinedPipeline",
        "inpaint": "KandinskyV22InpaintCombinedPipeline",
    },
    "upscale-x2": {"upscale": "StableDiffusionLatentUpscalePipeline"},
    "upscale-x4": {"upscale": "StableDiffusionUpscalePipeline"},
}

AUTO = {"text2image": "Text2Image", "image2image": "Image2Image", "inpaint": "Inpainting"}  # AutoPipelineFor...


def class_name(checkpoint: Checkpoint, task: str | None = None, controlnet: str | None = None) -> str:
    """The pipeline class for a task, or a ValueError: diffusers would load it and fail at the first call."""
    name = checkpoint.name
    if checkpoint.family == "controlnet":
        raise ValueError(
            f"{name!r} is a ControlNet and makes no images alone. Join it to a checkpoint: "
            f"load('sd15-inpaint', controlnet={name!r})."
        )
    if checkpoint.family == "lora":
        raise ValueError(
            f"{name!r} is a LoRA and makes no images alone. Add it to a pipeline: "
            f"load('sd15-inpaint').load_lora_weights(CATALOG[{name!r}].source)."
        )
    if checkpoint.family == "depth":
        raise ValueError(f"{name!r} makes no images. depth_map(image) asks it how near everything is.")
    if checkpoint.family == "segmentation":
        raise ValueError(f"{name!r} makes no images. select(image, point=(x, y)) asks it for the mask of an object.")
    task = checkpoint.tasks[0] if task is None else task
    if task not in checkpoint.tasks:
        others = [other.name for other in CATALOG.values() if task in other.tasks]
        hint = f" For {task!r} load one of: {', '.join(others)}." if others else ""
        raise ValueError(
            f"task is {task!r}, and {name!r} can do {' and '.join(map(repr, checkpoint.tasks))} only.{hint}"
        )
    if controlnet is None:
        return CLASSES[checkpoint.family][task]
    nets = [other.name for other in CATALOG.values() if other.family == "controlnet"]
    if CATALOG[controlnet].name not in nets:
        raise ValueError(f"controlnet is {controlnet!r}, which is none; expected {' or '.join(map(repr, nets))}.")
    if checkpoint.family != "sd":
        fitting = [other.name for other in CATALOG.values() if other.family == "sd"]
        raise ValueError(f"{controlnet!r} was trained for {', '.join(fitting)}, and does not fit {name!r}.")
    return CLASSES["sd"][f"{task}+control"]
