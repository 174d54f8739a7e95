"""Where the course, its data and its cache lie."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

ROOT = Path(__file__).resolve().parents[2]  # of the checkout
DATA = Path(os.environ.get("COURSE_DATA") or ROOT / "data").expanduser().absolute()
MINIATURES = DATA / "miniatures"


def cache_folder() -> Path:
    """Where the course keeps what it can make again: COURSE_CACHE, else the system's cache folder."""
    if chosen := os.environ.get("COURSE_CACHE"):
        return Path(chosen).expanduser().absolute()
    return user_cache_path("diffusion-inpainting-course", appauthor=False)
