"""One UNet for both tasks: what counts, what is said, and the pool that it learns from."""

import random

import numpy as np
import pytest
import torch

from miniature_training.models import latent_pool
from miniature_training.models.dataset import EMPTY, GUIDED, scene
from miniature_training.models.latent_pool import Pool, seeds
from miniature_training.recipes import joint
from miniature_training.world.scenes import HELD_OUT


def test_the_ring_round_a_hole_counts_most_and_the_mean_is_one():
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 5:11, 5:11] = 1
    counts = joint.counting(mask)
    assert counts.mean().item() == pytest.approx(1)
    middle, edge, near, far = counts[0, 0, 8, [8, 5, 3, 0]].tolist()
    assert edge == near > middle > far
    assert edge / middle == pytest.approx(joint.RING) and far / middle == pytest.approx(joint.OUTSIDE)


def test_where_all_is_masked_all_counts_alike():
    assert joint.counting(torch.ones(2, 1, 16, 16)).unique().tolist() == [1]


def pool(first: int, *, touched: bool, count: int = 300) -> Pool:
    z = np.zeros((count, 4, 16, 16), np.float16)
    flags = np.full(count, touched)
    return Pool(np.arange(first, first + count), z, z, np.ones((count, 1, 16, 16), bool), flags)


def test_a_prompt_for_a_hole_seldom_names_the_place_around():
    some = pool(0, touched=True)
    named = {}
    for whole in (True, False):
        texts = [joint.words(some, i, whole=whole, rng=random.Random(i)) for i in range(len(some))]
        named[whole] = sum(some.scene(i).place == "desert" and "desert" in t for i, t in enumerate(texts))
        assert 0.05 < texts.count("") / len(texts) < 0.16
    assert named[False] < 0.8 * named[True]


def test_shards_share_no_scene_and_hold_empty_places_and_the_guides():
    parts = [seeds(shard) for shard in range(32)]
    numbers = [seed for part in parts for seed in part]
    assert len(set(numbers)) == len(numbers) and max(numbers) < HELD_OUT
    assert scene(EMPTY + 3).subject is None
    kinds = [sum(part[0] >= first for part in parts) for first in (0, EMPTY, GUIDED)]
    assert kinds == [32, 10, 6]


def test_a_training_takes_up_what_the_pool_has_got_meanwhile(monkeypatch):
    monkeypatch.setattr(joint, "nothing", lambda: torch.zeros(1, 4, 16, 16))
    made = [pool(0, touched=True, count=50)]
    monkeypatch.setattr(latent_pool, "load", lambda least: made[-1])
    monkeypatch.setattr(latent_pool, "there", lambda: len(made[-1]))
    states = type("Denoising", (), {"states": lambda self, texts: torch.zeros(len(texts), 77, 8)})()
    cases = joint.Cases(states)
    clean, mask, hidden, words = cases.batch(torch.Generator().manual_seed(0))
    assert clean.shape == hidden.shape == (cases.size, 4, 16, 16) and mask.shape == (cases.size, 1, 16, 16)
    made.append(pool(0, touched=True, count=80))
    cases.look()
    assert len(cases.pool) == len(cases.odds) == 80
