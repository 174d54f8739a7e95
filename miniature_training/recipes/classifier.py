"""The classifier that measures what the other miniatures make, and its training.

It learns to doubt: a network that has seen whole drawings alone is as sure of a heap as of a cat.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from helpers.analysis.scene_classifier import SIZE, build, folder, load, read
from miniature_training.models.dataset import drawn_images, held_out, styled_images
from miniature_training.models.guessing import guessed_images
from miniature_training.models.loop import Training, device
from miniature_training.models.spoiling import spoiled, spoiled_images
from miniature_training.world.looks import LOOKS
from miniature_training.world.places import PLACES
from miniature_training.world.scenes import Scene, sample
from miniature_training.world.skies import HOURS
from miniature_training.world.subjects import COLOURS, SUBJECTS

WIDTH, BATCH = 32, 64
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


def targets(scenes: list[Scene], left: torch.Tensor, *, around: bool = True) -> list[torch.Tensor]:
    """What each head should answer (B, classes), where a share `left` (B,) of the subject is left.

    A spoiled subject is nothing, or of any colour, by what is missing of it. What is 0 throughout is not asked for: the
    colour of an empty place; and, unless `around`, place and hour, of which the drawing says nothing certain any more.
    """
    result = []
    for head, column in zip(HEADS, torch.tensor([labels(scene) for scene in scenes]).T, strict=True):
        known = (column >= 0).float()[:, None]
        true = F.one_hot(column.clamp(min=0), len(HEADS[head])).float() * known
        if head == "subject":
            rest = F.one_hot(torch.zeros_like(column), len(HEADS[head])).float()
        elif head == "colour":
            rest = known.expand_as(true) / true.shape[1]
        else:
            result.append(true * around)
            continue
        result.append(left[:, None] * true + (1 - left[:, None]) * rest)
    return result


@dataclass
class Source:
    """Images (N, 64, 64, 3) uint8 and, by head, what should be answered of each (N, classes)."""

    share: float  # of a batch
    images: np.ndarray
    answers: list[torch.Tensor]


def sources(count: int) -> list[Source]:
    """What the classifier learns from: plain and styled drawings, spoiled ones, and guesses of an unsure UNet."""
    plain = targets([sample(seed) for seed in range(count)], torch.ones(count))
    undegraded = [sample(seed, degraded=False) for seed in range(count)]
    some, more = max(1, count // 6), max(1, count // 3)
    found = [Source(0.4, drawn_images(count, size=SIZE)[0], plain)]
    found += [Source(0.2 / len(LOOKS), styled_images(k, some, size=SIZE), [a[:some] for a in plain]) for k in LOOKS]
    spoiled_too = (0.3, spoiled_images(more, size=SIZE), True), (0.1, guessed_images(some, size=SIZE), False)
    for share, (images, left), around in spoiled_too:
        answers = targets(undegraded[: len(left)], torch.tensor(left), around=around)
        found.append(Source(share, images, answers))
    return found


def train(*, minutes: float, steps: int | None = None, resume: bool = False, count: int = 24_000) -> None:
    """Train the classifier: what a drawing shows, in any style, and to doubt a subject by what is spoiled of it."""
    given = sources(count)
    shares = torch.tensor([source.share for source in given])
    training = Training("classifier", {"model": build(HEADS, width=WIDTH)}, lr=1.5e-3, ema_decay=0.998)
    if resume:
        training.resume()
    model = training.modules["model"].train()

    def loss(generator: torch.Generator) -> torch.Tensor:
        which = torch.multinomial(shares, BATCH, replacement=True, generator=generator).tolist()
        rows = torch.randint(0, 1 << 40, (BATCH,), generator=generator).tolist()
        chosen = [(given[k], row % len(given[k].images)) for k, row in zip(which, rows, strict=True)]
        images = np.stack([source.images[row] for source, row in chosen])
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        logits = model(_augment(x, generator).to(device()))
        answers = zip(*([answer[row] for answer in source.answers] for source, row in chosen), strict=True)
        parts = (
            F.cross_entropy(value, torch.stack(answer).to(device()))
            for value, answer in zip(logits.values(), answers, strict=True)
        )
        return sum(parts) / len(HEADS)

    training.run(loss, minutes=minutes, steps=steps)
    _save(training.average["model"])
    print({name: round(value, 3) for name, value in figures().items()})


def _save(model: torch.nn.Module) -> None:
    from safetensors.torch import save_file

    target = folder()
    target.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().cpu().contiguous() for k, v in model.state_dict().items()}, target / "model.safetensors")
    (target / "config.json").write_text(json.dumps({"heads": HEADS, "width": WIDTH, "size": SIZE}, indent=2) + "\n")
    load.cache_clear()


def figures(count: int = 1000) -> dict[str, float]:
    """How often each head is right about drawings, and by how much its doubt is off."""
    return accuracy(count) | {"calibration_error": calibration_error(count)}


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


def calibration_error(count: int = 1000, *, bins: int = 10) -> float:
    """The expected calibration error of the subject: half of the images held-out drawings, half spoiled ones.

    By bins of the confidence in what was drawn: how far its mean is from the mean of what is left of the subject.
    """
    drawings = [d for d in held_out(count, degraded=False) if d.scene.subject]
    pairs = [(d.image, 1.0, d.scene) for d in drawings[::2]]
    for drawing in drawings[1::2]:
        image, left = spoiled(drawing.scene, random.Random(f"spoiled {drawing.scene.seed}"))
        pairs.append((Image.fromarray(image), left, drawing.scene))
    images, left, scenes = zip(*pairs, strict=True)
    seen = zip(read(list(images)), scenes, strict=True)
    sure, left = np.array([shares["subject"][scene.subject] for shares, scene in seen]), np.array(left)
    place = np.minimum((sure * bins).astype(int), bins - 1)
    inside = [place == k for k in range(bins)]
    return float(sum(abs(sure[k].mean() - left[k].mean()) * k.mean() for k in inside if k.any()))
