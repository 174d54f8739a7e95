"""The pool of latents that the UNets learn from: drawn, masked and encoded in shards, so that it may grow meanwhile.

A shard is a file of SHARD images with what a training needs of them; the images themselves are not kept. Of 16
shards 11 are of anything, 2 of empty places, 3 of what the guides' prompts ask for. A training takes what is there and
looks again at each checkpoint, so `fill` may run beside it.
"""

from __future__ import annotations

import os
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
from diffusers import AutoencoderKL

from miniature_training.models.dataset import EMPTY, GUIDED, SIZE, scene
from miniature_training.models.latents import encode, encoder_key
from miniature_training.models.store import load_component, scratch
from miniature_training.world.scenes import Scene, draw
from miniature_training.world.strokes import training_mask

SHARD = 1000
KINDS = (0, 0, GUIDED, 0, 0, 0, EMPTY, GUIDED, 0, 0, 0, EMPTY, 0, GUIDED, 0, 0)  # first seeds, in turn


@dataclass
class Pool:
    """Rows of images, `SHARD` for each shard."""

    seed: np.ndarray  # (N,) of the scene
    z: np.ndarray  # (N, 4, h, w) scaled latents of the image, float16
    z_masked: np.ndarray  # (N, 4, h, w) of the image whose masked part is grey
    mask: np.ndarray  # (N, 1, h, w) bool, True where it is repainted
    touched: np.ndarray  # (N,) bool, does the mask hide a good part of the subject?

    def __len__(self) -> int:
        return len(self.seed)

    def scene(self, i: int) -> Scene:
        return scene(int(self.seed[i]))


def seeds(shard: int) -> range:
    """The scenes' seeds of a shard; no two shards share one."""
    first = KINDS[shard % len(KINDS)] + shard * SHARD
    return range(first, first + SHARD)


def _folder(size: int) -> Path:
    return scratch() / "pool" / f"{encoder_key()}-{size}"


def _shards(size: int) -> list[Path]:
    return sorted(_folder(size).glob("[0-9]*.npz"))


def drawn(shard: int, *, size: int = SIZE) -> dict[str, np.ndarray]:
    """The rows of a shard by the names of Pool's fields; "z" and "z_masked" are images still, (N, H, W, 3) uint8."""
    numbers = seeds(shard)
    drawings = [draw(scene(seed), size) for seed in numbers]
    rgb = np.stack([np.asarray(d.image) for d in drawings])
    subject = np.stack([np.asarray(d.mask) > 0 for d in drawings])
    masks = np.stack(
        [training_mask(s, random.Random(f"{seed}/mask")) for s, seed in zip(subject, numbers, strict=True)]
    )
    hidden = (masks & subject).sum((1, 2)) > 0.25 * subject.sum((1, 2)).clip(min=1)
    grey = np.where(masks[..., None], np.uint8(127), rgb)
    return {
        "seed": np.array(numbers, dtype=np.int64),
        "z": rgb,
        "z_masked": grey,
        "mask": masks[:, None, ::8, ::8],
        "touched": hidden,
    }


def fill(shards: int, *, size: int = SIZE) -> None:
    """Make the first `shards` shards, as far as they are not there; each appears in one step. Drawn on all cores."""
    vae, folder = load_component("vae", AutoencoderKL), _folder(size)
    folder.mkdir(parents=True, exist_ok=True)
    missing = [shard for shard in range(shards) if not (folder / f"{shard:04d}.npz").exists()]
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(max_workers=cores) as workers:  # it starts no process before it is used
        for some in (missing[i : i + cores] for i in range(0, len(missing), cores)):
            for shard, rows in zip(
                some, (workers.map if len(missing) > 1 else map)(partial(drawn, size=size), some), strict=True
            ):
                draft = folder / f".{shard:04d}-{os.getpid()}.npz"
                np.savez(draft, **rows | {name: encode(rows[name], vae) for name in ("z", "z_masked")})
                draft.replace(folder / f"{shard:04d}.npz")


def load(*, size: int = SIZE, least: int = 1) -> Pool:
    """All shards that are there, the first `least` made if they are not."""
    if len(_shards(size)) < least:
        fill(least, size=size)
    shards = [np.load(file) for file in _shards(size)]
    return Pool(**{field.name: np.concatenate([shard[field.name] for shard in shards]) for field in fields(Pool)})


def there(*, size: int = SIZE) -> int:
    """How many images have been made."""
    return SHARD * len(_shards(size))
