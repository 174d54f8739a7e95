"""What was measured on a machine with a GPU: stored figures, shown with that machine's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.common import paths
from helpers.common.sizes import GIB
from helpers.common.table import Table

COMMAND = "course measure-gpu"  # what fills the file, on a machine with a CUDA GPU
IN_GIB = {"allocated": "allocated, GiB", "reserved": "reserved, GiB", "needs": "planned for, GiB"}


def gpu_measurements(what: str) -> Table:
    """The stored measurements of "offload", "dtype", "vae", "attention", "compile", "batch" or "plan", as a table.

    Where there are none, the table is empty and its note says how to make them. ValueError for a file that is not a
    stored run of this course.
    """
    path = paths.DATA / "gpu_run.json"
    run = read(path) if path.is_file() else {"rows": {}}
    rows = run["rows"].get(what)
    if not rows:
        note = f"Not measured yet ({what}): it needs a CUDA GPU. On a machine with one, run: {COMMAND}"
        return Table((), note=note)
    names: list[str] = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_text(name, row.get(name)) for name in names] for row in rows]
    return Table([IN_GIB.get(name, name) for name in names], cells, f"Measured on {run['machine']}, {run['date']}.")


def read(path: Path) -> dict[str, Any]:
    """A run as its file holds it: "machine", "date", "versions" and "rows", lists of dicts by kind."""
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name} cannot be read ({error}); make it again: {COMMAND}") from error
    if not isinstance(run, dict) or not isinstance(run.get("rows"), dict) or not {"machine", "date"} <= run.keys():
        raise ValueError(f"{path.name} is not a stored run of this course; make it again: {COMMAND}")
    return run


def _text(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name in IN_GIB:
        return f"{value / GIB:.2f}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
