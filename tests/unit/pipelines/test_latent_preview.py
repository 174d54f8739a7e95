"""Previews: the map against the VAE's own decoding, what a step predicts, and what has no preview."""

from __future__ import annotations

import types
from functools import partial

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from helpers import load, load_image, load_mask
from helpers.catalog import checkpoints
from helpers.generation.records import make
from helpers.pipelines import latent_preview
from tests.support.tiny import SIZE, tiny_course  # noqa: F401

CALL = {
    "prompt": "a red boat at the sea shore",
    "num_inference_steps": 20,
    "scheduler": "UniPCMultistepScheduler",
    "seed": 1,
}


def correlation(preview: Image.Image, decoded: Image.Image) -> float:
    """Of two images' colours, a value for each latent."""
    small = [np.asarray(one.resize((one.width // 8, one.height // 8), Image.Resampling.BOX)).ravel()
             for one in (preview, decoded)]  # fmt: skip
    return float(np.corrcoef(*small)[0, 1])


def test_previews_look_like_the_image_and_leave_it_as_it_is():
    pipe, call = load("sd15-inpaint"), CALL | {"image": load_image("seashore"), "mask_image": load_mask("seashore")}
    shown = []
    made = make(
        pipe, **call, watch=lambda inner, step, t, latents: shown.append(latent_preview.preview(inner, latents))
    )
    assert len(shown) == 20 and {one.size for one in shown} == {made.image.size}
    assert correlation(shown[-1], made.image) > 0.9
    assert correlation(shown[0], made.image) < correlation(shown[-1], made.image)
    assert made.image.tobytes() == make(pipe, **call).image.tobytes()


@pytest.mark.parametrize("scheduler", ["PNDMScheduler", "UniPCMultistepScheduler", "DPMSolverMultistepScheduler"])
def test_a_step_is_shown_as_what_it_predicts_where_the_scheduler_tells(scheduler):
    pipe, plain, predicted = load("sd15-inpaint"), [], []
    call = CALL | {"scheduler": scheduler, "image": load_image("seashore"), "mask_image": load_mask("seashore")}

    def watch(inner, step, timestep, latents):
        plain.append(latent_preview.preview(inner, latents))
        predicted.append(latent_preview.step(inner, latents))

    near = partial(correlation, decoded=make(pipe, **call, watch=watch).image)
    early = len(plain) * 2 // 5
    assert near(predicted[early]) > near(plain[early]) + 0.2
    assert near(predicted[-1]) > 0.9


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_a_scheduler_that_does_not_tell_shows_its_latents(tiny_course, scheduler):  # noqa: F811
    pipe, same = load("sd15"), []

    def watch(inner, step, timestep, latents):
        same.append(latent_preview.preview(inner, latents).tobytes() == latent_preview.step(inner, latents).tobytes())

    make(pipe, **CALL | {"scheduler": scheduler, "num_inference_steps": 3}, height=SIZE, width=SIZE, watch=watch)
    assert same == [True] * 3 and latent_preview.step(pipe, None) is None


def test_a_map_takes_the_neighbours_from_their_places():
    weights = np.zeros((3, 1, 3, 3))
    weights[0, 0, 0, 1], weights[1, 0, 2, 1], weights[2, 0, 1, 2] = 1, 1, 1  # red from above, green below, blue right
    shown = latent_preview.LatentMap(tuple(map(tuple, weights.reshape(3, 9))), (0.0,) * 3, 9.0)
    latents = np.array([[[-1.0, 0, 1], [1, -1, 0]]])
    assert shown.channels == 1
    assert shown(latents)[1, 0].tolist() == [0, 255, 0] and shown(latents)[0, 1].tolist() == [128, 0, 255]


def test_latents_of_any_dtype_batch_and_shape_are_shown():
    pipe = load("sd15")
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn((2, 4, 6, 10), generator=generator)
    first = latent_preview.preview(pipe, latents)
    assert first.mode == "RGB" and first.size == (80, 48)
    assert latent_preview.preview(pipe, latents[:1]).tobytes() == first.tobytes()
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        near = latent_preview.preview(pipe, latents.to(dtype))
        assert np.abs(np.asarray(near, int) - np.asarray(first, int)).max() <= 6
    strided = latents.to(memory_format=torch.channels_last).requires_grad_()
    assert latent_preview.preview(pipe, strided).tobytes() == first.tobytes()


def test_large_noise_is_scaled_down_and_clean_latents_are_not():
    pipe = load("sd15")
    fitted = latent_preview.map_of(pipe.vae)
    noise = np.random.default_rng(0).normal(size=(4, 16, 16))
    loud = fitted(14 * noise)
    assert np.abs(loud.astype(int) - fitted(7 * noise)).max() <= 1
    clean = 0.5 * fitted.loudest * noise / np.sqrt(np.mean(noise**2))
    assert np.abs(fitted(clean).astype(int) - fitted(0.9 * clean)).max() > 1


@pytest.mark.parametrize(
    "latents",
    [None, torch.zeros(4, 16, 16), torch.zeros(1, 16, 64), torch.zeros(1, 16, 8, 8), torch.zeros(0, 4, 8, 8),
     torch.full((1, 4, 8, 8), torch.nan)],
    ids=["none", "no batch", "packed", "other channels", "empty", "NaN"],
)  # fmt: skip
def test_what_cannot_be_shown_is_none(latents):
    assert latent_preview.preview(load("sd15"), latents) is None


@pytest.mark.parametrize(("name", "side"), [("sdxl-refiner", 8), ("kandinsky22", 8), ("upscale-x4", 4)])
def test_a_map_beside_the_vae_is_found_however_it_was_loaded(tiny_course, name, side):  # noqa: F811
    latents = torch.randn((1, 4, 4, 6), generator=torch.Generator().manual_seed(0))
    plain = diffusers.DiffusionPipeline.from_pretrained(checkpoints.CATALOG[name].source)
    shown = [latent_preview.preview(pipe, latents) for pipe in (load(name), plain)]
    assert shown[0].size == (6 * side, 4 * side) and shown[0].tobytes() == shown[1].tobytes()
    if name != "kandinsky22":
        part = diffusers.AutoencoderKL.from_pretrained(checkpoints.CATALOG[name].source, subfolder="vae")
        assert latent_preview.map_of(part) == latent_preview.map_of(plain.vae)


def test_no_vae_and_a_vae_without_a_map_have_no_preview(tiny_course):  # noqa: F811
    (tiny_course / "vae" / latent_preview.FILE).unlink()
    latents = torch.zeros(1, 4, 8, 8)
    assert latent_preview.preview(load("sd15"), latents) is None
    assert latent_preview.preview(types.SimpleNamespace(vae=None), latents) is None
    hub = types.SimpleNamespace(config={"_name_or_path": "stabilityai/sd-vae-ft-mse"})
    assert latent_preview.preview(types.SimpleNamespace(vae=hub), latents) is None
