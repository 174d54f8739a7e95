"""What the upscalers share: scenes drawn large and made small, their captions, the measures of an enlarged image."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import nn

from helpers.analysis.image_metrics import sharpness
from helpers.images.contact_sheet import show
from miniature_training.models import dataset, store
from miniature_training.models.latents import weights_key
from miniature_training.models.loop import device
from miniature_training.recipes import text
from miniature_training.world.captions import caption
from miniature_training.world.scenes import draw, sample

SIDE = 256  # pixels, of what an upscaler should give back
CLOSE = 2  # a close-up is cut from a drawing this many times as large
CLOSE_SEEDS = 500_000  # close-ups show scenes that no whole image shows
# Drawings, and half as many close-ups: a core draws a thousand in 10 (close: 30) seconds, and encodes them in a minute.
COUNT = {"cpu": 3_000, "cuda": 9_000}


def close_up(seed: int, *, factor: int = CLOSE, degraded: bool | None = None) -> tuple[Image.Image, Image.Image]:
    """A 256-pixel crop, most often at the subject, of the scene drawn `factor` times as large; and its subject mask."""
    drawing, rng = draw(sample(seed, degraded=degraded), SIDE * factor), random.Random(f"{seed}/close")
    seen = np.argwhere(np.asarray(drawing.mask) > 127)
    last = SIDE * (factor - 1)
    y, x = rng.randint(0, last), rng.randint(0, last)
    if len(seen) and rng.random() < 0.7:
        y, x = (int(v) for v in np.clip(seen[rng.randrange(len(seen))] - SIDE // 2, 0, last))
    box = (x, y, x + SIDE, y + SIDE)
    return drawing.image.crop(box), drawing.mask.crop(box)


def _close_some(seeds: range) -> tuple[np.ndarray, np.ndarray]:
    pairs = [close_up(seed) for seed in seeds]
    return np.stack([np.asarray(p) for p, _ in pairs]), np.stack([np.asarray(m) for _, m in pairs])


def close_ups(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Close-ups (N, 256, 256, 3) and subject masks (N, 256, 256), uint8, of the scenes from `CLOSE_SEEDS` on."""
    names, seeds = [f"close-{count}-rgb", f"close-{count}-mask"], range(CLOSE_SEEDS, CLOSE_SEEDS + count)
    rgb, mask = dataset.drawn(names, seeds, _close_some, size=SIDE, chunk=100)
    return rgb, mask


def reduced(images: np.ndarray, factor: int, kernels: tuple[Image.Resampling, ...]) -> np.ndarray:
    """Images (N, H, W, 3) uint8 made `factor` times smaller, each with the next of the kernels in turn."""
    size = (images.shape[2] // factor, images.shape[1] // factor)
    small = [Image.fromarray(image).resize(size, kernels[i % len(kernels)]) for i, image in enumerate(images)]
    return np.stack([np.asarray(image) for image in small])


def kept(name: str, vae: nn.Module, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays made with this VAE's encoder, cached for as long as the encoder stays the same."""
    return store.kept(f"latents/{weights_key(vae.encoder, vae.quant_conv)}-{name}.npz", make)


def said(texts: list[str], *, normed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """What sd15's text encoder makes of some prompts: states (N, 77, width) and pooled (N, width), float32.

    normed: with the final norm, as most pipelines take the states; the latent upscaler takes them without.
    """
    tokenizer, encoder = text.load()
    encoder.to(device()).eval()
    parts = []
    with torch.no_grad():
        for i in range(0, len(texts), 64):
            ids = text.tokens(tokenizer, texts[i : i + 64]).to(device())
            output = encoder(ids, output_hidden_states=True)
            parts.append((output.last_hidden_state if normed else output.hidden_states[-1], output.pooler_output))
    states, pooled = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return states, pooled


def captions(seeds: Iterable[int], *, normed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """A wording of each scene through `said`, kept as float16; the last row is the empty prompt."""
    texts = [caption(sample(seed), random.Random(seed)) for seed in seeds]
    states, pooled = said([*texts, ""], normed=normed)
    return states.half(), pooled.half()


def take(model: nn.Module, state: dict[str, torch.Tensor], *, rename: Callable[[str], str] = str) -> list[str]:
    """Copy into `model` whatever of `state` fits it by (renamed) name and shape; the names of what was copied."""
    own = model.state_dict()
    fits = {rename(name): value for name, value in state.items() if rename(name) in own}
    fits = {name: value for name, value in fits.items() if own[name].shape == value.shape}
    model.load_state_dict(fits, strict=False)
    return sorted(fits)


@dataclass(frozen=True)
class Case:
    """A held-out scene: its caption, the small image, and the true large one."""

    prompt: str
    low: Image.Image
    truth: Image.Image


def cases(count: int, factor: int, *, close: bool = False) -> list[Case]:
    """Undegraded held-out scenes, 256 pixels a side, with themselves `factor` times smaller; or close-ups of them."""
    from miniature_training.world.scenes import HELD_OUT

    result = []
    for seed in range(HELD_OUT, HELD_OUT + count):
        scene = sample(seed, degraded=False)
        truth = close_up(seed, degraded=False)[0] if close else draw(scene, SIDE).image
        result.append(Case(caption(scene, random.Random(seed)), truth.reduce(factor), truth))
    return result


def bicubic(image: Image.Image) -> Image.Image:
    return image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def sharp(results: list[Image.Image], truths: list[Image.Image]) -> float:
    """The images' sharpness as a share of the true ones'."""
    return float(np.mean([sharpness(r) for r in results]) / np.mean([sharpness(t) for t in truths]))


def comparison(rows: Iterable[tuple[Image.Image, Image.Image, Image.Image, Image.Image]], name: str) -> Image.Image:
    """A sheet with a row for each: low resolution (its pixels as squares), bicubic, the upscaler's, the truth."""
    images, titles = [], []
    for low, enlarged, ours, truth in rows:
        images += [low.resize(truth.size, Image.Resampling.NEAREST), enlarged, ours, truth]
        titles += [f"{low.width} pixels", "bicubic", name, "drawn large"]
    return show(images, titles=titles, columns=4)
