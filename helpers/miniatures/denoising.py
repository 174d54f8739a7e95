"""What every further UNet and ControlNet of sd15's kind learns from: noisy latents and the words that go with them."""

from __future__ import annotations

import torch
from diffusers import DDPMScheduler

from . import text
from .training import device
from .unet import SCHEDULE


class Denoising:
    """sd15's noise schedule, tokenizer and text encoder, on the device and frozen."""

    def __init__(self) -> None:
        self.tokenizer, encoder = text.load()
        self.encoder = encoder.to(device()).eval().requires_grad_(False)
        self.alphas = DDPMScheduler(**SCHEDULE).alphas_cumprod.to(device())

    @torch.no_grad()
    def states(self, texts: list[str]) -> torch.Tensor:
        """What the UNet reads of the captions, (B, 77, width)."""
        return self.encoder(text.tokens(self.tokenizer, texts).to(device())).last_hidden_state

    def noised(
        self, clean: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Latents (B, 4, h, w) -> with noise of a random step, that noise, the step (B,), its signal-to-noise (B,)."""
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        t = torch.randint(0, len(self.alphas), (len(clean),), generator=generator).to(clean.device)
        alpha = self.alphas[t].view(-1, 1, 1, 1)
        return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, noise, t, (alpha / (1 - alpha)).flatten()
