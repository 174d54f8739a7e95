"""The catalogue as a table: what each checkpoint is, what it weighs, and what of it is on this machine already.

Nothing is downloaded to find out: sizes are the catalogue's, and the rest is read from the two folders that hold it.
"""

from __future__ import annotations

from pathlib import Path

from helpers.catalog import memory_plan, miniatures
from helpers.catalog.checkpoints import CATALOG, Checkpoint
from helpers.common import paths
from helpers.common.sizes import GB, MB, format_size
from helpers.common.table import Table
from helpers.hub import client

COMPLETE = 0.8  # of a download's size is taken for all of it: the catalogue's sizes are approximate
NOTHING = "–"
ROLES = {
    "controlnet": "joins another",
    "lora": "joins another",
    "depth": "depth maps",
    "segmentation": "masks",
}  # of what makes no images itself
COLUMNS = ("name", "task", "download", "GPU memory", "miniature", "in the cache", "licence", "Hub")


def models(*names: str) -> Table:
    """The catalogue's checkpoints as a table: all of them, or those named; an unknown name raises ValueError.

    The cache is the one that downloads go to: HF_HUB_CACHE, or HF_HOME's, as they were when Python started.
    """
    chosen = [CATALOG[name] for name in names] or list(CATALOG.values())
    cached = cached_sizes()
    notes = [
        "Download, GPU memory and cache are about the full checkpoints of the Hugging Face Hub.",
        "GPU memory: in float16, the whole pipeline / one model at a time; estimates.",
    ]
    if pickled := [checkpoint.name for checkpoint in chosen if checkpoint.pickled]:
        notes.append(f"Pickles alone on the Hub, read only when they are converted: {', '.join(pickled)}.")
    if together := sum(map(_size, {folder for checkpoint in chosen for folder in _components(checkpoint.name)})):
        notes.append(f"Miniatures share components: those above are {together / MB:.1f} MB together.")
    return Table(COLUMNS, [_row(checkpoint, cached) for checkpoint in chosen], "\n".join(notes))


def cached_sizes() -> dict[str, int]:
    """Repository -> bytes it takes in the Hub cache; a file that several commits share counts once."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        return {repo.repo_id: repo.size_on_disk for repo in scan_cache_dir(client.cache_folder()).repos}
    except CacheNotFound:
        return {}


def _row(checkpoint: Checkpoint, cached: dict[str, int]) -> tuple[str, ...]:
    here = sum(cached.get(repo, 0) for repo in checkpoint.repositories)
    part = "" if here >= COMPLETE * checkpoint.download_size else ", a part"
    folders = _components(checkpoint.name)
    return (
        checkpoint.name,
        ", ".join(checkpoint.tasks) or ROLES.get(checkpoint.family, NOTHING),
        format_size(checkpoint.download_size),
        _gpu_memory(checkpoint),
        f"{sum(map(_size, folders)) / MB:.1f} MB" if folders else NOTHING,
        f"{format_size(here)}{part}" if here else NOTHING,
        checkpoint.licence or "none named",
        f"https://huggingface.co/{checkpoint.hub_id}",
    )


def _gpu_memory(checkpoint: Checkpoint) -> str:
    """What the full checkpoint takes as it is, and with model offload where that takes less."""
    import torch

    if not checkpoint.tasks:
        return NOTHING
    needs = memory_plan.needs(checkpoint, torch.float16)
    ways = [needs["none"]] + [needs["model"]] * (needs["model"] < needs["none"])
    return " / ".join(f"{amount / GB:.1f}" for amount in ways) + " GB"


def _components(name: str) -> tuple[Path, ...]:
    """The folders that make the miniature; none where it is not shipped, or not whole."""
    recipe = miniatures.recipes().get(name, {})
    entries = [recipe["model"]] if "model" in recipe else list(recipe.get("components", {}).values())
    folders = tuple({paths.MINIATURES / folder: None for _, _, *parts in entries for folder in parts})
    return folders if all(map(_size, folders)) else ()


def _size(folder: Path) -> int:
    files = folder.iterdir() if folder.is_dir() else ()
    return sum(file.stat().st_size for file in files if file.suffix in miniatures.SHIPPED)
