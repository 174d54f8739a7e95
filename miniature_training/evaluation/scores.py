"""The figures of the miniatures, on scenes and seeds that no training has seen."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from helpers.analysis import scene_classifier
from helpers.catalog.checkpoints import CATALOG
from helpers.common import paths
from miniature_training.evaluation import painters
from miniature_training.evaluation.model_card import told
from miniature_training.evaluation.painters import PAINTERS
from miniature_training.models.dataset import SIZE, held_out
from miniature_training.registry import lazily
from miniature_training.world.places import PLACES
from miniature_training.world.scenes import HELD_OUT, Drawing
from miniature_training.world.subjects import COLOURS, SUBJECTS

# what is repainted: things that stand by themselves, with room around them
REPAINTED = ("castle", "house", "tree", "cat", "astronaut", "lighthouse", "waterfall", "boat")


def pipeline(kind: type, name: str):
    pipe = kind.from_pretrained(CATALOG[name].source).to("cuda" if torch.cuda.is_available() else "cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def prompts(count: int) -> list[tuple[str, dict[str, str]]]:
    """Held-out prompts that name a subject, a colour and a place, and what they name."""
    rng = random.Random(HELD_OUT)
    result = []
    for _ in range(count):
        subject, colour, place = rng.choice(list(SUBJECTS)), rng.choice(list(COLOURS)), rng.choice(list(PLACES))
        from miniature_training.world.captions import PLACE_WORDS

        article = "an" if colour[0] in "aeiou" else "a"
        text = f"{article} {colour} {subject} {rng.choice(PLACE_WORDS[place])}"
        result.append((text, {"subject": subject, "colour": colour, "place": place}))
    return result


def right(images: list[Image.Image], asked: list[dict[str, str]]) -> dict[str, float]:
    """Share of images whose subject, colour, place the classifier reads as asked."""
    seen = scene_classifier.read(images)
    heads = asked[0].keys()
    return {
        h: float(np.mean([max(s[h], key=s[h].get) == a[h] for s, a in zip(seen, asked, strict=False)])) for h in heads
    }


def sd15(count: int = 500, *, guidance_scale: float = 7.5, steps: int = 25, batch: int = 20) -> dict[str, float]:
    from diffusers import StableDiffusionPipeline

    pipe = pipeline(StableDiffusionPipeline, "sd15")
    tasks, images = prompts(count), []
    for i in tqdm(range(0, count, batch), desc="sd15"):
        texts = [t for t, _ in tasks[i : i + batch]]
        generators = [torch.Generator().manual_seed(HELD_OUT + i + k) for k in range(len(texts))]
        images += pipe(texts, guidance_scale=guidance_scale, num_inference_steps=steps, generator=generators).images
    return right(images, [a for _, a in tasks])


def other_subject(drawing: Drawing, rng: random.Random) -> tuple[str, dict[str, str]]:
    """A prompt that asks for another subject and colour in the same place."""
    subject = rng.choice([s for s in SUBJECTS if s != drawing.scene.subject])
    colour = rng.choice([c for c in COLOURS if c != drawing.scene.colour])
    return f"a {colour} {subject}", {"subject": subject, "colour": colour}


def subject_mask(drawing: Drawing) -> Image.Image:
    """A box around the subject with a margin of a twelfth of the height: room for another subject."""
    left, top, right_, bottom = drawing.boxes[drawing.scene.subject]
    margin = drawing.image.height // 12
    mask = Image.new("L", drawing.image.size)
    mask.paste(255, (max(0, left - margin), max(0, top - margin), right_ + margin, bottom + margin))
    return mask


def repainting(count: int, *, size: int = SIZE) -> list[tuple[Drawing, Image.Image, str, dict[str, str]]]:
    """Held-out drawings, a mask over each subject, a prompt for another in its place, and what that asks for."""
    rng, plain = random.Random(HELD_OUT), {"degraded": False, "palette": "plain", "on_bench": False}
    each = -(-count // len(REPAINTED))
    drawings = [d for s in REPAINTED for d in held_out(each, size=size, subject=s, **plain) if d.boxes][:count]
    return [(drawing, subject_mask(drawing), *other_subject(drawing, rng)) for drawing in drawings]


def sd15_inpaint(
    count: int = 300, *, guidance_scale: float = 7.5, steps: int = 25, batch: int = 20
) -> dict[str, float]:
    from diffusers import StableDiffusionInpaintPipeline

    pipe = pipeline(StableDiffusionInpaintPipeline, "sd15-inpaint")
    tasks, images = repainting(count), []
    for i in tqdm(range(0, len(tasks), batch), desc="sd15-inpaint"):
        drawings, masks, texts, _ = map(list, zip(*tasks[i : i + batch], strict=True))
        images += pipe(
            texts,
            image=[d.image for d in drawings],
            mask_image=masks,
            height=SIZE,
            width=SIZE,
            guidance_scale=guidance_scale,
            num_inference_steps=steps,
            generator=[torch.Generator().manual_seed(HELD_OUT + i + k) for k in range(len(texts))],
        ).images
    return right(images, [asked for *_, asked in tasks])


# each returns {figure: value}: a share of 1, or by its name's end decibels (_db) or a bare number (model_card.told)
EVALUATIONS: dict[str, Callable[..., dict[str, float]]] = {
    "vae": lazily("recipes.decoder:figures"),
    "classifier": lazily("recipes.classifier:figures"),
    "sd15": sd15,
    "sd15-inpaint": sd15_inpaint,
    "comic": lazily("recipes.styles:figures", style="comic"),
    "pixel-art": lazily("recipes.styles:figures", style="pixel-art"),
    "elden-ring": lazily("recipes.styles:figures", style="elden-ring"),
    "lcm": lazily("recipes.lcm:figures"),
    "depth-estimator": lazily("recipes.depth:figures"),
    "controlnet-depth": lazily("evaluation.control_figures:figures", kind="depth"),
    "controlnet-inpaint": lazily("evaluation.control_figures:figures", kind="inpaint"),
    "upscale-x2": lazily("recipes.upscale_x2:figures"),
    "vae-upscale-x4": lazily("recipes.vae_x4:figures"),
    "upscale-x4": lazily("recipes.upscale_x4:figures"),
    "clip": lazily("recipes.clip:figures"),
    "kandinsky-prior": lazily("recipes.prior:figures"),
    "movq": lazily("recipes.movq:figures"),
    "kandinsky22": lazily("recipes.kandinsky_checkpoints:figures"),
    "kandinsky22-inpaint": lazily("recipes.kandinsky_checkpoints:figures_inpaint"),
    "sdxl-inpaint": lazily("recipes.sdxl:figures"),
    "sdxl-refiner": lazily("recipes.refiner:figures"),
}


def evaluate(names: list[str], *, save: bool = True, **options) -> dict[str, dict[str, float]]:
    """Measure the named miniatures (all that are trained by default), print the figures, keep them by the weights."""
    file = paths.MINIATURES / "figures.json"
    figures = json.loads(file.read_text()) if file.exists() else {}
    for name in names or EVALUATIONS:
        try:
            measured = EVALUATIONS[name](**options)
            if name in PAINTERS:
                measured |= painters.figures(name)
        except FileNotFoundError as missing:
            if names:
                raise
            print(f"{name}: left out ({missing})", flush=True)
            continue
        figures[name] = {key: round(value, 4) for key, value in measured.items()}
        print(name, "  ".join(told(key, value) for key, value in figures[name].items()), flush=True)
        if save:
            file.write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n")
    return figures
