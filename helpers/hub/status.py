"""The full edition's state on this machine, for the doctor: the Hub, the cache, and what of each checkpoint is here.

Files are compared by their sizes alone, as gigabytes take long to hash: `course download --verify` does that.
"""

from __future__ import annotations

from dataclasses import dataclass

from helpers.catalog import checkpoints, revisions
from helpers.catalog.checkpoints import CATALOG, Checkpoint
from helpers.common.sizes import format_size
from helpers.hub import client, convert_pickles, download, guide_images

TIMEOUT = 4  # seconds for the Hub's answer


@dataclass(frozen=True)
class Item:
    """A checkpoint, or the pictures: `state` is "complete", "partial", "missing" or "pickled"; `value` says it."""

    name: str
    state: str
    value: str


def reach() -> tuple[str, bool]:
    """What to say of the Hub, and whether something can be fetched from it now."""
    from huggingface_hub.utils import get_session

    if client.offline():
        return "not asked: HF_HUB_OFFLINE=1 is set", False
    try:
        get_session().head(client.endpoint(), timeout=TIMEOUT)
    except Exception as error:  # whatever the network's libraries raise
        return f"{client.endpoint()} cannot be reached ({str(error).splitlines()[0] if str(error) else error!r})", False
    return f"{client.endpoint()} answers", True


def token() -> str:
    """Whether huggingface_hub has a token; never the token."""
    from huggingface_hub import get_token

    return "yes" if get_token() else "none, and none is needed but for gated checkpoints (hf auth login)"


def cached_sizes() -> dict[str, int]:
    """Repository -> bytes it takes in the Hub cache; a file that several commits share counts once."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        return {repo.repo_id: repo.size_on_disk for repo in scan_cache_dir(client.cache_folder()).repos}
    except CacheNotFound:
        return {}


def cache() -> str:
    """Where downloads lie, and how much of the disk they take."""
    used = sum(cached_sizes().values())
    return f"{client.cache_folder()}: {format_size(used) if used else 'nothing yet'} (HF_HOME moves it)"


def pinned() -> tuple[str, bool]:
    """How many of the catalogue's repositories are pinned; False where the file of pins cannot be used."""
    repos = [*checkpoints.repositories(), *guide_images.REPOSITORIES]
    try:
        count = len(revisions.read())
    except ValueError as error:
        return str(error), False
    none = f"none: each checkpoint's newest commit is taken ({revisions.file()})"
    return f"{count} of {len(repos)}" if count else none, True


def items() -> list[Item]:
    """Every checkpoint of the catalogue, and the guides' images, in order."""
    sizes = cached_sizes()
    here = sum(guide_images.cached(name) is not None for name in guide_images.GUIDES)
    state = "complete" if here == len(guide_images.GUIDES) else "partial" if here else "missing"
    value = "the guides' own are here" if state == "complete" else "drawn ones are used instead of the guides' own"
    return [*(_item(checkpoint, sizes) for checkpoint in CATALOG.values()), Item("pictures", state, value)]


def _item(checkpoint: Checkpoint, sizes: dict[str, int]) -> Item:
    name, about = checkpoint.name, format_size(checkpoint.download_size)
    if checkpoint.pickled:
        if copy := convert_pickles.converted(checkpoint):
            size = sum(file.stat().st_size for file in copy.rglob("*.*"))
            return Item(name, "complete", f"converted, {format_size(size)}")
        return Item(name, "pickled", f"pickles only, about {about}: course download {name} --pickles converts them")
    found = [download.find(repo, checkpoint) for repo in checkpoint.repositories]
    here = format_size(sum(sizes.get(repo, 0) for repo in checkpoint.repositories))
    if not any(found):
        return Item(name, "missing", f"not here, about {about}: {checkpoint.hub_id}")
    if not all(one and not one.missing for one in found):
        return Item(name, "partial", f"{here} of about {about} here")
    pin = revisions.revision(checkpoint.hub_id)
    return Item(name, "complete", f"here, {here}{f', pinned to {pin[:12]}' if pin else ''}")
