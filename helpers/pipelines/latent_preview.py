"""Previews: what a step's latents look like, by a linear map to colours instead of the VAE.

The miniatures' maps lie beside their VAE (made by `python -m miniature_training preview`); those of any other VAE are
fitted in memory when they are first needed.
"""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers.images.reading import course_images, load_image
from helpers.pipelines.latent_map import Map, fit, mark, read

SIDE = 96  # pixels of the pictures that a map is fitted on in memory

_maps: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_fitting = threading.Lock()


def picture(pipe: Any, latents: Any) -> Image.Image | None:
    """Show the first of a step's latents, (B, C, h, w), as a picture of the size that the VAE would decode them to.

    Any dtype and device. It takes well under a millisecond a step; at most the first call for a VAE that brings no map
    takes longer. With padding_mask_crop it shows the crop. None where there is nothing to show: no VAE, latents of
    another shape than that VAE's, not finite, or no map to be had (its weights are not in memory).
    """
    vae = _vae(pipe)
    if vae is None or getattr(latents, "ndim", 0) != 4 or not len(latents):
        return None
    fitted = map_of(vae)
    if fitted is None or latents.shape[1] != fitted.channels:
        return None
    values = latents[0].detach().float().cpu().numpy().astype(np.float64)  # (C, h, w)
    if not np.isfinite(values).all():
        return None
    small = Image.fromarray(fitted(values))
    scale = _scale(vae)
    return small.resize((small.width * scale, small.height * scale), Image.Resampling.BICUBIC)


def step(pipe: Any, latents: Any) -> Image.Image | None:
    """Show what a step takes the finished picture to be, if the scheduler tells, else its noisy latents; see `picture`.

    Only for latents that the pipeline's callback_on_step_end has just been given, in its thread: the prediction is read
    from the scheduler (DPMSolverMultistep, UniPC and PNDM keep theirs).
    """
    found = None if latents is None else _predicted(pipe, latents)
    return picture(pipe, latents if found is None or found.shape != latents.shape else found)


def map_of(vae: Any) -> Map | None:
    """The map of this VAE: the one beside its weights, else one fitted now; remembered. None where neither can be."""
    with _fitting:
        if vae not in _maps:
            _maps[vae] = _shipped(vae) or _fitted_now(vae)
        return _maps[vae]


def _predicted(pipe: Any, latents: Any) -> Any:
    """The clean latents that the last step predicted, None where the scheduler does not keep them."""
    scheduler = getattr(pipe, "scheduler", None)
    kind, config = type(scheduler).__name__, getattr(scheduler, "config", {})
    if kind == "UniPCMultistepScheduler" and config.get("predict_x0"):
        return scheduler.model_outputs[-1]
    if kind == "DPMSolverMultistepScheduler" and config.get("algorithm_type", "").endswith("++"):
        return scheduler.model_outputs[-1]
    if kind == "PNDMScheduler" and config.get("prediction_type") == "epsilon" and scheduler.ets:
        left = pipe.num_timesteps - scheduler.counter  # a step takes the latents on to the next one's timestep
        kept = scheduler.alphas_cumprod[scheduler.timesteps[-left]] if left > 0 else scheduler.final_alpha_cumprod
        kept = float(kept)
        return (latents - (1 - kept) ** 0.5 * scheduler.ets[-1].to(latents)) / kept**0.5
    return None


def _vae(pipe: Any) -> Any:
    return next((part for name in ("vae", "movq") if (part := getattr(pipe, name, None)) is not None), None)


def _scale(vae: Any) -> int:
    """Pixels a latent, along one side."""
    config = vae.config
    return 2 ** (len(config.get("block_out_channels") or config.get("down_block_out_channels") or [0]) - 1)


def _shipped(vae: Any) -> Map | None:
    folder = Path(str(vae.config.get("_name_or_path") or ""))
    if not folder.is_absolute():  # an id on the Hub
        return None
    found = read(folder) or read(folder / "vae")
    return found if found and found.vae == mark(vae) else None


def _fitted_now(vae: Any) -> Map | None:
    """Fitted on the course's pictures, with a float32 copy of the VAE that shares what is float32 already."""
    import torch

    state = vae.state_dict()
    if any(tensor.is_meta for tensor in state.values()):  # sequential offload keeps them elsewhere
        return None
    try:
        with torch.device("meta"):
            copy = type(vae).from_config(vae.config)
        copy.load_state_dict({name: tensor.detach().float() for name, tensor in state.items()}, assign=True)
        pictures = [load_image(name, size=SIDE) for name in course_images()]
        return fit(copy.eval().requires_grad_(False), pictures)
    except (ValueError, RuntimeError):  # no pictures, no numbers, or no memory: then there is no preview
        return None
