"""The full edition's state on this machine, for the doctor: the Hub, the cache, and what of each checkpoint is here.

Files are compared by their sizes alone: to hash gigabytes takes longer than a doctor may. `course download` does that.
"""

from __future__ import annotations

from dataclasses import dataclass

from helpers.catalog import checkpoints, revisions
from helpers.catalog.checkpoints import CATALOG, Checkpoint
from helpers.hub import client, convert_pickles, guide_images, snapshots

PATIENCE = 4  # seconds for the Hub's answer


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
        return f"not asked: HF_HUB_OFFLINE=1 keeps off {client.endpoint()}", False
    try:
        get_session().head(client.endpoint(), timeout=PATIENCE)
    except Exception as error:  # whatever the network's libraries raise
        return f"{client.endpoint()} cannot be reached ({str(error).splitlines()[0] if str(error) else error!r})", False
    return f"{client.endpoint()} answers", True


def token() -> str:
    """Whether huggingface_hub has a token; never the token."""
    from huggingface_hub import get_token

    return "yes" if get_token() else "none, and none is needed but for gated checkpoints (hf auth login)"


def cache() -> str:
    """Where downloads lie, and how much of the disk they take."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        used = client.amount_of(scan_cache_dir(client.cache()).size_on_disk)
    except CacheNotFound:
        used = "nothing yet"
    return f"{client.cache()}: {used} (HF_HOME moves it)"


def pinned() -> tuple[str, bool]:
    """How many of the catalogue's repositories are pinned; False where the file of pins cannot be used."""
    try:
        count, every = len(revisions.read()), len(checkpoints.repositories()) + len(guide_images.REPOSITORIES)
    except ValueError as error:
        return str(error), False
    return (
        f"{count} of {every}" if count else f"none: each checkpoint's newest commit is taken ({revisions.file()})",
        True,
    )


def items() -> list[Item]:
    """Every checkpoint of the catalogue, and the guides' pictures, in order."""
    return [*map(item, CATALOG.values()), _pictures()]


def item(checkpoint: Checkpoint) -> Item:
    """What of one checkpoint is on this machine."""
    name, about = checkpoint.name, client.amount_of(checkpoint.download_size)
    if checkpoint.pickled:
        copy = convert_pickles.converted(checkpoint)
        if copy is None:
            return Item(name, "pickled", f"pickles only, about {about}: course download {name} --pickles converts them")
        return Item(
            name, "complete", f"converted, {client.amount_of(sum(f.stat().st_size for f in copy.rglob('*.*')))}"
        )
    found = [snapshots.find(repo, variant=checkpoint.variant) for repo in checkpoint.repositories]
    faults = {path: what for one in found if one for path, what in one.faults(hashes=False).items()}
    here = sum(file.size for one in found if one for file in one.files if file.path not in faults)
    if not here:
        return Item(name, "missing", f"not here, about {about}: {checkpoint.hub_id}")
    if faults or None in found:
        damage = [f"{path} is {what}" for path, what in faults.items() if what != "missing"]
        return Item(name, "partial", "; ".join([f"{client.amount_of(here)} of about {about} here", *damage]))
    pin = revisions.revision(checkpoint.hub_id)
    return Item(name, "complete", f"here, {client.amount_of(here)}{f', pinned to {pin[:12]}' if pin else ''}")


def _pictures() -> Item:
    here = [name for name in guide_images.GUIDES if guide_images.cached(name)]
    state = "complete" if len(here) == len(guide_images.GUIDES) else "partial" if here else "missing"
    value = "the guides' own are here" if state == "complete" else "drawn ones stand in for the guides' own"
    return Item("pictures", state, value)
