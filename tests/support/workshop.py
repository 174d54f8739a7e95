"""A workshop of its own for a test that trains: a copy of data/miniatures, and a scratch folder, both thrown away."""

from __future__ import annotations

import importlib
import pkgutil
import shutil
from pathlib import Path

import pytest

from helpers import miniatures
from helpers.analysis import scene_classifier
from helpers.catalog import checkpoints, editions
from helpers.pipelines import loading
from miniature_training.models import dataset, store


@pytest.fixture
def workshop(tmp_path, monkeypatch) -> Path:
    """Where components are read and written during the test; the catalogue loads from there."""
    folder, scratch = tmp_path / "data" / "miniatures", tmp_path / "training"
    shutil.copytree(store.FOLDER, folder)
    names = [found.name for found in pkgutil.iter_modules(miniatures.__path__) if found.name != "__main__"]
    rooms = [importlib.import_module(f"miniature_training.{name}") for name in names]
    moved = {store.FOLDER: folder, dataset.SCRATCH: scratch}
    for room in (checkpoints, scene_classifier, *rooms):
        for name, path in list(vars(room).items()):
            for old, new in moved.items():
                if isinstance(path, Path) and path.is_relative_to(old):
                    monkeypatch.setattr(room, name, new / path.relative_to(old))
    scene_classifier._load.cache_clear()
    monkeypatch.setattr(editions, "_chosen", None)
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    loading.unload()
    yield folder
    loading.unload()
    scene_classifier._load.cache_clear()
