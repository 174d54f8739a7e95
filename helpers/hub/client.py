"""Talk to the Hugging Face Hub, and turn its errors into words that say what to do.

Where it is comes from the environment's HF_ENDPOINT (a mirror), the cache from HF_HOME, the token from HF_TOKEN or
`hf auth login`: huggingface_hub reads all of them, and HF_HUB_OFFLINE too, when it is first imported.
"""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from helpers.common import paths

logger = logging.getLogger(__name__)

WAITS = (1.0, 3.0, 6.0)  # seconds between tries
TRANSIENT = {
    408: "timed out", 429: "reports too many requests", 500: "has an internal error", 502: "has an internal error",
    503: "is overloaded", 504: "timed out",
}  # fmt: skip
MARGIN = 200_000_000  # bytes that stay free on the disk
DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class HubError(OSError):
    """Something could not be fetched from the Hub; the message says why, and what to type.

    `unreachable`: the Hub as a whole does not answer, so there is no use in asking it for anything else.
    """

    unreachable = False


def endpoint() -> str:
    """The Hub's address: https://huggingface.co, or what HF_ENDPOINT says."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def offline() -> bool:
    """Whether HF_HUB_OFFLINE keeps huggingface_hub off the network."""
    from huggingface_hub import constants

    return constants.is_offline_mode()


def cache_folder() -> Path:
    """The folder where downloads are kept, shared with every other program that uses the Hub.

    ValueError where it lies in a home folder and none is known.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_CACHE.startswith("~"):
        raise ValueError(
            "no home folder is known here, and so no Hub cache. Set the environment's HF_HOME to a folder."
        )
    return paths.from_start(constants.HF_HUB_CACHE)


def check_room(size: int, *, name: str = "") -> None:
    """Raise HubError where the cache's disk has no room for `size` bytes more."""
    free = free_space()
    if size and size + MARGIN > free:
        raise HubError(
            f"{name and f'{name}: '}{size / 1e9:.2f} GB are needed in {cache_folder()}, and that disk has "
            f"{free / 1e9:.2f} GB free. Free some space, or set HF_HOME to a larger disk. Nothing was fetched."
        )


def free_space() -> int:
    """Bytes free on the disk of the Hub cache, which need not exist yet."""
    folder = cache_folder()
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


def repo_kwargs(repo: str, **more: Any) -> dict[str, Any]:
    """The arguments of huggingface_hub's functions for a repository as the course writes it: "datasets/owner/name"."""
    kind = "dataset" if repo.startswith("datasets/") else "model"
    return {"repo_id": repo.removeprefix("datasets/"), "repo_type": kind, **more}


@cache
def warn_once(text: str) -> None:
    """Log a warning the first time only."""
    logger.warning("%s", text)


def commit_of(repo: str, *, name: str = "", revision: str | None = None) -> str:
    """Ask the Hub for the commit that `revision` names, by default "main"; retried while it is overloaded.

    name: what `course download` is to be given. Raises HubError.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    waits = list(WAITS)
    with errors_in_words(repo, name):
        while True:
            try:
                return str(HfApi().repo_info(**repo_kwargs(repo, revision=revision)).sha)
            except HfHubHTTPError as error:
                reason = TRANSIENT.get(error.response.status_code)
                if not waits or not reason:
                    raise
                logger.warning("%s %s: trying again in %g s.", endpoint(), reason, waits[0])
                time.sleep(waits.pop(0))


@contextmanager
def errors_in_words(repo: str, name: str = "") -> Iterator[None]:
    """Raise the Hub's errors within as HubError; any other error passes through."""
    try:
        yield
    except Exception as error:
        found = to_hub_error(error, repo=repo, name=name)
        if found is error:
            raise
        raise found from error


def to_hub_error(error: Exception, *, repo: str, name: str = "") -> Exception:
    """`error` as a HubError that says what happened and what to do, or `error` itself if the Hub is not its cause."""
    from huggingface_hub import errors

    if isinstance(error, HubError):
        return error
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    answers = (errors.HfHubHTTPError, errors.OfflineModeIsEnabled)
    answer = next((one for one in chain if isinstance(one, answers)), error)
    status: Any = getattr(getattr(answer, "response", None), "status_code", None)
    kept_off = isinstance(answer, errors.OfflineModeIsEnabled)
    network = (errors.HTTPError, ConnectionError, TimeoutError)  # pyright: ignore[reportPrivateImportUsage]
    cut_off = status is None and not kept_off and any(isinstance(one, network) for one in chain)
    full = any(isinstance(one, OSError) and one.errno in DISK_FULL for one in chain)

    again, pin = f"course download {name}".strip(), f"course pin {name}".strip()
    mini, page = "Without it: the mini edition, use('mini').", f"{endpoint()}/{repo}"
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    texts = [
        (
            isinstance(answer, errors.GatedRepoError) or status == 403,
            f"{repo} is gated: its publisher asks you to accept conditions. Open {page}, log in and accept them, run "
            f"`hf auth login`, then: {again}. {mini}",
        ),
        (
            isinstance(answer, errors.RevisionNotFoundError),
            f"the pinned commit of {repo} no longer exists. Look for a new one: {pin}. {mini}",
        ),
        (
            isinstance(answer, errors.RepositoryNotFoundError) or status == 401,
            f"{repo} is gone from {endpoint()}, or private. Look at {page}; if it asks for a login, `hf auth login`, "
            f"then: {again}. If HF_ENDPOINT or HF_TOKEN is set and out of date, unset it. {mini}",
        ),
        (
            isinstance(answer, errors.EntryNotFoundError) and status == 404,
            f"{repo} has lost a file that it needs. Try its newest commit: {pin}. {mini}",
        ),
        (kept_off, f"HF_HUB_OFFLINE=1 is set, and {repo} is incomplete on this machine. Unset it, then: {again}"),
        (
            status in TRANSIENT,
            f"{endpoint()} {TRANSIENT.get(status or 0)} ({status}). Wait a few minutes, then: {again}",
        ),
        (status is not None, f"{endpoint()} refuses {repo} ({status}). Look at {page}, then: {again}"),
        (full, f"the disk of {cache_folder()} is full. Free space, or set HF_HOME to a larger disk, then: {again}"),
        (
            cut_off,
            f"{endpoint()} cannot be reached ({first_line}). Check the network, the proxy and HF_ENDPOINT, "
            f"then: {again}. {mini}",
        ),
    ]
    text = next((text for applies, text in texts if applies), None)
    if text is None:
        return error
    found = HubError(f"{name}: {text}" if name else text)
    found.unreachable = kept_off or cut_off
    return found
