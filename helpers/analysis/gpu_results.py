"""What was measured on a machine with a GPU: stored figures, shown with that machine's name."""

from __future__ import annotations

import json
from typing import Any

from helpers.common import paths
from helpers.common.sizes import GIB
from helpers.common.table import Table

COMMAND = "course measure-gpu"  # what fills the file, on a machine with a CUDA GPU
IN_GIB = {"allocated": "allocated, GiB", "reserved": "reserved, GiB", "needs": "planned for, GiB"}


def gpu_measurements(what: str) -> Table:
    """The stored measurements of "offload", "dtype" or "plan", as a table.

    Where there are none, the table is empty and its note says how to make them.
    """
    path = paths.DATA / "gpu_run.json"
    run = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"rows": {}}
    rows = run["rows"].get(what)
    if not rows:
        note = f"Not measured yet ({what}): it needs a CUDA GPU. On a machine with one, run: {COMMAND}"
        return Table((), note=note)
    names: list[str] = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_text(name, row.get(name)) for name in names] for row in rows]
    return Table([IN_GIB.get(name, name) for name in names], cells, f"Measured on {run['machine']}, {run['date']}.")


def _text(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name in IN_GIB:
        return f"{value / GIB:.2f}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
