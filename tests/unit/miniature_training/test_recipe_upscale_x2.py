"""The recipe of upscale-x2 and what both upscalers share: sizes, the pipeline's arithmetic, a moment of training."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionLatentUpscalePipeline, UNet2DConditionModel
from PIL import Image, ImageFilter

from helpers.catalog.checkpoints import CATALOG
from miniature_training.models import pixels, store, upscaling
from miniature_training.recipes import upscale_x2


def perturbed(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """With an output that is not zero, as it is before training."""
    torch.manual_seed(1)
    torch.nn.init.normal_(unet.conv_out.weight, std=0.05)
    return unet.eval()


def untrained_course() -> None:
    """What a training leaves in data/miniatures, without the training."""
    store.save_component(upscale_x2.NAME, perturbed(upscale_x2.build()))
    store.save_component(upscale_x2.SCHEDULER, upscale_x2.scheduler())
    store.add_checkpoint("upscale-x2", upscale_x2.ENTRY)


def test_two_builds_share_their_fixed_waves_and_float16_keeps_them():
    first, second = upscale_x2.build().time_proj.weight, upscale_x2.build().time_proj.weight
    assert torch.equal(first, second) and not first.requires_grad
    assert torch.equal(first.half().float(), first)


@pytest.mark.parametrize("guidance_scale", [0, 3.0])
def test_the_recipe_computes_what_the_pipeline_computes(workshop, guidance_scale):
    """A pipeline of one step gives the denoised latents themselves: ours must be the same, guided or not."""
    untrained_course()
    pipe = StableDiffusionLatentUpscalePipeline.from_pretrained(CATALOG["upscale-x2"].source)
    pipe.set_progress_bar_config(disable=True)
    torch.manual_seed(0)
    low, noise = torch.randn(2, 4, 16, 16), torch.randn(2, 4, 32, 32)
    prompts = ["a red cat in the snow", "a boat"]
    theirs = pipe(
        prompts, image=low, latents=noise, num_inference_steps=1, guidance_scale=guidance_scale, output_type="latent"
    ).images
    sigma = pipe.scheduler.sigmas[0].repeat(2)
    noisy = noise * pipe.scheduler.init_noise_sigma

    def ours(texts):
        states, pooled = upscaling.said(texts, normed=False)
        raw = upscale_x2.predicted(pipe.unet, noisy, sigma, low=low, states=states, pooled=pooled)
        return upscale_x2.denoised(raw, noisy, sigma)

    with torch.no_grad():
        empty = ours(["", ""])
        expected = empty + guidance_scale * (ours(prompts) - empty) if guidance_scale else empty
    assert torch.allclose(theirs, expected, atol=1e-5)
    assert not torch.allclose(theirs, noisy, atol=1e-3)


def test_the_target_is_what_makes_the_denoised_latents_clean():
    torch.manual_seed(0)
    clean, noise, sigma = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([0.05, 1.0, 14.0])
    wide = sigma.view(-1, 1, 1, 1)
    target = (wide * clean - noise) / (wide**2 + 1).sqrt()
    assert torch.allclose(upscale_x2.denoised(target, clean + wide * noise, sigma), clean, atol=1e-5)
    assert target.std() == pytest.approx(1, abs=0.05), "at every sigma alike, for data of unit variance"


def test_training_resumes_from_shipped_weights_where_no_state_is_kept(workshop, monkeypatch):
    monkeypatch.setitem(upscale_x2.BATCH, "cpu", 1)
    untrained_course()
    shipped = store.load_component(upscale_x2.NAME, UNet2DConditionModel)
    upscale_x2.train(minutes=1, steps=1, count=2, resume=True)
    again = store.load_component(upscale_x2.NAME, UNet2DConditionModel)
    differences = [(a - b).abs().max() for a, b in zip(shipped.parameters(), again.parameters(), strict=True)]
    assert max(differences) < 1e-3, "the first step of a warm-up is a small one, from where the weights were"


def test_close_ups_show_the_scene_drawn_larger(workshop):
    rgb, mask = upscaling.close_ups(3)
    assert rgb.shape == (3, 256, 256, 3) and mask.shape == (3, 256, 256)
    one, its_mask = upscaling.close_up(upscaling.CLOSE_SEEDS + 1)
    assert np.array_equal(rgb[1], np.asarray(one)) and np.array_equal(mask[1], np.asarray(its_mask))
    case = upscaling.cases(2, 4, close=True)[1]
    assert (case.low.size, case.truth.size) == ((64, 64), (256, 256))
    assert np.array_equal(np.asarray(case.truth.reduce(4)), np.asarray(case.low))


def test_latents_are_kept_until_the_encoder_changes(workshop):
    calls = []

    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.quant_conv, self.decoder = (torch.nn.Linear(2, 2) for _ in range(3))

    def make():
        calls.append(1)
        return {"z": np.arange(len(calls))}

    vae = Both()
    first = upscaling.kept("some", vae, make)
    with torch.no_grad():
        vae.decoder.weight += 1
    assert np.array_equal(upscaling.kept("some", vae, make)["z"], first["z"])
    for part in (vae.encoder, vae.quant_conv):
        with torch.no_grad():
            part.weight += 1
        upscaling.kept("some", vae, make)
    assert len(calls) == 3


def test_only_what_fits_is_taken_over():
    source, target = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)), torch.nn.Linear(2, 3)
    taken = upscaling.take(target, source.state_dict(), rename=lambda name: name.removeprefix("0."))
    assert taken == ["bias", "weight"]
    assert torch.equal(target.weight, source[0].weight)
    assert upscaling.take(torch.nn.Linear(5, 3), {"weight": target.weight, "bias": target.bias}) == ["bias"]


def test_images_are_made_smaller_with_each_kernel_in_turn():
    noise = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), dtype=np.uint8)
    noise[1:] = noise[0]
    small = upscaling.reduced(noise, 4, (Image.Resampling.BOX, Image.Resampling.LANCZOS))
    assert small.shape == (4, 8, 8, 3)
    blocks = noise[0].reshape(8, 4, 8, 4, 3).mean((1, 3))
    assert np.abs(small[0] - blocks).max() <= 1
    assert np.array_equal(small[0], small[2]) and not np.array_equal(small[0], small[1])


def test_the_measures_know_a_perfect_image_from_a_blurred_one():
    truth = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    blurred = truth.filter(ImageFilter.GaussianBlur(1))
    assert pixels.psnr([truth], [truth]) > 100 > 30 > pixels.psnr([blurred], [truth])
    assert upscaling.sharp([truth], [truth]) == 1 > 0.5 > upscaling.sharp([blurred], [truth])
    off = Image.fromarray(np.asarray(truth) // 2 + 64)
    error = (np.asarray(off).astype(float) - np.asarray(truth)) ** 2
    assert pixels.psnr([off], [truth]) == pytest.approx(10 * np.log10(255**2 / error.mean()))
