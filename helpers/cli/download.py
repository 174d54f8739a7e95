"""What `course download` and `course pin` do: say what it will take, ask, do it, and end with what to type next."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from helpers.catalog import checkpoints, revisions
from helpers.catalog.checkpoints import CATALOG, Checkpoint
from helpers.cli import notebook_runner
from helpers.common.validation import did_you_mean
from helpers.hub import client, convert_pickles, download, guide_images, snapshots
from helpers.hub.client import HubError
from helpers.hub.download import Order
from helpers.pipelines.control_images import ESTIMATOR

PICTURES = "pictures"
ESTIMATES = {"depth_map", "depth_agreement"}  # these ask the depth estimator, and chapters do not name it


@dataclass
class Job:
    """One thing to fetch: a checkpoint, or the pictures. `size` is bytes still to come, None where nobody knows."""

    name: str
    what: str
    size: int | None = None
    about: int = 0  # the catalogue's own idea of the whole
    orders: list[Order] = field(default_factory=list)
    problem: HubError | None = None
    left_out: bool = False

    @property
    def row(self) -> str:
        if self.left_out:
            amount = "left out"
        elif self.size is None:
            amount = f"about {client.amount_of(self.about)}"
        else:
            amount = f"{client.amount_of(self.size)} to fetch" if self.size else "here"
        return f"  {self.name:<18} {amount:<22} {self.what}"


def fetch(names: Sequence[str] = (), *, yes: bool = False, pickles: bool = False) -> int:
    """Fetch what these chapters and checkpoints read, and say so; 0 when all of it is here, 1 when something lacks.

    names: course names of checkpoints, chapters, "pictures"; none: what all the chapters use. yes: do not ask.
    pickles: convert what is published as pickles only; without it that is left out.
    """
    jobs = _jobs(meant(names), pickles=pickles)
    print("HF_HUB_OFFLINE=1: nothing can be fetched." if client.offline() else f"From {client.endpoint()}:")
    print("\n".join(job.row for job in jobs))
    for problem in dict.fromkeys(str(job.problem) for job in jobs if job.problem):
        print(f"✗ {problem}", file=sys.stderr)
    lacking = [job for job in jobs if job.problem]
    total = sum(job.size for job in jobs if job.size and not job.problem)
    if total:
        client.check_room(total)
        print(
            f"{client.amount_of(total)} to fetch into {client.cache()}; "
            f"{client.amount_of(client.free_space())} are free there."
        )
        if not yes and not _agreed("Fetch it?"):
            print("Nothing was fetched. To fetch without being asked: course download --yes", file=sys.stderr)
            return 1
    for job in jobs:
        if job.size is not None and not job.problem:
            try:
                _do(job)
                print(f"✓ {job.name}")
            except (OSError, ValueError) as error:
                print(f"✗ {error}", file=sys.stderr)
                lacking.append(job)
    if lacking:
        return 1
    left = [job.name for job in jobs if job.left_out]
    but = f", but for {', '.join(left)}: pickles" if left else ""
    print(f"All of it works without a network now (HF_HUB_OFFLINE=1){but}. Next: COURSE_EDITION=full make lab")
    return 0


def pin(names: Sequence[str] = (), *, remove: bool = False) -> int:
    """Write the commit that each repository's "main" is at now to data/pins.json; 1 when one could not be asked.

    names: course names of checkpoints, "pictures", chapters; none: the whole catalogue. What cannot be asked keeps the
    pin it has. remove: take these pins away instead.
    """
    chosen = meant(names) if names else [*CATALOG, PICTURES]
    repos = checkpoints.repositories(name for name in chosen if name != PICTURES)
    repos |= dict.fromkeys(guide_images.REPOSITORIES, PICTURES) if PICTURES in chosen else {}
    before, now, failed = revisions.read(), dict(revisions.read()), False
    for repo, name in repos.items():
        if remove:
            now.pop(repo, None)
            continue
        try:
            now[repo] = _commit(repo, name)
        except HubError as error:
            print(f"✗ {error}", file=sys.stderr)
            failed = True
            if error.everywhere:
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


def meant(names: Sequence[str]) -> list[str]:
    """The checkpoints, and "pictures", that these names and chapters stand for; ValueError for an unknown one."""
    found: list[str] = []
    for name in names or ["all"]:
        if name in CATALOG or name == PICTURES:
            found.append(name)
            continue
        try:
            chapters = notebook_runner.chapters([name])
        except ValueError as error:
            known = [*CATALOG, PICTURES, "all", *(path.stem for path in notebook_runner.chapters())]
            raise ValueError(f"{name!r} is no checkpoint and no chapter. {did_you_mean(name, known)}") from error
        found += [one for chapter in chapters for one in needed(chapter)] + [PICTURES]
    order = [*CATALOG, PICTURES]
    return sorted(set(found), key=order.index)


def needed(chapter: Path) -> list[str]:
    """The checkpoints that a chapter loads: every course name that stands as a string in its code.

    The depth estimator is not named there: what uses `depth_map` or `depth_agreement` may need it.
    """
    cells = [cell.source for cell in notebook_runner.read(chapter).cells if cell.cell_type == "code"]
    lines = [line for cell in cells for line in cell.splitlines()]
    nodes = list(ast.walk(ast.parse("\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in lines))))
    words = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    used = {node.id if isinstance(node, ast.Name) else getattr(node, "attr", "") for node in nodes}
    return [name for name in CATALOG if name in words or (name == ESTIMATOR and used & ESTIMATES)]


def _jobs(names: Sequence[str], *, pickles: bool) -> list[Job]:
    """What there is to do for each name; after the Hub was found out of reach it is not asked again."""
    jobs: list[Job] = []
    for name in names:
        down = next((job.problem for job in jobs if job.problem and job.problem.everywhere), None)
        jobs.append(_picture_job(down) if name == PICTURES else _job(CATALOG[name], down, pickles=pickles))
    return jobs


def _picture_job(down: HubError | None) -> Job:
    here = all(guide_images.cached(guide) for guide in guide_images.GUIDES)
    job = Job(PICTURES, "the guides' own pictures", 0 if here else guide_images.SIZE, guide_images.SIZE)
    if down and not here:
        job.size, job.problem = None, down
    return job


def _job(checkpoint: Checkpoint, down: HubError | None, *, pickles: bool) -> Job:
    job = Job(checkpoint.name, " + ".join(checkpoint.repositories), about=checkpoint.download_size)
    if checkpoint.pickled and convert_pickles.converted(checkpoint):
        job.size = 0
        return job
    if checkpoint.pickled and not pickles:
        job.left_out = True
        job.what += ", as pickles only: course download --pickles converts them"
        return job
    try:
        if down:
            raise down
        job.orders = download.order(checkpoint)
        job.size = sum(one.size for one in job.orders)
        if checkpoint.pickled:  # the pickles and the copy
            job.size += sum(one.target.size for one in job.orders)
    except HubError as error:
        job.size = _without_hub(checkpoint)
        job.problem = None if job.size == 0 else error
    return job


def _without_hub(checkpoint: Checkpoint) -> int | None:
    """0 where all of a checkpoint is on this machine, as far as can be told without the Hub."""
    found = [snapshots.find(repo, variant=checkpoint.variant) for repo in checkpoint.repositories]
    return 0 if all(one and not one.faults() for one in found) else None


def _do(job: Job) -> None:
    if job.name == PICTURES:
        for guide in guide_images.GUIDES:
            guide_images.cached(guide) or guide_images.fetch(guide)
        return
    download.fetch(job.orders)
    checkpoint = CATALOG[job.name]
    variants = [one.target.variant for one in job.orders]
    if checkpoint.variant and variants and checkpoint.variant not in variants:
        download.say_variant(checkpoint)
    for one in job.orders if checkpoint.pickled else ():
        convert_pickles.convert(checkpoint, one.target)
        download.forget(one.target)


def _commit(repo: str, name: str) -> str:
    from huggingface_hub import HfApi

    return client.patiently(lambda: HfApi().repo_info(**client.split(repo)).sha, repo=repo, name=name)


def _agreed(question: str) -> bool:
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False
