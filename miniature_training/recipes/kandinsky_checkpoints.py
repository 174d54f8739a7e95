"""Kandinsky 2.2 put together: how prior and decoders make checkpoints, and what those paint."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from miniature_training.models.dataset import SIZE
from miniature_training.world.scenes import HELD_OUT

NAME, DELTA = "unet-kandinsky22", "delta-kandinsky22-inpaint"
STEPS = 25


def entry(*, inpaint: bool = False) -> dict[str, Any]:
    """The combined layout, which loads from any working directory: the prior's parts beside the decoder's."""
    return {
        "pipeline": f"KandinskyV22{'Inpaint' if inpaint else ''}CombinedPipeline",
        "size": SIZE,
        "components": {
            "unet": ["diffusers", "UNet2DConditionModel", NAME, *([DELTA] if inpaint else [])],
            "scheduler": ["diffusers", "DDPMScheduler", "kandinsky-scheduler"],
            "movq": ["diffusers", "VQModel", "movq"],
            "prior_prior": ["diffusers", "PriorTransformer", "prior"],
            "prior_image_encoder": ["transformers", "CLIPVisionModelWithProjection", "clip-image"],
            "prior_text_encoder": ["transformers", "CLIPTextModelWithProjection", "clip-text"],
            "prior_tokenizer": ["transformers", "CLIPTokenizer", "tokenizer"],
            "prior_scheduler": ["diffusers", "UnCLIPScheduler", "prior-scheduler"],
            "prior_image_processor": ["transformers", "CLIPImageProcessor", "clip-processor"],
        },
    }


def pipeline(*, inpaint: bool = False):
    from diffusers import KandinskyV22CombinedPipeline, KandinskyV22InpaintCombinedPipeline

    from miniature_training.evaluation import scores

    if inpaint:
        return scores.pipeline(KandinskyV22InpaintCombinedPipeline, "kandinsky22-inpaint")
    return scores.pipeline(KandinskyV22CombinedPipeline, "kandinsky22")


def call(*seeds: int, steps: int = STEPS) -> dict[str, Any]:
    """What every call says: Kandinsky's own defaults are 512 pixels and 100 steps."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return {"height": SIZE, "width": SIZE, "num_inference_steps": steps, "generator": generators}


def figures(count: int = 500, *, steps: int = STEPS, batch: int = 20) -> dict[str, float]:
    """Subject, colour and place in what prior and decoder make of held-out prompts."""
    from miniature_training.evaluation import scores

    pipe, tasks, images = pipeline(), scores.prompts(count), []
    for i in tqdm(range(0, count, batch), desc="kandinsky22"):
        texts = [text for text, _ in tasks[i : i + batch]]
        images += pipe(texts, **call(*range(HELD_OUT + i, HELD_OUT + i + len(texts)), steps=steps)).images
    return scores.right(images, [asked for _, asked in tasks])


def figures_inpaint(count: int = 300, *, steps: int = STEPS) -> dict[str, float]:
    """Subject and colour as the prompt has it, and place as it was: a box around a drawn subject is painted anew.

    One image a call: in a batch the pipeline keeps the first image's surroundings for all.
    """
    from miniature_training.evaluation import scores

    pipe, tasks, images = pipeline(inpaint=True), scores.repainting(count), []
    for i, (drawing, mask, prompt, _) in enumerate(tqdm(tasks, desc="kandinsky22-inpaint")):
        told = call(HELD_OUT + i, steps=steps)
        images += pipe(prompt, image=drawing.image, mask_image=mask, **told).images
    return scores.right(images, [asked | {"place": drawing.scene.place} for drawing, *_, asked in tasks])


def sheet() -> Image.Image:
    """The guides' prompts, four seeds each."""
    from helpers.images.contact_sheet import show
    from miniature_training.evaluation.sheets import PROMPTS, SEEDS

    pipe, images = pipeline(), []
    for prompt in PROMPTS:
        images += pipe([prompt] * SEEDS, **call(*range(SEEDS))).images
    titles = [title for prompt in PROMPTS for title in [prompt, *(f"seed {seed}" for seed in range(1, SEEDS))]]
    return show(images, titles=titles, columns=2 * SEEDS)


def sheet_inpaint() -> Image.Image:
    """Held-out scenes, their masks, and another subject in the place of the first, two seeds each."""
    from helpers.images.contact_sheet import show
    from miniature_training.evaluation.scores import repainting

    pipe, images, titles = pipeline(inpaint=True), [], []
    for drawing, mask, prompt, _ in repainting(16)[::2]:
        images += [drawing.image, mask]
        titles += ["drawn", "mask"]
        for seed in range(2):
            images += pipe(prompt, image=drawing.image, mask_image=mask, **call(seed)).images
            titles.append(f"{prompt}, seed {seed}")
    return show(images, titles=titles, columns=8)
