"""The prior's recipe: small, masked as the pipeline masks, and run by diffusers' own pipeline."""

from __future__ import annotations

import random

import torch
from diffusers import PriorTransformer
from transformers import CLIPTokenizer

from miniature_training import registry
from miniature_training.models import store
from miniature_training.recipes import clip, prior, text
from miniature_training.world.scenes import sample


def test_padding_is_masked_as_the_tokenizer_masks_it():
    tokenizer = store.load_component("tokenizer", CLIPTokenizer)
    prompts = ["", "a red cat", "blurry, low quality", "a castle " * 50]
    call = {"padding": "max_length", "max_length": text.LENGTH, "truncation": True, "return_tensors": "pt"}
    wanted = tokenizer(prompts, **call).attention_mask.bool()
    assert torch.equal(prior.spoken(text.tokens(tokenizer, prompts), tokenizer.eos_token_id), wanted)


def test_training_keeps_the_embeddings_scale_and_the_pipeline_runs_it(workshop, monkeypatch):
    monkeypatch.setattr(prior, "BATCH", {"cpu": 4, "cuda": 4})
    registry.RECIPES["kandinsky-prior"](minutes=1, steps=2, count=8)
    seen, model = clip.embeddings(8), store.load_component("prior", PriorTransformer)
    assert torch.allclose(model.clip_mean[0], seen.mean(0), atol=1e-3)
    assert torch.allclose(model.clip_std[0], seen.std(0), atol=1e-3)

    pipe = prior.pipeline()
    assert (pipe.scheduler.config.prediction_type, pipe.scheduler.config.clip_sample_range) == ("sample", 5.0)
    together = prior.imagined(pipe, ["a red cat", "a blue boat"])
    assert together.shape == (2, clip.WIDTH)
    assert torch.allclose(together, prior.imagined(pipe, ["a red cat", "a blue boat"]))
    assert torch.allclose(together[:1], prior.imagined(pipe, ["a red cat"]), atol=1e-4), "a seed of its own each"
    zero = pipe("a red cat", num_inference_steps=2).negative_image_embeds
    assert torch.allclose(zero, clip.nothing(pipe.image_encoder), atol=1e-6)
    named = pipe("a red cat", negative_prompt="blurry", num_inference_steps=2).negative_image_embeds
    assert not torch.allclose(named, zero, atol=1e-2), "a negative prompt goes through the prior itself"
    captions, ones = [], lambda pipe, prompts, batch: captions.append(prompts) or torch.ones(len(prompts), clip.WIDTH)
    monkeypatch.setattr(prior, "imagined", ones)
    assert prior.embeddings(3).shape == prior.embeddings(3).shape == (3, clip.WIDTH)
    assert captions == [[clip.wording(sample(seed), random.Random(seed))[0] for seed in range(3)]], "made once"
    monkeypatch.setattr(prior, "imagined", lambda pipe, prompts: torch.ones(len(prompts), clip.WIDTH))
    assert 0 <= prior.figures(40)["right_picture"] < 0.5, "one embedding for every caption knows nothing"
