"""The maps behind the previews: fitted to a VAE, and told from those of other weights."""

from __future__ import annotations

import json
import types

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from helpers import load, load_image
from helpers.catalog import checkpoints
from helpers.common import paths
from helpers.pipelines import latent_preview
from miniature_training.models import latent_map


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
    """A course image of little contrast: noise on it is never cut off at black or white."""
    return Image.blend(Image.new("RGB", (64, 64), (128,) * 3), load_image(name, size=64), 0.2)


def test_the_shipped_maps_belong_to_the_shipped_vaes():
    for name, folder in (
        ("sd15", "vae"),
        ("kandinsky22", "movq"),
        ("sdxl-inpaint", "delta-sdxl-vae"),
        ("upscale-x4", "vae-upscale-x4"),
    ):
        pipe = load(name)
        vae = getattr(pipe, "vae", None) or pipe.movq
        kept = json.loads((paths.MINIATURES / folder / latent_preview.FILE).read_text())
        assert kept["vae"] == latent_map.mark(vae), "run: python -m miniature_training preview"
        assert latent_preview.map_of(vae) == latent_preview.read(paths.MINIATURES / folder)


def test_the_map_of_a_vae_that_is_linear_is_its_decoder():
    fitted = latent_map.fit(Linear(), [pale(name) for name in ("castle", "seashore", "road")])
    weights = np.array(fitted.weights).reshape(3, 4, 9)
    assert np.abs(weights[..., 4] - torch.linalg.pinv(Linear.mixture).numpy() / 0.5).max() < 0.001
    assert np.abs(np.delete(weights, 4, axis=2)).max() < 0.001 and np.abs(fitted.bias).max() < 0.001


def test_latents_are_scaled_as_the_vae_says():
    images = [pale("castle")]
    single, double = (
        latent_map.fit(Linear(scaling_factor=1.0), images),
        latent_map.fit(Linear(scaling_factor=2.0), images),
    )
    assert double.loudest == pytest.approx(2 * single.loudest, rel=1e-4)


def test_too_few_images_and_bad_numbers_are_refused():
    with pytest.raises(ValueError, match="images: none"):
        latent_map.fit(Linear(), [])
    with pytest.raises(ValueError, match="3 latents are too few for 37 unknowns"):
        latent_map.fit(Linear(), [Image.new("RGB", (8, 8), "red")])
    vae = Linear()
    vae.encoder.bias.data += torch.nan
    with pytest.raises(ValueError, match=r"not finite in torch.float32: fit its map in torch.float32"):
        latent_map.fit(vae, [load_image("castle", size=64)])


def test_a_map_is_read_as_it_was_written_and_names_its_vae(tmp_path):
    vae = Linear()
    written = latent_map.fit(vae, [load_image("castle", size=64)])
    assert latent_preview.read(latent_map.write(tmp_path, written, vae).parent) == written
    assert json.loads((tmp_path / latent_preview.FILE).read_text())["vae"] == latent_map.mark(vae)


@pytest.mark.parametrize("name", ["sd15", "kandinsky22", "upscale-x4"])
def test_every_kind_of_vae_can_be_fitted(tiny_course, name):
    pipe = diffusers.DiffusionPipeline.from_pretrained(checkpoints.CATALOG[name].source)
    vae, state = getattr(pipe, "vae", None) or pipe.movq, torch.get_rng_state()
    fitted = latent_map.fit(
        vae, [load_image(one, size=32) for one in ("castle", "road", "bench", "jungle", "seashore")]
    )
    assert fitted.channels == 4 and torch.equal(torch.get_rng_state(), state)
    half = type(vae).from_config(vae.config)
    half.load_state_dict(vae.state_dict())
    assert latent_map.mark(half.half()) == latent_map.mark(vae)
