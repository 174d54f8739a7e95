"""Muon: momentum whose update for each matrix is made orthogonal (https://kellerjordan.github.io/posts/muon/).

torch.optim.Muon takes matrices alone and works in bfloat16, which a CPU without such instructions emulates slowly. This
one takes convolutions too (seen as (out, in * height * width)), stays in float32, and stacks equal shapes into one
batched product. On the VAE a step is worth about twice one of AdamW and costs a tenth more.
"""

from __future__ import annotations

import torch

# the quintic of the Newton-Schulz iteration: singular values in (0, 1] land near 1 within five rounds
QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonal(update: torch.Tensor, rounds: int = 5) -> torch.Tensor:
    """The nearest (semi-)orthogonal matrices to a stack (N, rows, columns), roughly: singular values in 0.7 to 1.2.

    Every round is a polynomial of x xᵀ times x, so the rounds are made on that small square, and x is met once at the
    end: a third of the work where a matrix is nine times as wide as it is high, as those of convolutions are.
    """
    a, b, c = QUINTIC
    x = update / (update.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    square, product = x @ x.mT, None
    for left in reversed(range(rounds)):
        factor = b * square + c * square @ square
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        product = factor if product is None else factor @ product
        if left:
            square = factor @ (factor @ square)
    x = product @ x
    return x.mT if tall else x


def suits(parameter: torch.nn.Parameter) -> bool:
    """Hidden matrices and convolutions; AdamW keeps biases, norms, embeddings, the first and last layer."""
    return parameter.ndim >= 2 and min(parameter.shape[:2]) >= 16


class Muon(torch.optim.Optimizer):
    """`lr` means what it means to AdamW: the update's root mean square is scaled to 0.2 `lr`."""

    def __init__(self, params, lr: float, *, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            equal: dict[tuple[int, ...], list] = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                buffer = state["momentum_buffer"].lerp_(p.grad, 1 - group["momentum"])
                equal.setdefault(tuple(p.shape), []).append((p, p.grad.lerp(buffer, group["momentum"])))
            for shape, pairs in equal.items():
                updates = orthogonal(torch.stack([u.reshape(shape[0], -1) for _, u in pairs]))
                rate = 0.2 * max(updates.shape[-2:]) ** 0.5 * group["lr"]
                for (p, _), update in zip(pairs, updates, strict=True):
                    p.add_(update.reshape(shape), alpha=-rate)
