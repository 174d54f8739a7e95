"""Fetch the files that the full edition reads, and find out which of them are on this machine.

huggingface_hub downloads them, several at once, into the cache that every program shares, so plain from_pretrained
finds them with HF_HUB_OFFLINE=1 too. New files are compared with the Hub's hashes, and the cache's "main" moves to a
new commit only when all of it is there.
"""

from __future__ import annotations

import glob
import json
import logging
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from helpers.catalog import revisions
from helpers.catalog.checkpoints import Checkpoint
from helpers.hub import client, convert_pickles, repo_files
from helpers.hub.client import HubError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """One commit of a repository in the Hub cache: the files that are read of it, and those that are missing."""

    repo: str
    commit: str
    folder: Path
    files: tuple[str, ...]
    variant: str | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class DownloadPlan:
    """What is to be fetched of one repository: `size` of `total` bytes, 0 where all of it is here."""

    name: str  # the course's name for it
    snapshot: Snapshot
    size: int
    total: int
    moves_main: bool  # whether the cache's "main" is to become this commit


def plan(checkpoint: Checkpoint) -> list[DownloadPlan]:
    """Ask the Hub what `checkpoint` is made of, a plan for each repository. Fetches nothing but an index.

    Raises HubError where the Hub has no answer, and where there are no weights in a format that is read.
    """
    return [_plan(repo, checkpoint) for repo in checkpoint.repositories]


def fetch(plans: Sequence[DownloadPlan], *, verify: bool = False) -> None:
    """Fetch the missing files, with progress bars; after an interruption, only those that are still missing.

    verify: compare every file with the Hub's hash, also those that were here before, and fetch altered ones again.
    Raises HubError, before anything is fetched, where the disk has no room for all of it.
    """
    client.check_room(sum(one.size for one in plans), name=" ".join(dict.fromkeys(one.name for one in plans)))
    for one in plans:
        with client.errors_in_words(one.snapshot.repo, one.name):
            _fetch(one, verify=verify)


def find(repo: str, checkpoint: Checkpoint) -> Snapshot | None:
    """What the cache holds of `repo`, at its pin or else where "main" was when it was last fetched; None for nothing.

    Asks no network. Without the Hub's list of files, which other programs may not have kept, it is complete when every
    model has weights.
    """
    from huggingface_hub import get_cached_repo_tree, snapshot_download
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, IncompleteSnapshotError, LocalEntryNotFoundError

    asked = client.repo_kwargs(repo, revision=revisions.revision(repo))
    try:
        folder = Path(snapshot_download(**asked, local_files_only=True, allow_patterns=repo_files.INDEX))
    except IncompleteSnapshotError as error:
        folder = Path(error.snapshot_path)
    except LocalEntryNotFoundError:
        return None
    try:
        sizes = {file.path: file.size for file in get_cached_repo_tree(**asked)}
    except CachedRepoTreeNotFoundError:
        here = [path for path in folder.rglob("*") if path.is_file()]
        sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in here}
    if _missing(folder, [repo_files.INDEX] if repo_files.INDEX in sizes else [], sizes):
        return Snapshot(repo, folder.name, folder, (repo_files.INDEX,), missing=(repo_files.INDEX,))
    try:
        return _snapshot(repo, folder, sizes, checkpoint)
    except (FileNotFoundError, ValueError):  # half a download
        return None


def folders(checkpoint: Checkpoint) -> tuple[str, str | None, str | None]:
    """Where from_pretrained finds `checkpoint` and its prior on this machine, and the variant to ask for there.

    What is here is used without asking the Hub for a newer commit (`course download` asks); what is missing is fetched
    now, or HubError raised. Of pickles only the converted copy is read, and ValueError says how to make it.
    """
    if checkpoint.pickled:
        return str(convert_pickles.folder(checkpoint)), None, None
    own, *more = [_ready(repo, checkpoint) for repo in checkpoint.repositories]
    warn_of_variant(checkpoint, own)
    return str(own.folder), str(more[0].folder) if more else None, own.variant


def warn_of_variant(checkpoint: Checkpoint, found: Snapshot) -> None:
    """Say once that the files of the variant that the catalogue asks for are not on the Hub."""
    if checkpoint.variant and found.repo == checkpoint.hub_id and found.variant is None:
        text = f"{found.repo} has no {checkpoint.variant} files; the full ones are used, which are larger."
        client.warn_once(text)


def _ready(repo: str, checkpoint: Checkpoint) -> Snapshot:
    found = find(repo, checkpoint)
    if found and not found.missing:
        return found
    if client.offline():
        raise HubError(
            f"{checkpoint.name}: {repo} is incomplete on this machine, and HF_HUB_OFFLINE=1 is set. "
            f"Unset it, then: course download {checkpoint.name}. Without it: the mini edition, use('mini')."
        )
    # The commit that is here already, where there is one: completing it must not bring another.
    planned = _plan(repo, checkpoint, commit=found.commit if found else None)
    fetch([planned])
    return planned.snapshot


def _plan(repo: str, checkpoint: Checkpoint, *, commit: str | None = None) -> DownloadPlan:
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from huggingface_hub.hf_api import RepoFile
    from tqdm import tqdm

    silent: Any = partial(tqdm, disable=True)  # it takes a moment
    name, pin = checkpoint.name, commit or revisions.revision(repo)
    commit = client.commit_of(repo, name=name, revision=pin)
    asked = client.repo_kwargs(repo, revision=commit)
    folder = _store(repo) / "snapshots" / commit
    with client.errors_in_words(repo, name):
        tree = HfApi().list_repo_tree(**asked, recursive=True)
        sizes = {file.path: file.size for file in tree if isinstance(file, RepoFile)}
        if repo_files.INDEX in sizes:
            _discard_damaged(folder, [repo_files.INDEX], sizes)
            hf_hub_download(**asked, filename=repo_files.INDEX)
        try:
            snapshot = _snapshot(repo, folder, sizes, checkpoint)
        except FileNotFoundError as error:
            raise HubError(
                f"{name}: {repo} has {error}, and the course reads no other format. Use the mini edition: use('mini')."
            ) from error
        _discard_damaged(folder, snapshot.missing, sizes)
        files = snapshot_download(**asked, allow_patterns=_patterns(snapshot), dry_run=True, tqdm_class=silent)
    size = sum(file.file_size or 0 for file in files if file.will_download)
    return DownloadPlan(name, snapshot, size, sum(file.file_size or 0 for file in files), moves_main=pin is None)


def _snapshot(repo: str, folder: Path, sizes: dict[str, int], checkpoint: Checkpoint) -> Snapshot:
    """The files to read of this commit; FileNotFoundError where a model has no weights of the right format."""
    index = folder / repo_files.INDEX
    components = json.loads(index.read_text(encoding="utf-8")) if repo_files.INDEX in sizes else None
    files, variant = repo_files.choose(sizes, components, variant=checkpoint.variant, pickled=checkpoint.pickled)
    return Snapshot(repo, folder.name, folder, files, variant, _missing(folder, files, sizes))


def _missing(folder: Path, files: Iterable[str], sizes: dict[str, int]) -> tuple[str, ...]:
    """The files that are not there, or not of the size that the Hub lists."""
    whole = {path for path in files if (folder / path).is_file() and (folder / path).stat().st_size == sizes[path]}
    return tuple(path for path in files if path not in whole)


def _fetch(planned: DownloadPlan, *, verify: bool) -> None:
    from huggingface_hub import HfApi, snapshot_download

    snapshot, name = planned.snapshot, planned.name
    asked = client.repo_kwargs(snapshot.repo, revision=snapshot.commit)
    main = _store(snapshot.repo) / "refs" / "main"
    moves = planned.moves_main and not (main.is_file() and main.read_text(encoding="utf-8") == snapshot.commit)
    verify = verify or moves or planned.size > 0
    for last in (False, True):
        try:
            snapshot_download(**asked, allow_patterns=_patterns(snapshot))
            found = HfApi().verify_repo_checksums(**asked).mismatches if verify else []
            wrong = [mismatch["path"] for mismatch in found]
            _discard(snapshot.folder / path for path in wrong)
        except OSError as error:
            if not str(error).startswith("Consistency check failed"):  # a file of another size than was announced
                raise
            wrong = ["a file"]
        if not wrong:
            break
        what = f"{', '.join(wrong)} of {snapshot.repo} does not have the size and hash that the Hub lists"
        if last:
            again = f"Try another network or HF_ENDPOINT, then: course download {name}"
            raise HubError(f"{name}: {what}, twice; nothing of it was kept. {again}")
        logger.warning("%s: fetching again.", what)
    if moves:
        main.parent.mkdir(parents=True, exist_ok=True)
        draft = main.with_name(f"main.{uuid.uuid4().hex}.tmp")
        draft.write_text(snapshot.commit, encoding="utf-8")
        draft.replace(main)


def _discard_damaged(folder: Path, files: Iterable[str], sizes: dict[str, int]) -> None:
    """Remove from the cache the files whose size is not the one that the Hub lists."""
    damaged = [path for path in _missing(folder, files, sizes) if (folder / path).is_file()]
    for path in damaged:
        logger.warning("%s is damaged: fetching it again.", folder / path)
    _discard(folder / path for path in damaged)


def _discard(paths: Iterable[Path]) -> None:
    """Remove files from the cache, with the blobs that they point to."""
    for path in paths:
        target = path.resolve()
        path.unlink(missing_ok=True)
        target.unlink(missing_ok=True)


def _patterns(snapshot: Snapshot) -> list[str]:
    return [glob.escape(path) for path in snapshot.files]


def _store(repo: str) -> Path:
    """The folder of a repository in the Hub cache."""
    from huggingface_hub.file_download import repo_folder_name

    return client.cache_folder() / repo_folder_name(**client.repo_kwargs(repo))
