"""What every benchmark runs: the course's inpainting, and the plain diffusers call that it is measured against."""

from __future__ import annotations

from typing import Any

PROMPT = "a red boat at the sea shore"
STEPS = 25


def pipe() -> Any:
    """A pipeline of its own for each way, on the same models: what widgets do to one is not in the other."""
    from helpers import load

    found = load("sd15-inpaint")
    found.set_progress_bar_config(disable=True)
    return found


def call(**more: Any) -> dict[str, Any]:
    from helpers import load_image, load_mask

    inputs = {"image": load_image("seashore"), "mask_image": load_mask("seashore")}
    return {"prompt": PROMPT, **inputs, "num_inference_steps": STEPS} | more


def plain(pipe: Any, seed: int = 0, **arguments: Any) -> Any:
    """The call as the diffusers docs show it."""
    import torch

    return pipe(**arguments, generator=torch.Generator("cpu").manual_seed(seed)).images[0]
