"""Images as tensors and back, what comes back from a VAE, and how much of it is right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import VQModel
from PIL import Image

from miniature_training.models.loop import device


def tensor(images: Sequence | np.ndarray) -> torch.Tensor:
    """Images of one size, (H, W, 3) uint8 or PIL's, as (B, 3, H, W) in -1..1, on the device that trains."""
    x = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)
    return (x.to(device()).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def as_images(x: torch.Tensor) -> list[Image.Image]:
    """(B, 3, H, W), cut off at -1 and 1, as images."""
    values = ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(one) for one in values]


@torch.no_grad()
def round_trip(vae: torch.nn.Module, images: Sequence, *, batch: int = 16) -> list[Image.Image]:
    """Images of one size through an AutoencoderKL or a VQModel and back, as the pipelines decode, nothing sampled."""
    vae.to(device()).eval()
    back = []
    for i in range(0, len(images), batch):
        encoded = vae.encode(tensor(images[i : i + batch]))
        if isinstance(vae, VQModel):
            decoded = vae.decode(encoded.latents, force_not_quantize=True)
        else:
            decoded = vae.decode(encoded.latent_dist.mode())
        back += as_images(decoded.sample)
    return back


def psnr(results: Sequence, truths: Sequence) -> float:
    """Mean peak signal-to-noise ratio of images against the true ones, dB."""
    values = []
    for result, truth in zip(results, truths, strict=True):
        error = np.asarray(result, dtype=np.float64) - np.asarray(truth, dtype=np.float64)
        values.append(10 * np.log10(255**2 / max(1e-9, np.square(error).mean())))
    return float(np.mean(values))
