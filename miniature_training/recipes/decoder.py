"""The VAE's decoder trained further, its encoder frozen: sharp, and tolerant of latents that a UNet left imprecise.

What decides alone on squared errors paints the mean of what may have been, which is blur. So a critic of patches has a
say beside the errors; and the latents are made noisy, by an amount that differs from image to image.
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderKL

from miniature_training.evaluation.ruler import named, ruler
from miniature_training.models.critic import Critic, losses
from miniature_training.models.dataset import drawn_images, styled_images
from miniature_training.models.latents import encode
from miniature_training.models.loop import Training, constant, decay, leader_first
from miniature_training.models.pixels import round_trip, tensor
from miniature_training.models.store import load_component, save_component
from miniature_training.recipes.vae import STYLED, Picked, gradients, psnr
from miniature_training.world.looks import LOOKS
from miniature_training.world.scenes import draw

BATCH = 2  # whole images: crops would have edges of their own
ALONE = 300  # steps in which only the critic learns: one that has seen nothing yet would teach blur
NOISE = 0.25  # at most, of the latents' deviation
MAPS, VERDICT = 0.5, 0.03  # how much the critic's maps and its verdict count beside the errors


def roughened(z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Latents (B, 4, h, w) with noise: none for a third of them, mostly little for the rest."""
    amount = (1.5 * torch.rand((len(z), 1, 1, 1), generator=generator) - 0.5).clamp(min=0).square() * NOISE
    return z + amount.to(z.device) * z.std() * torch.randn(z.shape, generator=generator).to(z.device)


def apart(made: torch.Tensor, drawn: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """L1 of pixels and edges, (B, 3, H, W) in -1..1; no squares, which would rather blur an edge than misplace it."""
    edges = sum((a - b).abs().mean() for a, b in zip(gradients(made), gradients(drawn), strict=True))
    return ((made - drawn) * weight).abs().mean() + 0.5 * edges


def figures(vae: AutoencoderKL | None = None, count: int = 120) -> dict[str, float]:
    """PSNR of the round trip (dB), and the ruler's figures of what comes back."""
    vae = vae or load_component("vae", AutoencoderKL)
    drawings = [draw(scene, truth=False).image for _, scene in named(count)]
    return {"psnr_db": psnr(vae, 300)} | ruler()(round_trip(vae, drawings))


def train(
    *, minutes: float, steps: int | None = None, resume: bool = False, count: int = 12_000, last: bool = False
) -> None:
    """Train the decoder of the shipped VAE further."""
    vae = load_component("vae", AutoencoderKL)
    with leader_first():
        rgb, mask = drawn_images(count)
        drawn = [(rgb, mask), *((styled_images(style, count // 12), mask) for style in LOOKS)]
        latents = [torch.from_numpy(encode(images, vae)) / vae.config.scaling_factor for images, _ in drawn]
    vae.requires_grad_(False)
    vae.decoder.requires_grad_(True)
    vae.post_quant_conv.requires_grad_(True)
    critic = Critic()
    for module in (vae, critic):
        module.to(memory_format=torch.channels_last)
    modules = {"vae": vae, "critic": critic}
    training = Training("vae-decoder", modules, lr=4e-4, weight_decay=0.0, betas=(0.5, 0.99), ema_decay=0.9985)
    if resume:
        training.resume()
    parts: dict[str, float] = {}

    def pick(generator: torch.Generator) -> tuple[Picked, torch.Tensor]:
        kind, i = torch.randint(0, 1 << 20, (2,), generator=generator).tolist()
        restyled = torch.rand((), generator=generator).item() < STYLED
        k = 1 + kind % len(LOOKS) if restyled else 0
        i %= len(latents[k])
        return (*drawn[k], i), latents[k][i]

    def loss(generator: torch.Generator) -> torch.Tensor:
        chosen, z = zip(*(pick(generator) for _ in range(BATCH)), strict=True)
        x = tensor([images[i] for images, _, i in chosen])
        weight = 1 + 0.5 * torch.from_numpy(np.stack([masks[i] for _, masks, i in chosen]))[:, None].to(x) / 255
        alone = training.step < ALONE
        with torch.set_grad_enabled(not alone):
            made = vae.decode(roughened(torch.stack(z).to(x), generator)).sample
        errors = apart(made, x, weight)
        own, maps, verdict = losses(critic, made, x)
        for key, value in {"errors": errors, "critic": own, "maps": maps, "verdict": verdict}.items():
            parts[key] = 0.98 * parts.get(key, value.item()) + 0.02 * value.item()
        return own if alone else own + errors + MAPS * maps + VERDICT * verdict

    def export() -> None:
        save_component("vae", training.average["vae"])  # the latents stay the same, so it may be used already
        told = {key: round(value, 3) for key, value in parts.items()}
        print(f"\nstep {training.step}, {training.seconds / 60:.0f} minutes: {told}", flush=True)

    rate = decay if last else constant
    training.run(loss, minutes=minutes, steps=steps, rate=rate, on_checkpoint=export)
    export()
    print(figures(training.average["vae"]))
