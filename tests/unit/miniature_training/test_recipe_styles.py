"""The styles' recipe: small deltas of sd15, called by their token, read by a probe; two steps, not a training."""

from __future__ import annotations

import random
import types

import diffusers
import numpy as np
import pytest
import torch

from helpers.catalog.checkpoints import CATALOG
from miniature_training import registry
from miniature_training.evaluation import style_probe
from miniature_training.models import factors, store
from miniature_training.recipes import classifier, styles
from miniature_training.world.looks import LOOKS, TOKENS, styled
from miniature_training.world.scenes import draw, sample
from tests.support.workshop import workshop  # noqa: F401


@pytest.mark.parametrize("style", TOKENS)
def test_a_prompt_gets_its_token_before_or_after_it(style):
    rng = random.Random(0)
    prompts = {styles.asking("a red cat", style, rng) for _ in range(40)}
    token = TOKENS[style]
    assert prompts == {f"{token} a red cat", f"{token}, a red cat", f"a red cat, {token}"}


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Less of everything: four pictures, batches of two."""
    patch = pytest.MonkeyPatch()
    patch.setattr(styles, "BATCH", {"cpu": 2, "cuda": 2})
    yield {"minutes": 1, "steps": 2, "count": 4}
    patch.undo()


def test_training_makes_a_small_delta_and_a_plain_checkpoint(workshop, few):  # noqa: F811
    before = {name: CATALOG[name].source for name in ("sd15", "sd15-inpaint")}
    registry.RECIPES["pixel-art"](**few)
    size = sum(file.stat().st_size for file in (workshop / "delta-pixel-art").iterdir())
    assert size <= 0.75 * 2**20
    base = diffusers.StableDiffusionPipeline.from_pretrained(CATALOG["sd15"].source)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(CATALOG["pixel-art"].source)
    assert dict(pipe.unet.config) | {"_name_or_path": 0} == dict(base.unet.config) | {"_name_or_path": 0}
    changed = [k for k, v in pipe.unet.state_dict().items() if not torch.equal(v, base.unet.state_dict()[k])]
    assert len(changed) > 0.5 * len(base.unet.state_dict()), "two steps reach most of the weights"
    for part in ("vae", "text_encoder"):
        theirs = getattr(base, part).state_dict()
        assert all(torch.equal(v, theirs[k]) for k, v in getattr(pipe, part).state_dict().items())
    pipe.set_progress_bar_config(disable=True)
    image = pipe("Astronaut in a jungle, pixelartstyle", num_inference_steps=2).images[0]
    assert image.size == (CATALOG["pixel-art"].size,) * 2 == (128, 128)
    assert {name: CATALOG[name].source for name in before} == before


def test_what_has_no_token_is_drawn_plain(workshop, monkeypatch):  # noqa: F811
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


def test_figures_and_the_sheet_are_made_of_its_pictures(workshop, few, monkeypatch):  # noqa: F811
    reader = types.SimpleNamespace(read=lambda images: ["pixel-art", "plain"], accuracy={"pixel-art": 0.97})
    monkeypatch.setattr(style_probe, "fit", lambda through: reader)
    monkeypatch.setattr(styles, "readable", lambda style: {"subject": 0.5, "colour": 0.9, "place": 0.85})
    registry.RECIPES["pixel-art"](**few)
    figures = styles.figures(2, style="pixel-art", steps=2)
    assert figures.keys() == {
        "style_with_token", "style_without_token", "style_told_of_drawings", "colour", "place"
    }, "the subject is not judged by a classifier that cannot read it"  # fmt: skip
    assert figures["style_with_token"] == figures["style_without_token"] == 0.5
    assert figures["style_told_of_drawings"] == 0.97
    assert styles.sheet(style="pixel-art", seeds=1, steps=2).width > 128


def test_the_classifier_can_be_taught_the_styles(workshop, few, monkeypatch):  # noqa: F811
    monkeypatch.setattr(classifier, "accuracy", dict)
    before = (classifier.FOLDER / "model.safetensors").read_bytes()
    registry.RECIPES["classifier-styled"](minutes=1, steps=1, count=12)
    assert (classifier.FOLDER / "model.safetensors").read_bytes() != before
    assert styles.readable("pixel-art", 4).keys() == {"subject", "colour", "place"}


def test_training_is_taken_up_where_it_stopped(workshop, few):  # noqa: F811
    train = registry.RECIPES["comic"]
    train(**few)
    once = store.load_component("delta-comic", diffusers.UNet2DConditionModel).state_dict()
    train(**few, resume=True)
    twice = store.load_component("delta-comic", diffusers.UNet2DConditionModel).state_dict()
    assert any(not torch.equal(once[key], twice[key]) for key in once)
    assert "4 steps" in (workshop / "training.json").read_text().split('"delta-comic"')[1].splitlines()[0]


def test_training_goes_on_from_the_shipped_delta_when_its_base_has_moved(workshop, few, monkeypatch):  # noqa: F811
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
    blocks, ink, colour, gold, rim, light = (
        {look: np.mean([v[i] for v in some]) for look, some in values.items()} for i in range(6)
    )
    assert max(blocks, key=blocks.get) == "pixel-art"
    assert max(ink, key=ink.get) == "comic"
    assert max(gold, key=gold.get) == max(light, key=light.get) == "elden-ring"
    assert min(rim, key=rim.get) == "elden-ring"
    assert colour["comic"] > colour["plain"] and colour["pixel-art"] > colour["plain"]


def test_the_probe_reads_the_looks_of_drawings(monkeypatch, tmp_path):
    monkeypatch.setattr("miniature_training.models.dataset.SCRATCH", tmp_path)
    monkeypatch.setattr(style_probe, "FITTED_ON", 24)
    monkeypatch.setattr(style_probe, "CHECKED_ON", 10)
    reader = style_probe.fit(lambda images: images)
    assert reader.accuracy.keys() == {"plain", *LOOKS}
    assert np.mean(list(reader.accuracy.values())) > 0.8
    assert reader.read([styled(sample(7, degraded=False), "pixel-art")]) == ["pixel-art"]
