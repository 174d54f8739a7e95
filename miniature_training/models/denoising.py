"""How the UNets and ControlNets are trained: noisy latents, their prompts, and the error on the noise."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler

from miniature_training.models.loop import device
from miniature_training.recipes import text
from miniature_training.world.scenes import Scene

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
EARLY = 20.0  # how much more an error counts at most where there is much noise


def signal() -> torch.Tensor:
    """The share of the signal in the squared latents after each step of noise (1000,), falling."""
    return DDPMScheduler(**SCHEDULE).alphas_cumprod.to(device())


def noised(
    clean: torch.Tensor, alphas: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents (B, 4, h, w) -> with noise of a random step, that noise, the step (B,), its signal-to-noise (B,)."""
    noise = torch.randn(clean.shape, generator=generator).to(clean.device)
    t = torch.randint(0, len(alphas), (len(clean),), generator=generator).to(clean.device)
    alpha = alphas[t].view(-1, 1, 1, 1)
    return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, noise, t, (alpha / (1 - alpha)).flatten()


def pool(scenes: list[Scene]) -> torch.Tensor:
    """The numbers of the scenes to draw from, cats three times: they sit, show their faces or take a bench.

    That is three drawings to learn where the other subjects have one.
    """
    return torch.tensor([i for i, scene in enumerate(scenes) for _ in range(3 if scene.subject == "cat" else 1)])


def weight_of(snr: torch.Tensor, *, early: float = 1.0) -> torch.Tensor:
    """How much the error on the noise counts at a signal-to-noise ratio: min(SNR, 5) / SNR (arXiv 2303.09556).

    early: where there is more noise than signal, the error on the noise says little of that on the clean latents,
    which decides the image's shapes; it counts 1 + 1 / SNR times as much, at most this many times.
    """
    return snr.clamp(max=5) / snr * (1 + 1 / snr).clamp(max=early)


def half_outside(mask: torch.Tensor) -> torch.Tensor:
    """How much each latent's error counts, for masks (B, 1, h, w) of what is repainted: the rest half, 1 on average."""
    share = (1 + mask) / 2
    return share / share.mean((1, 2, 3), keepdim=True)


def epsilon_loss(
    predicted: torch.Tensor,
    noise: torch.Tensor,
    snr: torch.Tensor,
    counts: torch.Tensor | None = None,
    *,
    early: float = 1.0,
) -> torch.Tensor:
    """Mean squared error on the noise, weighted by `weight_of`; counts: how much each latent's (B, 1, h, w) counts."""
    error = F.mse_loss(predicted, noise, reduction="none")
    if counts is not None:
        error = error * counts
    return (error.mean((1, 2, 3)) * weight_of(snr, early=early)).mean()


class Denoising:
    """sd15's noise schedule, tokenizer and text encoder, on the device and frozen."""

    def __init__(self) -> None:
        self.tokenizer, encoder = text.load()
        self.encoder = encoder.to(device()).eval().requires_grad_(False)
        self.alphas = signal()

    @torch.no_grad()
    def states(self, texts: list[str]) -> torch.Tensor:
        """What the UNet reads of the captions, (B, 77, width)."""
        return self.encoder(text.tokens(self.tokenizer, texts).to(device())).last_hidden_state

    def noised(
        self, clean: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """`noised` with sd15's schedule."""
        return noised(clean, self.alphas, generator)
