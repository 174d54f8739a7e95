"""Previews: what a step's latents look like, by a linear map to colours instead of the VAE.

A latent's colour is a weighted sum of its own channels and of its eight neighbours', plus a constant. The weights lie
beside the miniatures' VAEs (`python -m miniature_training preview` fits them). A VAE without such a file, as those of
the full edition, has no preview.
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers.pipelines.inspection import autoencoder, pixels_a_latent

FILE = "preview.json"
WINDOW = 3  # latents a side


@dataclass(frozen=True)
class LatentMap:
    """From the latents of one VAE, as pipelines pass them on, to colours.

    weights: a row each for red, green and blue, with a column for every channel of every latent in a 3 x 3 window.
    bias: their constants. Colours are -1..1. loudest: the root mean square to which larger latents are scaled down.
    """

    weights: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]
    loudest: float

    @property
    def channels(self) -> int:
        return len(self.weights[0]) // WINDOW**2

    def __call__(self, latents: np.ndarray) -> np.ndarray:
        """Latents (C, h, w) -> colours (h, w, 3), uint8."""
        size = math.sqrt(float(np.mean(np.square(latents))))  # some schedulers' noise is 14 times larger than an image
        scaled = latents * min(1.0, self.loudest / size) if size else latents
        colours = windows(scaled[None])[0] @ np.array(self.weights).T + np.array(self.bias)
        return np.rint((colours.clip(-1, 1) + 1) * 127.5).astype(np.uint8)


def preview(pipe: Any, latents: Any) -> Image.Image | None:
    """Show the first of a step's latents, (B, C, h, w), as an image of the size that the VAE would decode them to.

    Any dtype and device; it takes well under a millisecond. With padding_mask_crop it shows the crop. None where there
    is nothing to show: no VAE, no map for it, latents of another shape than that VAE's, or not finite.
    """
    latent_map = map_of(autoencoder(pipe))
    if latent_map is None or getattr(latents, "ndim", 0) != 4 or latents.shape[1] != latent_map.channels:
        return None
    values = latents[:1].detach().float().cpu().numpy().astype(np.float64)  # (1, C, h, w)
    if not len(values) or not np.isfinite(values).all():
        return None
    small = Image.fromarray(latent_map(values[0]))
    scale = pixels_a_latent(pipe)
    return small.resize((small.width * scale, small.height * scale), Image.Resampling.BICUBIC)


def step(pipe: Any, latents: Any) -> Image.Image | None:
    """Show what a step predicts the finished image to be, or its noisy latents if the scheduler keeps no prediction.

    Only for latents that the pipeline's callback_on_step_end has just been given, in its thread: the prediction is read
    from the scheduler (DPMSolverMultistep, UniPC and PNDM keep theirs). See `preview`.
    """
    if latents is None:
        return None
    found = _predicted(pipe, latents)
    return preview(pipe, latents if found is None or found.shape != latents.shape else found)


def map_of(vae: Any) -> LatentMap | None:
    """The map that lies beside this VAE's weights, if there is one."""
    folder = Path(str(vae.config.get("_name_or_path") or "")) if vae is not None else Path()
    if not folder.is_absolute():  # no VAE, or an id on the Hub
        return None
    return read(folder) or read(folder / "vae") or read(folder / "movq")


@functools.lru_cache(maxsize=32)
def read(folder: Path) -> LatentMap | None:
    """The map that lies in a folder, if there is one; a folder is looked into once."""
    file = folder / FILE
    if not file.is_file():
        return None
    kept = json.loads(file.read_text(encoding="utf-8"))
    return LatentMap(tuple(map(tuple, kept["weights"])), tuple(kept["bias"]), kept["loudest"])


def windows(latents: np.ndarray) -> np.ndarray:
    """(B, C, h, w) -> (B, h, w, 9 C): each latent with its neighbours; at the border it stands in for missing ones."""
    padded = np.pad(latents, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    seen = np.lib.stride_tricks.sliding_window_view(padded, (WINDOW, WINDOW), axis=(2, 3))  # (B, C, h, w, 3, 3)
    return seen.transpose(0, 2, 3, 1, 4, 5).reshape(*latents.shape[:1], *latents.shape[2:], -1)


def _predicted(pipe: Any, latents: Any) -> Any:
    """The clean latents that the last step predicted, None where the scheduler does not keep them."""
    scheduler: Any = getattr(pipe, "scheduler", None)
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
