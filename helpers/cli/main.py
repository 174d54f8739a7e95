"""The `course` command: look over the machine, fetch the full edition, execute the chapters, measure a GPU."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from helpers.cli import doctor, download, measure_gpu, models, notebook_runner
from helpers.hub.client import HubError

COMMANDS = (doctor, models, notebook_runner, download, measure_gpu)  # each registers what it does


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 it failed, 2 it was asked for wrongly."""
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
    except HubError as error:
        print(f"course {arguments.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ncourse {arguments.command}: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # course doctor | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
