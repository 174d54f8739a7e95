"""A workshop of its own for a test that trains: a copy of data/miniatures, and a scratch folder, both thrown away."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from helpers.catalog import editions
from helpers.common import paths
from helpers.pipelines import loading


def move(patch: pytest.MonkeyPatch, base: Path, *, only: tuple[str, ...] | None = None) -> Path:
    """Let the course and its trainings work in the folder `base`: a copy of data/miniatures (or `only` some of it)."""
    folder = base / "data" / "miniatures"
    if only is None:
        shutil.copytree(paths.MINIATURES, folder)
    for name in only or ():
        shutil.copytree(paths.MINIATURES / name, folder / name)
    patch.setattr(paths, "DATA", folder.parent)
    patch.setattr(paths, "MINIATURES", folder)
    patch.setattr(editions, "_chosen", None)
    patch.setenv("COURSE_TRAINING", str(base / "training"))
    patch.setenv("COURSE_CACHE", str(base / "cache"))
    patch.setenv("COURSE_EDITION", "mini")
    return folder


@pytest.fixture
def workshop(tmp_path, monkeypatch) -> Path:
    """Where components are read and written during the test; the catalogue loads from there."""
    loading.unload()
    yield move(monkeypatch, tmp_path)
    loading.unload()


def mebibytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.iterdir()) / 2**20
