"""Where the course and its data lie."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # of the checkout
DATA = Path(os.environ.get("COURSE_DATA") or ROOT / "data")
