"""The guides' own images: in the full edition a course name means what the diffusers guide shows there.

They come from the Hub's data sets, once, into the same cache as the checkpoints. An image and its mask are taken
together or not at all: where one of them is unavailable, the course's drawn pair is used, with one warning.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from helpers.catalog import editions, revisions
from helpers.hub import client

_GUIDES = "datasets/huggingface/documentation-images"
_TESTING = "datasets/YiYiXu/testing-images"
# Course name -> data set, image, mask. The guide erases the rocks on the road that leads to the castle. The other
# names of the course have no image and mask on the Hub; they stay drawn.
GUIDES = {
    "castle": (_GUIDES, "diffusers/inpaint.png", "diffusers/inpaint_mask.png"),
    "road": (_GUIDES, "diffusers/inpaint.png", "diffusers/road-mask.png"),
    "seashore": (_TESTING, "seashore.png", "seashore_mask.png"),
}
REPOSITORIES = tuple(dict.fromkeys(repo for repo, *_ in GUIDES.values()))
SIZE = 2_500_000  # bytes, approximately, of all of them

_failed: dict[str, str] = {}  # data set -> why; asked again by the next process only, or by `course download`


def guide_image(name: str) -> Path | None:
    """The guide's image for a course name ("castle", "castle_mask"); None where the drawn one is meant.

    That is: in the mini edition, for a name that no guide has, and where it is unavailable (with one warning).
    """
    base = name.removesuffix("_mask")
    if editions.edition() != "full" or base not in GUIDES:
        return None
    repo, *_ = GUIDES[base]
    found = cached(base)
    if found is None and repo not in _failed:
        try:
            found = fetch(base)
        except OSError as error:
            _failed[repo] = str(error)
    if found is None:
        client.warn_once(
            "Using the course's drawn images instead of the guides' own, which are not on this machine. "
            f"{_failed[repo]}"
        )
        return None
    return found[1 if name != base else 0]


def cached(name: str) -> tuple[Path, Path] | None:
    """Image and mask of a guide on this machine; None where one of them is not."""
    from huggingface_hub import try_to_load_from_cache

    repo, *paths = GUIDES[name]
    asked = client.repo_kwargs(repo, revision=revisions.revision(repo))
    image, mask = (try_to_load_from_cache(filename=path, **asked) for path in paths)
    return (Path(image), Path(mask)) if isinstance(image, str) and isinstance(mask, str) else None


def fetch(name: str) -> tuple[Path, Path]:
    """Fetch image and mask of a guide; raises OSError, HubError among them, where they are unavailable."""
    from huggingface_hub import hf_hub_download

    repo, *paths = GUIDES[name]
    asked = client.repo_kwargs(repo, revision=revisions.revision(repo))
    if client.offline():
        raise client.HubError("HF_HUB_OFFLINE=1 is set. Unset it, then: course download pictures")
    with client.errors_in_words(repo, "pictures"):
        image, mask = (_checked(Path(hf_hub_download(filename=path, **asked))) for path in paths)
    return image, mask


def _checked(path: Path) -> Path:
    """`path` as it is, if its contents have the hash that its blob in the cache is named by."""
    blob = path.resolve()
    if len(blob.name) == 64 and hashlib.sha256(blob.read_bytes()).hexdigest() != blob.name:
        path.unlink()
        blob.unlink()
        raise client.HubError(f"{path.name} arrived altered, and was not kept. Try again: course download pictures")
    return path
