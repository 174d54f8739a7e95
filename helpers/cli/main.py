"""The `course` command: look over the machine, copy, fetch, execute the chapters, measure a GPU."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from helpers.cli import copies, doctor, download, measure_gpu, models, notebook_runner

COMMANDS = (doctor, copies, models, notebook_runner, download, measure_gpu)  # each registers what it does


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 it failed, 2 it was asked for wrongly."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="namereplace")  # on a console that is not UTF-8, as Windows' with `> file`
    description = "The inpainting course's own command."
    parser = argparse.ArgumentParser(prog="course", description=description, epilog="Start with: course doctor")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.register(commands)
    arguments = parser.parse_args(argv)
    try:
        return arguments.act(arguments)
    except (ValueError, FileNotFoundError) as error:
        print(f"course {arguments.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # course doctor | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a HubError, a file that cannot be written
        print(f"course {arguments.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ncourse {arguments.command}: stopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
