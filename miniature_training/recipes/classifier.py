"""The classifier that measures what the other miniatures make, and its training."""

from __future__ import annotations

import copy
import json

import numpy as np
import torch
import torch.nn.functional as F

from helpers.analysis.scene_classifier import SIZE, build, folder, load, read
from miniature_training.models.dataset import drawn_images, held_out, styled_images
from miniature_training.models.loop import Training, device
from miniature_training.world.looks import LOOKS
from miniature_training.world.places import PLACES
from miniature_training.world.scenes import Scene, sample
from miniature_training.world.skies import HOURS
from miniature_training.world.subjects import COLOURS, SUBJECTS

WIDTH = 32
HEADS = {"subject": ["nothing", *SUBJECTS], "colour": list(COLOURS), "place": list(PLACES), "hour": list(HOURS)}


def labels(scene: Scene) -> list[int]:
    """Class of each head; -100 where the scene has none (an empty place has no colour)."""
    colour = HEADS["colour"].index(scene.colour) if scene.subject else -100
    return [
        HEADS["subject"].index(scene.subject or "nothing"),
        colour,
        HEADS["place"].index(scene.place),
        HEADS["hour"].index(scene.hour),
    ]


def _augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Small shifts, flips, softness and noise: what a VAE and a sampler do to an image, and a little more."""
    if torch.rand((), generator=generator) < 0.5:
        x = x.flip(3)
    dx, dy = torch.randint(-5, 6, (2,), generator=generator).tolist()
    x = F.pad(x, (5, 5, 5, 5), mode="replicate")[..., 5 + dy : 5 + dy + SIZE, 5 + dx : 5 + dx + SIZE]
    if torch.rand((), generator=generator) < 0.5:
        soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
        x = x + (soft - x) * torch.rand((), generator=generator)
    x = x * (0.9 + 0.2 * torch.rand((len(x), 1, 1, 1), generator=generator))
    return x + 0.08 * torch.rand((), generator=generator) * torch.randn(x.shape, generator=generator)


def train(
    *, minutes: float, steps: int | None = None, resume: bool = False, count: int = 24_000, styled: bool = False
) -> None:
    """Train the classifier; or, styled, the shipped one further on plain drawings and as many in the three styles."""
    rgb, _ = drawn_images(count, size=SIZE)
    target = torch.tensor([labels(sample(seed)) for seed in range(count)])
    looks = [styled_images(style, count // 6, size=SIZE) for style in LOOKS] if styled else []
    model = copy.deepcopy(load(folder())[0]) if styled else build(HEADS, width=WIDTH)
    name, lr = ("classifier-styled", 7e-4) if styled else ("classifier", 1.5e-3)
    training = Training(name, {"model": model}, lr=lr, ema_decay=0.998)
    if resume:
        training.resume()
    model.train()

    def loss(generator: torch.Generator) -> torch.Tensor:
        index = torch.randint(0, count, (64,), generator=generator)
        index = index.sort().values
        chosen = rgb[index.numpy()]
        if looks:  # every second image in a style
            look = torch.randint(0, len(looks), (len(index),), generator=generator).tolist()
            index[::2] %= len(looks[0])
            chosen[::2] = np.stack([looks[k][i] for k, i in zip(look[::2], index[::2].tolist(), strict=True)])
        x = torch.from_numpy(chosen).permute(0, 3, 1, 2).float() / 127.5 - 1
        truth = target[index]
        logits = model(_augment(x, generator).to(device()))
        return sum(F.cross_entropy(value, truth[:, i].to(device())) for i, value in enumerate(logits.values())) / 4

    training.run(loss, minutes=minutes, steps=steps)
    _save(training.average["model"])
    print({head: f"{share:.1%}" for head, share in accuracy().items()})


def _save(model: torch.nn.Module) -> None:
    from safetensors.torch import save_file

    target = folder()
    target.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().cpu().contiguous() for k, v in model.state_dict().items()}, target / "model.safetensors")
    (target / "config.json").write_text(json.dumps({"heads": HEADS, "width": WIDTH, "size": SIZE}, indent=2) + "\n")
    load.cache_clear()


def accuracy(count: int = 1000) -> dict[str, float]:
    """Share of held-out, undegraded drawings (128 px) whose class each head names."""
    drawings = held_out(count, degraded=False)
    seen = read([d.image for d in drawings])
    hits: dict[str, list[bool]] = {head: [] for head in HEADS}
    for drawing, shares in zip(drawings, seen, strict=False):
        for head, truth in zip(HEADS, labels(drawing.scene), strict=False):
            if truth >= 0:
                hits[head].append(max(shares[head], key=shares[head].get) == HEADS[head][truth])
    return {head: float(np.mean(values)) for head, values in hits.items()}
