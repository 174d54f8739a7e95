"""Previews: the map against the VAE's own decoding, against a VAE that is linear, and its refusals."""

from __future__ import annotations

import json
import types
import warnings

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from helpers import catalog, load, load_image, load_mask, preview
from helpers.jobs import Engine
from helpers.records import make
from tests.unit.tiny import SIZE, tiny_course  # noqa: F401

FOLDER = catalog.MINIATURES / "vae"
CALL = {"prompt": "a red boat at the sea shore", "num_inference_steps": 20, "scheduler": "DDIMScheduler", "seed": 1}


def correlation(preview_picture: Image.Image, decoded: Image.Image) -> float:
    """Of two pictures' colours, a value for each latent."""
    small = [np.asarray(one.resize((one.width // 8, one.height // 8), Image.Resampling.BOX)).ravel()
             for one in (preview_picture, decoded)]  # fmt: skip
    return float(np.corrcoef(*small)[0, 1])


def pipe_of(vae: object) -> types.SimpleNamespace:
    return types.SimpleNamespace(vae=vae)


class Linear(torch.nn.Module):
    """A VAE whose latents are a fixed mixture of the pooled colours, so that the best map is known."""

    def __init__(self, *, scaling_factor: float = 0.5, spread: float = 0.0) -> None:
        super().__init__()
        self.encoder = torch.nn.Conv2d(3, 4, 8, stride=8)
        mixture = torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, 4], [1, 1, -1]])
        self.encoder.weight.data = mixture[:, :, None, None].expand(4, 3, 8, 8) / 64
        self.encoder.bias.data = torch.tensor([0.1, 0.2, 0.3, 0.4])
        self.config = {"block_out_channels": (8,) * 4}
        self.config = type("Config", (dict,), {"scaling_factor": scaling_factor})(self.config)

    def encode(self, pixels: torch.Tensor) -> types.SimpleNamespace:
        mean = self.encoder(pixels)
        return types.SimpleNamespace(latent_dist=types.SimpleNamespace(mode=lambda: mean))


@pytest.mark.parametrize("name", ["sd15", "sd15-inpaint"])
def test_the_last_preview_looks_like_the_picture(name):
    pipe = load(name)
    shown = []
    inputs = {} if name == "sd15" else {"image": load_image("seashore"), "mask_image": load_mask("seashore")}
    made = make(
        pipe, **CALL, **inputs, watch=lambda inner, step, t, latents: shown.append(preview.picture(inner, latents))
    )
    assert len(shown) == 20 and {one.size for one in shown} == {made.image.size}
    assert correlation(shown[-1], made.image) > 0.9
    assert correlation(shown[0], made.image) < correlation(shown[-1], made.image)


def test_previews_leave_the_picture_as_it_is():
    pipe = load("sd15")
    watched = make(pipe, **CALL, watch=lambda inner, step, t, latents: preview.picture(inner, latents))
    assert watched.image.tobytes() == make(pipe, **CALL).image.tobytes()


def test_the_shipped_map_belongs_to_the_shipped_vae():
    vae = load("sd15").vae
    shipped = preview.read(FOLDER)
    assert shipped is not None and shipped.vae == preview.mark(vae), "run: python -m helpers.miniatures preview"
    assert preview.map_of(vae) == shipped


def test_a_map_inverts_a_vae_that_is_linear():
    pictures = [load_image(name, size=64) for name in ("castle", "seashore", "road")]
    vae = Linear()
    fitted = preview.fit(vae, pictures)
    with torch.no_grad():
        pixels = torch.from_numpy(np.array(pictures[0])).permute(2, 0, 1)[None] / 127.5 - 1
        latents = preview.scaled(vae, vae.encode(pixels))
    shown = preview.Map(fitted.weights, fitted.bias, 1e9, "")(latents[0].numpy())
    pooled = np.asarray(pictures[0].resize((8, 8), Image.Resampling.BOX))
    assert np.abs(shown.astype(int) - pooled).max() <= 1


def test_latents_are_scaled_as_the_vae_says():
    pictures = [load_image("castle", size=64)]
    single, double = (
        preview.fit(Linear(scaling_factor=1.0), pictures),
        preview.fit(Linear(scaling_factor=2.0), pictures),
    )
    assert double.largest == pytest.approx(2 * single.largest, rel=1e-4)


def test_latents_of_any_dtype_batch_and_shape_are_shown():
    pipe = load("sd15")
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn((2, 4, 6, 10), generator=generator)
    first = preview.picture(pipe, latents)
    assert first.mode == "RGB" and first.size == (80, 48)
    assert preview.picture(pipe, latents[:1]).tobytes() == first.tobytes()
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        near = preview.picture(pipe, latents.to(dtype))
        assert np.abs(np.asarray(near, int) - np.asarray(first, int)).max() <= 6
    strided = latents.to(memory_format=torch.channels_last).requires_grad_()
    assert preview.picture(pipe, strided).tobytes() == first.tobytes()


def test_large_noise_is_scaled_down_and_clean_latents_are_not():
    pipe = load("sd15")
    fitted = preview.map_of(pipe.vae)
    noise = np.random.default_rng(0).normal(size=(4, 16, 16))
    loud = fitted(14 * noise)
    assert np.abs(loud.astype(int) - fitted(7 * noise)).max() <= 1
    clean = 0.5 * fitted.largest * noise / np.sqrt(np.mean(noise**2))
    assert np.abs(fitted(clean).astype(int) - fitted(0.9 * clean)).max() > 1


@pytest.mark.parametrize(
    "latents",
    [None, torch.zeros(4, 16, 16), torch.zeros(1, 16, 64), torch.zeros(1, 16, 8, 8), torch.zeros(0, 4, 8, 8),
     torch.full((1, 4, 8, 8), torch.nan)],
    ids=["none", "no batch", "packed", "other channels", "empty", "NaN"],
)  # fmt: skip
def test_what_cannot_be_shown_is_none(latents):
    assert preview.picture(load("sd15"), latents) is None


def test_a_pipeline_without_a_vae_has_no_preview():
    assert preview.picture(pipe_of(None), torch.zeros(1, 4, 8, 8)) is None


@pytest.mark.parametrize(
    ("name", "side"), [("sd15", 8), ("sdxl-inpaint", 8), ("sdxl-refiner", 8), ("kandinsky22", 8), ("upscale-x4", 4)]
)
def test_a_vae_that_brings_no_map_gets_one(tiny_course, name, side):  # noqa: F811
    pipe = diffusers.DiffusionPipeline.from_pretrained(catalog.CATALOG[name].source)
    state = torch.get_rng_state()
    latents = torch.randn((1, 4, 4, 6), generator=torch.Generator().manual_seed(0))
    shown = preview.picture(pipe, latents)
    assert shown.size == (6 * side, 4 * side)
    assert torch.equal(torch.get_rng_state(), state)
    vae = getattr(pipe, "vae", None) or pipe.movq
    assert preview.map_of(vae) is preview.map_of(vae)
    pictures = [load_image(one, size=preview.SIDE) for one in preview.course_pictures()]
    assert preview.fit(vae, pictures) == preview.map_of(vae)


def test_a_vae_in_half_precision_gets_nearly_the_same_map(tiny_course):  # noqa: F811
    source = catalog.CATALOG["sd15"].source
    maps = [preview.map_of(diffusers.AutoencoderKL.from_pretrained(source, subfolder="vae", dtype=dtype))
            for dtype in (torch.float32, torch.float16)]  # fmt: skip
    assert maps[0] == maps[1]


def test_a_map_of_other_weights_is_not_used(tiny_course):  # noqa: F811
    written = preview.Map(((1.0,) * 4,) * 3, (0.0,) * 3, 1.0, "1 1")
    preview.write(tiny_course / "vae", written)
    pipe = load("sd15")
    assert preview.read(tiny_course / "vae") == written
    assert preview.map_of(pipe.vae) != written and preview.map_of(pipe.vae).vae == preview.mark(pipe.vae)


def test_a_map_beside_the_vae_loads_silently_and_is_found(tiny_course):  # noqa: F811
    vae = diffusers.AutoencoderKL.from_pretrained(tiny_course / "vae")
    written = preview.Map(((0.5,) * 4,) * 3, (0.0,) * 3, 1.0, preview.mark(vae))
    preview.write(tiny_course / "vae", written)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe = diffusers.DiffusionPipeline.from_pretrained(catalog.CATALOG["sd15"].source)
    assert preview.map_of(pipe.vae) == written == preview.map_of(load("sd15-inpaint").vae)
    part = diffusers.AutoencoderKL.from_pretrained(catalog.CATALOG["sd15"].source, subfolder="vae")
    assert preview.map_of(part) == written


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"weights": 1}', '{"weights": [["x"]], "bias": []}'])
def test_a_damaged_file_is_no_map(tmp_path, text):
    (tmp_path / preview.FILE).write_text(text)
    assert preview.read(tmp_path) is None


def test_a_map_is_read_as_it_was_written(tmp_path):
    written = preview.fit(Linear(), [load_image("castle", size=64)])
    assert preview.read(preview.write(tmp_path, written).parent) == written
    assert json.loads((tmp_path / preview.FILE).read_text())["vae"] == written.vae


def test_too_few_pictures_and_bad_numbers_are_refused():
    with pytest.raises(ValueError, match="pictures: none"):
        preview.fit(Linear(), [])
    with pytest.raises(ValueError, match="1 latents are too few for 5 unknowns"):
        preview.fit(Linear(), [Image.new("RGB", (8, 8))])
    vae = Linear()
    vae.encoder.bias.data += torch.nan
    with pytest.raises(ValueError, match=r"no number in torch.float32: fit its map in torch.float32"):
        preview.fit(vae, [load_image("castle", size=64)])


def test_weights_that_are_elsewhere_give_no_preview():
    with torch.device("meta"):
        vae = diffusers.AutoencoderKL(block_out_channels=(8,) * 4, norm_num_groups=4,
                                      down_block_types=("DownEncoderBlock2D",) * 4,
                                      up_block_types=("UpDecoderBlock2D",) * 4)  # fmt: skip
    assert preview.picture(pipe_of(vae), torch.zeros(1, 4, 8, 8)) is None


def test_a_job_shows_every_step(tiny_course):  # noqa: F811
    pipe, shown = load("sd15"), []
    engine = Engine()
    try:
        job = engine.submit(pipe, prompt="", seed=0, num_inference_steps=3, height=SIZE, width=SIZE,
                            on_step=lambda job, latents: shown.append(preview.picture(pipe, latents)))  # fmt: skip
        job.result(60)
    finally:
        engine.close()
    assert len(shown) >= 3 and all(one.size == (SIZE, SIZE) for one in shown)
