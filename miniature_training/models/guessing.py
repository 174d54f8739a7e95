"""What an unsure UNet makes of drawings: its first guess of the clean image, out of much noise."""

from __future__ import annotations

import random
from functools import partial

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from miniature_training.models import spoiling
from miniature_training.models.denoising import Denoising
from miniature_training.models.latents import encode
from miniature_training.models.pixels import as_images
from miniature_training.models.store import kept, load_component
from miniature_training.world.captions import caption
from miniature_training.world.scenes import draw, sample

EARLIEST, LATEST = 400, 900  # timesteps
BATCH = 32


@torch.no_grad()
def _guess(count: int, first: int, size: int) -> dict[str, np.ndarray]:
    vae, unet = load_component("vae", AutoencoderKL), load_component("unet-sd15", UNet2DConditionModel).eval()
    denoising, generator = Denoising(), torch.Generator().manual_seed(first)
    scenes = (sample(seed, degraded=False) for seed in range(first, first + count))
    drawings = [draw(scene) for scene in scenes]
    images, left = [], []
    for i in range(0, count, BATCH):
        some = drawings[i : i + BATCH]
        z = torch.from_numpy(encode(np.stack([np.asarray(d.image) for d in some]), vae)).float()
        t = torch.randint(EARLIEST, LATEST, (len(some),), generator=generator)
        alpha = denoising.alphas[t].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * z + (1 - alpha).sqrt() * torch.randn(z.shape, generator=generator)
        states = denoising.states([caption(d.scene, random.Random(d.scene.seed)) for d in some])
        clean = (noisy - (1 - alpha).sqrt() * unet(noisy, t, encoder_hidden_states=states).sample) / alpha.sqrt()
        for drawing, image in zip(
            some, as_images(vae.decode(clean / vae.config["scaling_factor"]).sample), strict=True
        ):
            guess, seen = np.asarray(image), np.asarray(drawing.mask, np.float32) / 255
            sure = (seen > 0.5).sum() < 30
            left.append(1.0 if sure else spoiling.likeness(guess, np.asarray(drawing.image), seen, details=False))
            images.append(cv2.resize(guess, (size, size), interpolation=cv2.INTER_AREA))
    return {"images": np.stack(images), "left": np.array(left, np.float32)}


def guessed_images(count: int, *, first: int = 0, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Guesses (N, size, size, 3) uint8 of the scenes from seed `first` on, what is left of each subject (N,)."""
    data = kept(f"images-{size}/{first}-{count}-guessed.npz", partial(_guess, count, first, size))
    return data["images"], data["left"]
