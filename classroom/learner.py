"""A learner's server: their own copies of the notebooks are made in their home, then JupyterLab starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from helpers.cli import copies
from helpers.common.paths import ROOT

FOLDER = "inpainting-course"


def main() -> None:
    home = Path.home() / FOLDER
    home.mkdir(exist_ok=True)
    data = home / "data"
    if not data.exists():
        data.symlink_to(ROOT / "data")  # the notebooks' links lead there
    for line in copies.update(home / copies.FOLDER.name):
        print(line, flush=True)
    os.execv(sys.executable, [sys.executable, "-m", "jupyterhub.singleuser", *sys.argv[1:]])


if __name__ == "__main__":
    main()
