"""Stored figures: what was measured on a machine that has what this one lacks, with that machine's name."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.common import paths

COMMAND = "python -m tests.gpu.memory_plan"  # what fills the file, on a machine with a CUDA card
GIB = 2**30


@dataclass(frozen=True)
class Stored:
    """Rows of one kind, such as "offload", and where they come from; a notebook shows them as a table.

    Without rows it says "not measured yet", and the command that measures them.
    """

    what: str
    machine: str | None = None
    date: str | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def measured(self) -> bool:
        """Whether there are any figures."""
        return bool(self.rows)

    def __str__(self) -> str:
        if not self.measured:
            return f"Not measured yet ({self.what}): it needs a CUDA card. On a machine with one, run: {COMMAND}"
        lines = [f"{self.what}, measured on {self.machine}, {self.date}:"]
        return "\n".join(
            lines + ["  " + ", ".join(f"{key} {_text(key, row[key])}" for key in row) for row in self.rows]
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if not self.measured:
            return f"<p><em>{html.escape(str(self))}</em></p>"
        names = list(dict.fromkeys(key for row in self.rows for key in row))
        head = "".join(f"<th>{html.escape(_title(name))}</th>" for name in names)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_text(name, row.get(name)))}</td>" for name in names) + "</tr>"
            for row in self.rows
        )
        where = f"Stored run: {self.machine}, {self.date}."
        return f"<table><tr>{head}</tr>{body}</table><p><em>{html.escape(where)}</em></p>"


def stored(what: str) -> Stored:
    """The stored figures of a kind: "offload", "dtype", "vae", "attention", "compile", "batch" or "plan".

    Raises ValueError for a file that is not one of this course's runs.
    """
    path = paths.DATA / "gpu_run.json"
    if not path.is_file():
        return Stored(what)
    run = read(path)
    return Stored(what, run["machine"], run["date"], [row for row in run["rows"].get(what, [])])


def read(path: Path) -> dict[str, Any]:
    """A run as its file holds it: "machine", "date", "versions" and "rows", lists of dicts by kind."""
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path.name} cannot be read ({error}); make it again: {COMMAND}") from error
    if not isinstance(run, dict) or not isinstance(run.get("rows"), dict) or not {"machine", "date"} <= run.keys():
        raise ValueError(f"{path.name} is no stored run of this course; make it again: {COMMAND}")
    return run


def write(path: Path, *, machine: str, date: str, versions: dict[str, str], rows: dict[str, list[dict]]) -> None:
    """Write a run, so that `read` takes it back."""
    run = {"machine": machine, "date": date, "versions": versions, "rows": rows}
    path.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _title(name: str) -> str:
    return {"allocated": "allocated, GiB", "reserved": "reserved, GiB", "needs": "planned for, GiB"}.get(name, name)


def _text(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name in ("allocated", "reserved", "needs"):
        return f"{value / GIB:.2f}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
