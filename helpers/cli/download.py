"""`course download` and `course pin`: say what it will take, ask, do it, and end with what to type next."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from helpers.catalog import checkpoints, revisions
from helpers.catalog.checkpoints import CATALOG, Checkpoint
from helpers.cli import notebook_runner
from helpers.common.sizes import format_size
from helpers.common.validation import did_you_mean
from helpers.hub import client, convert_pickles, download, guide_images
from helpers.hub.client import HubError

PICTURES = "pictures"


def register(commands) -> None:
    """Add both commands to the parser."""
    parser = commands.add_parser("download", help="fetch what the full edition reads; afterwards no network is needed")
    names = "01, 01_basics, sd15, pictures, …; default: what all the chapters use"
    parser.add_argument("names", nargs="*", metavar="CHAPTER|NAME", help=names)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--pickles", action="store_true", help="convert what is published as pickles only")
    parser.add_argument("--verify", action="store_true", help="compare what is here already with the Hub's hashes")
    parser.set_defaults(act=_download)

    parser = commands.add_parser("pin", help="write down the commit of every checkpoint, so that it stays the same one")
    parser.add_argument("names", nargs="*", metavar="CHAPTER|NAME", help="default: every checkpoint, and the pictures")
    parser.add_argument("--remove", action="store_true", help="take the pins away")
    parser.set_defaults(act=_pin)


def resolve_names(names: Sequence[str]) -> list[str]:
    """The checkpoints, and "pictures", that these names and chapters stand for; ValueError for an unknown one."""
    found: set[str] = set()
    for name in names or ["all"]:
        if name in CATALOG or name == PICTURES:
            found.add(name)
            continue
        try:
            chapters = {path.stem.split("_")[0] for path in notebook_runner.chapters([name])}
        except ValueError as error:
            known = [*CATALOG, PICTURES, "all", *(path.stem for path in notebook_runner.chapters())]
            raise ValueError(f"{name!r} is no checkpoint and no chapter. {did_you_mean(name, known)}") from error
        found |= {PICTURES, *(one.name for one in CATALOG.values() if chapters & set(one.chapters))}
    return sorted(found, key=[*CATALOG, PICTURES].index)


@dataclass
class DownloadItem:
    """One thing to fetch: a checkpoint, or the pictures. `size` is bytes still to come, None where nobody knows."""

    name: str
    what: str
    about: int  # bytes of the whole, by the catalogue
    size: int | None = None
    plans: list[download.DownloadPlan] = field(default_factory=list)
    problem: HubError | None = None
    left_out: bool = False

    def __str__(self) -> str:
        if self.left_out:
            amount = "left out"
        elif self.size is None:
            amount = f"about {format_size(self.about)}"
        else:
            amount = f"{format_size(self.size)} to fetch" if self.size else "here"
        return f"  {self.name:<18} {amount:<22} {self.what}"


def _download(arguments: argparse.Namespace) -> int:
    """Fetch, and say so; 0 when all of it is here, 1 when something lacks."""
    items: list[DownloadItem] = []
    for name in resolve_names(arguments.names):
        down = next((item.problem for item in items if item.problem and item.problem.unreachable), None)
        items.append(_pictures(down) if name == PICTURES else _item(CATALOG[name], down, pickles=arguments.pickles))
    print("HF_HUB_OFFLINE=1: nothing can be fetched." if client.offline() else f"From {client.endpoint()}:")
    print("\n".join(map(str, items)))
    for problem in dict.fromkeys(str(item.problem) for item in items if item.problem):
        print(f"✗ {problem}", file=sys.stderr)
    failed = any(item.problem for item in items)
    wanted = [item for item in items if item.size is not None and not item.problem]
    if total := sum(item.size or 0 for item in wanted):
        client.check_room(total)
        free = format_size(client.free_space())
        print(f"{format_size(total)} to fetch into {client.cache_folder()}; {free} are free there.")
        if not arguments.yes and not _confirmed("Fetch it?"):
            print("Nothing was fetched. To fetch without being asked: course download --yes", file=sys.stderr)
            return 1
    for item in wanted:
        try:
            _fetch(item, verify=arguments.verify)
            print(f"✓ {item.name}")
        except (OSError, ValueError) as error:
            print(f"✗ {error}", file=sys.stderr)
            failed = True
    if failed:
        return 1
    left = [item.name for item in items if item.left_out]
    but = f", but for {', '.join(left)}: pickles" if left else ""
    print(f"All of it works without a network now (HF_HUB_OFFLINE=1){but}. Next: COURSE_EDITION=full make lab")
    return 0


def _pictures(down: HubError | None) -> DownloadItem:
    here = all(guide_images.cached(guide) for guide in guide_images.GUIDES)
    item = DownloadItem(PICTURES, "the guides' own pictures", guide_images.SIZE, 0 if here else guide_images.SIZE)
    if down and not here:
        item.size, item.problem = None, down
    return item


def _item(checkpoint: Checkpoint, down: HubError | None, *, pickles: bool) -> DownloadItem:
    """What there is to fetch of a checkpoint. down: how the Hub was found out of reach; then it is not asked again."""
    item = DownloadItem(checkpoint.name, " + ".join(checkpoint.repositories), checkpoint.download_size)
    if checkpoint.pickled and convert_pickles.converted(checkpoint):
        item.size = 0
    elif checkpoint.pickled and not pickles:
        item.left_out = True
        item.what += ", as pickles only: course download --pickles converts them"
    else:
        try:
            if down:
                raise down
            item.plans = download.plan(checkpoint)
            item.size = sum(one.size for one in item.plans)
            item.size += sum(one.total for one in item.plans if checkpoint.pickled)  # the converted copy
        except HubError as error:
            found = [download.find(repo, checkpoint) for repo in checkpoint.repositories]
            here = not checkpoint.pickled and all(one and not one.missing for one in found)
            item.size, item.problem = (0, None) if here else (None, error)
    return item


def _fetch(item: DownloadItem, *, verify: bool) -> None:
    if item.name == PICTURES:
        for guide in guide_images.GUIDES:
            if not guide_images.cached(guide):
                guide_images.fetch(guide)
        return
    checkpoint = CATALOG[item.name]
    download.fetch(item.plans, verify=verify)
    for one in item.plans:
        download.warn_of_variant(checkpoint, one.snapshot)
        if checkpoint.pickled:
            convert_pickles.convert(checkpoint, one.snapshot.folder, one.snapshot.files)


def _pin(arguments: argparse.Namespace) -> int:
    """Write the commits that "main" is at now to data/pins.json; 1 when one could not be asked: it keeps its pin."""
    chosen = resolve_names(arguments.names) if arguments.names else [*CATALOG, PICTURES]
    repos = checkpoints.repositories(name for name in chosen if name != PICTURES)
    repos |= dict.fromkeys(guide_images.REPOSITORIES, PICTURES) if PICTURES in chosen else {}
    before, now, failed = revisions.read(), dict(revisions.read()), False
    for repo, name in repos.items():
        if arguments.remove:
            now.pop(repo, None)
            continue
        try:
            now[repo] = client.commit_of(repo, name=name)
        except HubError as error:
            print(f"✗ {error}", file=sys.stderr)
            failed = True
            if error.unreachable:
                break
            continue
        old = before.get(repo)
        news = "as before" if old == now[repo] else f"was {old[:12]}" if old else "new"
        print(f"  {repo:<56} {now[repo][:12]}  {news}")
    changed = revisions.write(now)
    print(f"{revisions.file()}: {len(now)} pins{'' if changed else ', as before'}.")
    if now != before:
        print("Next: course download")
    return 1 if failed else 0


def _confirmed(question: str) -> bool:
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False
