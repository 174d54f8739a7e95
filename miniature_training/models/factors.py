"""Training in low rank: each matrix is a frozen base plus the product of two small factors (LoRA).

https://arxiv.org/abs/2106.09685. What is trained so is shipped as a delta of a few hundred kilobytes, nothing lost.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import parametrize

from helpers.catalog import weight_deltas
from helpers.common import paths
from miniature_training.models import store
from miniature_training.models.loop import Training


class Factors(nn.Module):
    """weight -> weight + up @ down, a convolution seen as (out, in * height * width); starts with no effect."""

    def __init__(self, weight: torch.Tensor, rank: int) -> None:
        super().__init__()
        out, rest = weight.shape[0], weight.numel() // weight.shape[0]
        self.down = nn.Parameter(torch.randn(rank, rest) / rest**0.5)
        self.up = nn.Parameter(torch.zeros(out, rank))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + (self.up @ self.down).view_as(weight)


def factorise(model: nn.Module, *, rank: int, whole: tuple[str, ...] = (), frozen: tuple[str, ...] = ()) -> nn.Module:
    """Give every matrix and convolution of `model` factors to train and freeze its weight; in place.

    Biases, norms and whatever is small beside its factors stay trainable as they are; so do parameters whose names
    begin with one of `whole`. Those with one of `frozen` in their names are not trained at all.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(part in name for part in frozen))
    for name, module in list(model.named_modules()):
        weight = getattr(module, "weight", None)
        if not isinstance(module, (nn.Linear, nn.Conv2d)) or not weight.requires_grad or f"{name}.".startswith(whole):
            continue
        if rank * (weight.shape[0] + weight.numel() // weight.shape[0]) < weight.numel():
            parametrize.register_parametrization(module, "weight", Factors(weight, rank).to(weight.device))
            module.parametrizations.weight.original.requires_grad_(False)
    return model


@torch.no_grad()
def take_up(model: nn.Module, delta: Path) -> nn.Module:
    """Put what the folder `delta` says into the factors of a factorised model, and into what it trains whole; in place.

    The base may have been trained on since the delta was made: it goes on from there, as well as it fits.
    """
    from safetensors.torch import load_file

    for key, value in load_file(delta / weight_deltas.FILE).items():
        name, _, kind = key.rpartition(".")
        if kind in ("up", "down"):
            module = model.get_submodule(name.removesuffix(".weight"))
            getattr(module.parametrizations.weight[0], kind).copy_(value)
        else:
            parameter = model.get_parameter(name)
            parameter.copy_(value if kind == "new" else parameter + value)
    return model


def delta_training(name: str, model: nn.Module, *, lr: float, resume: bool) -> Training:
    """The training of a factorised model that is shipped as the delta `name`.

    resume: on from its last checkpoint; or, where its base was trained on since, from the shipped delta.
    """
    moved = name in store.stale()
    if resume and moved:
        take_up(model, paths.MINIATURES / name)
    run = Training(name, {"model": model}, lr=lr, ema_decay=0.998, weight_decay=0.0)
    if resume and not moved:
        run.resume()
    return run


@torch.no_grad()
def merged(model: nn.Module) -> nn.Module:
    """A diffusers model with plain weights again, of the same class and config; on the CPU."""
    state = {k: v for k, v in model.state_dict().items() if "parametrizations." not in k}
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            state[f"{name}.weight"] = module.weight
    result = type(model).from_config(model.config)
    result.load_state_dict({key: value.cpu().contiguous() for key, value in state.items()})
    return result
