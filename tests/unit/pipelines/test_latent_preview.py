"""Previews: the map against the VAE's own decoding, against a VAE that is linear, and its refusals."""

from __future__ import annotations

import json
import types
import warnings
from functools import partial

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from helpers import load, load_image, load_mask
from helpers.catalog import checkpoints
from helpers.common import paths
from helpers.generation.job_queue import Job, JobQueue
from helpers.generation.records import make
from helpers.pipelines import latent_map, latent_preview
from tests.support.tiny import SIZE, tiny_course  # noqa: F401

FOLDER = paths.MINIATURES / "vae"
CALL = {
    "prompt": "a red boat at the sea shore",
    "num_inference_steps": 20,
    "scheduler": "UniPCMultistepScheduler",
    "seed": 1,
}


def correlation(preview_picture: Image.Image, decoded: Image.Image) -> float:
    """Of two pictures' colours, a value for each latent."""
    small = [np.asarray(one.resize((one.width // 8, one.height // 8), Image.Resampling.BOX)).ravel()
             for one in (preview_picture, decoded)]  # fmt: skip
    return float(np.corrcoef(*small)[0, 1])


def pipe_of(vae: object) -> types.SimpleNamespace:
    return types.SimpleNamespace(vae=vae)


class Linear(torch.nn.Module):
    """A VAE that mixes the pooled colours of a latent's pixels, and unmixes them again: the best map is known."""

    mixture = torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, 4], [1, 1, -1]])

    def __init__(self, *, scaling_factor: float = 0.5) -> None:
        super().__init__()
        self.encoder, self.decoder = torch.nn.Conv2d(3, 4, 8, stride=8), torch.nn.Conv2d(4, 3, 1)
        self.encoder.weight.data = self.mixture[:, :, None, None].expand(4, 3, 8, 8) / 64
        self.decoder.weight.data = torch.linalg.pinv(self.mixture)[:, :, None, None]
        self.encoder.bias.data, self.decoder.bias.data = torch.full((4,), 0.1), torch.zeros(3)
        self.config = type("Config", (dict,), {"scaling_factor": scaling_factor})(block_out_channels=(8,) * 4)

    def encode(self, pixels: torch.Tensor) -> types.SimpleNamespace:
        mean = self.encoder(pixels)
        return types.SimpleNamespace(latent_dist=types.SimpleNamespace(mode=lambda: mean))

    def decode(self, latents: torch.Tensor) -> tuple[torch.Tensor]:
        return (torch.nn.functional.interpolate(self.decoder(latents), scale_factor=8),)


def pale(name: str) -> Image.Image:
    """A course picture of little contrast: noise on it is never cut off at black or white."""
    return Image.blend(Image.new("RGB", (64, 64), (128,) * 3), load_image(name, size=64), 0.2)


@pytest.mark.parametrize("name", ["sd15", "sd15-inpaint"])
def test_the_last_preview_looks_like_the_picture(name):
    pipe = load(name)
    shown = []
    inputs = {} if name == "sd15" else {"image": load_image("seashore"), "mask_image": load_mask("seashore")}
    made = make(
        pipe,
        **CALL,
        **inputs,
        watch=lambda inner, step, t, latents: shown.append(latent_preview.picture(inner, latents)),
    )
    assert len(shown) == 20 and {one.size for one in shown} == {made.image.size}
    assert correlation(shown[-1], made.image) > 0.9
    assert correlation(shown[0], made.image) < correlation(shown[-1], made.image)


@pytest.mark.parametrize("scheduler", ["PNDMScheduler", "UniPCMultistepScheduler", "DPMSolverMultistepScheduler"])
def test_a_step_is_shown_as_what_it_predicts_where_the_scheduler_tells(scheduler):
    pipe, plain, predicted = load("sd15-inpaint"), [], []
    call = CALL | {"scheduler": scheduler, "image": load_image("seashore"), "mask_image": load_mask("seashore")}

    def watch(inner, step, timestep, latents):
        plain.append(latent_preview.picture(inner, latents))
        predicted.append(latent_preview.step(inner, latents))

    near = partial(correlation, decoded=make(pipe, **call, watch=watch).image)
    early = len(plain) * 2 // 5
    assert near(predicted[early]) > near(plain[early]) + 0.2
    assert near(predicted[-1]) > 0.9


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_a_scheduler_that_does_not_tell_shows_its_latents(tiny_course, scheduler):  # noqa: F811
    pipe, same = load("sd15"), []

    def watch(inner, step, timestep, latents):
        same.append(latent_preview.picture(inner, latents).tobytes() == latent_preview.step(inner, latents).tobytes())

    make(pipe, **CALL | {"scheduler": scheduler, "num_inference_steps": 3}, height=SIZE, width=SIZE, watch=watch)
    assert same == [True] * 3 and latent_preview.step(pipe, None) is None


def test_previews_leave_the_picture_as_it_is():
    pipe = load("sd15")
    watched = make(pipe, **CALL, watch=lambda inner, step, t, latents: latent_preview.step(inner, latents))
    assert watched.image.tobytes() == make(pipe, **CALL).image.tobytes()


def test_the_shipped_map_belongs_to_the_shipped_vae():
    vae = load("sd15").vae
    shipped = latent_map.read(FOLDER)
    assert shipped is not None and shipped.vae == latent_map.mark(vae), "run: python -m miniature_training preview"
    assert latent_preview.map_of(vae) == shipped


def test_the_map_of_a_vae_that_is_linear_is_its_decoder():
    fitted = latent_map.fit(Linear(), [pale(name) for name in ("castle", "seashore", "road")])
    weights = np.array(fitted.weights).reshape(3, 4, 9)
    assert np.abs(weights[..., 4] - torch.linalg.pinv(Linear.mixture).numpy() / 0.5).max() < 0.001
    assert np.abs(np.delete(weights, 4, axis=2)).max() < 0.001 and np.abs(fitted.bias).max() < 0.001


def test_a_map_takes_the_neighbours_from_their_places():
    weights = np.zeros((3, 1, 3, 3))
    weights[0, 0, 0, 1], weights[1, 0, 2, 1], weights[2, 0, 1, 2] = 1, 1, 1  # red from above, green below, blue right
    shown = latent_map.Map(tuple(map(tuple, weights.reshape(3, 9))), (0.0,) * 3, 9.0, "")
    latents = np.array([[[-1.0, 0, 1], [1, -1, 0]]])
    assert latent_map.Map(shown.weights, shown.bias, 9.0, "").channels == 1
    assert shown(latents)[1, 0].tolist() == [0, 255, 0] and shown(latents)[0, 1].tolist() == [128, 0, 255]


def test_latents_are_scaled_as_the_vae_says():
    pictures = [pale("castle")]
    single, double = (
        latent_map.fit(Linear(scaling_factor=1.0), pictures),
        latent_map.fit(Linear(scaling_factor=2.0), pictures),
    )
    assert double.loudest == pytest.approx(2 * single.loudest, rel=1e-4)


def test_latents_of_any_dtype_batch_and_shape_are_shown():
    pipe = load("sd15")
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn((2, 4, 6, 10), generator=generator)
    first = latent_preview.picture(pipe, latents)
    assert first.mode == "RGB" and first.size == (80, 48)
    assert latent_preview.picture(pipe, latents[:1]).tobytes() == first.tobytes()
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        near = latent_preview.picture(pipe, latents.to(dtype))
        assert np.abs(np.asarray(near, int) - np.asarray(first, int)).max() <= 6
    strided = latents.to(memory_format=torch.channels_last).requires_grad_()
    assert latent_preview.picture(pipe, strided).tobytes() == first.tobytes()


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
    assert latent_preview.picture(load("sd15"), latents) is None


def test_a_pipeline_without_a_vae_has_no_preview():
    assert latent_preview.picture(pipe_of(None), torch.zeros(1, 4, 8, 8)) is None


@pytest.mark.parametrize(
    ("name", "side"), [("sd15", 8), ("sdxl-inpaint", 8), ("sdxl-refiner", 8), ("kandinsky22", 8), ("upscale-x4", 4)]
)
def test_a_vae_that_brings_no_map_gets_one(tiny_course, monkeypatch, name, side):  # noqa: F811
    monkeypatch.setattr(latent_preview, "SIDE", 32)  # the tiny MoVQ pays attention to every pixel
    pipe = diffusers.DiffusionPipeline.from_pretrained(checkpoints.CATALOG[name].source)
    state = torch.get_rng_state()
    latents = torch.randn((1, 4, 4, 6), generator=torch.Generator().manual_seed(0))
    shown = latent_preview.picture(pipe, latents)
    assert shown.size == (6 * side, 4 * side)
    assert torch.equal(torch.get_rng_state(), state)
    vae = getattr(pipe, "vae", None) or pipe.movq
    assert latent_preview.map_of(vae) is latent_preview.map_of(vae)
    pictures = [load_image(one, size=latent_preview.SIDE) for one in latent_preview.course_images()]
    fitted, kept = latent_map.fit(vae, pictures), latent_preview.map_of(vae)
    assert fitted.vae == kept.vae and fitted.loudest == pytest.approx(kept.loudest, abs=2e-4)
    # Rounded to 1e-4, and threads sum in an order of their own.
    assert np.abs(np.array(fitted.weights) - kept.weights).max() < 5e-4


def test_a_vae_in_half_precision_gets_nearly_the_same_map(tiny_course):  # noqa: F811
    source = checkpoints.CATALOG["sd15"].source
    maps = [latent_preview.map_of(diffusers.AutoencoderKL.from_pretrained(source, subfolder="vae", dtype=dtype))
            for dtype in (torch.float32, torch.float16)]  # fmt: skip
    assert maps[0] == maps[1]


def test_a_map_of_other_weights_is_not_used(tiny_course):  # noqa: F811
    written = latent_map.Map(((1.0,) * 36,) * 3, (0.0,) * 3, 1.0, "1 1")
    latent_map.write(tiny_course / "vae", written)
    pipe = load("sd15")
    assert latent_map.read(tiny_course / "vae") == written
    assert latent_preview.map_of(pipe.vae) != written and latent_preview.map_of(pipe.vae).vae == latent_map.mark(
        pipe.vae
    )


def test_a_map_beside_the_vae_loads_silently_and_is_found(tiny_course):  # noqa: F811
    vae = diffusers.AutoencoderKL.from_pretrained(tiny_course / "vae")
    written = latent_map.Map(((0.5,) * 36,) * 3, (0.0,) * 3, 1.0, latent_map.mark(vae))
    latent_map.write(tiny_course / "vae", written)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe = diffusers.DiffusionPipeline.from_pretrained(checkpoints.CATALOG["sd15"].source)
    assert latent_preview.map_of(pipe.vae) == written == latent_preview.map_of(load("sd15-inpaint").vae)
    part = diffusers.AutoencoderKL.from_pretrained(checkpoints.CATALOG["sd15"].source, subfolder="vae")
    assert latent_preview.map_of(part) == written


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"weights": 1}', '{"weights": [["x"]], "bias": []}'])
def test_a_damaged_file_is_no_map(tmp_path, text):
    (tmp_path / latent_map.FILE).write_text(text)
    assert latent_map.read(tmp_path) is None


def test_a_map_is_read_as_it_was_written(tmp_path):
    written = latent_map.fit(Linear(), [load_image("castle", size=64)])
    assert latent_map.read(latent_map.write(tmp_path, written).parent) == written
    assert json.loads((tmp_path / latent_map.FILE).read_text())["vae"] == written.vae


def test_too_few_pictures_and_bad_numbers_are_refused():
    with pytest.raises(ValueError, match="pictures: none"):
        latent_map.fit(Linear(), [])
    with pytest.raises(ValueError, match="3 latents are too few for 37 unknowns"):
        latent_map.fit(Linear(), [Image.new("RGB", (8, 8), "red")])
    vae = Linear()
    vae.encoder.bias.data += torch.nan
    with pytest.raises(ValueError, match=r"no number in torch.float32: fit its map in torch.float32"):
        latent_map.fit(vae, [load_image("castle", size=64)])


def test_weights_that_are_elsewhere_give_no_preview():
    with torch.device("meta"):
        vae = diffusers.AutoencoderKL(block_out_channels=(8,) * 4, norm_num_groups=4,
                                      down_block_types=("DownEncoderBlock2D",) * 4,
                                      up_block_types=("UpDecoderBlock2D",) * 4)  # fmt: skip
    assert latent_preview.picture(pipe_of(vae), torch.zeros(1, 4, 8, 8)) is None


def test_a_job_shows_every_step(tiny_course):  # noqa: F811
    pipe, shown = load("sd15"), []
    queue, call = JobQueue(), {"prompt": "", "seed": 0, "num_inference_steps": 3, "height": SIZE, "width": SIZE}
    job = Job(pipe, call, on_step=lambda _, latents: shown.append(latent_preview.picture(pipe, latents)))
    try:
        queue.submit(job)
        assert job.wait(60) and job.state == "done"
    finally:
        queue.close(60)
    assert len(shown) >= 3 and all(one.size == (SIZE, SIZE) for one in shown)
