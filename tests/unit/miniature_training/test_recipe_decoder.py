"""The decoder's critic and losses, and the latents that it learns to take."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from miniature_training.models.critic import Critic, losses
from miniature_training.models.pixels import tensor
from miniature_training.models.store import load_component
from miniature_training.recipes.decoder import Imprecision, apart
from miniature_training.world.scenes import HELD_OUT, draw, sample


def test_one_backward_pass_teaches_the_critic_and_the_decoder_each_its_own():
    torch.manual_seed(0)
    critic, drawn = Critic(8), torch.rand(2, 3, 32, 32)
    made = torch.rand(2, 3, 32, 32, requires_grad=True)
    own, maps, verdict = losses(critic, made, drawn)
    own.backward(retain_graph=True)
    assert made.grad is None, "the critic's own loss says nothing to the decoder"
    before = [p.grad.clone() for p in critic.parameters()]
    (maps + verdict).backward()
    assert made.grad.abs().sum() > 0
    assert all(torch.equal(p.grad, b) for p, b in zip(critic.parameters(), before, strict=True))
    assert all(p.requires_grad for p in critic.parameters())


def test_a_critic_learns_to_tell_blur():
    torch.manual_seed(0)
    critic, drawn = Critic(8), torch.rand(4, 3, 32, 32) * 2 - 1
    made = torch.nn.functional.avg_pool2d(drawn, 3, 1, 1)
    optimizer = torch.optim.Adam(critic.parameters(), 2e-3, betas=(0.5, 0.99))
    first = losses(critic, made, drawn)[0].item()
    for _ in range(60):
        optimizer.zero_grad()
        own, maps, _ = losses(critic, made, drawn)
        own.backward()
        optimizer.step()
    assert own.item() < 0.7 * first and maps.item() > 0


def test_a_third_of_the_latents_stays_as_it_is_and_the_rest_is_what_the_unets_make_of_it():
    vae = load_component("vae", AutoencoderKL)
    image = tensor([np.asarray(draw(sample(HELD_OUT), 128).image)])
    with torch.no_grad():
        z = vae.encode(image).latent_dist.mode()
    imprecise, generator = Imprecision(vae.config["scaling_factor"]), torch.Generator().manual_seed(0)
    off = torch.tensor([(imprecise(z, ["a house"], generator) - z).std() / z.std() for _ in range(60)])
    assert (off == 0).float().mean() == pytest.approx(1 / 3, abs=0.15)
    assert 0 < off[off > 0].median() < 0.3, "near what it was"


def test_a_misplaced_edge_costs_no_more_than_a_blurred_one():
    drawn = torch.ones(1, 3, 16, 16)
    drawn[..., 8:] = -1
    moved, blurred = drawn.roll(1, 3), drawn.clone()
    moved[..., 0] = 1
    blurred[..., 6:10] = torch.tensor([0.6, 0.2, -0.2, -0.6])
    weight = torch.ones(1, 1, 16, 16)
    assert apart(drawn, drawn, weight).item() == 0
    assert apart(moved, drawn, weight) < 1.5 * apart(blurred, drawn, weight)
