"""The UNets of `sd15` (4 channels) and `sd15-inpaint` (9 channels), and how one becomes the other; their scheduler."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UniPCMultistepScheduler

from miniature_training.models.denoising import SCHEDULE
from miniature_training.models.latents import encode
from miniature_training.models.store import load_component
from miniature_training.recipes import text

WIDTHS = (96, 128, 160)
NARROW = (32, 64, 128)  # of those that were trained first; what starts from an sd15 takes its widths


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
    """A 9-channel copy of a 4-channel UNet; the new inputs (mask, masked image) start with no effect."""
    result = build(9, unet.config.block_out_channels)
    state = unet.state_dict()
    first = torch.zeros_like(result.conv_in.weight)
    first[:, :4] = state["conv_in.weight"]
    result.load_state_dict({**state, "conv_in.weight": first})
    return result


def four_channels(unet: UNet2DConditionModel, nothing: torch.Tensor) -> UNet2DConditionModel:
    """A 4-channel copy of a 9-channel UNet that sees a mask of ones and the latents `nothing` (4,) of a masked image.

    Both are constant, so they go into the first convolution's bias: exact but at the edge, where it pads with zeros.
    """
    result = build(4, unet.config.block_out_channels)
    state = unet.state_dict()
    weight = state["conv_in.weight"]
    constant = torch.cat([torch.ones(1), nothing.cpu()])
    bias = state["conv_in.bias"] + (weight[:, 4:].sum((2, 3)) * constant).sum(1)
    result.load_state_dict({**state, "conv_in.weight": weight[:, :4].contiguous(), "conv_in.bias": bias})
    return result


def nothing() -> torch.Tensor:
    """The latents (1, 4, 16, 16) of the grey image that is left where everything is masked."""
    grey = np.full((1, 128, 128, 3), 127, dtype=np.uint8)
    return torch.from_numpy(encode(grey, load_component("vae", AutoencoderKL))).float()


def scheduler() -> UniPCMultistepScheduler:
    """Not PNDM, SD1.5's own: it has not settled at 25 steps here, and a tenth more prompts come out right with this."""
    return UniPCMultistepScheduler.from_config(
        {**SCHEDULE, "timestep_spacing": "leading", "steps_offset": 1, "clip_sample": False}
    )
