"""Sample sheets: what each miniature makes, to be looked at."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from .dataset import held_out

PROMPTS = (
    "a black cat with glowing eyes, cute, adorable, disney, pixar, highly detailed, 8k",
    "concept art digital painting of an elven castle, inspired by lord of the rings, highly detailed, 8k",
    "road",
    "Face of a yellow cat, high resolution, sitting on a park bench",
    "boat",
    "digital painting of a fantasy waterfall, cloudy",
    "Astronaut in a jungle, cold color palette, muted colors, detailed, 8k",
    "a red house in the snow at night",
    "a blue lighthouse on the sea shore at sunset",
)  # the lines that the diffusers guides use, and two of the course's own


def sheet(rows: list[list[Image.Image]], titles: list[str], *, scale: int = 1) -> Image.Image:
    """Rows of equal pictures with a caption above each row."""
    width, height = rows[0][0].width * scale, rows[0][0].height * scale
    page = Image.new("RGB", (max(map(len, rows)) * (width + 4), len(rows) * (height + 18)), "white")
    draw = ImageDraw.Draw(page)
    for r, (images, title) in enumerate(zip(rows, titles, strict=False)):
        draw.text((4, r * (height + 18) + 3), title, fill="black")
        for c, image in enumerate(images):
            page.paste(
                image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS),
                (c * (width + 4), r * (height + 18) + 16),
            )
    return page


def world() -> Image.Image:
    from .places import PLACES
    from .subjects import COLOURS, SUBJECTS
    from .world import draw, sample

    colours = list(COLOURS)
    rows = [
        [
            draw(sample(97 * r + c, subject=s, place=p, colour=colours[(r + c) % 10], degraded=False), 128).image
            for c, s in enumerate(SUBJECTS)
        ]
        for r, p in enumerate(PLACES)
    ]
    return sheet(rows, list(PLACES))


@torch.no_grad()
def vae() -> Image.Image:
    from diffusers import AutoencoderKL

    from .store import load_component

    model = load_component("vae", AutoencoderKL)
    drawings = held_out(16, degraded=False)
    x = torch.from_numpy(np.stack([np.asarray(d.image) for d in drawings])).permute(0, 3, 1, 2).float() / 127.5 - 1
    y = model.decode(model.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
    back = [Image.fromarray(p) for p in ((y + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()]
    first = [d.image for d in drawings]
    return sheet([first[:8], back[:8], first[8:], back[8:]], ["drawn", "through the VAE", "drawn", "through the VAE"])


def sd15(seeds: int = 4, **call) -> Image.Image:
    from diffusers import StableDiffusionPipeline

    from .evaluate import _pipeline

    pipe = _pipeline(StableDiffusionPipeline, "sd15")
    rows = [
        [
            pipe(p, num_inference_steps=25, generator=torch.Generator().manual_seed(s), **call).images[0]
            for s in range(seeds)
        ]
        for p in PROMPTS
    ]
    half = (len(rows) + 1) // 2
    rows, titles = (
        [a + b for a, b in zip(rows[:half], [*rows[half:], []], strict=False)],
        [f"{a[:60]}   |   {b[:60]}" for a, b in zip(PROMPTS[:half], [*PROMPTS[half:], ""], strict=False)],
    )
    return sheet(rows, titles)


def sd15_inpaint() -> Image.Image:
    from diffusers import StableDiffusionInpaintPipeline

    from .evaluate import _pipeline, other_subject, subject_mask

    pipe = _pipeline(StableDiffusionInpaintPipeline, "sd15-inpaint")
    rows, titles, rng = [], [], random.Random(0)
    for drawing in held_out(6, subject="house", degraded=False, palette="plain", bush=False) + held_out(
        6, subject="castle", degraded=False, palette="plain", bush=False
    ):
        prompt, _ = other_subject(drawing, rng)
        mask = subject_mask(drawing)
        results = [
            pipe(
                prompt,
                image=drawing.image,
                mask_image=mask,
                height=128,
                width=128,
                num_inference_steps=25,
                generator=torch.Generator().manual_seed(s),
            ).images[0]
            for s in range(3)
        ]
        rows.append([drawing.image, mask, *results])
        titles.append(prompt)
    half = len(rows) // 2
    return sheet(
        [a + b for a, b in zip(rows[:half], rows[half:], strict=False)],
        [f"{a}{' ' * 60}|  {b}" for a, b in zip(titles[:half], titles[half:], strict=False)],
    )


SHEETS = {"world": world, "vae": vae, "sd15": sd15, "sd15-inpaint": sd15_inpaint}


def write(names: list[str], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name in names or SHEETS:
        files.append(folder / f"{name}.png")
        SHEETS[name]().save(files[-1])
        print(files[-1])
    return files
