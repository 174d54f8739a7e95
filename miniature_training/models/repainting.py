"""What Kandinsky's inpainting learns from: masks as its pipeline makes them, and embeddings that leave room."""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np

from miniature_training.models import store
from miniature_training.models.dataset import drawn_images
from miniature_training.world.scenes import Scene
from miniature_training.world.strokes import training_mask

MASKS = 3  # of each image
OTHER = 0.6  # this share of the subjects is called by the embedding of such a subject in any place
HIDDEN = 0.25  # of a subject: from here on it has to be painted again


def kept(repaint: np.ndarray) -> np.ndarray:
    """The mask (..., h, w) that the UNet sees: 1 where latents are kept, of pixel masks (..., 8h, 8w) of what is not.

    One latent in eight by eight pixels decides, as the pipeline's nearest-neighbour resizing has it; it then lets the
    repainted part grow by one latent, but not across two of the corners.
    """
    keep = ~repaint[..., ::8, ::8].astype(bool)
    result = keep.copy()
    h, w = keep.shape[-2:]
    for dy, dx in ((1, 0), (0, 1), (1, 1), (-1, 0), (0, -1), (-1, -1)):
        here = (slice(max(0, -dy), h - max(0, dy)), slice(max(0, -dx), w - max(0, dx)))
        there = (slice(max(0, dy), h - max(0, -dy)), slice(max(0, dx), w - max(0, -dx)))
        result[(..., *here)] &= keep[(..., *there)]
    return result.astype(np.float32)


def masks(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks (count, MASKS, 16, 16) of the first training images, 1 where kept, and whether each hides its subject."""

    def make() -> dict[str, np.ndarray]:
        subject = drawn_images(count)[1]
        keep, hides = [], []
        for i in range(count):
            here = subject[i] > 0
            drawn = np.stack([training_mask(subject[i], random.Random(f"{i}/{k}")) for k in range(MASKS)])
            keep.append(kept(drawn))
            hides.append((drawn & here).sum((1, 2)) > HIDDEN * max(1, here.sum()))
        return {"keep": np.stack(keep), "hides": np.stack(hides)}

    data = store.kept(f"masks/{count}x{MASKS}.npz", make)
    return data["keep"], data["hides"]


class Callers:
    """Which image's embedding calls for what a mask hides.

    In the course a prompt seldom names the place it paints into, so the embedding shows the subject in any place: the
    UNet has to learn the place from what is kept. Where no subject is hidden, the embedding is that of an empty place.
    """

    def __init__(self, scenes: list[Scene]) -> None:
        self.scenes = scenes
        self.alike: dict[tuple, list[int]] = defaultdict(list)
        for i, scene in enumerate(scenes):
            self.alike[self._key(scene)].append(i)

    def _key(self, scene: Scene) -> tuple:
        if scene.subject is None:
            return None, scene.place
        return scene.subject, scene.colour, scene.attribute, scene.close, scene.on_bench

    def pick(self, i: int, rng: random.Random, *, hidden: bool) -> int:
        """The number of the scene whose embedding calls for what is hidden of scene `i`: its subject, or its place."""
        scene = self.scenes[i]
        if not hidden:
            return rng.choice(self.alike.get((None, scene.place)) or [i])
        return rng.choice(self.alike[self._key(scene)]) if rng.random() < OTHER else i
