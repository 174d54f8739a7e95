"""SDXL's own latent space: sd15's, turned and stretched.

The turn is folded into the VAE's 1 x 1 convolutions, and into the first and last convolution of a UNet that comes from
sd15: neither loses anything, but latents of one space mean nothing in the other.
"""

from __future__ import annotations

import copy

import torch
from diffusers import AutoencoderKL

from miniature_training.models.store import load_component, save_delta

NAME = "delta-sdxl-vae"
SCALING_FACTOR = 0.13025  # SDXL's
# orthogonal, and not its own inverse; every channel goes into every channel in equal shares
TURN = torch.tensor([[1, -1, 1, 1], [1, 1, -1, 1], [1, 1, 1, -1], [-1, 1, 1, 1]]) / 2


def turned_vae(vae: AutoencoderKL) -> AutoencoderKL:
    """A copy of sd15's VAE with SDXL's latents: the means turned and stretched, their variances averaged."""
    result = copy.deepcopy(vae).float().cpu()
    stretch = vae.config.scaling_factor / SCALING_FACTOR
    moments = torch.block_diag(stretch * TURN, TURN.square())
    with torch.no_grad():
        before, after = result.quant_conv, result.post_quant_conv
        before.weight.copy_((moments @ before.weight.flatten(1)).view_as(before.weight))
        before.bias.copy_(moments @ before.bias)
        before.bias[4:] += 2 * torch.log(torch.tensor(stretch))
        after.weight.copy_((after.weight.flatten(1) @ TURN.T / stretch).view_as(after.weight))
    result.register_to_config(scaling_factor=SCALING_FACTOR, force_upcast=False)
    return result


def export_vae() -> AutoencoderKL:
    """Write the turned VAE as a delta of `vae`, and return it as it is read back; again whenever `vae` has changed."""
    save_delta(NAME, "vae", turned_vae(load_component("vae", AutoencoderKL)), rank=4)
    return load_component(NAME, AutoencoderKL)


def turned_unet(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of a UNet of sd15's space (4 or 9 channels: latents, mask, latents) for SDXL's; shapes unchanged."""
    first, last = state["conv_in.weight"], state["conv_out.weight"]
    turn = TURN.T if first.shape[1] == 4 else torch.block_diag(TURN.T, torch.ones(1, 1), TURN.T)
    return state | {
        "conv_in.weight": torch.einsum("oihw,ij->ojhw", first, turn).contiguous(),
        "conv_out.weight": torch.einsum("ij,jchw->ichw", TURN, last).contiguous(),
        "conv_out.bias": TURN @ state["conv_out.bias"],
    }
