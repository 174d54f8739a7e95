"""The recipe of sdxl-refiner: what the score means, softness as noise, a moment of training, latents handed over."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    UNet2DConditionModel,
)
from PIL import Image

from helpers.analysis.image_metrics import sharpness
from miniature_training.models import latent_space, latents, store
from miniature_training.recipes import refiner, sdxl, text_encoder_2, unet
from miniature_training.world.scenes import draw, sample


@pytest.mark.parametrize("widths", [unet.NARROW, unet.WIDTHS])
def test_it_takes_the_two_finer_levels_of_any_sd15(widths):
    given, model = refiner.upper(unet.build(4, widths).state_dict()), refiner.build(widths[:2])
    state = model.state_dict()
    other = [key for key, value in given.items() if key not in state or state[key].shape != value.shape]
    left = {"attn2.to_k", "attn2.to_v", "down_blocks.1.downsamplers"}  # two encoders' prompts, and the third level
    assert all(any(part in key for part in left) for key in other)
    assert {key.split(".")[0] for key in state.keys() - given.keys()} == {"add_embedding"}


def test_a_better_score_keeps_less_softness():
    shares = refiner.kept(torch.tensor([0.0, 1.0, 2.5, 4.0, 6.0, 9.0])).tolist()
    assert shares == sorted(shares, reverse=True)
    assert shares[1] == pytest.approx(0.3) and 0.05 < shares[2] < 0.12 and shares[4] == shares[5] == 0
    default_guidance = 5.0
    assert abs(shares[4] + (default_guidance - 1) * (shares[4] - shares[2])) < 0.5, "guided, it does not overshoot"


def test_euler_s_steps_lead_from_a_soft_image_to_the_clean_one():
    """Whoever predicts the bent noise arrives, from any step of training's range and in any number of steps."""
    torch.manual_seed(0)
    clean, given, noise = torch.randn(3, 1, 4, 8, 8)
    for steps, skipped in ((20, 14), (50, 36)):
        scheduler = sdxl.scheduler()
        scheduler.set_timesteps(steps)
        scheduler.set_begin_index(skipped)
        times = scheduler.timesteps[skipped:]
        assert times[0] < refiner.STEPS
        state = scheduler.add_noise(given, noise, times[:1])
        predicted = refiner.bent(noise, given, clean, sigma=scheduler.sigmas[skipped])
        for t in times:
            state = scheduler.step(predicted, t, state).prev_sample
        torch.testing.assert_close(state, clean, atol=1e-4, rtol=1e-4)


def test_more_softening_leaves_less_sharpness():
    pixels = np.asarray(draw(sample(1, degraded=False), 192).image)
    for seed in range(4):
        left = [sharpness(Image.fromarray(refiner.soften(pixels, a, random.Random(seed)))) for a in (0.0, 0.5, 1.0)]
        assert sharpness(Image.fromarray(pixels)) > left[0] > left[1] > left[2]


def test_a_warm_unet_knows_little_noise_when_it_sees_it(xl):
    tokenizer, second = text_encoder_2.load()
    sd15 = store.load_component("unet-sd15", UNet2DConditionModel)
    translation = text_encoder_2.translation(tokenizer, [second])
    widths = tuple(sd15.config.block_out_channels[:2])
    model = sdxl.warm(refiner.build(widths), refiner.upper(sd15.state_dict()), translation)
    rows = np.stack([refiner.example(seed, (192, 192))["z"] for seed in range(4)])
    vae = latent_space.export_vae()
    assert isinstance(vae, AutoencoderKL)
    z = torch.from_numpy(latents.encode(rows, vae)).float()
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    states, pooled = text_encoder_2.states(tokenizer, [second], ["a picture"] * 4)
    told = {"text_embeds": pooled, "time_ids": torch.tensor([[192.0, 192, 0, 0, 6]] * 4)}
    with torch.no_grad():
        predicted = model(0.8 * z + 0.6 * noise, 250, states, added_cond_kwargs=told).sample
    assert (predicted - noise).square().mean() < 0.6, "1.0 is what it costs to know nothing"


def test_training_tells_every_score_and_the_late_steps_alone(xl, monkeypatch):
    seen = []
    forward = UNet2DConditionModel.forward

    def listening(self, noisy, t, **told):
        seen.append((t, told["added_cond_kwargs"]["time_ids"]))
        return forward(self, noisy, t, **told)

    monkeypatch.setattr(UNet2DConditionModel, "forward", listening)
    refiner.train(minutes=1, steps=4, count=8)
    steps, ids = torch.cat([t for t, _ in seen]), torch.cat([ids for _, ids in seen])
    assert steps.max() < refiner.STEPS and ids.shape == (8, 5) and (ids[:, :2] >= 192).all()
    assert ids[:, 4].min() >= 1 and ids[:, 4].max() <= 7.5 and len(ids[:, 4].unique()) == 8
