"""MoVQ's recipe: the VAE's latents, turned; a decoder that starts near the VAE's; a step, not a training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from miniature_training.models import latent_space, store
from miniature_training.models.dataset import held_out
from miniature_training.recipes import movq


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    drawn = np.stack([np.asarray(drawing.image) for drawing in held_out(6, degraded=False)])
    return torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 127.5 - 1


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    return store.load_component("vae", AutoencoderKL).eval()


def test_its_latent_space_is_turned_from_the_vae_s_and_not_sdxl_s():
    turn = movq.rotation()
    assert torch.allclose(turn @ turn.T, torch.eye(4), atol=1e-5)
    assert torch.equal(turn, movq.rotation())
    for other in (torch.eye(4), latent_space.TURN):
        assert torch.linalg.svdvals(turn - other).max() > 0.5


@torch.no_grad()
def test_it_starts_as_the_vae_nearly(vae, x):
    torch.manual_seed(0)
    model, seen, unseen = movq.start(vae, x[:4]), x[:4], x[4:]
    wanted = movq.turned(vae.encode(unseen).latent_dist.mode() * vae.config.scaling_factor)
    latents = model.encode(unseen).latents
    assert (latents - wanted).square().mean() < 0.02
    assert latents.std() == pytest.approx(1, abs=0.25), "unit variance, for nothing scales it"
    fresh = movq.build().eval()
    error = [(m.decode(latents, force_not_quantize=True).sample - unseen).square().mean() for m in (model, fresh)]
    assert error[0] < 0.3 * error[1]
    assert error[0] < 0.12, "15 dB and more before any training"
    assert len(seen) == 4


@torch.no_grad()
def test_its_codes_are_the_means_of_the_latents_around_them():
    torch.manual_seed(0)
    model = movq.build()
    centres = 3 * torch.randn(movq.CODES, 4)
    points = (centres[:, None] + 0.01 * torch.randn(movq.CODES, 8, 4)).flatten(0, 1)
    movq.learn_codes(model, points)
    away = torch.cdist(points, model.quantize.embedding.weight).amin(1)
    assert (away < 0.1).float().mean() > 0.6, "k-means finds most of the clusters"
    assert away.mean() < 0.5 * torch.cdist(points, points[: movq.CODES]).amin(1).mean()
