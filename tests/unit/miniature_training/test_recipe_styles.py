"""The styles' recipe: small deltas of sd15, called by their token, read by a probe; two steps, not a training."""

from __future__ import annotations

import random

import diffusers
import numpy as np
import pytest
import torch

from miniature_training import registry
from miniature_training.evaluation import style_probe
from miniature_training.models import factors, store
from miniature_training.recipes import styles
from miniature_training.world.looks import LOOKS, TOKENS, styled
from miniature_training.world.scenes import draw, sample


@pytest.mark.parametrize("style", TOKENS)
def test_a_prompt_gets_its_token_before_or_after_it(style):
    rng = random.Random(0)
    prompts = {styles.asking("a red cat", style, rng) for _ in range(40)}
    token = TOKENS[style]
    assert prompts == {f"{token} a red cat", f"{token}, a red cat", f"a red cat, {token}"}


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Less of everything: four images, batches of two."""
    patch = pytest.MonkeyPatch()
    patch.setattr(styles, "BATCH", {"cpu": 2, "cuda": 2})
    yield {"minutes": 1, "steps": 2, "count": 4}
    patch.undo()


def test_what_has_no_token_is_drawn_plain(workshop, monkeypatch):
    monkeypatch.setattr(styles, "BATCH", {"cpu": 40, "cuda": 40})
    monkeypatch.setattr(styles, "styled_latents", lambda style, count: np.ones((count, 4, 16, 16), np.float16))
    monkeypatch.setattr(styles, "latents", lambda count: np.zeros((count, 4, 16, 16), np.float16))
    asked, seen = [], []

    class Watched(styles.Denoising):
        def states(self, texts):
            asked.extend(texts)
            return super().states(texts)

        def noised(self, clean, generator):
            seen.extend(clean.amax((1, 2, 3)).tolist())
            return super().noised(clean, generator)

    monkeypatch.setattr(styles, "Denoising", Watched)
    styles.train(style="comic", minutes=1, steps=1, count=30)
    pairs = {("charliebo artstyle" in text, drawn) for text, drawn in zip(asked, seen, strict=True) if text}
    assert pairs == {(True, 1.0), (False, 0.0)}
    spoilt = {"blurred", "blurry", "noisy", "pixelated", "washed", "deformed"}
    assert not any(spoilt & set(text.split()) for text in asked)


def test_the_noise_that_leads_from_another_look_leads_to_the_clean_latents():
    clean, other, noise = torch.randn(3, 2, 4, 8, 8)
    alpha = torch.tensor([0.2, 0.7]).view(-1, 1, 1, 1)
    snr = (alpha / (1 - alpha)).flatten()
    noisy, target = styles.from_another(alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, noise, snr, other - clean)
    assert torch.allclose(noisy, alpha.sqrt() * other + (1 - alpha).sqrt() * noise, atol=1e-5)
    assert torch.allclose((noisy - (1 - alpha).sqrt() * target) / alpha.sqrt(), clean, atol=1e-4)


def test_training_goes_on_from_the_shipped_delta_when_its_base_has_moved(workshop, few, monkeypatch):
    train, taken, take_up = registry.RECIPES["comic"], [], factors.take_up
    train(**few)
    base = store.load_component("unet-sd15", diffusers.UNet2DConditionModel)
    with torch.no_grad():
        base.conv_in.bias += 1
    store.save_component("unet-sd15", base)
    assert "delta-comic" in store.stale()
    monkeypatch.setattr(factors, "take_up", lambda model, delta: taken.append(delta.name) or take_up(model, delta))
    train(**few, resume=True)
    assert taken == ["delta-comic"] and "delta-comic" not in store.stale()
    assert "2 steps" in (workshop / "training.json").read_text().split('"delta-comic"')[1].splitlines()[0]


def test_measures_say_what_they_are_named_for():
    scenes = [sample(seed, degraded=False) for seed in range(6)]
    values = {"plain": [style_probe.measures(draw(scene, 128, truth=False).image) for scene in scenes]}
    values |= {style: [style_probe.measures(styled(scene, style)) for scene in scenes] for style in LOOKS}
    blocks, ink, colour, gold, border, light = (
        {look: np.mean([v[i] for v in some]) for look, some in values.items()} for i in range(6)
    )
    assert max(blocks, key=blocks.get) == "pixel-art"
    assert max(ink, key=ink.get) == "comic"
    assert max(gold, key=gold.get) == max(light, key=light.get) == "elden-ring"
    assert min(border, key=border.get) == "elden-ring"
    assert colour["comic"] > colour["plain"] and colour["pixel-art"] > colour["plain"]


def test_the_probe_reads_the_looks_of_drawings(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_TRAINING", str(tmp_path))
    monkeypatch.setattr(style_probe, "FITTED_ON", 24)
    monkeypatch.setattr(style_probe, "CHECKED_ON", 10)
    reader = style_probe.fit(lambda images: images)
    assert reader.accuracy.keys() == {"plain", *LOOKS}
    assert np.mean(list(reader.accuracy.values())) > 0.8
    assert reader.read([styled(sample(7, degraded=False), "pixel-art")]) == ["pixel-art"]
