"""What of the full edition lies on this machine: each repository's files in the Hub cache, complete and unaltered.

The Hub says of every file how large it is and what its hash is; huggingface_hub keeps that list beside the files, so
all of this works without a network. A file is hashed once; after that its size, times and place on disk vouch for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.catalog import revisions
from helpers.common.paths import cache_folder
from helpers.hub import repo_files

CHECKED = "checked.json"


@dataclass(frozen=True)
class File:
    """One file as the Hub describes it; `digest` is the sha256 of a large file, git's hash of a small one."""

    path: str
    size: int
    digest: str = ""


@dataclass(frozen=True)
class Snapshot:
    """One commit of a repository: what is wanted of it, and where that lies. It need not be there yet."""

    repo: str
    commit: str
    folder: Path
    files: tuple[File, ...]
    variant: str | None = None
    known: bool = True  # whether the Hub's own list of files is at hand

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def faults(self, *, hashes: bool = True) -> dict[str, str]:
        """The files that are "missing", "cut short" or "altered", by path; without `hashes`, as far as sizes tell."""
        found = {file.path: fault(self.folder / file.path, file, hashes=hashes) for file in self.files}
        return {path: what for path, what in found.items() if what}


def find(repo: str, *, variant: str | None = None, pickled: bool = False) -> Snapshot | None:
    """What the cache holds of `repo`, at its pin or else at the commit that "main" was when it was last fetched.

    None where nothing of it is here. Asks no network. Raises FileNotFoundError where the repository has no weights
    in a format that is read.
    """
    folder = here(repo, revisions.revision(repo))
    if folder is None:
        return None
    listed, known = listing(repo, folder)
    index = listed.get(repo_files.INDEX)
    if known and index and fault(folder / repo_files.INDEX, index):
        return Snapshot(repo, folder.name, folder, (index,))  # until that is mended, the rest is not known
    try:
        choice = repo_files.choose(listed, model_index(folder), variant=variant, pickled=pickled)
    except (FileNotFoundError, ValueError):
        if known:
            raise
        return None  # half a download of an older huggingface_hub
    files = tuple(listed[name] for name in choice.files)
    return Snapshot(repo, folder.name, folder, files, choice.variant, known)


def here(repo: str, revision: str | None) -> Path | None:
    """The folder of `repo` in the Hub cache, with something in it; None where it is not there."""
    from huggingface_hub import try_to_load_from_cache

    for name in (repo_files.INDEX, "config.json"):
        path = try_to_load_from_cache(repo, name, revision=revision)
        if isinstance(path, str):
            return Path(path).parent
    return None


def listing(repo: str, folder: Path) -> tuple[dict[str, File], bool]:
    """The files of a commit as the Hub listed them, and True; without that list what lies in `folder`, and False."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        noted = json.loads(_record(repo, folder.name).read_text(encoding="utf-8"))
        return {path: File(path, *facts) for path, facts in noted.items()}, True
    except (OSError, ValueError, TypeError):  # another program fetched it: it notes no hashes, but names blobs by them
        pass
    try:
        sizes = {file.path: file.size for file in get_cached_repo_tree(repo, revision=folder.name)}
        known = True
    except CachedRepoTreeNotFoundError:
        paths = [path for path in folder.rglob("*") if path.is_file()]
        sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
        known = False
    return {path: File(path, size, named_by_hash(folder / path)) for path, size in sizes.items()}, known


def record(repo: str, commit: str, files: Mapping[str, File]) -> None:
    """Keep what the Hub says of a commit's files, for `listing`."""
    file = _record(repo, commit)
    file.parent.mkdir(parents=True, exist_ok=True)
    _replace(file, {path: [one.size, one.digest] for path, one in files.items()})


def named_by_hash(path: Path) -> str:
    """The hash that a file of the Hub cache is stored under; "" where it is no link, and so has no such name."""
    blob = path.resolve().name
    return blob if len(blob) in (40, 64) and set(blob) <= set("0123456789abcdef") else ""


def model_index(folder: Path) -> dict[str, Any] | None:
    """The contents of model_index.json; None for a single model, which has none."""
    file = folder / repo_files.INDEX
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def fault(path: Path, wanted: File, *, hashes: bool = True) -> str:
    """What is wrong with the file at `path`: "missing", "cut short", "altered", or nothing."""
    if not path.is_file():
        return "missing"
    size = path.stat().st_size
    if size != wanted.size:
        return "cut short" if size < wanted.size else "altered"
    if not hashes:
        return ""
    if not wanted.digest:
        return "" if path.suffix != ".safetensors" or _has_whole_header(path) else "altered"
    mark = _mark(path)
    if _marks().get(str(path.resolve())) == [wanted.digest, *mark]:
        return ""
    if digest(path, wanted.digest) != wanted.digest:
        return "altered"
    vouch({path: wanted.digest})
    return ""


def digest(path: Path, like: str) -> str:
    """The file's hash of the kind that `like` is: sha256 (64 digits), or git's (40), which counts the size too."""
    with path.open("rb") as stream:
        if len(like) == 64:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        git = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        git.update(stream.read())
        return git.hexdigest()


def vouch(checked: Mapping[Path, str]) -> None:
    """Remember that these files have these hashes, for as long as nobody touches them."""
    marks = _marks() | {str(path.resolve()): [digest, *_mark(path)] for path, digest in checked.items()}
    marks = {path: mark for path, mark in marks.items() if Path(path).is_file()}
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        _replace(cache_folder() / CHECKED, marks)
    except OSError:  # then it is hashed again next time
        pass


def discard(paths: Iterable[Path]) -> None:
    """Take files out of the cache, with the blobs that they point to."""
    for path in paths:
        target = path.resolve()
        path.unlink(missing_ok=True)
        target.unlink(missing_ok=True)


def _record(repo: str, commit: str) -> Path:
    return cache_folder() / "hub" / repo.replace("/", "--") / f"{commit}.json"


def _replace(file: Path, contents: Any) -> None:
    """Write JSON in one step: nobody reads half of it."""
    draft = file.with_name(f"{file.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        draft.write_text(json.dumps(contents), encoding="utf-8")
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _marks() -> dict[str, list]:
    try:
        return json.loads((cache_folder() / CHECKED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _mark(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _has_whole_header(path: Path) -> bool:
    """Whether a safetensors file is as long as its own header says."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            return True
    except SafetensorError:
        return False
