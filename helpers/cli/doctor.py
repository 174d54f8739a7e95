"""`course doctor`: look over the machine, the packages and the checkpoints, and say what to type next."""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass, field
from importlib import metadata

from helpers.catalog import devices, editions, miniatures, revisions
from helpers.catalog.checkpoints import CATALOG, Checkpoint, repositories
from helpers.cli import download
from helpers.common import paths
from helpers.common.sizes import GIB, format_size
from helpers.common.table import Table
from helpers.hub import client, convert_pickles, guide_images, listing
from helpers.hub import download as hub_download

SIGNS = {"ok": "✓", "note": "!", "bad": "✗", "": " "}
TIMEOUT = 4  # seconds for the Hub's answer
ROOM = {"mini": 1, "full": 20}  # GiB free that the edition wants: its cache, or its downloads


def register(commands) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("doctor", help="what this machine has, what is missing, what to type next")
    parser.set_defaults(act=_doctor)


@dataclass
class Row:
    """One finding: `state` is "ok", "note" (worth knowing), "bad" (does not work so) or "" (a plain fact)."""

    label: str
    value: str
    state: str = ""


@dataclass(repr=False)
class Checkup:
    """What `doctor()` found: `sections` of rows, and the `next` command. Shows itself as a table in a notebook."""

    sections: dict[str, list[Row]] = field(default_factory=dict)
    next: str = ""

    @property
    def rows(self) -> list[Row]:
        return [row for rows in self.sections.values() for row in rows]

    @property
    def well(self) -> bool:
        """Whether nothing is "bad"."""
        return not any(row.state == "bad" for row in self.rows)

    @property
    def table(self) -> Table:
        """Every section's rows below its title; the next command below all."""
        cells = []
        for title, rows in self.sections.items():
            cells += [("", title, ""), *((SIGNS[row.state], row.label, row.value) for row in rows)]
        return Table(("", "", ""), cells, f"Next: {self.next}")

    def __repr__(self) -> str:
        return str(self.table)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def doctor() -> Checkup:
    """Find out in some seconds what this machine has, what is missing, and the next thing to do. Changes nothing."""
    packages = _packages()
    complete = all(row.state != "bad" for row in packages)
    try:
        edition = editions.edition()
        said = Row("in use", f"{edition}, {_EDITIONS[edition]}", "ok")
    except ValueError as error:
        edition, said = "mini", Row("in use", str(error), "bad")
    machine, has_gpu = _machine()
    sections = {
        "Machine": [*machine, *_disk(edition)],
        "Edition": [said],
        "Packages": packages,
    }
    fetch = ""
    if edition == "mini":
        sections["Checkpoints"] = _miniatures()
    else:
        sections["Packages"] = _brief(packages)
        sections["Hub"], sections["Checkpoints"], fetch = _full()
    checkup = Checkup(sections)
    checkup.next = _next(checkup, edition=edition, complete=complete, has_gpu=has_gpu, fetch=fetch)
    return checkup


_EDITIONS = {
    "mini": "miniatures on the CPU, nothing to download (COURSE_EDITION=full for the real checkpoints)",
    "full": "the real checkpoints from the Hugging Face Hub (COURSE_EDITION=mini for the miniatures)",
}


def _doctor(_: argparse.Namespace) -> int:
    checkup = doctor()
    print(checkup)
    return 0 if checkup.well else 1


def _machine() -> tuple[list[Row], bool]:
    """The machine's facts, and whether pipelines can run on something faster than its CPU."""
    old = sys.version_info < (3, 11)
    version = platform.python_version()
    python = Row("Python", f"{version}: the course needs 3.11", "bad") if old else Row("Python", version, "ok")
    try:
        facts, device = devices.describe(), devices.device()
    except (ImportError, OSError) as error:  # OSError: a library of torch's own does not load
        return [Row("system", platform.platform()), python, Row("torch", f"does not import: {error}", "bad")], False
    except ValueError as error:  # COURSE_DEVICE names what is not here
        return [Row("system", platform.platform()), python, Row("device", str(error), "bad")], False
    rows = [Row(label, value) for label, value in facts.items()]
    return [*rows, python, Row("fastest device", device, "ok")], device != "cpu"


def _disk(edition: str) -> list[Row]:
    variable = {"mini": "COURSE_CACHE", "full": "HF_HOME"}[edition]
    try:
        cache = paths.cache_folder() / "miniatures" if edition == "mini" else client.cache_folder()
    except ValueError as error:
        return [Row("disk", str(error), "bad")]
    there = next(folder for folder in (cache, *cache.parents) if os.path.lexists(folder))
    try:
        paths.try_writing(there)
        free = shutil.disk_usage(there).free / GIB
    except OSError as error:
        why = error.strerror or error
        return [Row("disk", f"{cache} cannot be written to ({why}): set {variable} to a folder that can be", "bad")]
    if free < ROOM[edition]:
        return [Row("disk", f"{free:.1f} GiB free for {cache}: the {edition} edition wants {ROOM[edition]}", "note")]
    return [Row("disk", f"{free:.0f} GiB free for {cache}", "ok")]


def pins() -> dict[str, str]:
    """Read constraints.txt: package -> the version that was tested; empty where the file is absent."""
    file = paths.ROOT / "constraints.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def needed() -> list[str]:
    """Read pyproject.toml: the packages that the course itself imports, in its order."""
    import tomllib

    file = paths.ROOT / "pyproject.toml"
    if not file.is_file():
        return []
    listed = tomllib.loads(file.read_text(encoding="utf-8"))["project"]["dependencies"]
    return [re.split(r"[^\w.-]", entry)[0] for entry in listed]


def _packages() -> list[Row]:
    tested = pins()
    rows = []
    for name in needed():
        wanted = tested.get(name, "")
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            rows.append(Row(name, f"missing (tested with {wanted})", "bad"))
            continue
        same = found.split("+")[0] == wanted  # 2.9.0+cpu is 2.9.0
        rows.append(Row(name, found if same else f"{found} (tested with {wanted})", "ok" if same else "note"))
    return [_torchvision(row) if row.label == "torchvision" else row for row in rows]


def _brief(rows: list[Row]) -> list[Row]:
    """What is in order in one line, so that the rest is on one screen with it."""
    fine = sum(row.state == "ok" for row in rows)
    return [Row("packages", f"{fine} as they were tested", "ok"), *(row for row in rows if row.state != "ok")]


def _torchvision(row: Row) -> Row:
    """A torchvision of another build than torch is installed well and fails at import; transformers falls with it."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        return Row(row.label, f"{row.value} does not fit this torch: install both from one index, see README", "bad")
    return row


def _miniatures() -> list[Row]:
    shipped = miniatures.recipes()
    if not shipped:
        return [Row("miniatures", f"none in {paths.MINIATURES}", "bad")]
    rows = []
    for name in shipped:
        try:
            miniatures.parts(name)
            rows.append(Row(name, "in place", "ok"))
        except (FileNotFoundError, ValueError) as error:
            rows.append(Row(name, str(error), "bad"))
    return rows


def _full() -> tuple[list[Row], list[Row], str]:
    """The Hub, the checkpoints, and the command that fetches what the chapters lack ("" where nothing lacks)."""
    from huggingface_hub import get_token

    sizes = listing.cached_sizes()
    used = sum(sizes.values())
    address, pins = _address(), _pins()
    rows = [
        address,
        Row("token", "yes" if get_token() else "none, and none is needed but for gated checkpoints (hf auth login)"),
        Row("cache", f"{client.cache_folder()}: {format_size(used) if used else 'nothing yet'} (HF_HOME moves it)"),
        pins,
    ]
    if pins.state == "bad":
        return rows, [], ""
    found = [*(_checkpoint(checkpoint, sizes) for checkpoint in CATALOG.values()), _pictures()]
    wanted = [name for name in download.resolve_names([]) if name not in CATALOG or not CATALOG[name].pickled]
    if all(row.state == "ok" for row in found if row.label in wanted):
        return rows, found, ""
    if address.state == "ok":
        return rows, found, "course download"
    return rows, found, f"{'unset HF_HUB_OFFLINE &&' if client.offline() else 'connect, then:'} course download"


def _address() -> Row:
    """Whether something can be fetched from the Hub now."""
    from huggingface_hub.utils import get_session

    if client.offline():
        return Row("address", "not asked: HF_HUB_OFFLINE=1 is set", "note")
    try:
        get_session().head(client.endpoint(), timeout=TIMEOUT)
    except Exception as error:  # whatever the network's libraries raise
        first_line = (str(error).splitlines() or [repr(error)])[0]
        return Row("address", f"{client.endpoint()} cannot be reached ({first_line})", "note")
    return Row("address", f"{client.endpoint()} answers", "ok")


def _pins() -> Row:
    """How many of the catalogue's repositories are pinned; "bad" where the file of pins cannot be used."""
    try:
        count = len(revisions.read())
    except ValueError as error:
        return Row("pins", str(error), "bad")
    of = len(repositories()) + len(guide_images.REPOSITORIES)
    none = f"none: each checkpoint's newest commit is taken ({revisions.file()})"
    return Row("pins", f"{count} of {of}" if count else none)


def _checkpoint(checkpoint: Checkpoint, sizes: dict[str, int]) -> Row:
    """What is here of a full checkpoint, by its files' sizes: gigabytes take long to hash (--verify does)."""
    name, about = checkpoint.name, format_size(checkpoint.download_size)
    if checkpoint.pickled:
        if copy := convert_pickles.converted(checkpoint):
            size = sum(file.stat().st_size for file in copy.rglob("*.*"))
            return Row(name, f"converted, {format_size(size)}", "ok")
        return Row(name, f"pickles only, about {about}: course download {name} --pickles converts them")
    found = [hub_download.find(repo, checkpoint) for repo in checkpoint.repositories]
    here = format_size(sum(sizes.get(repo, 0) for repo in checkpoint.repositories))
    if not any(found):
        return Row(name, f"not here, about {about}: {checkpoint.hub_id}")
    if not all(one and not one.missing for one in found):
        return Row(name, f"{here} of about {about} here", "note")
    pin = revisions.revision(checkpoint.hub_id)
    return Row(name, f"here, {here}{f', pinned to {pin[:12]}' if pin else ''}", "ok")


def _pictures() -> Row:
    if all(guide_images.cached(name) for name in guide_images.GUIDES):
        return Row("pictures", "the guides' own are here", "ok")
    return Row("pictures", "drawn ones are used instead of the guides' own")


def _next(checkup: Checkup, *, edition: str, complete: bool, has_gpu: bool, fetch: str) -> str:
    pip = "python -m pip install -c constraints.txt -e ."
    if not complete:
        return pip
    bad = [row for row in checkup.rows if row.state == "bad"]
    if any(row in checkup.sections["Edition"] for row in bad):
        return "unset COURSE_EDITION"
    if edition == "mini" and any(row in checkup.sections["Checkpoints"] for row in bad):
        return "git checkout -- data/miniatures"
    if bad:
        return f"mend what is marked {SIGNS['bad']} above, then: course doctor"
    if edition == "full" and not has_gpu:
        return "COURSE_EDITION=mini make lab  (without a GPU a real checkpoint takes minutes an image)"
    if fetch:
        return fetch
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        return "run the next cell."
    if shutil.which("make") and (paths.ROOT / "Makefile").is_file():
        return "make lab"
    return (
        "course copies, then: jupyter lab --ip=127.0.0.1 --LabApp.default_url=/lab/tree/my-notebooks/00_welcome.ipynb"
    )
