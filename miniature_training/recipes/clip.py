"""CLIP of the drawn world: a text and an image tower that give an image and its caption embeddings that agree.

Kandinsky's prior turns the one embedding into the other, and its decoder paints what the image embedding says.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from miniature_training.models.dataset import drawn_images, held_out
from miniature_training.models.latents import weights_key
from miniature_training.models.loop import Training, device, leader_first
from miniature_training.models.store import kept, load_component, save_component, shipped
from miniature_training.recipes.text import HEADS, LENGTH, said, tokens
from miniature_training.world.captions import DEGRADED_WORDS, caption
from miniature_training.world.scenes import Drawing, Scene, sample

WIDTH = 96  # of both embeddings, and so of the text tower: the prior takes its states and its embedding as one width
SIDE = 64  # pixels of the images that the image tower looks at
BATCH = {"cpu": 96, "cuda": 768}
WORDINGS = 6  # of each scene
CHOICES = 16  # captions that an image is asked to choose from
FLAWS = 0.3  # this share of a bad image's wordings names its flaws alone, as negative prompts do


def build(tokenizer: CLIPTokenizer) -> tuple[CLIPTextModelWithProjection, CLIPVisionModelWithProjection]:
    """The two towers, untrained."""
    shape = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 6, "projection_dim": WIDTH}
    words = CLIPTextConfig(
        **shape, num_hidden_layers=3, vocab_size=len(tokenizer), max_position_embeddings=LENGTH,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    image = CLIPVisionConfig(**shape, num_hidden_layers=4, image_size=SIDE, patch_size=8)
    return CLIPTextModelWithProjection(words), CLIPVisionModelWithProjection(image)


def image_processor() -> CLIPImageProcessor:
    half = [0.5, 0.5, 0.5]
    return CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_mean=half, image_std=half
    )


class Pair(nn.Module):
    """Both towers, the sharpness of their comparison, and what each embedding must tell while they learn."""

    def __init__(self, words: CLIPTextModelWithProjection, image: CLIPVisionModelWithProjection) -> None:
        super().__init__()
        self.text, self.image = words, image
        self.sharpness = nn.Parameter(torch.tensor(2.66))
        self.named = nn.ModuleDict({head: nn.Linear(WIDTH, len(values)) for head, values in HEADS.items()})
        self.shown = nn.ModuleDict({head: nn.Linear(WIDTH, len(values)) for head, values in HEADS.items()})

    def forward(self, x: torch.Tensor, ids: torch.Tensor, *, truth: torch.Tensor, named: torch.Tensor) -> torch.Tensor:
        """Loss of images x (B, 3, 64, 64) and captions ids (B, L): each picks the other out of the batch.

        truth, named: classes (B, heads) that the images show and the captions name. A small network learns these
        sooner than what to compare, so its embeddings are asked for them too.
        """
        seen, read = self.image(x).image_embeds, self.text(ids).text_embeds
        logits = self.sharpness.clamp(max=4.6).exp() * F.normalize(seen) @ F.normalize(read).T
        match = torch.arange(len(x), device=x.device)
        contrast = (F.cross_entropy(logits, match) + F.cross_entropy(logits.T, match)) / 2
        taught = 0.0
        for i, head in enumerate(HEADS):
            taught = taught + F.cross_entropy(self.shown[head](seen), truth[:, i])
            taught = taught + F.cross_entropy(self.named[head](read), named[:, i])
        return contrast + taught / len(HEADS)


def wording(scene: Scene, rng: random.Random) -> tuple[str, dict[str, int]]:
    """A caption, and what it names (0: nothing said); a bad image's may name its flaws alone."""
    if scene.degraded and rng.random() < FLAWS:
        flaws = ", ".join(rng.sample(DEGRADED_WORDS[scene.degraded], rng.randint(1, 3)))
        return flaws, dict.fromkeys(HEADS, 0) | {"degraded": HEADS["degraded"].index(scene.degraded)}
    line = caption(scene, rng)
    return line, said(scene, line)


def shown(scene: Scene) -> dict[str, int]:
    """The class of each head that the image shows; -100 for the colour where there is no subject."""
    values = {
        "subject": scene.subject or "nothing", "colour": scene.colour, "place": scene.place, "hour": scene.hour,
        "palette": scene.palette, "degraded": scene.degraded or "no", "attribute": scene.attribute or "none",
        "bench": "yes" if scene.on_bench else "no", "close": "yes" if scene.close else "no",
    }  # fmt: skip
    classes = {head: HEADS[head].index(value) for head, value in values.items()}
    return classes if scene.subject else classes | {"colour": -100}


def lines(count: int, tokenizer: CLIPTokenizer) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (count, WORDINGS, 77) of the first scenes' captions, and what each names (count, WORDINGS, heads)."""
    told = [wording(scene, random.Random(i)) for scene in map(sample, range(count)) for i in range(WORDINGS)]
    ids = torch.cat([tokens(tokenizer, [line for line, _ in told[i : i + 5000]]) for i in range(0, len(told), 5000)])
    named = torch.tensor([list(classes.values()) for _, classes in told])
    return ids.short().view(count, WORDINGS, -1), named.view(count, WORDINGS, -1)


def pixels(images: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Images (N, H, W, 3) uint8 as the image processor hands square ones on: (N, 3, 64, 64), -1..1."""
    x = torch.as_tensor(images).permute(0, 3, 1, 2).float()
    if x.shape[-1] != SIDE:
        x = F.interpolate(x, size=(SIDE, SIDE), mode="bicubic", antialias=True).round().clamp(0, 255)
    return x / 127.5 - 1


def _augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Flips, small shifts and softness: captions never speak of them, and decoded images have them."""
    if torch.rand((), generator=generator) < 0.5:
        x = x.flip(3)
    dx, dy = torch.randint(0, 9, (2,), generator=generator).tolist()
    x = F.pad(x, (4, 4, 4, 4), mode="replicate")[..., dy : dy + SIDE, dx : dx + SIDE]
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return x + (soft - x) * 0.8 * torch.rand((), generator=generator).item() ** 2


def train(*, minutes: float, steps: int | None = None, resume: bool = False, count: int = 24_000) -> None:
    """Train both towers on drawings and their captions; writes clip-text, clip-image and clip-processor."""
    tokenizer = load_component("tokenizer", CLIPTokenizer)
    with leader_first():
        rgb = torch.from_numpy(np.array(drawn_images(count, size=SIDE)[0])).to(device())
    ids, named = (part.to(device()) for part in lines(count, tokenizer))
    truth = torch.tensor([list(shown(sample(seed)).values()) for seed in range(count)], device=device())
    torch.manual_seed(0)
    pair = Pair(*(load() if resume and shipped("clip-image") else build(tokenizer)))
    training = Training("clip", {"pair": pair}, lr=1e-3, ema_decay=0.998, weight_decay=0.05)
    if resume:
        training.resume()
    pair.train()

    def loss(generator: torch.Generator) -> torch.Tensor:
        size = BATCH[device().type]
        index, line = (torch.randint(0, n, (size,), generator=generator).to(device()) for n in (count, WORDINGS))
        words = ids[index, line].long()
        longest = (words == tokenizer.eos_token_id).int().argmax(1).max() + 1  # what comes after is padding
        x = _augment(pixels(rgb[index]), generator)
        return pair(x, words[:, :longest], truth=truth[index], named=named[index, line])

    def export() -> None:
        trained = training.average["pair"]
        save_component("clip-text", trained.text)
        save_component("clip-image", trained.image)
        save_component("clip-processor", image_processor())

    training.run(loss, minutes=minutes, steps=steps, on_checkpoint=export)
    export()


def load() -> tuple[CLIPTextModelWithProjection, CLIPVisionModelWithProjection]:
    """The trained towers, in evaluation mode."""
    words = load_component("clip-text", CLIPTextModelWithProjection)
    return words.eval(), load_component("clip-image", CLIPVisionModelWithProjection).eval()


@torch.no_grad()
def embed(images: np.ndarray, tower: CLIPVisionModelWithProjection, *, batch: int = 256) -> torch.Tensor:
    """Image embeddings (N, WIDTH) of images (N, H, W, 3) uint8, not normalised; on the CPU."""
    tower.to(device()).eval()
    parts = (images[i : i + batch] for i in range(0, len(images), batch))
    return torch.cat([tower(pixels(torch.tensor(part).to(device()))).image_embeds.cpu() for part in parts])


@torch.no_grad()
def nothing(tower: CLIPVisionModelWithProjection) -> torch.Tensor:
    """What the pipelines take for "no image in particular": the embedding (1, WIDTH) of an all-zero input."""
    return tower(torch.zeros(1, 3, SIDE, SIDE, device=tower.device)).image_embeds


def embeddings(count: int) -> torch.Tensor:
    """Embeddings of the first `count` training images of 128 pixels, kept for as long as the tower is the same."""
    tower = load()[1]
    name = f"embeddings/{weights_key(tower)}-{count}.npy"
    return torch.from_numpy(kept(name, lambda: embed(drawn_images(count)[0], tower).numpy()))


def wrong(scene: Scene, named: dict[str, int]) -> bool:
    """Whether a caption that names these classes says what the scene's image does not show."""
    truth = shown(scene)
    return any(named[head] and named[head] != truth[head] for head in ("subject", "colour", "place", "hour"))


def choices(count: int, ruled_out: Callable[[int, int], bool]) -> list[list[int]]:
    """For each of `count` its own number, and 15 others that are ruled out for it."""
    rng, result = random.Random(0), []
    for i in range(count):
        others = (j for j in rng.sample(range(count), count) if ruled_out(i, j))
        result.append([i, *islice(others, CHOICES - 1)])
    return result


@torch.no_grad()
def chosen(count: int) -> tuple[list[Drawing], list[str], list[int]]:
    """Held-out drawings, their captions, and the number of the caption that each image agrees with most."""
    tokenizer, (words, tower) = load_component("tokenizer", CLIPTokenizer), load()
    drawings = held_out(count, degraded=False)
    told = [wording(drawing.scene, random.Random(i)) for i, drawing in enumerate(drawings)]
    seen = embed(np.stack([np.asarray(d.image) for d in drawings]), tower)
    read = words(tokens(tokenizer, [line for line, _ in told])).text_embeds
    alike = F.normalize(seen) @ F.normalize(read).T
    asked = choices(count, lambda i, j: wrong(drawings[i].scene, told[j][1]))
    picks = [options[int(alike[i, options].argmax())] for i, options in enumerate(asked)]
    return drawings, [line for line, _ in told], picks


def figures(count: int = 1000) -> dict[str, float]:
    """How often a held-out image picks its own caption out of 16, the others wrong about it."""
    picks = chosen(count)[2]
    return {"right_caption": float(np.mean([pick == i for i, pick in enumerate(picks)]))}


def sheet() -> Image.Image:
    """Held-out images, and below each the caption it picked out of 16."""
    from helpers.images.contact_sheet import show

    drawings, told, picks = chosen(96)
    return show([d.image for d in drawings[:32]], titles=[told[pick] for pick in picks[:32]], columns=8)
