"""The guides' own pictures: in the full edition a course name means what the diffusers guide shows there.

They come from the Hub's data sets, once, into the same cache as the checkpoints. A picture and its mask are taken
together or not at all: where one of them cannot be had, the drawn pair of the course stands in, and that is said once.
"""

from __future__ import annotations

from pathlib import Path

from helpers.catalog import editions, revisions
from helpers.hub import client, snapshots
from helpers.hub.snapshots import File

_GUIDES = "datasets/huggingface/documentation-images"
_TESTING = "datasets/YiYiXu/testing-images"
# Course name -> data set, picture, mask. The guide erases the rocks on the road that leads to the castle. The other
# names of the course have no picture and mask on the Hub; they stay drawn.
GUIDES = {
    "castle": (_GUIDES, "diffusers/inpaint.png", "diffusers/inpaint_mask.png"),
    "road": (_GUIDES, "diffusers/inpaint.png", "diffusers/road-mask.png"),
    "seashore": (_TESTING, "seashore.png", "seashore_mask.png"),
}
REPOSITORIES = tuple(dict.fromkeys(repo for repo, *_ in GUIDES.values()))
SIZE = 2_500_000  # bytes, approximately, of all of them
AGAIN = "course download pictures"

_failed: dict[str, str] = {}  # data set -> why; asked again by the next process only, or by `course download`


def guide_picture(name: str) -> Path | None:
    """The guide's picture for a course name ("castle", "castle_mask"); None where the drawn one is meant.

    That is: in the mini edition, for a name that no guide has, and where the Hub does not give it (said once).
    """
    base = name.removesuffix("_mask")
    if editions.edition() != "full" or base not in GUIDES:
        return None
    repo, *paths = GUIDES[base]
    found = cached(base)
    if found is None and repo not in _failed:
        try:
            found = fetch(base)
        except OSError as error:
            _failed[repo] = str(error)
    if found is None:
        client.say_once(
            "The course's drawn pictures stand in for the guides' own ones, which are not on this machine. "
            f"{_failed[repo]}"
        )
        return None
    return found[1 if name != base else 0]


def cached(name: str) -> tuple[Path, Path] | None:
    """Picture and mask of a guide on this machine, whole and unaltered; None where one of them is not."""
    from huggingface_hub import try_to_load_from_cache

    repo, *paths = GUIDES[name]
    asked = {**client.split(repo), "revision": revisions.revision(repo)}
    found = [try_to_load_from_cache(filename=path, **asked) for path in paths]
    if not all(isinstance(path, str) for path in found):
        return None
    pair = Path(found[0]), Path(found[1])
    whole = [File(path.name, path.stat().st_size, snapshots.named_by_hash(path)) for path in pair]
    damaged = [path for path, wanted in zip(pair, whole, strict=True) if snapshots.fault(path, wanted)]
    snapshots.discard(damaged)
    return None if damaged else pair


def fetch(name: str) -> tuple[Path, Path]:
    """Fetch picture and mask of a guide; raises OSError, HubError among them, where they cannot be had."""
    from huggingface_hub import HfApi, hf_hub_download

    repo, *paths = GUIDES[name]
    asked = {**client.split(repo), "revision": revisions.revision(repo)}
    try:
        if client.offline():
            raise client.HubError(f"HF_HUB_OFFLINE=1 keeps off the Hub. Unset it, then: {AGAIN}")
        listed = [one.path for one in HfApi().get_paths_info(paths=paths, **asked)]  # asks once, so it answers soon
        if lacking := sorted(set(paths) - set(listed)):
            raise client.HubError(f"{repo} has no {' and no '.join(lacking)}. Look for its newest commit: course pin")
        for path in paths:
            hf_hub_download(filename=path, **asked)
    except Exception as error:
        raise client.explain(error, repo=repo, name="pictures") from error
    pair = cached(name)
    if pair is None:
        raise client.HubError(
            f"What {repo} sent has not the hash that it names; nothing of it was kept. Again: {AGAIN}"
        )
    return pair
