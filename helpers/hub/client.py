"""Talk to the Hugging Face Hub: patiently, and with errors that say what to do.

Where it is comes from the environment's HF_ENDPOINT (a mirror), the cache from HF_HOME, the token from HF_TOKEN or
`hf auth login`: huggingface_hub reads all of them, and HF_HUB_OFFLINE too, when it is first imported.
"""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

WAITS = (1.0, 3.0, 6.0)  # seconds between tries
PASSING = {408: "took too long", 429: "says: too many requests", 500: "has an error", 502: "has an error"}
PASSING |= {503: "is overloaded", 504: "took too long"}
ROOM = 200_000_000  # bytes that stay free on the disk
_said: set[str] = set()
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class HubError(OSError):
    """What is wanted could not be had from the Hub; the message says why, and what to type.

    `everywhere`: the Hub as a whole is out of reach, so that there is no use in asking for anything else.
    """

    everywhere = False


def endpoint() -> str:
    """The Hub's address: https://huggingface.co, or what HF_ENDPOINT says."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def offline() -> bool:
    """Whether HF_HUB_OFFLINE keeps huggingface_hub off the network."""
    from huggingface_hub import constants

    return constants.is_offline_mode()


def cache() -> Path:
    """The folder where downloads are kept, shared with every other program that uses the Hub."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def check_room(size: int, *, name: str = "") -> None:
    """Raise HubError where the cache's disk has no room for `size` bytes more."""
    free = free_space()
    if size and size + ROOM > free:
        raise HubError(
            f"{name and f'{name}: '}{size / 1e9:.2f} GB are to be fetched into {cache()}, and that disk has "
            f"{free / 1e9:.2f} GB free. Free some space, or set HF_HOME to a larger disk. Nothing was fetched."
        )


def free_space() -> int:
    """Bytes free on the disk of the Hub cache, which need not exist yet."""
    place = cache()
    return shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.exists())).free


def amount_of(size: float) -> str:
    """Bytes in the unit that people buy disks in: "2.1 GB", "720 MB", "0.4 MB"."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{max(size / 1e6, 0.1 if size else 0):.1f} MB"


def split(repo: str) -> dict[str, str]:
    """The arguments of huggingface_hub's functions for a repository as the course writes it: "datasets/owner/name"."""
    kind = "dataset" if repo.startswith("datasets/") else "model"
    return {"repo_id": repo.removeprefix("datasets/"), "repo_type": kind}


def say_once(text: str) -> None:
    """Tell the reader something that would tire them the second time."""
    if text not in _said:
        _said.add(text)
        logger.warning("%s", text)


def patiently(action: Callable[[], Result], *, repo: str, name: str = "") -> Result:
    """What `action` returns; it is tried again where the Hub's trouble passes by itself.

    repo: the repository in question; name: what `course download` is to be given. Raises HubError.
    """
    waits = list(WAITS)
    while True:
        try:
            return action()
        except Exception as error:
            status = _status(error)
            if not waits or not (status in PASSING or status is None and _is_connection(error)):
                raise explain(error, repo=repo, name=name) from error
            wait = waits.pop(0)
            what = f"{endpoint()} {PASSING[status]} ({status})" if status else f"{endpoint()} does not answer"
            logger.warning("%s: trying again in %g s.", what, wait)
            time.sleep(wait)


def explain(error: Exception, *, repo: str, name: str = "") -> Exception:
    """`error` as a HubError that says what happened and what to do; as it is where it has nothing to do with that."""
    from huggingface_hub import errors

    again = f"course download {name}".strip()
    mini = "Without it: the mini edition, use('mini')."
    if isinstance(error, HubError):
        return error
    error, status = _answer(error), _status(error)
    page = f"{endpoint()}/{repo}"
    if isinstance(error, errors.GatedRepoError) or status == 403:
        text = (
            f"{repo} is gated: its publisher wants its conditions accepted. Open {page}, log in and accept, then "
            f"`hf auth login`, then: {again}. {mini}"
        )
    elif isinstance(error, errors.RevisionNotFoundError):
        text = f"{repo} has no such commit any more. Look for a new one: course pin {name}".strip() + f". {mini}"
    elif isinstance(error, errors.RepositoryNotFoundError) or status == 401:
        text = (
            f"{repo} is gone from {endpoint()}, or private. Look at {page}; if it wants a login, `hf auth login`, "
            f"then: {again}. If HF_ENDPOINT or HF_TOKEN is set and out of date, unset it. {mini}"
        )
    elif isinstance(error, errors.EntryNotFoundError) and status == 404:
        text = f"{repo} lacks a file that it lists. Try its newest commit: course pin {name}".strip() + f". {mini}"
    elif isinstance(error, errors.OfflineModeIsEnabled):
        text = f"HF_HUB_OFFLINE=1 keeps off the Hub, and {repo} is not whole on this machine. Unset it, then: {again}"
    elif status in PASSING:
        text = f"{endpoint()} {PASSING[status]} ({status}), again and again. Wait a few minutes, then: {again}"
    elif status is not None:
        text = f"{endpoint()} refuses {repo} ({status}). Look at {page}, then: {again}"
    elif isinstance(error, OSError) and error.errno in FULL:
        text = f"the disk of {cache()} is full. Free some space, or set HF_HOME to a larger disk, then: {again}"
    elif _is_connection(error):
        text = (
            f"{endpoint()} cannot be reached ({_first_line(error)}). Check the network, the proxy and HF_ENDPOINT, "
            f"then: {again}. {mini}"
        )
    else:
        return error
    found = HubError(f"{name}: {text}" if name else text)
    found.everywhere = isinstance(error, errors.OfflineModeIsEnabled) or _is_connection(error)
    return found


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _answer(error: Exception) -> Exception:
    """What the Hub itself said, where huggingface_hub wrapped that into an error about its cache."""
    from huggingface_hub import errors

    kinds = (errors.HfHubHTTPError, errors.OfflineModeIsEnabled)
    return next((one for one in _chain(error) if isinstance(one, kinds)), error)


def _status(error: Exception) -> int | None:
    """The HTTP status behind an error, if an answer came at all."""
    answers = [one.response for one in _chain(error) if getattr(one, "response", None) is not None]
    return answers[0].status_code if answers else None


def _is_connection(error: Exception) -> bool:
    from huggingface_hub import errors

    if isinstance(_answer(error), (errors.OfflineModeIsEnabled, errors.HfHubHTTPError)):
        return False
    return any(isinstance(one, (errors.HTTPError, ConnectionError, TimeoutError)) for one in _chain(error))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
