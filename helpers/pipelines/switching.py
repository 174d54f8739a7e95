"""switch(): one pipeline's models in the pipeline class of another task."""

from __future__ import annotations

from typing import Any

from helpers.catalog.tasks import AUTO, class_name
from helpers.common.tensors import ordinary_tensors
from helpers.pipelines import inspection, pool


@ordinary_tensors
def switch(pipe: Any, task: str) -> Any:
    """Return a pipeline for another task on the same models: nothing is loaded, copied or cast.

    task: "text2image", "image2image" or "inpaint". diffusers' `from_pipe` does this with two surprises:
    `DiffusionPipeline.from_pipe` casts the shared models to float32 unless dtype= is passed, and both pipelines share
    one scheduler object, so a change to one is a change to both. Here dtypes stay and each scheduler is new.

    Raises ValueError for what the models cannot do: diffusers would build it, and fail at its first call.
    """
    import diffusers

    inspection.check_pipeline(pipe)
    if task not in AUTO:
        raise ValueError(f"task is {task!r}; expected {' or '.join(map(repr, AUTO))}.")
    checkpoint = inspection.checkpoint(pipe)
    if checkpoint is not None:
        class_name(checkpoint, task)
    channels = getattr(getattr(pipe, "unet", None), "config", {}).get("in_channels")
    if channels == 9 and task != "inpaint":
        raise ValueError(
            f"task is {task!r}, and this pipeline's UNet takes 9 channels: latents, a mask and a masked image. "
            "It can inpaint only."
        )
    if task == "text2image" and type(pipe).__name__.startswith("StableDiffusionXL") and pipe.text_encoder is None:
        raise ValueError("task is 'text2image', and a refiner (one text encoder) cannot start an image from a prompt.")
    schedulers = {
        name: type(part).from_config(part.config)
        for name, part in pipe.components.items()
        if hasattr(part, "set_timesteps")
    }
    made = getattr(diffusers, f"AutoPipelineFor{AUTO[task]}").from_pipe(pipe, **schedulers)
    made.set_progress_bar_config(**getattr(pipe, "_progress_bar_config", {}))
    if inspection.offload_mode(pipe) == "model":  # the new pipeline needs hooks of its own
        made.enable_model_cpu_offload(device=pipe._offload_device)
    return pool.like(made, pipe)
