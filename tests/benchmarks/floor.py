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


def settings(quick: bool) -> None:
    """What a UNet's step costs with other settings than load() chose: threads, memory order, fused projections."""
    import copy

    import torch

    pipe, call = scene.pipe(), scene.call(num_inference_steps=2)
    (args, kwargs), *_ = recorded(pipe, call)
    own, most = pipe.unet, torch.get_num_threads()
    contiguous = copy.deepcopy(own).to(memory_format=torch.contiguous_format)
    fused = copy.deepcopy(own)
    fused.fuse_qkv_projections()

    @torch.no_grad()
    def step(unet: Any, threads: int = most) -> None:
        torch.set_num_threads(threads)
        try:
            unet(*args, **kwargs)
        finally:
            torch.set_num_threads(most)

    ways = {"as load() gives it": lambda: step(own), "channels first": lambda: step(contiguous)}
    ways["fused projections"] = lambda: step(fused)
    for threads in sorted({1, max(1, most // 2), 2 * most} - {most}):
        ways[f"{threads} threads"] = lambda threads=threads: step(own, threads)
    compare(in_turn(ways, 3 if quick else 100), plain="as load() gives it")


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
