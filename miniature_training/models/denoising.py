"""How the UNets and ControlNets of sd15's kind are trained: noisy latents, and the words that go with them."""

from __future__ import annotations

import torch
from diffusers import DDPMScheduler

from miniature_training.models.loop import device
from miniature_training.recipes import text
from miniature_training.world.scenes import Scene

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}


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
