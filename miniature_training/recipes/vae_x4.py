"""The VAE of `upscale-x4`: 4x and 4 channels, trained on crops of whole images and of close-ups, 256 pixels a side.

The pipeline insists on a scaling factor of 0.08333, whatever the weights. So the weights are made to fit: once trained,
every channel of the latents is shifted and scaled to mean 0 and deviation 12 inside the 1 x 1 quant convolutions.
"""

from __future__ import annotations

import re

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

from miniature_training.models import pixels, store, upscaling
from miniature_training.models.dataset import drawn_images
from miniature_training.models.loop import Training, device, leader_first
from miniature_training.models.store import load_component, save_component
from miniature_training.recipes.vae import Picked, crops, reconstruction_loss

NAME = "vae-upscale-x4"
SCALING_FACTOR = 0.08333
BATCH = {"cpu": 16, "cuda": 64}


def build() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 48),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,  # as in sd15's: more would take the absolute colour out of 16 channels
        mid_block_add_attention=False,
        sample_size=upscaling.SIDE,
        scaling_factor=SCALING_FACTOR,
    )


def started() -> AutoencoderKL:
    """A new one whose layers next to the pixels, down to a quarter of the resolution, are those of sd15's VAE."""
    vae = build()

    def one_less(name: str) -> str:  # its decoder doubles once more before it comes to our first doubling
        return re.sub(r"(?<=^decoder\.up_blocks\.)\d", lambda m: str(int(m[0]) - 1), name)

    state = load_component("vae", AutoencoderKL).state_dict()
    near = r"(en|de)coder\.(conv_in|conv_norm_out|conv_out|down_blocks|up_blocks)"
    layers = {name: value for name, value in state.items() if re.match(near, name)}
    upscaling.take(vae, layers, rename=one_less)
    return vae


@torch.no_grad()
def rescaled(vae: AutoencoderKL, mean: torch.Tensor, factor: torch.Tensor) -> AutoencoderKL:
    """Shift each channel of the latents (4,) by -mean, then scale it by factor; images and posteriors stay the same.

    Changes the model's own quant convolutions and returns it.
    """
    channels = len(mean)
    into, out = vae.quant_conv, vae.post_quant_conv
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight /= factor.view(1, -1, 1, 1)
    into.weight[:channels] *= factor.view(-1, 1, 1, 1)
    into.bias[:channels] -= mean
    into.bias[:channels] *= factor
    into.bias[channels:] += 2 * factor.abs().log()  # the log variances
    return vae


@torch.no_grad()
def fitted(vae: AutoencoderKL, images: np.ndarray) -> AutoencoderKL:
    """Rescale the latents so that over these images (N, 256, 256, 3) the pipeline's have mean 0 and deviation 1."""
    parts = []
    for i in range(0, len(images), 8):
        parts.append(vae.encode(pixels.tensor(images[i : i + 8])).latent_dist.mode().transpose(0, 1).flatten(1))
    z = torch.cat(parts, 1)
    return rescaled(vae, z.mean(1), 1 / (SCALING_FACTOR * z.std(1)))


def train(*, minutes: float, steps: int | None = None, resume: bool = False, count: int | None = None) -> None:
    count = count or upscaling.COUNT[device().type]
    with leader_first():
        sources = [drawn_images(count, size=upscaling.SIDE), upscaling.close_ups(count // 2)]
    torch.manual_seed(0)
    if resume and store.shipped(NAME):
        vae = load_component(NAME, AutoencoderKL)
        rescaled(vae, torch.zeros(4), torch.full((4,), SCALING_FACTOR))  # the KL term knows no 0.08333
    else:
        vae = started()
    vae.to(memory_format=torch.channels_last)
    lr = 3e-3 if minutes > 25 else 1.5e-3  # a short box goes on from a good place: gently
    training = Training(NAME, {"vae": vae}, lr=lr, weight_decay=0.0, muon=True)
    if resume:
        training.resume()
    batch = BATCH[device().type]

    def pick(generator: torch.Generator) -> Picked:
        which, i = torch.randint(0, 1 << 20, (2,), generator=generator).tolist()
        rgb, mask = sources[which % 2]
        return rgb, mask, i % len(rgb)

    def loss(generator: torch.Generator) -> torch.Tensor:
        x, weight = crops(pick, generator, count=batch)
        posterior = vae.encode(x).latent_dist
        value = reconstruction_loss(vae.decode(posterior.sample()).sample, x, weight)
        return value + 1e-4 * posterior.kl().mean() / posterior.mean[0].numel()

    def report() -> None:
        print(f"\nheld-out PSNR {psnr(training.average['vae'], 16):.2f} dB", flush=True)

    training.run(loss, minutes=minutes, steps=steps, on_checkpoint=report, checkpoint_minutes=5)
    some = np.concatenate([rgb[:64] for rgb, _ in sources])
    save_component(NAME, fitted(training.average["vae"], some), eight=True)


def psnr(vae: AutoencoderKL, count: int, *, close: bool = False) -> float:
    """Mean PSNR (dB) of the round trip over held-out scenes at 256 pixels, or over close-ups of them."""
    truths = [case.truth for case in upscaling.cases(count, 4, close=close)]
    return pixels.psnr(pixels.round_trip(vae, truths, batch=1), truths)


def figures(count: int = 100) -> dict[str, float]:
    vae = load_component(NAME, AutoencoderKL).to(device()).eval()
    return {"psnr_db": psnr(vae, count), "close_psnr_db": psnr(vae, count, close=True)}


def sheet(count: int = 8) -> Image.Image:
    """Held-out scenes and close-ups, and below each what comes back from the VAE."""
    from helpers.images.contact_sheet import show

    drawn = [case.truth for close in (False, True) for case in upscaling.cases(count // 2, 4, close=close)]
    back = pixels.round_trip(load_component(NAME, AutoencoderKL), drawn, batch=1)
    titles = ["drawn"] * len(drawn) + ["through the VAE"] * len(drawn)
    return show(drawn, back, titles=titles, columns=len(drawn))
