"""A workshop for SDXL's recipes: what they start from, in a folder of the test's, nothing cached, nothing loaded."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest
import torch

from helpers.catalog import editions
from helpers.common import paths
from helpers.pipelines import loading
from miniature_training.models import dataset, loop, store
from miniature_training.recipes import refiner, sdxl, text, text_encoder_2

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "miniatures"
SHARED = ("vae", "text_encoder", "tokenizer", "unet-sd15", "unet-sd15-inpaint")


@pytest.fixture
def xl(tmp_path, monkeypatch) -> Path:
    """data/miniatures with what SDXL starts from, the second text encoder untrained; small batches, large steps."""
    folder = tmp_path / "data" / "miniatures"
    for name in SHARED:
        shutil.copytree(SHIPPED / name, folder / name)
    for module in (store, loop):
        monkeypatch.setattr(module, "FOLDER", folder)
    for module in (dataset, loop):
        monkeypatch.setattr(module, "SCRATCH", tmp_path / "training")
    for module in (sdxl, refiner, text_encoder_2):
        monkeypatch.setitem(module.BATCH, "cpu", 2)
        monkeypatch.setitem(module.LR, "cpu", 0.2)  # the first steps are a hundredth of it, and must be seen in float16
    monkeypatch.setattr(text_encoder_2, "translation", partial(text_encoder_2.translation, count=8))
    monkeypatch.setattr(paths, "DATA", folder.parent)
    monkeypatch.setattr(paths, "MINIATURES", folder)
    monkeypatch.setattr(editions, "_chosen", None)
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COURSE_EDITION", "mini")
    torch.manual_seed(0)
    store.save_component(text_encoder_2.NAME, text_encoder_2.build(text.load()[0]))
    loading.unload()
    yield folder
    loading.unload()


def mebibytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.iterdir()) / 2**20
