"""How close a pipeline's call comes to the floor: the UNet's forward passes that it contains, and nothing else."""

from __future__ import annotations

from typing import Any

from tests.benchmarks import scene
from tests.benchmarks.timing import compare, in_turn, tell


def floor(quick: bool) -> None:
    """The plain call and the course's make(), against the bare UNet forwards of the same call; what is left over."""
    import torch

    from helpers.generation.records import make

    pipe, call = scene.pipe(), scene.call(num_inference_steps=3 if quick else scene.STEPS)
    forwards = recorded(pipe, call)

    @torch.no_grad()
    def bare() -> None:
        for args, kwargs in forwards:
            pipe.unet(*args, **kwargs)

    @torch.inference_mode()
    def inferred() -> None:
        for args, kwargs in forwards:
            pipe.unet(*args, **kwargs)

    ways = {
        "plain call": lambda: scene.plain(pipe, **call),
        "make()": lambda: make(pipe, seed=0, **call),
        "UNet forwards": bare,
        "UNet forwards, inference mode": inferred,
    }
    tell("forwards in a call", f"{len(forwards)}, each on {forwards[0][0][0].shape[0]} latents")
    compare(in_turn(ways, 2 if quick else 20), plain="UNet forwards")


def recorded(pipe: Any, call: dict[str, Any]) -> list[tuple[tuple, dict]]:
    """The arguments of each forward pass of the UNet in this call."""
    found = []
    hook = pipe.unet.register_forward_pre_hook(
        lambda module, args, kwargs: found.append((args, kwargs)), with_kwargs=True
    )
    try:
        scene.plain(pipe, **call)
    finally:
        hook.remove()
    return found
