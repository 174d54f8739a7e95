"""A step's preview: the linear map against the VAE, and against the step itself."""

from __future__ import annotations

from tests.benchmarks import scene
from tests.benchmarks.timing import compare, in_turn


def preview(quick: bool) -> None:
    """The picture of one step's latents by the map, by the VAE, and the UNet's own time for the step."""
    import torch

    from helpers.pipelines import latent_preview

    pipe = scene.pipe()
    side = pipe.unet.config.sample_size
    latents = torch.randn((1, 4, side, side), generator=torch.Generator().manual_seed(0))
    states = torch.zeros((2, 77, pipe.unet.config.cross_attention_dim))
    sample = torch.zeros((2, pipe.unet.config.in_channels, side, side))

    @torch.no_grad()
    def decoded() -> None:
        image = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
        pipe.image_processor.postprocess(image, output_type="pil")

    @torch.no_grad()
    def step() -> None:
        pipe.unet(sample, 500, encoder_hidden_states=states)

    ways = {"linear map": lambda: latent_preview.preview(pipe, latents), "VAE": decoded, "a guided step's UNet": step}
    compare(in_turn(ways, 3 if quick else 50), plain="a guided step's UNet")
