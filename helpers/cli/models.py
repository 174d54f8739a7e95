"""`course models`: the catalogue as a table."""

from __future__ import annotations

import argparse

from helpers.hub import client, listing


def register(commands) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("models", help="every checkpoint: task, licence, sizes, and what is here already")
    parser.add_argument("names", nargs="*", metavar="NAME", help="sd15-inpaint, ...; default: all")
    parser.set_defaults(act=_models)


def _models(arguments: argparse.Namespace) -> int:
    print(listing.models(*arguments.names))
    print(f"The cache: {client.cache_folder()}")
    return 0
