"""Latents of drawn images, encoded once by the VAE of sd15 (or another) and kept until its encoder changes."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from tqdm import tqdm

from miniature_training.models.dataset import drawn_images
from miniature_training.models.loop import device
from miniature_training.models.store import kept, load_component
from miniature_training.world.strokes import training_mask

BATCH = {"cpu": 32, "cuda": 250}


def weights_key(*modules: nn.Module) -> str:
    """Twelve hexadecimal digits that change with the weights: they name a cache of what these modules made."""
    weights = (p.detach().cpu().numpy().tobytes() for module in modules for p in module.parameters())
    return hashlib.sha256(b"".join(weights)).hexdigest()[:12]


def encoder_key() -> str:
    """The key of the shipped VAE's encoder; a VAE whose decoder alone was trained further keeps its latents."""
    return weights_key(load_component("vae", AutoencoderKL).encoder)


@torch.no_grad()
def encode(images: np.ndarray, vae: AutoencoderKL, *, batch: int | None = None) -> np.ndarray:
    """Images (N, H, W, 3) uint8 -> scaled posterior means (N, 4, H/8, W/8) float16."""
    vae.to(device(), memory_format=torch.channels_last).eval()
    batch, parts = batch or BATCH[device().type], []
    for i in tqdm(range(0, len(images), batch), desc="encoding", unit="batch", mininterval=10):
        part = torch.from_numpy(np.array(images[i : i + batch])).permute(0, 3, 1, 2)
        x = (part.to(device()).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        z = vae.encode(x).latent_dist.mode() * vae.config.scaling_factor
        parts.append(z.half().contiguous().cpu().numpy())
    return np.concatenate(parts)


def latents(count: int, *, first: int = 0) -> np.ndarray:
    """Latents (N, 4, h, w) of the training images `first` to `first + count`."""

    def make() -> np.ndarray:
        return encode(drawn_images(count, first=first)[0], load_component("vae", AutoencoderKL))

    return kept(f"latents/{encoder_key()}-{first}-{count}.npy", make)


def masked_latents(count: int, *, first: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latents of masked images (N, 4, h, w), masks (N, 1, h, w), and whether each touches its subject (N,)."""

    def make() -> dict[str, np.ndarray]:
        rgb, subject = drawn_images(count, first=first)
        masks = np.stack([training_mask(subject[i], random.Random(first + i)) for i in range(count)])
        grey = np.where(masks[..., None], np.uint8(127), rgb)
        touched = [(m & (s > 0)).sum() > 0.25 * max(1, (s > 0).sum()) for m, s in zip(masks, subject, strict=True)]
        z = encode(grey, load_component("vae", AutoencoderKL))
        return {"z": z, "mask": masks[:, None, ::8, ::8], "touched": np.array(touched)}

    data = kept(f"latents/{encoder_key()}-{first}-{count}-masked.npz", make)
    return data["z"], data["mask"], data["touched"]
