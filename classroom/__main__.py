"""`make class`: the hub, the engine and the results on this machine, and what to do next."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from helpers.common.paths import ROOT

NEXT = """
The class is at   http://127.0.0.1:{port}
The results at    http://127.0.0.1:{port}/services/results/     (for: {teachers})

It listens on this machine alone. Before a class uses it (docs/classroom.md):
  1. accounts   each learner an account of this machine (--accounts pam), or --accounts native
  2. TLS        a proxy such as Caddy or nginx with a certificate, before port {port}
  3. firewall   only that proxy's port is open; never the engine's, nor Ray's
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m classroom", description="Start a class on this machine.")
    parser.add_argument("--port", type=int, default=8000, help="of the hub; the four after it are used as well")
    parser.add_argument("--accounts", choices=("pam", "native", "dummy"), default="pam")
    parser.add_argument("--teachers", default=os.environ.get("USER", "teacher"), help="names, with commas between")
    parser.add_argument("--folder", type=Path, default=Path.home() / ".inpainting-class", help="what the class keeps")
    parser.add_argument("--engine", default="", help='the engine\'s arguments, such as "--replicas 2 --threads 4"')
    asked = parser.parse_args()
    local = ROOT / "node_modules/.bin/configurable-http-proxy"
    if shutil.which("configurable-http-proxy") is None and not local.exists():
        print(
            "The hub needs configurable-http-proxy. Run: npm install --no-save configurable-http-proxy@5",
            file=sys.stderr,
        )
        return 1
    if asked.accounts == "dummy" and "COURSE_CLASS_TEST_PASSWORD" not in os.environ:
        print("--accounts dummy is for tests: everybody would be one user.", file=sys.stderr)
        return 1
    asked.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = os.environ | {
        "COURSE_CLASS_PORT": str(asked.port),
        "COURSE_CLASS_FOLDER": str(asked.folder.absolute()),
        "COURSE_CLASS_ACCOUNTS": asked.accounts,
        "COURSE_CLASS_TEACHERS": asked.teachers,
        "COURSE_ENGINE": asked.engine,
        "PYTHONPATH": str(ROOT),
    }
    print(NEXT.format(port=asked.port, teachers=asked.teachers), flush=True)
    command = [sys.executable, "-m", "jupyterhub", "-f", str(Path(__file__).with_name("jupyterhub_config.py"))]
    return subprocess.call(command, cwd=asked.folder, env=environment)


if __name__ == "__main__":
    sys.exit(main())
