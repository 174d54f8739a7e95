"""The `course` command: look over the machine, fetch the full edition, and execute the chapters."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from helpers.catalog import editions
from helpers.hub.client import HubError

EPILOG = "Start with: course doctor"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 it failed, 2 it was asked for wrongly."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.act(arguments)
    except (ValueError, FileNotFoundError) as error:
        print(f"course {arguments.command}: {error}", file=sys.stderr)
        return 2
    except HubError as error:
        print(f"course {arguments.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ncourse {arguments.command}: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # course doctor | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="course", description="The inpainting course's own command.", epilog=EPILOG)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="what this machine has, what is missing, what to type next")
    doctor.set_defaults(act=_doctor)

    models = commands.add_parser("models", help="every checkpoint: task, licence, sizes, and what is here already")
    models.add_argument("names", nargs="*", metavar="NAME", help="sd15-inpaint, ...; default: all")
    models.set_defaults(act=_models)

    run = commands.add_parser("run", help="execute chapters without a browser and write their outputs back")
    names = "01, 01_basics, a path, or solutions; default: every chapter and solution"
    run.add_argument("chapters", nargs="*", metavar="CHAPTER", help=names)
    run.add_argument("--check", action="store_true", help="execute only: write nothing back")
    run.add_argument("--edition", choices=("mini", "full"), help="default: mini, as the committed outputs are")
    run.add_argument("--timeout", type=float, default=900, metavar="SECONDS", help="for one cell (default: 900)")
    run.set_defaults(act=_run)

    fetch = commands.add_parser("download", help="fetch what the full edition reads; afterwards no network is needed")
    names = "01, 01_basics, sd15, pictures, …; default: what all the chapters use"
    fetch.add_argument("names", nargs="*", metavar="CHAPTER|NAME", help=names)
    fetch.add_argument("--yes", action="store_true", help="do not ask")
    fetch.add_argument("--pickles", action="store_true", help="convert what is published as pickles only")
    fetch.set_defaults(act=_download)

    pin = commands.add_parser("pin", help="write down the commit of every checkpoint, so that it stays the same one")
    pin.add_argument("names", nargs="*", metavar="CHAPTER|NAME", help="default: every checkpoint, and the pictures")
    pin.add_argument("--remove", action="store_true", help="take the pins away")
    pin.set_defaults(act=_pin)
    return parser


def _doctor(arguments: argparse.Namespace) -> int:
    from helpers.cli.doctor import doctor

    checkup = doctor()
    print(checkup)
    return 0 if checkup.well else 1


def _models(arguments: argparse.Namespace) -> int:
    from helpers.hub.client import cache
    from helpers.hub.listing import models

    print(models(*arguments.names))
    print(f"The cache: {cache()}")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    from helpers.cli import notebook_runner

    if arguments.timeout <= 0:
        raise ValueError(f"--timeout={arguments.timeout:g}: expected seconds above 0.")
    arguments.edition = arguments.edition or _edition()
    paths = notebook_runner.chapters(arguments.chapters or ["all"])
    if not paths:
        raise FileNotFoundError(f"no chapters in {notebook_runner.NOTEBOOKS}. Restore them: git checkout -- notebooks")
    failures = _execute_all(paths, arguments)
    for failure in failures:
        print(f"\n{failure}", file=sys.stderr)
    if failures:
        print(f"\n{len(failures)} of {len(paths)} stopped; their files are as they were.", file=sys.stderr)
    return 1 if failures else 0


def _edition() -> str:
    """The miniatures, whose outputs are committed; ValueError where the environment asks for another edition."""

    if (wanted := editions.edition()) != "mini":
        raise ValueError(
            f"COURSE_EDITION={wanted} is set, but unless told otherwise this runs the mini edition, as the committed "
            f"outputs are. Say which one you mean: course run --edition mini, or --edition {wanted}."
        )
    return "mini"


def _download(arguments: argparse.Namespace) -> int:
    from helpers.cli import download

    return download.fetch(arguments.names, yes=arguments.yes, pickles=arguments.pickles)


def _pin(arguments: argparse.Namespace) -> int:
    from helpers.cli import download

    return download.pin(arguments.names, remove=arguments.remove)


def _execute_all(paths: list[Path], arguments: argparse.Namespace) -> list[Exception]:
    """Execute the notebooks under one progress bar that counts cells; a failing one does not keep back the rest."""
    from tqdm import tqdm

    from helpers.cli import notebook_runner

    cells = {path: len(notebook_runner.read(path).cells) for path in paths}
    failures: list[Exception] = []
    done = 0
    with tqdm(total=sum(cells.values()), unit="cell", dynamic_ncols=True) as bar:

        def advance(start: int):
            return lambda cell: bar.update(start + cell - bar.n)

        for path in paths:
            bar.set_description(notebook_runner.label(path))
            try:
                notebook = notebook_runner.execute(
                    path, edition=arguments.edition, timeout=arguments.timeout, on_cell=advance(done)
                )
            except notebook_runner.ChapterError as failure:
                failures.append(failure)
                bar.write(f"✗ {notebook_runner.label(path)}, cell [{failure.cell}]")
            else:
                changed = not arguments.check and notebook_runner.write(notebook, path)
                bar.write(f"✓ {notebook_runner.label(path)}" + (", outputs written" if changed else ""))
            done += cells[path]
            bar.update(done - bar.n)
    return failures


if __name__ == "__main__":
    sys.exit(main())
