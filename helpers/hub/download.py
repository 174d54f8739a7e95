"""Fetch what the full edition reads: only those files, checked against the Hub's hashes, and resumed where it stopped.

Files land in the Hub cache, as huggingface_hub itself lays it out, so that plain from_pretrained finds them too, with
HF_HUB_OFFLINE=1 as well. Nothing enters it before its hash is right.
"""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.catalog import revisions
from helpers.catalog.checkpoints import Checkpoint
from helpers.hub import client, convert_pickles, repo_files, snapshots
from helpers.hub.client import HubError
from helpers.hub.snapshots import File, Snapshot

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """One repository as the Hub has it now, and what of it is not on this machine in that state."""

    name: str  # the course's name for it
    target: Snapshot
    faults: dict[str, str]  # path -> "missing", "cut short" or "altered"
    follows: bool = False  # whether the cache's "main" is to follow to this commit

    @property
    def files(self) -> list[File]:
        return [file for file in self.target.files if file.path in self.faults]

    @property
    def size(self) -> int:
        """Bytes to fetch; what an interrupted download has left is not taken off."""
        return sum(file.size for file in self.files if not _blob(self.target.repo, file).is_file())


def order(checkpoint: Checkpoint) -> list[Order]:
    """Ask the Hub what `checkpoint` is made of, one order for each repository. Fetches nothing but an index.

    Raises HubError where the Hub has no answer, and where there are no weights in a format that is read.
    """
    return [_order(repo, checkpoint) for repo in checkpoint.repositories]


def fetch(orders: Sequence[Order]) -> None:
    """Fetch what the orders miss, with progress bars. What is there already is not asked for again.

    Raises HubError, before anything is fetched, where the disk has no room for all of it.
    """
    client.check_room(sum(one.size for one in orders), name=" ".join(dict.fromkeys(one.name for one in orders)))
    for one in orders:
        for file in one.files:
            if one.faults[file.path] != "missing":
                path = one.target.folder / file.path
                logger.warning("%s is %s: it is fetched again.", path, one.faults[file.path])
                snapshots.discard([path])
            _fetch(one, file)
        _link(one)


def ready(checkpoint: Checkpoint) -> list[Snapshot]:
    """Every repository of `checkpoint`, whole and unaltered on this machine; fetched now where it is not.

    What is here is used as it is, without asking the Hub for a newer commit: `course download` does that. Raises
    HubError where something is missing and cannot be had.
    """
    return [_ready(repo, checkpoint) for repo in checkpoint.repositories]


def folders(checkpoint: Checkpoint) -> tuple[str, str | None, str | None]:
    """Where from_pretrained finds `checkpoint` and its prior on this machine, and the variant to ask for there.

    As `ready`; of pickles only the converted copy is read, and ValueError says how to make it.
    """
    if checkpoint.pickled:
        return str(convert_pickles.folder(checkpoint)), None, None
    own, *more = ready(checkpoint)
    return str(own.folder), str(more[0].folder) if more else None, own.variant


def say_variant(checkpoint: Checkpoint) -> None:
    """Say once that the files that the catalogue asks for are not there."""
    text = "%s has no %s files; the full ones are used, which are larger."
    client.say_once(text % (checkpoint.hub_id, checkpoint.variant))


def forget(target: Snapshot) -> None:
    """Take a commit out of the cache, with what no other commit of its repository uses."""
    from huggingface_hub import scan_cache_dir

    scan_cache_dir(client.cache()).delete_revisions(target.commit).execute()


def _ready(repo: str, checkpoint: Checkpoint) -> Snapshot:
    name = checkpoint.name
    found = snapshots.find(repo, variant=checkpoint.variant)
    faults = found.faults() if found else {}
    damaged = {path: what for path, what in faults.items() if what != "missing"}
    if found is None or faults:
        if client.offline():
            what = "; ".join(f"{found.folder / path} is {what}" for path, what in damaged.items())
            raise HubError(
                f"{name}: {what or f'{repo} is not whole on this machine'}, and HF_HUB_OFFLINE=1 keeps off the Hub. "
                f"Unset it, then: course download {name}. Without it: the mini edition, use('mini')."
            )
        # The commit that is here already, where there is one: mending it must not bring another.
        one = _order(repo, checkpoint, commit=found.commit if found else None)
        fetch([one])
        found = one.target
    if checkpoint.variant and found.variant is None and repo == checkpoint.hub_id:
        say_variant(checkpoint)
    return found


def _order(repo: str, checkpoint: Checkpoint, *, commit: str | None = None) -> Order:
    name, revision = checkpoint.name, commit or revisions.revision(repo)
    commit, listed = _ask(repo, name=name, revision=revision)
    follows = revision is None
    folder, index = _folder(repo, commit), listed.get(repo_files.INDEX)
    if fault := index and snapshots.fault(folder / repo_files.INDEX, index):
        only = Order(name, Snapshot(repo, commit, folder, (index,)), {repo_files.INDEX: "missing"})
        if fault != "missing":  # by now another thread may have fetched it
            snapshots.discard([folder / repo_files.INDEX])
        _fetch(only, index)
        _link(only)
    try:
        choice = repo_files.choose(
            listed, snapshots.model_index(folder), variant=checkpoint.variant, pickled=checkpoint.pickled
        )
    except FileNotFoundError as error:
        raise HubError(
            f"{name}: {repo} has {error}, and the course reads no other format. Use the mini edition: use('mini')."
        ) from error
    target = Snapshot(repo, commit, folder, tuple(listed[path] for path in choice.files), choice.variant)
    return Order(name, target, target.faults(), follows)


def _ask(repo: str, *, name: str, revision: str | None) -> tuple[str, dict[str, File]]:
    """The commit that `revision` means, and all its files."""
    from huggingface_hub import HfApi

    asked = {**client.split(repo), "revision": revision, "files_metadata": True}
    info = client.patiently(lambda: HfApi().repo_info(**asked), repo=repo, name=name)
    files = [File(one.rfilename, one.size or 0, one.lfs.sha256 if one.lfs else one.blob_id) for one in info.siblings]
    listed = {file.path: file for file in files}
    snapshots.record(repo, info.sha, listed)
    return info.sha, listed


def _store(repo: str) -> Path:
    from huggingface_hub.file_download import repo_folder_name

    return client.cache() / repo_folder_name(**client.split(repo))


def _folder(repo: str, commit: str) -> Path:
    return _store(repo) / "snapshots" / commit


def _blob(repo: str, file: File) -> Path:
    return _store(repo) / "blobs" / file.digest


def _fetch(one: Order, file: File) -> None:
    """One file into the cache's blobs, under its hash. What an earlier attempt has left of it is gone on with."""
    from huggingface_hub.utils import WeakFileLock

    blob = _blob(one.target.repo, file)
    part = blob.with_name(f"{blob.name}.incomplete")
    try:
        blob.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(part.with_name(f"{part.name}.lock")):
            for attempt in ("first", "second"):
                if blob.is_file() and snapshots.fault(blob, file) == "":
                    return
                client.patiently(lambda: _stream(one.target, file, part), repo=one.target.repo, name=one.name)
                if snapshots.digest(part, file.digest) == file.digest:
                    os.replace(part, blob)
                    snapshots.vouch({blob: file.digest})
                    return
                how = "cut short" if part.stat().st_size < file.size else "altered"
                part.unlink()
                if attempt == "first":
                    logger.warning("%s of %s came %s: once more.", file.path, one.target.repo, how)
    except OSError as error:
        raise client.explain(error, repo=one.target.repo, name=one.name) from error
    raise HubError(
        f"{one.name}: {file.path} of {one.target.repo} came {how} twice: it has not the hash that {client.endpoint()} "
        f"names ({file.digest[:12]}…), and nothing of it was kept. Try another network or HF_ENDPOINT, then: "
        f"course download {one.name}"
    )


def _stream(target: Snapshot, file: File, part: Path) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(**client.split(target.repo), filename=file.path, revision=target.commit)
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    with part.open("ab") as stream:
        done = stream.tell()
        if done > file.size:
            stream.truncate(done := 0)
        how = {"expected_size": file.size, "displayed_filename": file.path}
        try:
            http_get(url, stream, resume_size=done, headers=headers, **how)
        except OSError as error:
            if error.errno is not None or not str(error).startswith("Consistency check failed"):
                raise  # else the hash tells


def _link(one: Order) -> None:
    """Let huggingface_hub point from the commit's folder to the blobs, and keep its list of files and branches."""
    from huggingface_hub import snapshot_download
    from tqdm import tqdm

    class Silent(tqdm):  # it takes a moment
        def __init__(self, *args: object, name: str = "", **kwargs: object) -> None:
            super().__init__(*args, **kwargs | {"disable": True})

    target = one.target
    wanted = [glob.escape(file.path) for file in target.files]
    revision = None if one.follows else target.commit
    asked = {**client.split(target.repo), "revision": revision, "allow_patterns": wanted, "tqdm_class": Silent}
    client.patiently(lambda: snapshot_download(**asked), repo=target.repo, name=one.name)
