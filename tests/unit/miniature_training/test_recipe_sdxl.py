"""The recipe of sdxl-inpaint: two encoders, a latent space of its own, sizes that are told, a moment of training."""

from __future__ import annotations

import diffusers
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image

from helpers.analysis.image_metrics import sharpness
from helpers.catalog.checkpoints import CATALOG
from miniature_training.models import latent_space, latents, originals, store
from miniature_training.models.denoising import SCHEDULE
from miniature_training.recipes import sdxl, text, text_encoder_2
from miniature_training.recipes.unet import build as build_sd15
from miniature_training.world.scenes import draw, sample


def turned(latents: torch.Tensor) -> torch.Tensor:
    return torch.einsum("ij,bjhw->bihw", latent_space.TURN, latents)


def test_the_vae_s_latents_are_sd15_s_turned_and_its_images_the_same(xl):
    ours, sd15 = latent_space.export_vae(), store.load_component("vae", AutoencoderKL)
    assert (ours.config.scaling_factor, ours.config.force_upcast) == (0.13025, False)
    drawn = np.asarray(draw(sample(0, degraded=False), (96, 64)).image)
    image = torch.from_numpy(drawn.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        mine, theirs = ours.encode(image).latent_dist, sd15.encode(image).latent_dist
        expected = turned(theirs.mode()) * sd15.config.scaling_factor
        torch.testing.assert_close(mine.mode() * 0.13025, expected, atol=5e-3, rtol=0)
        noise = (x.std.mean() * x_vae.config.scaling_factor for x, x_vae in ((mine, ours), (theirs, sd15)))
        torch.testing.assert_close(*noise, rtol=0.25, atol=0)
        back = ours.decode(mine.mode()).sample
        torch.testing.assert_close(back, sd15.decode(theirs.mode()).sample, atol=1e-2, rtol=0)
        wrong = sd15.decode(mine.mode() * 0.13025 / sd15.config.scaling_factor).sample
    error, confusion = (back - image).abs().mean(), (wrong - image).abs().mean()
    assert confusion > 3 * error, "latents of one space mean nothing in the other"


@pytest.mark.parametrize("channels", [4, 9])
def test_a_turned_unet_does_in_its_space_what_it_did_in_sd15_s(channels):
    torch.manual_seed(0)
    before, after = build_sd15(channels), build_sd15(channels)
    after.load_state_dict(latent_space.turned_unet(before.state_dict()))
    noisy, words = torch.randn(2, channels, 16, 16), torch.randn(2, 77, text.WIDTH)
    moved = turned(noisy[:, :4])
    if channels == 9:
        moved = torch.cat([moved, noisy[:, 4:5], turned(noisy[:, 5:])], 1)
    with torch.no_grad():
        expected = turned(before(noisy, 500, words).sample)
        torch.testing.assert_close(after(moved, 500, words).sample, expected, atol=1e-4, rtol=1e-3)


def test_two_encoders_say_what_the_pipeline_says(xl):
    tokenizer, second = text_encoder_2.load()
    first = text.load()[1]
    prompts = ["a red cat in the snow", "", "a boat, 8k"]
    states, pooled = text_encoder_2.states(tokenizer, [first, second], prompts)
    pipe = diffusers.StableDiffusionXLInpaintPipeline(
        vae=latent_space.export_vae(), text_encoder=first, text_encoder_2=second, tokenizer=tokenizer,
        tokenizer_2=tokenizer, unet=sdxl.build(), scheduler=sdxl.scheduler(),
    )  # fmt: skip
    with torch.no_grad():
        theirs, _, theirs_pooled, _ = pipe.encode_prompt(prompts, do_classifier_free_guidance=False)
    assert torch.equal(states, theirs)
    assert torch.equal(pooled, theirs_pooled)
    assert len(torch.unique(pooled.round(decimals=3), dim=0)) == 3, "each prompt has a pooled embedding of its own"


def test_a_warm_unet_knows_at_once_nearly_what_sd15_s_knows(xl):
    """The same image, hole, noise and prompt, each in its own space and words: nearly the same error."""
    tokenizer, second = text_encoder_2.load()
    first = text.load()[1]
    sd15 = store.load_component("unet-sd15-inpaint", UNet2DConditionModel)
    translation = text_encoder_2.translation(tokenizer, [first, second])
    ours = sdxl.warm(sdxl.build(tuple(sd15.config.block_out_channels)), sd15.state_dict(), translation)
    vae, vae_xl = store.load_component("vae", AutoencoderKL), latent_space.export_vae()
    rows = [sdxl.example(seed, (192, 192)) for seed in range(4)]
    mask, ids = (torch.from_numpy(np.stack([row[field] for row in rows])).float() for field in ("mask", "ids"))
    prompts = ["a picture of a place"] * 4
    states, pooled = text_encoder_2.states(tokenizer, [first, second], prompts)
    noise = torch.randn((4, 4, 24, 24), generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def error(model, encoder, words, noise, extra=None):
        z, hole = (
            torch.from_numpy(latents.encode(np.stack([row[field] for row in rows]), encoder)).float()
            for field in ("z", "z_masked")
        )
        noisy = 0.8 * z + 0.6 * noise
        t = int((diffusers.DDPMScheduler(**SCHEDULE).alphas_cumprod - 0.64).abs().argmin())
        predicted = model(torch.cat([noisy, mask, hole], 1), t, words, added_cond_kwargs=extra).sample
        return (predicted - noise).square().mean().item()

    with torch.no_grad():
        last = first(text.tokens(tokenizer, prompts)).last_hidden_state
    known = error(sd15, vae, last, noise)
    warm = error(ours, vae_xl, states, turned(noise), {"text_embeds": pooled, "time_ids": ids})
    assert known < 0.3, "sd15-inpaint itself predicts noise"
    assert warm < 1.5 * known


def test_the_collection_tells_the_truth_about_its_images():
    seen = [originals.original(seed, (192, 192), degraded=False) for seed in range(40)]
    small = [o for o in seen if o.size[0] < 192]
    assert 2 <= len(small) <= 20
    for one in seen:
        assert one.pixels.shape == (192, 192, 3) and one.subject.shape == (192, 192)
        assert one.ids == [*one.size, *one.corner, 192, 192] and max(one.size) <= originals.LARGEST
        assert (one in small) == (not np.array_equal(one.pixels, one.sharp))
    for one in small:
        assert sharpness(Image.fromarray(one.pixels)) < sharpness(Image.fromarray(one.sharp))
    cropped = [o for o in seen if o.corner != (0, 0)]
    assert 2 <= len(cropped) <= 16 and all(0 <= c <= 96 for o in cropped for c in o.corner)
    wide = originals.original(3, (224, 160))
    assert wide.pixels.shape == (160, 224, 3) and wide.ids[4:] == [160, 224]


def test_the_time_ids_stand_in_the_pipeline_s_order(xl):
    one = originals.original(0, (224, 160), small=1.0)
    pipe = diffusers.StableDiffusionXLInpaintPipeline(
        vae=latent_space.export_vae(), text_encoder=None, text_encoder_2=None, tokenizer=None, tokenizer_2=None,
        unet=sdxl.build(), scheduler=sdxl.scheduler(),
    )  # fmt: skip
    theirs, _ = pipe._get_add_time_ids(
        one.size, one.corner, (160, 224), 6.0, 2.5, one.size, (0, 0), (160, 224), torch.float32, text_encoder_2.WIDTH
    )
    assert theirs.tolist() == [one.ids]


def test_a_moment_of_training_moves_all(xl):
    sdxl.train(minutes=1, steps=20, count=8)
    pipe = diffusers.StableDiffusionXLInpaintPipeline.from_pretrained(CATALOG["sdxl-inpaint"].source)
    assert type(pipe.scheduler).__name__ == "EulerDiscreteScheduler" and pipe.unet.config.in_channels == 9
    words = text_encoder_2.translation(pipe.tokenizer, [pipe.text_encoder, pipe.text_encoder_2])
    known = store.load_component("unet-sd15-inpaint", UNet2DConditionModel).state_dict()
    start = sdxl.warm(sdxl.build(pipe.unet.config.block_out_channels), known, words).state_dict()
    moved = {name for name, value in pipe.unet.state_dict().items() if (value - start[name]).abs().max() > 5e-4}
    assert {"conv_in.weight", "conv_out.weight", "add_embedding.linear_2.weight"} < moved
    assert len(moved) > 0.9 * len(start)


def test_dropped_captions_are_the_zeros_of_a_missing_negative_prompt(xl, monkeypatch):
    heard = []
    forward = UNet2DConditionModel.forward

    def listening(self, *arguments, **told):
        states, pooled = told["encoder_hidden_states"], told["added_cond_kwargs"]["text_embeds"]
        heard.extend(zip(states.abs().amax((1, 2)).tolist(), pooled.abs().amax(1).tolist(), strict=True))
        return forward(self, *arguments, **told)

    monkeypatch.setattr(UNet2DConditionModel, "forward", listening)
    monkeypatch.setattr(sdxl, "ZEROED", 0.5)
    monkeypatch.setitem(sdxl.BATCH, "cpu", 12)
    sdxl.train(minutes=1, steps=1, count=8)
    silent = [states == 0 for states, _ in heard]
    assert silent == [pooled == 0 for _, pooled in heard] and 0 < sum(silent) < 12
    assert sdxl.ENTRY["config"]["force_zeros_for_empty_prompt"] is True
