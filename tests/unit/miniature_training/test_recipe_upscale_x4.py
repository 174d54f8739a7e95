"""The recipes of upscale-x4 and its VAE: sizes, the latents' scale, the pipeline's arithmetic, a moment of training."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionUpscalePipeline, UNet2DConditionModel

from helpers.catalog.checkpoints import CATALOG
from miniature_training.models import store, upscaling
from miniature_training.recipes import upscale_x4, vae_x4


def seeded(model: torch.nn.Module) -> torch.nn.Module:
    """Other weights than the ones it was built with: none of them nothing, all of them small."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def untrained_course() -> None:
    """What the two trainings leave in data/miniatures, without them."""
    store.save_component(vae_x4.NAME, vae_x4.started())
    store.save_component(upscale_x4.NAME, seeded(upscale_x4.started()))
    store.save_component(upscale_x4.SCHEDULER, upscale_x4.scheduler())
    store.save_component(upscale_x4.LOW_RES, upscale_x4.low_res_scheduler())
    store.add_checkpoint("upscale-x4", upscale_x4.ENTRY)


def test_both_start_from_what_sd15_has_learnt(workshop):
    settings = {**store.load_component("unet-sd15", UNet2DConditionModel).config, "block_out_channels": (32, 64, 128)}
    store.save_component("unet-sd15", UNet2DConditionModel.from_config(settings))  # one of a width that fits
    theirs = store.load_component("unet-sd15", UNet2DConditionModel).state_dict()
    ours = upscale_x4.started().state_dict()
    assert torch.equal(ours["conv_in.weight"][:, :4], theirs["conv_in.weight"])
    for name in ("time_embedding.linear_2.weight", "down_blocks.0.resnets.0.conv1.weight"):
        assert torch.equal(ours[name], theirs[name]), name
    assert not ours["conv_out.weight"].any(), "it predicts another thing, and starts with nothing"
    theirs = store.load_component("vae", AutoencoderKL).state_dict()
    ours = vae_x4.started().state_dict()
    for name, was in {
        "encoder.down_blocks.1.resnets.0.conv1.weight": "encoder.down_blocks.1.resnets.0.conv1.weight",
        "decoder.up_blocks.2.resnets.0.conv1.weight": "decoder.up_blocks.3.resnets.0.conv1.weight",
        "decoder.up_blocks.1.upsamplers.0.conv.weight": "decoder.up_blocks.2.upsamplers.0.conv.weight",
        "decoder.conv_out.weight": "decoder.conv_out.weight",
    }.items():
        assert torch.equal(ours[name], theirs[was]), name
    assert not torch.equal(ours["quant_conv.weight"], theirs["quant_conv.weight"]), "the latents are its own"


def test_rescaled_latents_mean_the_same_images(workshop):
    vae, x = seeded(vae_x4.build()), torch.randn(2, 3, 32, 32)
    mean, factor = torch.tensor([0.5, -1.0, 0.0, 2.0]), torch.tensor([3.0, 12.0, 0.5, 1.0])
    with torch.no_grad():
        before = vae.encode(x).latent_dist
        image = vae.decode(before.mean).sample
        after = vae_x4.rescaled(vae, mean, factor).encode(x).latent_dist
        assert torch.allclose(after.mean, (before.mean - mean.view(1, 4, 1, 1)) * factor.view(1, 4, 1, 1), atol=1e-4)
        assert torch.allclose(after.std, before.std * factor.view(1, 4, 1, 1), rtol=1e-4)
        assert torch.allclose(vae.decode(after.mean).sample, image, atol=1e-4)


def test_the_pipeline_s_factor_gives_the_fitted_latents_unit_variance(workshop):
    images = np.stack([np.asarray(case.truth) for case in upscaling.cases(3, 4)])
    vae = vae_x4.fitted(vae_x4.started().eval(), images)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        z = vae.encode(x).latent_dist.mode() * 0.08333
    assert torch.allclose(z.mean((0, 2, 3)), torch.zeros(4), atol=1e-3)
    assert torch.allclose(z.std((0, 2, 3)), torch.ones(4), atol=1e-3)


@pytest.mark.parametrize("noise_level", [0, 20, 350])
def test_the_pipeline_and_the_recipe_agree_on_noise_and_on_v(workshop, noise_level):
    """One step of the pipeline, from pure noise, gives alpha x - sigma v: with the recipe's schedules, the same."""
    untrained_course()
    pipe = StableDiffusionUpscalePipeline.from_pretrained(CATALOG["upscale-x4"].source)
    assert pipe.vae.config.scaling_factor == 0.08333 and pipe.config.max_noise_level == 350
    pipe.set_progress_bar_config(disable=True)
    image = upscaling.cases(1, 4)[0].low.resize((32, 32))
    latents = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    theirs = pipe(
        "a red cat", image, num_inference_steps=1, guidance_scale=0, noise_level=noise_level, latents=latents,
        generator=torch.Generator().manual_seed(7), output_type="latent",
    ).images  # fmt: skip
    small = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
    level, last = torch.tensor([noise_level]), torch.tensor([999])
    rough = torch.randn(small.shape, generator=torch.Generator().manual_seed(7))
    small = upscale_x4.low_res_scheduler().add_noise(small, rough, level)
    states, _ = upscaling.said(["a red cat"], normed=True)
    alpha = upscale_x4.scheduler().alphas_cumprod[999]
    with torch.no_grad():
        v = pipe.unet(torch.cat([latents, small], 1), last, encoder_hidden_states=states, class_labels=level).sample
    assert torch.allclose(theirs, alpha.sqrt() * latents - (1 - alpha).sqrt() * v, atol=1e-4)


def test_the_schedules_start_from_noise_and_roughen_little():
    steps = upscale_x4.scheduler()
    steps.set_timesteps(20)
    assert steps.timesteps[0] == 999 and steps.alphas_cumprod[999] < 1e-3
    deviation = (1 - upscale_x4.low_res_scheduler().alphas_cumprod).sqrt()
    assert 0.04 < deviation[20] < 0.06 and 0.5 < deviation[350] < 0.7


def test_noise_levels_learn_from_their_neighbours():
    spread = upscale_x4.neighbours()
    assert torch.allclose(spread.sum(1), torch.ones(351))
    learnt = spread @ torch.nn.functional.one_hot(torch.tensor(100), 351).float()
    assert learnt.argmax() == 100 and learnt[90] > 0.5 * learnt[100] and learnt[200] < 1e-6


def test_training_goes_on_from_shipped_weights_where_no_state_is_kept(workshop, monkeypatch):
    monkeypatch.setitem(vae_x4.BATCH, "cpu", 1)
    monkeypatch.setitem(upscale_x4.BATCH, "cpu", 4)
    untrained_course()
    image = torch.from_numpy(np.array(upscaling.cases(1, 4)[0].truth)).permute(2, 0, 1)[None].float() / 127.5 - 1

    def round_trip() -> torch.Tensor:
        vae = store.load_component(vae_x4.NAME, AutoencoderKL)
        with torch.no_grad():
            return vae.decode(vae.encode(image).latent_dist.mode()).sample

    shipped, unet = round_trip(), store.load_component(upscale_x4.NAME, UNet2DConditionModel)
    vae_x4.train(minutes=1, steps=1, count=2, resume=True)
    assert (round_trip() - shipped).abs().mean() < 0.05, "another scale, the same images"
    upscale_x4.train(minutes=1, steps=1, count=2, resume=True)
    again = store.load_component(upscale_x4.NAME, UNet2DConditionModel)
    assert max((a - b).abs().max() for a, b in zip(unet.parameters(), again.parameters(), strict=True)) < 2e-3
