"""Kandinsky's MoVQ: a VQModel whose decoder looks at the latents in every norm (https://arxiv.org/abs/2209.09002).

It starts from the VAE, made wider: its encoder says what the VAE's says, but in a latent space of its own, turned by a
rotation and of unit variance, since Kandinsky's pipelines scale nothing; its decoder is trained on.
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderKL, VQModel
from diffusers.models.attention_processor import SpatialNorm
from PIL import Image
from torch import nn

from miniature_training.models import pixels
from miniature_training.models.dataset import drawn_images, held_out
from miniature_training.models.imitation import imitate, widened
from miniature_training.models.latents import weights_key
from miniature_training.models.loop import Training, device, leader_first
from miniature_training.models.pixels import tensor
from miniature_training.models.store import kept, load_component, save_component, shipped
from miniature_training.recipes.vae import reconstruction_loss

BATCH = {"cpu": 4, "cuda": 48}  # whole images: a norm of one channel sees something else in a crop
CODES = 256
# Blocks of the VAE that widen their input by a shortcut, which a block of equal widths has not, and the convolution
# before each: here that one gives the shortcut's result, and the block's first is fitted anew.
BYPASSED = {
    "encoder.down_blocks.1.resnets.0": "encoder.down_blocks.0.downsamplers.0.conv",
    "decoder.up_blocks.3.resnets.0": "decoder.up_blocks.2.upsamplers.0.conv",
}
NOISE = 0.03  # on the latents that are decoded: a UNet's are never quite clean


def build() -> VQModel:
    """Channels in multiples of 32: a spatial norm has 32 groups."""
    return VQModel(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 32, 64, 64), layers_per_block=1, latent_channels=4, norm_num_groups=2,
        num_vq_embeddings=CODES, norm_type="spatial", mid_block_add_attention=False, sample_size=128,
    )  # fmt: skip


def rotation() -> torch.Tensor:
    """An orthogonal matrix (4, 4): from the VAE's scaled latents to these."""
    return torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(22)))[0]


def turned(z: torch.Tensor) -> torch.Tensor:
    """The VAE's scaled latents (N, 4, h, w) in this latent space."""
    return torch.einsum("ij,njhw->nihw", rotation().to(z.device, z.dtype), z)


@torch.no_grad()
def start(vae: AutoencoderKL, x: torch.Tensor) -> VQModel:
    """A MoVQ that says nearly what the VAE says of images x (N, 3, H, W), and decodes it nearly as well."""
    movq, given, factor = build().eval(), vae.state_dict(), vae.config.scaling_factor
    for block, before in BYPASSED.items():
        short = given[f"{block}.conv_shortcut.weight"][..., 0, 0]
        given[f"{before}.weight"] = torch.einsum("ij,jchw->ichw", short, given[f"{before}.weight"])
        given[f"{before}.bias"] = short @ given[f"{before}.bias"] + given[f"{block}.conv_shortcut.bias"]
    mean = given["quant_conv.weight"][:4, :, 0, 0]  # the VAE's 8 channels are a mean and a variance; this one has 4
    given["encoder.conv_out.bias"] = mean @ given["encoder.conv_out.bias"] + given["quant_conv.bias"][:4]
    given["encoder.conv_out.weight"] = torch.einsum("ij,jchw->ichw", mean, given["encoder.conv_out.weight"])
    given["quant_conv.weight"], given["quant_conv.bias"] = (rotation() * factor)[..., None, None], torch.zeros(4)
    back = given["post_quant_conv.weight"][..., 0, 0] @ rotation().T / factor
    given["post_quant_conv.weight"] = back[..., None, None]

    state = movq.state_dict()
    for key, value in state.items():
        if key in given:
            fits = all(new % old == 0 for new, old in zip(value.shape, given[key].shape, strict=True))
            state[key] = widened(given[key], value.shape) if fits else value
            if key.startswith("decoder.") and state[key].shape != given[key].shape and value.ndim > 1:
                state[key] *= 1 + 0.1 * torch.randn(value.shape)  # else twins would stay twins for ever
        elif key.endswith(("conv_y.weight", "conv_b.weight", "conv_b.bias")):
            state[key] = torch.zeros_like(value)
        elif key.endswith("conv_y.bias"):
            state[key] = torch.ones_like(value)
    movq.load_state_dict(state)

    first, last = BYPASSED
    movq.get_submodule(f"{first}.norm1").reset_parameters()
    imitate(movq, vae, {f"{first}.conv1": f"{first}.conv1"}, run=lambda network: network.encode(x))
    layers = {
        f"decoder.{name}": f"decoder.{name}"
        for name, layer in movq.decoder.named_modules()
        if isinstance(layer, (SpatialNorm, nn.Conv2d)) and not name.endswith(("conv_y", "conv_b"))
    }
    del layers[f"{last}.norm1"]  # its input is no longer what the VAE's norm sees
    layers[BYPASSED[last]] = f"{last}.conv_shortcut"
    z = vae.encode(x).latent_dist.mode()
    decode = {vae: lambda: vae.decode(z), movq: lambda: movq.decode(turned(z * factor), force_not_quantize=True)}
    imitate(movq, vae, layers, run=lambda network: decode[network]())
    return movq


@torch.no_grad()
def learn_codes(movq: VQModel, points: torch.Tensor, *, rounds: int = 20) -> None:
    """Set the codebook to the k-means of latents, points (N, 4). (Kandinsky's pipelines decode without it.)"""
    points = points[torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:20_000]].float()
    codes = points[:CODES].clone()
    for _ in range(rounds):
        nearest = torch.cdist(points, codes).argmin(1)
        sums = torch.zeros_like(codes).index_add_(0, nearest, points)
        counts = torch.bincount(nearest, minlength=CODES)[:, None]
        codes = torch.where(counts > 0, sums / counts.clamp(min=1), codes)
    movq.quantize.embedding.weight.copy_(codes)


@torch.no_grad()
def latents(count: int) -> torch.Tensor:
    """Latents (count, 4, 16, 16), float16, of the first training images; kept while the encoder is the same."""
    return _latents(load_component("movq", VQModel), count)


@torch.no_grad()
def _latents(movq: VQModel, count: int) -> torch.Tensor:
    def make() -> np.ndarray:
        rgb = drawn_images(count)[0]
        movq.to(device()).eval()
        parts = (tensor(rgb[i : i + 32]) for i in range(0, count, 32))
        return torch.cat([movq.encode(x).latents.half().cpu() for x in parts]).numpy()

    return torch.from_numpy(kept(f"latents/movq-{weights_key(movq.encoder, movq.quant_conv)}-{count}.npy", make))


def train(*, minutes: float, steps: int | None = None, resume: bool = False, count: int = 12_000) -> None:
    """Train the decoder; the encoder stays the VAE's, so its latents are made once. Writes movq."""
    again = resume and shipped("movq")
    torch.manual_seed(0)
    with leader_first():
        rgb, mask = drawn_images(count)
        if again:
            movq = load_component("movq", VQModel)
        else:
            movq = start(load_component("vae", AutoencoderKL).eval(), tensor(rgb[:16]).cpu())
        for part in (movq.encoder, movq.quant_conv, movq.quantize):
            part.requires_grad_(False).half().float()  # as it will be stored: the latents made now are made for good
        z = _latents(movq, count)
    if not again:
        learn_codes(movq, z[:2000].permute(0, 2, 3, 1).flatten(0, 2))
    movq.to(memory_format=torch.channels_last)
    training = Training("movq", {"movq": movq}, lr=3e-3 if minutes > 25 else 1.5e-3, weight_decay=0.0, muon=True)
    if resume:
        training.resume()

    def loss(generator: torch.Generator) -> torch.Tensor:
        index = torch.randint(0, count, (BATCH[device().type],), generator=generator)
        latent = z[index].to(device()).float()
        latent = latent + NOISE * torch.randn(latent.shape, generator=generator).to(device())
        weight = 1 + 0.5 * torch.from_numpy(mask[index.numpy()])[:, None].to(device()).float() / 255
        result = movq.decode(latent.contiguous(memory_format=torch.channels_last), force_not_quantize=True).sample
        return reconstruction_loss(result, tensor(rgb[index.numpy()]), weight)

    def export() -> None:
        average = training.average["movq"]
        print(f"\nheld-out PSNR {psnr(average, 64):.2f} dB", flush=True)
        save_component("movq", average, eight=True)

    training.run(loss, minutes=minutes, steps=steps, on_checkpoint=export, checkpoint_minutes=5)
    export()


def psnr(movq: VQModel, count: int = 200) -> float:
    """Mean PSNR (dB) of the round trip over held-out, undegraded scenes."""
    drawn = [drawing.image for drawing in held_out(count, degraded=False)]
    return pixels.psnr(pixels.round_trip(movq, drawn), drawn)


def figures(count: int = 300) -> dict[str, float]:
    return {"psnr_db": psnr(load_component("movq", VQModel), count)}


def sheet() -> Image.Image:
    """Held-out drawings, and below each what comes back from MoVQ."""
    from helpers.images.contact_sheet import show

    drawn = [drawing.image for drawing in held_out(16, degraded=False)]
    again = pixels.round_trip(load_component("movq", VQModel), drawn)
    titles = (["drawn"] * 8 + ["through MoVQ"] * 8) * 2
    return show(drawn[:8], again[:8], drawn[8:], again[8:], titles=titles, columns=8)
