"""`python -m helpers` is the `course` command, for where the command itself is not on the path."""

import sys

from helpers.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
