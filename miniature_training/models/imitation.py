"""A new network that computes what a trained one of another shape does, nearly: wider layers, and least squares."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import SpatialNorm
from torch import nn

POINTS = 8192  # pixels that a layer is fitted on
RIDGE = 1e-3  # pulls a convolution towards the weights it has, a norm's towards none


def widened(weight: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """A weight for layers whose channels are there several times, side by side: what they compute stays the same.

    https://arxiv.org/abs/1511.05641
    """
    for axis, size in enumerate(shape[:2]):
        times = size // weight.shape[axis]
        weight = weight.repeat_interleave(times, axis)
        weight = weight / times if axis else weight
    return weight


@torch.no_grad()
def imitate(
    student: nn.Module, teacher: nn.Module, layers: dict[str, str], *, run: Callable[[nn.Module], object]
) -> None:
    """Fit layers of `student`, in the order they run in, to what layers of `teacher` give; names to names.

    run: calls a network on the same input; layers: convolutions without stride, and spatial norms in the place of
    group norms. Each layer is linear in its weights, and sees what the student's layers before it, fitted already,
    make of the input. Where the student has more channels the teacher's count several times.
    """
    wanted: dict[str, torch.Tensor] = {}
    generator = torch.Generator().manual_seed(0)

    def note(name: str):
        return lambda layer, inputs, output: wanted.__setitem__(name, output)

    def fit(name: str):
        def before(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            target, pixels = wanted[layers[name]], inputs[0].shape[0] * inputs[0][0, 0].numel()
            some = torch.randperm(pixels, generator=generator)[:POINTS]
            width = layer.norm_layer.num_channels if isinstance(layer, SpatialNorm) else layer.out_channels
            target = _rows(target.repeat_interleave(width // target.shape[1], 1), some)
            _norm(layer, inputs, target, some) if isinstance(layer, SpatialNorm) else _conv(layer, inputs, target, some)

        return before

    for network, handles in (
        (teacher, [teacher.get_submodule(name).register_forward_hook(note(name)) for name in layers.values()]),
        (student, [student.get_submodule(name).register_forward_pre_hook(fit(name)) for name in layers]),
    ):
        run(network)
        for handle in handles:
            handle.remove()


def _rows(x: torch.Tensor, some: torch.Tensor) -> torch.Tensor:
    """Channels (N, C) of the pixels `some` of x (B, C, H, W)."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)[some]


def _norm(norm: SpatialNorm, inputs: tuple[torch.Tensor, ...], target: torch.Tensor, some: torch.Tensor) -> None:
    """norm(f) times a linear map of the latents, plus another one: ten unknowns a channel."""
    f, latents = inputs
    norm.norm_layer.reset_parameters()
    near = _rows(F.interpolate(latents, size=f.shape[-2:]), some)
    given = torch.cat([torch.ones(len(some), 1), near], 1)  # (N, 5)
    normed = _rows(norm.norm_layer(f), some).T[..., None]  # (C, N, 1)
    rows = torch.cat([normed * given, given.expand(len(normed), -1, -1)], 2)  # (C, N, 10)
    square = rows.mT @ rows + RIDGE * len(some) * torch.eye(rows.shape[2])
    weights = torch.linalg.solve(square, rows.mT @ target.T[..., None])[..., 0]
    for layer, part in zip((norm.conv_y, norm.conv_b), weights.chunk(2, 1), strict=True):
        layer.bias.copy_(part[:, 0])
        layer.weight.copy_(part[:, 1:, None, None])


def _conv(conv: nn.Conv2d, inputs: tuple[torch.Tensor, ...], target: torch.Tensor, some: torch.Tensor) -> None:
    x = F.pad(inputs[0], (conv.padding[1],) * 2 + (conv.padding[0],) * 2)
    height, width = inputs[0].shape[-2:]
    image, row, column = some // (height * width), some // width % height, some % width
    down, across = (torch.arange(side) for side in conv.kernel_size)
    seen = x.permute(0, 2, 3, 1)[
        image[:, None, None], row[:, None, None] + down[:, None], column[:, None, None] + across
    ]  # (N, kernel height, kernel width, C)
    rows = torch.cat([seen.permute(0, 3, 1, 2).flatten(1), torch.ones(len(some), 1)], 1)
    present = torch.cat([conv.weight.flatten(1), conv.bias[:, None]], 1).T
    square = rows.T @ rows + RIDGE * len(some) * torch.eye(rows.shape[1])
    present = present + torch.linalg.solve(square, rows.T @ (target - rows @ present))
    conv.weight.copy_(present[:-1].T.reshape(conv.weight.shape))
    conv.bias.copy_(present[-1])
