"""Every recipe by the name of what it trains: one line each, imported when it is called."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazily(where: str, **fixed: Any) -> Callable[..., Any]:
    """The function "module:function" of this package with some arguments fixed; imported at its first call."""
    module, _, function = where.partition(":")

    def call(*arguments: Any, **more: Any) -> Any:
        return getattr(import_module(f".{module}", __package__), function)(*arguments, **fixed, **more)

    return call


# each takes minutes, steps and resume; those in FALLING take last too
RECIPES: dict[str, Callable[..., None]] = {
    "vae": lazily("recipes.vae:train"),
    "vae-decoder": lazily("recipes.decoder:train"),
    "text_encoder": lazily("recipes.text:train"),
    "classifier": lazily("recipes.classifier:train"),
    "sd15-inpaint": lazily("recipes.joint:train"),
    "sd15": lazily("recipes.joint:train", folded=True),
    "style-tokens": lazily("recipes.style_tokens:train"),
    "comic": lazily("recipes.styles:train", style="comic"),
    "pixel-art": lazily("recipes.styles:train", style="pixel-art"),
    "elden-ring": lazily("recipes.styles:train", style="elden-ring"),
    "lcm": lazily("recipes.lcm:train"),
    "depth-estimator": lazily("recipes.depth:train"),
    "controlnet-depth": lazily("recipes.controls:train", kind="depth"),
    "controlnet-inpaint": lazily("recipes.controls:train", kind="inpaint"),
    "upscale-x2": lazily("recipes.upscale_x2:train"),
    "vae-upscale-x4": lazily("recipes.vae_x4:train"),
    "upscale-x4": lazily("recipes.upscale_x4:train"),
    "clip": lazily("recipes.clip:train"),
    "kandinsky-prior": lazily("recipes.prior:train"),
    "movq": lazily("recipes.movq:train"),
    "movq-decoder": lazily("recipes.decoder:train", of="movq"),
    "kandinsky22": lazily("recipes.kandinsky:train"),
    "kandinsky22-inpaint": lazily("recipes.kandinsky:train", inpaint=True),
    "text_encoder_2": lazily("recipes.text_encoder_2:train"),
    "sdxl-inpaint": lazily("recipes.sdxl:train"),
    "sdxl-refiner": lazily("recipes.refiner:train"),
}
FALLING = {  # they learn at a constant rate, and have a last run in which it falls to zero
    "vae-decoder", "movq-decoder", "sd15", "sd15-inpaint", "kandinsky22", "sdxl-inpaint", "sdxl-refiner",
}  # fmt: skip
