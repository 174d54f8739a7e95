"""Where the course, its data and its cache lie."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

ROOT = Path(__file__).resolve().parents[2]  # of the checkout
DATA = Path(os.environ.get("COURSE_DATA") or ROOT / "data").expanduser().absolute()
MINIATURES = DATA / "miniatures"

if not DATA.is_dir():
    raise ImportError(
        f"the course's data is not in {DATA}: it lies in the course's checkout and is not installed with the package. "
        "Clone the repository and install it from there with `pip install -e .`, or set COURSE_DATA to its data folder."
    )


def cache_folder() -> Path:
    """Where the course keeps what it can make again: COURSE_CACHE, else the system's cache folder."""
    if chosen := os.environ.get("COURSE_CACHE"):
        return Path(chosen).expanduser().absolute()
    return user_cache_path("diffusion-inpainting-course", appauthor=False)
