"""Pin the full edition to commits: data/pins.json says which revision of each Hub repository is loaded.

The file is shipped empty: nobody invents a hash. `course pin` asks the Hub and fills it; what has no pin is loaded from
"main". Keys are Hub ids; a data set's begins with "datasets/".
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from helpers.catalog import checkpoints
from helpers.catalog.checkpoints import CATALOG

COMMIT = re.compile(r"[0-9a-f]{40}")


def file() -> Path:
    """Where the pins are kept."""
    return checkpoints.DATA / "pins.json"


def read() -> dict[str, str]:
    """Repository -> commit; empty where nothing is pinned.

    Raises ValueError for a file that is not what `write` writes: a pin is a full commit hash, never a branch.
    """
    try:
        pins = json.loads(file().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{file()} is not valid JSON ({error}). Write it anew: course pin") from error
    if not isinstance(pins, dict):
        raise ValueError(f"{file()} holds {type(pins).__name__}, expected repositories and commits: course pin")
    for repo, commit in pins.items():
        if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
            raise ValueError(
                f"{file()}: the pin of {repo} is {commit!r}; expected a commit, 40 hexadecimal digits. "
                "Remove that line, or write the file anew: course pin"
            )
    return pins


def revision(repo: str) -> str | None:
    """The commit that `repo` is pinned to, or None: then its main branch is meant."""
    return read().get(repo)


def write(pins: dict[str, str]) -> bool:
    """Write all pins, sorted, in one step; whether the file changed."""
    text = json.dumps(dict(sorted(pins.items())), indent=2) + "\n"
    target = file()
    if target.is_file() and target.read_text(encoding="utf-8") == text:
        return False
    draft = target.with_name(target.name + ".part")
    draft.write_text(text, encoding="utf-8", newline="\n")
    os.replace(draft, target)
    return True


def repositories(names: Iterable[str] = CATALOG) -> dict[str, str]:
    """Every Hub repository that these checkpoints are read from -> the course name it belongs to."""
    found: dict[str, str] = {}
    for name in names:
        for repo in CATALOG[name].repositories:
            found.setdefault(repo, name)
    return found
