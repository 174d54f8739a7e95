"""The VAE of the miniatures: 8x, 4 channels, trained on crops of drawn images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from diffusers import AutoencoderKL

from miniature_training.models import pixels
from miniature_training.models.dataset import drawn_images, held_out, styled_images
from miniature_training.models.loop import Training, device, leader_first
from miniature_training.models.pixels import tensor
from miniature_training.models.store import load_component, save_component, shipped
from miniature_training.world.looks import LOOKS

CROP, BATCH = 64, 8
STYLED = 0.15  # this share comes from the styles of the restyling chapters, which share this VAE
FOCUS = 0.6  # this share of the crops lies on a subject: a sky is learnt soon, a cat's eyes are not

Picked = tuple[np.ndarray, np.ndarray, int]  # images (N, H, W, 3), their subject masks (N, H, W), and which one


def build() -> AutoencoderKL:
    channels = (16, 32, 64, 64)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,  # more groups would take the absolute colour out of 16 channels
        mid_block_add_attention=False,
        sample_size=128,
        scaling_factor=1.0,
    )


def gradients(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]


def reconstruction_loss(result: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """L1 + 4 MSE + edges, (B, 3, H, W) in -1..1; `weight` (B, 1, H, W) leans on subjects."""
    error = (result - target) * weight
    edges = sum((a - b).abs().mean() for a, b in zip(gradients(result), gradients(target), strict=False))
    return error.abs().mean() + 4 * error.square().mean() + 0.5 * edges


def corner(mask: np.ndarray, generator: torch.Generator) -> tuple[int, int]:
    """Top and left of a crop of an image with this subject mask (H, W): anywhere, or (`FOCUS`) around the subject."""
    last = mask.shape[0] - CROP
    y, x = torch.randint(0, last + 1, (2,), generator=generator).tolist()
    seen = np.argwhere(mask[::8, ::8] > 127)
    if len(seen) and torch.rand((), generator=generator).item() < FOCUS:
        one, dy, dx = torch.randint(0, 1 << 20, (3,), generator=generator).tolist()
        centre = seen[one % len(seen)] * 8 + (dy % 33 - 16, dx % 33 - 16)
        y, x = (int(v) for v in np.clip(centre - CROP // 2, 0, last))
    return y, x


def crops(
    pick: Callable[[torch.Generator], Picked], generator: torch.Generator, *, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Crops of picked images (B, 3, CROP, CROP) in -1..1, and by how much each pixel counts (B, 1, CROP, CROP)."""
    images, subjects = [], []
    for _ in range(count):
        rgb, mask, i = pick(generator)
        y, x = corner(mask[i], generator)
        images.append(rgb[i, y : y + CROP, x : x + CROP])
        subjects.append(mask[i, y : y + CROP, x : x + CROP])
    return tensor(images), 1 + 0.5 * torch.from_numpy(np.stack(subjects))[:, None].to(device()).float() / 255


def train(*, minutes: float, steps: int | None = None, resume: bool = False, count: int = 12_000) -> None:
    """Train a VAE from the start, or further; its decoder goes on alone afterwards (decoder.py)."""
    with leader_first():
        rgb, mask = drawn_images(count)
        styles = [styled_images(style, count // 12) for style in LOOKS]
    vae = load_component("vae", AutoencoderKL) if resume and shipped("vae") else build()
    vae.to(memory_format=torch.channels_last)
    lr = 3e-3 if minutes > 25 else 1.5e-3  # a short box goes on from a good place: gently
    training = Training("vae", {"vae": vae}, lr=lr, weight_decay=0.0, muon=True)
    if resume:
        training.resume()

    def pick(generator: torch.Generator) -> Picked:
        style, i = torch.randint(0, 1 << 20, (2,), generator=generator).tolist()
        restyled = torch.rand((), generator=generator).item() < STYLED
        source = styles[style % len(styles)] if restyled else rgb
        return source, mask, i % len(source)

    def loss(generator: torch.Generator) -> torch.Tensor:
        x, weight = crops(pick, generator, count=BATCH)
        posterior = vae.encode(x).latent_dist
        result = vae.decode(posterior.sample()).sample
        return reconstruction_loss(result, x, weight) + 1e-4 * posterior.kl().mean() / posterior.mean[0].numel()

    def report() -> None:
        print(f"\nheld-out PSNR {psnr(training.average['vae'], 64):.2f} dB", flush=True)

    training.run(loss, minutes=minutes, steps=steps, on_checkpoint=report, checkpoint_minutes=5)
    vae = training.average["vae"]
    with torch.no_grad():
        x = tensor(rgb[:256])
        latents = torch.cat([vae.encode(part).latent_dist.mode() for part in x.split(32)])
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    save_component("vae", vae)


def psnr(vae: AutoencoderKL, count: int = 200) -> float:
    """Mean PSNR (dB) of the round trip over held-out, undegraded scenes."""
    drawn = [drawing.image for drawing in held_out(count, degraded=False)]
    return pixels.psnr(pixels.round_trip(vae, drawn), drawn)
