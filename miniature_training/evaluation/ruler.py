"""A ruler for images of the drawn world that sees what a person sees: blur, broken shapes, wrong colours, no variety.

A classifier's features do not tell images from drawings, so these are random convolutions, compared by the Fréchet
distance (https://arxiv.org/abs/1706.08500) with drawings:

structure: of the high-passed image, a row for each cell of 32 pixels. Edges and shapes count, not the colour of the
    whole. A blur of one pixel: 1770.
everything: of the image itself, a row for each image: colour, light and composition.
sharpness: the variance of the Laplacian, as a share of the drawings'.

The floor: 120 other drawings are at 8 to 26, 66 to 99 and 0.92 to 1.03, by which 120 (four sets; on average 13, 81 and
0.99). Two models are only comparable on the same captions, and a structure below 26 is that of drawings.

What is compared decides what is measured: captions must name all that varies (`named`), or the figure is a model's
favourite hour and nothing else. How a model chooses what is not named is a figure of its own, `shares`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from miniature_training.world.captions import HOUR_WORDS, PLACE_WORDS
from miniature_training.world.places import PLACES
from miniature_training.world.scenes import HELD_OUT, Scene, draw, sample
from miniature_training.world.skies import HOURS
from miniature_training.world.subjects import COLOURS, SUBJECTS

SIZE = 128
REFERENCE = 600  # drawings that others are compared with
_OTHERS = HELD_OUT + 5_000_000  # seeds of the drawings that are compared with them


def named(count: int, *, first: int = 0) -> list[tuple[str, Scene]]:
    """Captions that name colour, subject, place and hour, each with a scene that it describes whole."""
    result = []
    for i in range(first, first + count):
        rng = random.Random(HELD_OUT + i)
        subject, colour, place, hour = (rng.choice(list(choices)) for choices in (SUBJECTS, COLOURS, PLACES, HOURS))
        text = f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {subject} {rng.choice(PLACE_WORDS[place])}"
        fixed = {"subject": subject, "colour": colour, "place": place, "hour": hour, "colour_named": True}
        fixed |= {"palette": "plain", "attribute": None, "on_bench": False, "close": False}
        result.append((f"{text} {rng.choice(HOUR_WORDS[hour])}", sample(_OTHERS + i, degraded=False, **fixed)))
    return result


def _filters(seed: int, widths: Sequence[int]) -> list[torch.Tensor]:
    """Random kernels of a 5 x 5 and then 3 x 3 convolutions: 3 -> widths[0] -> widths[1] -> ..."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(w, before, 5 if i == 0 else 3) for i, (before, w) in enumerate(zip((3, *widths), widths, strict=False))]
    return [torch.randn(w, b, k, k, generator=generator) / (b * k * k) ** 0.5 for w, b, k in shapes]


@cache
def _views() -> dict[str, list[torch.Tensor]]:
    edges = _filters(11, (64, 128, 128))
    edges[0] = edges[0] - edges[0].mean((2, 3), keepdim=True)
    return {"everything": _filters(7, (64, 96, 128)), "structure": edges}


def _tensors(images: Sequence[Image.Image], batch: int = 25) -> Iterator[torch.Tensor]:
    for i in range(0, len(images), batch):
        small = [im.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS) for im in images[i : i + batch]]
        yield torch.from_numpy(np.stack([np.asarray(im) for im in small])).permute(0, 3, 1, 2).float() / 127.5 - 1


def _maps(x: torch.Tensor, kernels: list[torch.Tensor], padding: bool) -> Iterator[torch.Tensor]:
    for i, kernel in enumerate(kernels):
        x = F.max_pool2d(x, 2) if i else x
        x = F.relu(F.conv2d(x, kernel, padding=kernel.shape[-1] // 2 if padding else 0))
        yield x


@torch.inference_mode()
def everything(images: Sequence[Image.Image]) -> np.ndarray:
    """Mean and deviation of each map, (N, 576)."""
    rows = []
    for x in _tensors(images):
        maps = list(_maps(x, _views()["everything"], padding=False))
        rows.append(torch.cat([m.mean((2, 3)) for m in maps] + [m.std((2, 3)) for m in maps], 1))
    return torch.cat(rows).double().numpy()


@torch.inference_mode()
def structure(images: Sequence[Image.Image]) -> np.ndarray:
    """The maps of what a box of 9 pixels takes away, in 4 x 4 cells: (16 N, 320)."""
    rows = []
    for x in _tensors(images):
        fine = 4 * (x - F.avg_pool2d(F.pad(x, (4, 4, 4, 4), mode="reflect"), 9, 1))
        cells = [F.adaptive_avg_pool2d(m, 4) for m in _maps(fine, _views()["structure"], padding=True)]
        rows.append(torch.cat(cells, 1).permute(0, 2, 3, 1).flatten(0, 2))
    return torch.cat(rows).double().numpy()


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return features.mean(0), np.cov(features.T)


def frechet(ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]) -> float:
    """1000 times the Fréchet distance of two Gaussians, each (mean, covariance)."""
    (m1, c1), (m2, c2) = ours, theirs
    values, vectors = np.linalg.eigh(c1)
    root = (vectors * values.clip(0) ** 0.5) @ vectors.T
    mixed = np.linalg.eigvalsh(root @ c2 @ root).clip(0) ** 0.5
    return 1000 * float(np.square(m1 - m2).sum() + c1.trace() + c2.trace() - 2 * mixed.sum())


def laplacian(images: Sequence[Image.Image]) -> float:
    """Mean variance of the Laplacian at 128 pixels, of grey levels 0..255."""
    values = []
    for image in images:
        x = np.asarray(image.convert("L").resize((SIZE, SIZE), Image.Resampling.LANCZOS), dtype=float)
        around = x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:]
        values.append((around - 4 * x[1:-1, 1:-1]).var())
    return float(np.mean(values))


class Ruler:
    """Measures images against drawings; without drawings, against those that `named` captions describe."""

    def __init__(self, drawings: Sequence[Image.Image] | None = None) -> None:
        drawings = drawings or [draw(s, SIZE, truth=False).image for _, s in named(REFERENCE, first=100_000)]
        self.kinds = {"structure": structure, "everything": everything}
        self.drawn = {kind: moments(features(drawings)) for kind, features in self.kinds.items()}
        self.sharp = laplacian(drawings)

    def __call__(self, images: Sequence[Image.Image]) -> dict[str, float]:
        """structure and everything, of which less is better, and sharpness, best near 1."""
        far = {kind: frechet(self.drawn[kind], moments(features(images))) for kind, features in self.kinds.items()}
        return far | {"sharpness": laplacian(images) / self.sharp}


@cache
def ruler() -> Ruler:
    """The ruler of plain drawings at 128 pixels, made once."""
    return Ruler()


def shares(images: Sequence[Image.Image], classify: Callable[[Image.Image], str]) -> dict[str, float]:
    """How often each value of what the prompt left open is chosen; classify: image -> one of them."""
    chosen = [classify(image) for image in images]
    return {value: chosen.count(value) / len(chosen) for value in sorted(set(chosen))}
