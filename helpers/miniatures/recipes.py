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


# each takes minutes, steps and resume
RECIPES: dict[str, Callable[..., None]] = {
    "vae": lazily("vae:train"),
    "vae-decoder": lazily("vae:train", decoder_only=True),
    "text_encoder": lazily("text:train"),
    "classifier": lazily("judge:train"),
    "classifier-styled": lazily("judge:train", styled=True),
    "sd15": lazily("unet:train"),
    "sd15-inpaint": lazily("unet:train", inpaint=True),
    "sd15-again": lazily("unet:train", from_inpaint=True),
    "style-tokens": lazily("style_tokens:train"),
    "comic": lazily("styles:train", style="comic"),
    "pixel-art": lazily("styles:train", style="pixel-art"),
    "elden-ring": lazily("styles:train", style="elden-ring"),
    "depth-estimator": lazily("depth:train"),
    "controlnet-depth": lazily("controls:train", kind="depth"),
    "controlnet-inpaint": lazily("controls:train", kind="inpaint"),
    "upscale-x2": lazily("upscale_x2:train"),
    "vae-upscale-x4": lazily("vae_x4:train"),
    "upscale-x4": lazily("upscale_x4:train"),
    "clip": lazily("clip:train"),
    "kandinsky-prior": lazily("prior:train"),
    "movq": lazily("movq:train"),
    "kandinsky22": lazily("kandinsky:train"),
    "kandinsky22-inpaint": lazily("kandinsky:train", inpaint=True),
    "text_encoder_2": lazily("text_encoder_2:train"),
    "sdxl-inpaint": lazily("sdxl:train"),
    "sdxl-refiner": lazily("refiner:train"),
}
