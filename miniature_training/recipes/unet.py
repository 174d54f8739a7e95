"""The UNets of `sd15` (4 channels) and `sd15-inpaint` (9 channels), one folded from the other; latents; their loss."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel, UniPCMultistepScheduler
from tqdm import tqdm

from miniature_training.models.dataset import SCRATCH, pictures
from miniature_training.models.denoising import SCHEDULE
from miniature_training.models.loop import device
from miniature_training.models.store import load_component
from miniature_training.recipes import text
from miniature_training.world.strokes import training_mask

WIDTHS = (96, 128, 160)
EARLY = 20.0  # how much more an error counts at most where there is much noise


def build(in_channels: int = 4, widths: tuple[int, ...] = WIDTHS) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=in_channels,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=widths,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=text.WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def nine_channels(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """A 9-channel copy of a 4-channel UNet; the new inputs (mask, masked picture) start with no effect."""
    result = build(9, unet.config.block_out_channels)
    state = unet.state_dict()
    first = torch.zeros_like(result.conv_in.weight)
    first[:, :4] = state["conv_in.weight"]
    result.load_state_dict({**state, "conv_in.weight": first})
    return result


def four_channels(unet: UNet2DConditionModel, nothing: torch.Tensor) -> UNet2DConditionModel:
    """A 4-channel copy of a 9-channel UNet that sees a mask of ones and the latents `nothing` (4,) of a masked picture.

    Both are constant, so they go into the first convolution's bias: exact but for the rim, where it pads with zeros.
    """
    result = build(4, unet.config.block_out_channels)
    state = unet.state_dict()
    weight = state["conv_in.weight"]
    constant = torch.cat([torch.ones(1), nothing.cpu()])
    bias = state["conv_in.bias"] + (weight[:, 4:].sum((2, 3)) * constant).sum(1)
    result.load_state_dict({**state, "conv_in.weight": weight[:, :4].contiguous(), "conv_in.bias": bias})
    return result


def nothing() -> torch.Tensor:
    """The latents (1, 4, 16, 16) of the grey picture that is left where everything is masked."""
    grey = np.full((1, 128, 128, 3), 127, dtype=np.uint8)
    return torch.from_numpy(encode(grey, load_component("vae", AutoencoderKL))).float()


def scheduler() -> UniPCMultistepScheduler:
    """Not PNDM, SD1.5's own: it has not settled at 25 steps here, and a tenth more prompts come out right with this."""
    return UniPCMultistepScheduler.from_config(
        {**SCHEDULE, "timestep_spacing": "leading", "steps_offset": 1, "clip_sample": False}
    )


def encoder_key() -> str:
    """Changes when the encoder changes; a VAE whose decoder alone was trained further keeps its latents."""
    vae = load_component("vae", AutoencoderKL)
    weights = b"".join(p.detach().numpy().tobytes() for p in vae.encoder.parameters())
    return hashlib.sha256(weights).hexdigest()[:12]


@torch.no_grad()
def encode(images: np.ndarray, vae: AutoencoderKL, *, batch: int = 32) -> np.ndarray:
    """Pictures (N, H, W, 3) uint8 -> scaled posterior means (N, 4, H/8, W/8) float16."""
    vae.to(device(), memory_format=torch.channels_last).eval()
    parts = []
    for i in tqdm(range(0, len(images), batch), desc="encoding", unit="batch", mininterval=10):
        x = (
            torch.from_numpy(np.ascontiguousarray(images[i : i + batch])).permute(0, 3, 1, 2).to(device()).float()
            / 127.5
            - 1
        )
        z = vae.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist.mode() * vae.config.scaling_factor
        parts.append(z.half().contiguous().cpu().numpy())
    return np.concatenate(parts)


def latents(count: int, *, first: int = 0) -> np.ndarray:
    """Latents of the training pictures `first` to `first + count`, cached for as long as the encoder stays the same."""
    file = SCRATCH / "latents" / f"{encoder_key()}-{first}-{count}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, encode(pictures(count, first=first)[0], load_component("vae", AutoencoderKL)))
    return np.load(file)


def masked_latents(count: int, *, first: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latents of masked pictures (N, 4, h, w), masks (N, 1, h, w), and whether each touches its subject (N,)."""
    file = SCRATCH / "latents" / f"{encoder_key()}-{first}-{count}-masked.npz"
    if not file.exists():
        rgb, subject = pictures(count, first=first)
        masks = np.stack([training_mask(subject[i], random.Random(first + i)) for i in range(count)])
        grey = np.where(masks[..., None], np.uint8(127), rgb)
        touched = np.array(
            [(m & (s > 0)).sum() > 0.25 * max(1, (s > 0).sum()) for m, s in zip(masks, subject, strict=False)]
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(
            file, z=encode(grey, load_component("vae", AutoencoderKL)), mask=masks[:, None, ::8, ::8], touched=touched
        )
    data = np.load(file)
    return data["z"], data["mask"], data["touched"]


def weight_of(snr: torch.Tensor, *, early: float = 1.0) -> torch.Tensor:
    """How much the error on the noise counts at a signal-to-noise ratio: min(SNR, 5) / SNR (arXiv 2303.09556).

    early: where there is more noise than signal, the error on the noise says little of that on the clean latents,
    which decides the picture's shapes; it counts 1 + 1 / SNR times as much, at most this many times.
    """
    return snr.clamp(max=5) / snr * (1 + 1 / snr).clamp(max=early)


def epsilon_loss(
    predicted: torch.Tensor,
    noise: torch.Tensor,
    snr: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    early: float = 1.0,
) -> torch.Tensor:
    """Mean squared error on the noise, weighted by `weight_of`.

    With a mask (B, 1, h, w) of what is repainted the rest counts half: there the answer is in the input.
    """
    error = F.mse_loss(predicted, noise, reduction="none")
    if mask is not None:
        share = (1 + mask) / 2
        error = error * share / share.mean((1, 2, 3), keepdim=True)
    return (error.mean((1, 2, 3)) * weight_of(snr, early=early)).mean()
