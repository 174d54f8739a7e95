"""A small critic of patches: it tells drawings from what a decoder makes of their latents, or finished latents from
a student's.

Hinge loss (https://arxiv.org/abs/1705.02894) on spectrally normalised convolutions; the model also matches what the
critic's layers see, which says more than its verdict (https://arxiv.org/abs/1512.09300).
"""

from __future__ import annotations

from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

GAIN = 3.0  # spectral norms let no layer enlarge what it is given, and blur is a small difference


class Critic(nn.Module):
    """Images (B, 3, H, W) in -1..1 -> verdicts (B, 1, H/8, W/8), each on a patch of 54 pixels, and the layers' maps.

    latent: of latents (B, 4, h, w) instead, a verdict on each patch of 11 of them.
    """

    def __init__(self, width: int = 32, *, latent: bool = False) -> None:
        super().__init__()
        widths = (4 if latent else 3, width, 2 * width, 4 * width, 4 * width)
        strides = (1, 1, 1, 1) if latent else (2, 2, 2, 1)
        kinds = zip(widths, widths[1:], strides, strict=False)
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 3 + (stride > 1), stride, 1)) for a, b, stride in kinds
        )
        self.verdict = spectral_norm(nn.Conv2d(4 * width, 1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        x, maps = GAIN * x, []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            maps.append(x)
        return self.verdict(x), maps


@contextmanager
def _frozen(critic: nn.Module):
    critic.requires_grad_(False)
    yield
    critic.requires_grad_(True)


def losses(critic: Critic, made: torch.Tensor, drawn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The critic's own loss; how far the layers' maps are apart; how little the critic believes what was made.

    The first teaches the critic alone, the other two the model alone, so one backward pass serves both.
    """
    drawn_verdict, drawn_maps = critic(drawn)
    own = F.relu(1 - drawn_verdict).mean() + F.relu(1 + critic(made.detach())[0]).mean()
    with _frozen(critic):
        verdict, maps = critic(made)
    apart = sum((a - b.detach()).abs().mean() for a, b in zip(maps, drawn_maps, strict=True))
    return own, apart, -verdict.mean()
