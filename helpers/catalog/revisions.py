"""Pin the full edition to commits: data/pins.json says which revision of each Hub repository is loaded.

The file is shipped empty: nobody invents a hash. `course pin` asks the Hub and fills it; what has no pin is loaded from
"main". Keys are Hub ids; a data set's begins with "datasets/".
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from helpers.common import paths

COMMIT = re.compile(r"[0-9a-f]{40}")


def file() -> Path:
    """Where the pins are kept."""
    return paths.DATA / "pins.json"


def read() -> dict[str, str]:
    """Repository -> commit; empty where nothing is pinned.

    Raises ValueError for a file that is not what `write` writes: a pin is a full commit hash, never a branch.
    """
    if not file().is_file():
        return {}
    try:
        pins = json.loads(file().read_text(encoding="utf-8"))
        wrong = [f"the pin of {repo} is {pin!r}" for repo, pin in pins.items() if not COMMIT.fullmatch(str(pin))]
    except (ValueError, AttributeError) as error:
        wrong = [f"it is not a JSON object ({error})"]
    if wrong:
        raise ValueError(
            f"{file()}: {wrong[0]}; expected Hub ids and commits of 40 hexadecimal digits. Write it anew: course pin"
        )
    return pins


def revision(repo: str) -> str | None:
    """The commit that `repo` is pinned to, or None: then its main branch is meant."""
    return read().get(repo)


def write(pins: dict[str, str]) -> bool:
    """Write all pins, sorted, in one step; whether the file changed."""
    return paths.write_whole(file(), json.dumps(dict(sorted(pins.items())), indent=2) + "\n")
