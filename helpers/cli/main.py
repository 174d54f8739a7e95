"""The `course` command: look over the machine, copy, fetch, execute the chapters, measure a GPU."""

from __future__ import annotations

import argparse
import codecs
import io
import os
import sys
import unicodedata
from collections.abc import Sequence

from helpers.cli import copies, doctor, download, measure_gpu, models, notebook_runner

COMMANDS = (doctor, copies, models, notebook_runner, download, measure_gpu)  # each registers what it does

# What a console that is not UTF-8 shows instead, as Windows' does with `> file`.
PLAIN = {
    "✓": "+",
    "✗": "x",
    "–": "-",
    "—": "-",
    "…": "...",
    "×": "x",
    "→": "->",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 it failed, 2 it was asked for wrongly."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="course-plain")
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


def _plain(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that a stream's encoding lacks: an accent goes, others are written as \\u4e2d."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = [PLAIN.get(one, unicodedata.normalize("NFKD", one)) for one in error.object[error.start : error.end]]
    bare = "".join(one for one in "".join(letters) if not unicodedata.combining(one))
    return bare.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error("course-plain", _plain)


if __name__ == "__main__":
    sys.exit(main())
