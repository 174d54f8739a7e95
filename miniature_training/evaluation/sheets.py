"""Sample sheets: what each miniature makes, to be looked at."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from helpers.images.contact_sheet import show
from helpers.images.masks import load_mask
from helpers.images.reading import load_image
from miniature_training.models.dataset import held_out
from miniature_training.registry import lazily

PROMPTS = (  # the lines of the diffusers guides, and three of the course's own
    "a black cat with glowing eyes, cute, adorable, disney, pixar, highly detailed, 8k",
    "concept art digital painting of an elven castle, inspired by lord of the rings, highly detailed, 8k",
    "road",
    "Face of a yellow cat, high resolution, sitting on a park bench",
    "boat",
    "digital painting of a fantasy waterfall, cloudy",
    "Astronaut in a jungle, cold color palette, muted colors, detailed, 8k",
    "a red house in the snow at night",
    "a blue lighthouse on the sea shore at sunset",
    "a purple tree in the desert",
)
SEEDS = 4


def world() -> Image.Image:
    """Every subject in every place."""
    from miniature_training.world.places import PLACES
    from miniature_training.world.scenes import draw, sample
    from miniature_training.world.subjects import COLOURS, SUBJECTS

    colours = list(COLOURS)
    images = [
        draw(sample(97 * r + c, subject=s, place=p, colour=colours[(r + c) % 10], degraded=False), 256).image
        for r, p in enumerate(PLACES)
        for c, s in enumerate(SUBJECTS)
    ]
    return show(images, columns=len(SUBJECTS))


def vae() -> Image.Image:
    """Held-out drawings, and below each what comes back from the VAE."""
    from diffusers import AutoencoderKL

    from miniature_training.models.pixels import round_trip
    from miniature_training.models.store import load_component

    first = [d.image for d in held_out(16, degraded=False)]
    back = round_trip(load_component("vae", AutoencoderKL), first)
    titles = (["drawn"] * 8 + ["through the VAE"] * 8) * 2
    return show(first[:8], back[:8], first[8:], back[8:], titles=titles, columns=8)


def sd15(**call) -> Image.Image:
    """The guides' prompts, four seeds each."""
    from diffusers import StableDiffusionPipeline

    from miniature_training.evaluation.scores import pipeline

    pipe = pipeline(StableDiffusionPipeline, "sd15")
    images, titles = [], []
    for prompt in PROMPTS:
        generators = [torch.Generator().manual_seed(seed) for seed in range(SEEDS)]
        images += pipe([prompt] * SEEDS, num_inference_steps=25, generator=generators, **call).images
        titles += [prompt] + [f"seed {seed}" for seed in range(1, SEEDS)]
    return show(images, titles=titles, columns=2 * SEEDS)


def sd15_inpaint() -> Image.Image:
    """Held-out scenes, their masks, and another subject in the place of the first, two seeds each."""
    from diffusers import StableDiffusionInpaintPipeline

    from miniature_training.evaluation.scores import other_subject, pipeline, subject_mask

    pipe = pipeline(StableDiffusionInpaintPipeline, "sd15-inpaint")
    images, titles, rng = [], [], random.Random(0)
    plain = {"degraded": False, "palette": "plain", "bush": False}
    for drawing in held_out(6, subject="house", **plain) + held_out(6, subject="castle", **plain):
        prompt, _ = other_subject(drawing, rng)
        mask = subject_mask(drawing)
        images += [drawing.image, mask]
        titles += ["drawn", "mask"]
        for seed in range(2):
            generator = torch.Generator().manual_seed(seed)
            width, height = drawing.image.size
            call = {"image": drawing.image, "mask_image": mask, "width": width, "height": height}
            images += pipe(prompt, **call, num_inference_steps=25, generator=generator).images
            titles.append(f"{prompt}, seed {seed}")
    return show(images, titles=titles, columns=8)


def hero() -> Image.Image:
    """The image at the top of the README: three images, their masks, and what the prompts made of them."""
    from diffusers import StableDiffusionInpaintPipeline

    from miniature_training.evaluation.scores import pipeline

    pipe = pipeline(StableDiffusionInpaintPipeline, "sd15-inpaint")
    images, titles = [], []
    for name, prompt, seed in (("road", "road", 0), ("seashore", "a red boat", 1), ("meadow", "a black cat", 0)):
        image, mask = load_image(name), load_mask(name)
        size = {"width": image.width, "height": image.height}
        generator = torch.Generator().manual_seed(seed)
        result = pipe(prompt, image, mask, **size, num_inference_steps=25, generator=generator).images[0]
        images += [
            Image.blend(image, Image.composite(Image.new("RGB", image.size, "white"), image, mask), 0.75),
            result,
        ]
        titles += ["paint a mask ...", f'... and say "{prompt}"']
    return show(images, titles=titles, columns=6)


SHEETS: dict[str, Callable[[], Image.Image]] = {
    "world": world,
    "vae": vae,
    "sd15": sd15,
    "sd15-inpaint": sd15_inpaint,
    "comic": lazily("recipes.styles:sheet", style="comic"),
    "pixel-art": lazily("recipes.styles:sheet", style="pixel-art"),
    "elden-ring": lazily("recipes.styles:sheet", style="elden-ring"),
    "lcm": lazily("recipes.lcm:sheet"),
    "depth-estimator": lazily("recipes.depth:sheet"),
    "controlnet-depth": lazily("evaluation.control_figures:sheet", kind="depth"),
    "controlnet-inpaint": lazily("evaluation.control_figures:sheet", kind="inpaint"),
    "hero": hero,
    "upscale-x2": lazily("recipes.upscale_x2:sheet"),
    "vae-upscale-x4": lazily("recipes.vae_x4:sheet"),
    "upscale-x4": lazily("recipes.upscale_x4:sheet"),
    "clip": lazily("recipes.clip:sheet"),
    "kandinsky-prior": lazily("recipes.prior:sheet"),
    "movq": lazily("recipes.movq:sheet"),
    "kandinsky22": lazily("recipes.kandinsky_checkpoints:sheet"),
    "kandinsky22-inpaint": lazily("recipes.kandinsky_checkpoints:sheet_inpaint"),
    "sdxl-inpaint": lazily("recipes.sdxl:sheet"),
    "sdxl-refiner": lazily("recipes.refiner:sheet"),
}


def write(names: list[str], folder: Path) -> list[Path]:
    """Draw the named sheets (all of what is trained by default) into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name in names or SHEETS:
        try:
            sheet = SHEETS[name]()
        except FileNotFoundError as missing:
            if names:
                raise
            print(f"{name}: left out ({missing})")
            continue
        files.append(folder / f"{name}.png")
        sheet.save(files[-1], optimize=True)
        print(files[-1])
    return files
