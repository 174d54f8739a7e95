"""The catalogue as a table: what each checkpoint is, what it weighs, and what of it is on this machine already.

Nothing is downloaded to find out: sizes are the catalogue's, and the rest is read from the two folders that hold it.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.catalog import memory_plan, miniatures
from helpers.catalog.checkpoints import CATALOG, Checkpoint
from helpers.common import paths
from helpers.common.sizes import GB, MB
from helpers.hub import client

NEARLY = 0.8  # of a download's size is taken for all of it: the catalogue's sizes are approximate
NOTHING = "–"
OTHERWISE = {"controlnet": "joins another", "depth": "depth maps"}  # what those do that make no pictures
HEAD = ("name", "task", "Hub id", "licence", "download", "on a card", "miniature", "in the cache")


@dataclass(frozen=True)
class Line:
    """One checkpoint. Sizes are in bytes; all but `miniature` are about the full checkpoint, in either edition."""

    name: str
    tasks: tuple[str, ...]  # in words for what makes no pictures itself
    hub_id: str
    licence: str | None  # None: the publisher names none
    download: int
    memory: dict[str, int]  # what a graphics card must have free, by the way of offloading, estimated in float16
    miniature: int | None  # of its component files; None: the course ships none
    cached: int  # in the Hub's cache, of this checkpoint and of its prior
    pickled: bool  # no safetensors on the Hub: load() refuses what was not converted

    @property
    def downloaded(self) -> bool:
        """Whether so much is in the cache that it must be all of it."""
        return self.cached >= NEARLY * self.download

    def cells(self) -> tuple[str, ...]:
        """The line in words, in the order of HEAD."""
        here = gigabytes(self.cached) if self.cached else NOTHING
        return (
            self.name,
            ", ".join(self.tasks),
            self.hub_id,
            self.licence or "none named",
            gigabytes(self.download),
            _on_a_card(self.memory),
            f"{self.miniature / MB:.1f} MB" if self.miniature is not None else NOTHING,
            here if self.downloaded or not self.cached else f"{here}, a part",
        )


@dataclass(frozen=True)
class Listing:
    """The table that `models()` makes; a notebook shows it as HTML, `print` and a terminal as text."""

    lines: tuple[Line, ...]
    together: int  # bytes of the miniatures' components, each counted once

    def __getitem__(self, name: str) -> Line:
        lines = {line.name: line for line in self.lines}
        return lines[CATALOG[name].name]

    def __iter__(self) -> Iterator[Line]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def notes(self) -> list[str]:
        """What the columns mean, and what is special about some lines."""
        notes = [
            "Download, card and cache are about the full checkpoints of the Hugging Face Hub.",
            "On a card: graphics memory in float16, the whole pipeline / one model at a time; estimates.",
        ]
        if pickled := [line.name for line in self.lines if line.pickled]:
            notes.append(f"Pickles alone on the Hub, read only when they are converted: {', '.join(pickled)}.")
        if self.together:
            notes.append(f"Miniatures share components: those above are {self.together / MB:.1f} MB together.")
        return notes

    def __str__(self) -> str:
        # Two rows a checkpoint: with its Hub id beside the rest it would be too wide for a terminal.
        rows = [HEAD, *(line.cells() for line in self.lines)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
        text = []
        for name, task, hub_id, licence, download, card, miniature, cached in rows:
            first = [f"{name:<{widths[0]}}", f"{task:<{widths[1]}}", f"{download:>{widths[4]}}"]
            first += [f"{card:>{widths[5]}}", f"{miniature:>{widths[6]}}", cached]
            text += ["  ".join(first).rstrip(), f"  {hub_id}, {licence}"]
        return "\n".join([*text, "", *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col" style="text-align:left">{html.escape(name)}</th>' for name in HEAD)
        body = "".join(f"<tr>{_html_cells(line)}</tr>" for line in self.lines)
        notes = "<br>".join(map(html.escape, self.notes))
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p><small>{notes}</small></p>"


def models(*names: str) -> Listing:
    """The catalogue's checkpoints as a table: all of them, or those named; an unknown name raises ValueError.

    The cache is the one that downloads go to: HF_HUB_CACHE, or HF_HOME's, as they were when Python started.
    """
    chosen = [CATALOG[name] for name in names] or list(CATALOG.values())
    folders = {folder for checkpoint in chosen for folder in _components(checkpoint.name)}
    return Listing(tuple(map(_line, chosen)), sum(map(_size, folders)))


def gigabytes(size: int) -> str:
    """A number of bytes in words, such as "2.1 GB"."""
    return f"{size / GB:.1f} GB" if size >= GB / 20 else f"{size / MB:.0f} MB"


def _line(checkpoint: Checkpoint) -> Line:
    folders = _components(checkpoint.name)
    return Line(
        name=checkpoint.name,
        tasks=checkpoint.tasks or (OTHERWISE.get(checkpoint.family, NOTHING),),
        hub_id=checkpoint.hub_id,
        licence=checkpoint.licence,
        download=checkpoint.download_size,
        memory=_memory(checkpoint),
        miniature=sum(map(_size, folders)) if folders else None,
        cached=sum(map(_cached, checkpoint.repositories)),
        pickled=checkpoint.pickled,
    )


def _memory(checkpoint: Checkpoint) -> dict[str, int]:
    """What each way of running the full checkpoint takes of a card, as far as each takes less than the one before."""
    import torch

    if not checkpoint.tasks:
        return {}
    found: dict[str, int] = {}
    for way, needed in memory_plan.needs(checkpoint, torch.float16).items():
        if needed < min(found.values(), default=sys.maxsize):
            found[way] = needed
    return found


def _on_a_card(memory: dict[str, int]) -> str:
    ways = [f"{memory[way] / GB:.1f}" for way in ("none", "model") if way in memory]
    return f"{' / '.join(ways)} GB" if ways else NOTHING


def _components(name: str) -> tuple[Path, ...]:
    """The folders that make the miniature; none where it is not shipped, or not whole."""
    recipe = miniatures.recipes().get(name, {})
    entries = [recipe["model"]] if "model" in recipe else list(recipe.get("components", {}).values())
    folders = tuple({paths.MINIATURES / folder: None for _, _, *parts in entries for folder in parts})
    return folders if all(map(_size, folders)) else ()


def _size(folder: Path) -> int:
    files = folder.iterdir() if folder.is_dir() else ()
    return sum(file.stat().st_size for file in files if file.suffix in miniatures.SHIPPED)


def _cached(hub_id: str) -> int:
    """Bytes of a repository in the cache. Each file counts once, however many of its versions share it."""
    snapshots = client.cache() / f"models--{hub_id.replace('/', '--')}" / "snapshots"
    files = {file.resolve() for file in snapshots.rglob("*") if file.is_file()}  # links, where the system has them
    return sum(file.stat().st_size for file in files)


def _html_cells(line: Line) -> str:
    name, task, hub_id, licence, *sizes = map(html.escape, line.cells())
    link = f'<a href="https://huggingface.co/{hub_id}">{hub_id}</a>'
    left = "".join(f'<td style="text-align:left">{cell}</td>' for cell in (f"<code>{name}</code>", task, link, licence))
    return left + "".join(f'<td style="text-align:right; white-space:nowrap">{size}</td>' for size in sizes)
