"""Where the data lies: in the checkout, or where COURSE_DATA says; nowhere else, and that is said."""

from __future__ import annotations

import shutil
import subprocess
import sys


def test_an_installation_without_the_checkout_says_what_to_do(repository, tmp_path):
    site = tmp_path / "site-packages"
    for part in ("__init__.py", "common"):
        source = repository / "helpers" / part
        copy = shutil.copytree if source.is_dir() else shutil.copy
        (site / "helpers").mkdir(parents=True, exist_ok=True)
        copy(source, site / "helpers" / part)
    run = [sys.executable, "-c", "from helpers.common.paths import DATA; print(DATA)"]
    lost = subprocess.run(run, cwd=tmp_path, env={"PYTHONPATH": str(site)}, capture_output=True, text=True)
    assert "ImportError: the course's data is not in" in lost.stderr and "`pip install -e .`" in lost.stderr
    told = {"PYTHONPATH": str(site), "COURSE_DATA": str(tmp_path)}
    found = subprocess.run(run, cwd=tmp_path, env=told, capture_output=True, text=True)
    assert found.stdout == f"{tmp_path}\n"
