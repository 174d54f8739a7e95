"""A workshop for SDXL's recipes: what they start from, with nothing cached and nothing loaded."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from helpers.pipelines import loading
from miniature_training.models import store
from miniature_training.recipes import refiner, sdxl, text, text_encoder_2
from tests.support.workshop import move

SHARED = ("vae", "text_encoder", "tokenizer", "unet-sd15", "unet-sd15-inpaint")


@pytest.fixture
def xl(tmp_path, monkeypatch) -> Path:
    """data/miniatures with what SDXL starts from, the second text encoder untrained; small batches, large steps."""
    loading.unload()
    folder = move(monkeypatch, tmp_path, only=SHARED)
    for module in (sdxl, refiner, text_encoder_2):
        monkeypatch.setitem(module.BATCH, "cpu", 2)
        monkeypatch.setitem(module.LR, "cpu", 0.2)  # the first steps are a hundredth of it, and must be seen in float16
    monkeypatch.setattr(text_encoder_2, "translation", partial(text_encoder_2.translation, count=8))
    torch.manual_seed(0)
    store.save_component(text_encoder_2.NAME, text_encoder_2.build(text.load()[0]))
    yield folder
    loading.unload()
