"""Every checkpoint that makes images as the functions that `appearance` measures: all called alike, 25 steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image

from miniature_training.evaluation import appearance
from miniature_training.evaluation.appearance import Paint, Repaint, Trip
from miniature_training.models.pixels import round_trip

STEPS = 25
GUIDANCE = 7.5


@dataclass(frozen=True)
class Painter:
    """What a checkpoint can do; None where it cannot."""

    paint: Paint | None = None
    repaint: Repaint | None = None
    trip: Trip | None = None
    calm: Paint | None = None  # at guidance 4, where a model has to know by itself what guidance would exaggerate


def generators(seeds: list[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def sd15() -> Painter:
    from diffusers import StableDiffusionPipeline

    from miniature_training.evaluation.scores import pipeline

    pipe = pipeline(StableDiffusionPipeline, "sd15")

    def at(guidance: float) -> Paint:
        call = {"guidance_scale": guidance, "num_inference_steps": STEPS}
        return lambda texts, seeds: pipe(texts, generator=generators(seeds), **call).images

    return Painter(paint=at(GUIDANCE), calm=at(4.0))


def sd15_inpaint() -> Painter:
    from diffusers import StableDiffusionInpaintPipeline

    from miniature_training.evaluation.scores import pipeline

    pipe = pipeline(StableDiffusionInpaintPipeline, "sd15-inpaint")

    def repaint(image: Image.Image, mask: Image.Image, prompt: str, seed: int) -> Image.Image:
        size = {"height": image.height, "width": image.width}
        call = {"guidance_scale": GUIDANCE, "num_inference_steps": STEPS, "generator": generators([seed])}
        return pipe(prompt, image=image, mask_image=mask, **size, **call).images[0]

    return Painter(repaint=repaint, trip=lambda image: round_trip(pipe.vae, [image])[0])


def sdxl_inpaint() -> Painter:
    from miniature_training.recipes import sdxl

    pipe = sdxl.pipeline()
    side = (sdxl.SIZE, sdxl.SIZE)

    def paint(texts: list[str], seeds: list[int]) -> list[Image.Image]:
        grey, white = Image.new("RGB", side, (127, 127, 127)), Image.new("L", side, 255)
        call = {"strength": 1.0, "num_inference_steps": STEPS, "generator": generators(seeds)}
        return pipe(texts, image=[grey] * len(texts), mask_image=[white] * len(texts), **call).images

    def repaint(image: Image.Image, mask: Image.Image, prompt: str, seed: int) -> Image.Image:
        call = {"strength": 0.99, "num_inference_steps": STEPS, "generator": generators([seed])}
        made = pipe(prompt, image=image.resize(side), mask_image=mask.resize(side), **call).images[0]
        return made.resize(image.size, Image.Resampling.LANCZOS)

    def trip(image: Image.Image) -> Image.Image:
        return round_trip(pipe.vae, [image.resize(side)])[0].resize(image.size, Image.Resampling.LANCZOS)

    return Painter(paint=paint, repaint=repaint, trip=trip)


def kandinsky22() -> Painter:
    from miniature_training.recipes import kandinsky_checkpoints

    pipe = kandinsky_checkpoints.pipeline()
    return Painter(paint=lambda texts, seeds: pipe(texts, **kandinsky_checkpoints.call(*seeds, steps=STEPS)).images)


def kandinsky22_inpaint() -> Painter:
    from miniature_training.recipes import kandinsky_checkpoints

    pipe = kandinsky_checkpoints.pipeline(inpaint=True)

    def repaint(image: Image.Image, mask: Image.Image, prompt: str, seed: int) -> Image.Image:
        return pipe(prompt, image=image, mask_image=mask, **kandinsky_checkpoints.call(seed, steps=STEPS)).images[0]

    return Painter(repaint=repaint, trip=lambda image: round_trip(pipe.movq, [image])[0])


PAINTERS: dict[str, Callable[[], Painter]] = {
    "sd15": sd15,
    "sd15-inpaint": sd15_inpaint,
    "sdxl-inpaint": sdxl_inpaint,
    "kandinsky22": kandinsky22,
    "kandinsky22-inpaint": kandinsky22_inpaint,
}


def figures(name: str) -> dict[str, float]:
    """All that `appearance` measures of what the checkpoint `name` can do."""
    painter, result = PAINTERS[name](), {}
    if painter.paint:
        result |= appearance.of_prompts(painter.paint) | appearance.hours(painter.paint)
    if painter.calm:
        result |= {f"guidance_4_{key}": value for key, value in appearance.of_prompts(painter.calm).items()}
    if painter.repaint:
        result |= appearance.outside(painter.repaint, painter.trip) | appearance.inside(painter.repaint)
    return result
