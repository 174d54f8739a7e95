"""`course copies`: the learner's own notebooks, the course's with outputs cleared; never overwritten."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.cli import notebook_runner
from helpers.common.paths import ROOT, write_whole

if TYPE_CHECKING:
    from nbformat import NotebookNode

# Beside notebooks/, and as deep: links between chapters, to solutions and to ../data lead to the same places.
FOLDER = ROOT / "my-notebooks"
RECORD = ".versions.json"  # of each notebook, the digests of every version that was copied


def register(commands) -> None:
    """Add the command to the parser."""
    about = f"make your own copies of the notebooks, outputs cleared, in {FOLDER.name}; what you changed is kept"
    parser = commands.add_parser("copies", help=about)
    parser.set_defaults(act=_copies)


def update(folder: Path = FOLDER, *, source: Path = notebook_runner.NOTEBOOKS) -> list[str]:
    """Bring the copies in `folder` up to date with the notebooks in `source`, and say in a line each what was done.

    A missing copy is made. An untouched one, whose cells and outputs are still those of a version that was copied, is
    replaced. A touched one is kept, and the course's newer version is laid beside it, once, as `NAME.new.ipynb`.
    """
    folder.mkdir(exist_ok=True)
    record = _read_record(folder)
    made, said = 0, []
    for path in notebook_runner.chapters(["all"], folder=source):
        name = path.relative_to(source).as_posix()
        known = record.setdefault(name, [])
        fresh = _cleared(path)
        digest, target = _digest(fresh), folder / name
        mine = _digest_of(target)
        if mine is None:
            made += 1
        elif mine in {digest, *known}:
            if mine != digest:
                said.append(f"{name}: replaced by the course's newer version; you had not changed it.")
        elif digest in known:  # it was made from this version, or this one was laid beside it already
            continue
        else:
            target = _beside(target, known)
            said.append(f"{name}: yours is kept; the course's newer version lies beside it as {target.name}.")
        if mine != digest:
            target.parent.mkdir(exist_ok=True)
            notebook_runner.write(fresh, target)
        if digest not in known:
            known.append(digest)
    write_whole(folder / RECORD, json.dumps(record, indent=1) + "\n")
    return [f"{made} notebooks copied to {folder.name}, without their outputs.", *said] if made else said


def _read_record(folder: Path) -> dict[str, list[str]]:
    """The versions copied so far. Where the file is lost or broken every copy counts as touched, and is kept."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return {str(name): [str(one) for one in digests] for name, digests in record.items()}
    except (FileNotFoundError, ValueError, AttributeError, TypeError):
        return {}


def _cleared(path: Path) -> NotebookNode:
    """The notebook as it was before anything ran."""
    notebook = notebook_runner.read(path)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def _digest(notebook: NotebookNode) -> str:
    """Of what a reader sees and makes; not of metadata, which JupyterLab writes anew when it opens a notebook."""
    kept = ("cell_type", "source", "attachments", "outputs")
    cells = [{key: cell[key] for key in kept if cell.get(key)} for cell in notebook.cells]
    return hashlib.sha256(json.dumps(cells, sort_keys=True).encode()).hexdigest()


def _digest_of(path: Path) -> str | None:
    """The digest of a copy; None where there is none, and "" for a file that is no notebook, which is kept too."""
    if not path.exists():
        return None
    try:
        return _digest(notebook_runner.read(path))
    except (OSError, ValueError):
        return ""


def _beside(path: Path, known: list[str]) -> Path:
    """Where to lay a newer version: NAME.new.ipynb, or the next number if that too was changed."""
    number, place = 1, path.with_suffix(".new.ipynb")
    while _digest_of(place) not in {None, *known}:
        number += 1
        place = path.with_suffix(f".new{number}.ipynb")
    return place


def _copies(arguments: argparse.Namespace) -> int:
    for line in update() or [f"{FOLDER.name} is up to date."]:
        print(line)
    return 0
