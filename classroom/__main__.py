"""`make class`: the hub, the engine and the results on this machine, and what to do next."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil

from helpers.common.paths import ROOT

SERVICES = ("classroom.engine", "classroom.results", "jupyterhub_idle_culler")  # which the hub starts
PATIENCE = 30.0  # seconds that a process may take to end before it is killed

NEXT = """
The class is at   http://127.0.0.1:{port}
The results at    http://127.0.0.1:{port}/services/results/     (for: {teachers})

It listens on this machine alone. Before a class uses it (docs/classroom.md):
  1. accounts   each learner an account of this machine (--accounts pam), or --accounts native
  2. TLS        a proxy such as Caddy or nginx with a certificate, before port {port}
  3. firewall   only that proxy's port is open; never the engine's, nor Ray's
Ctrl+C ends the class: the hub, the engine and every learner's server.
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m classroom", description="Start a class on this machine.")
    parser.add_argument("--port", type=int, default=8000, help="of the hub; the four after it are used as well")
    parser.add_argument("--accounts", choices=("pam", "native", "dummy"), default="pam")
    parser.add_argument("--teachers", default=os.environ.get("USER", "teacher"), help="names, with commas between")
    parser.add_argument("--folder", type=Path, default=Path.home() / ".inpainting-class", help="what the class keeps")
    parser.add_argument("--engine", default="", help='the engine\'s arguments, such as "--replicas 2 --threads 4"')
    asked = parser.parse_args()
    if proxy() is None:
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
        "COURSE_CLASS_PROXY": str(proxy()),
        "PYTHONPATH": str(ROOT),
    }
    print("The class is being started: half a minute, or more on a busy machine.", flush=True)
    command = [sys.executable, "-m", "jupyterhub", "-f", str(Path(__file__).with_name("jupyterhub_config.py"))]
    stopped = threading.Event()
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if one != signal.SIGHUP or signal.getsignal(one) != signal.SIG_IGN:  # nohup's
            signal.signal(one, lambda *_: stopped.set())
    ports = [asked.port, asked.port + 4, *([] if os.environ.get("COURSE_POOL") else [asked.port + 3])]
    if taken := [one for one in ports if _answers(one)]:
        print(f"Port {taken[0]} is in use: by a class that runs already? Else choose another --port.", file=sys.stderr)
        return 1
    told = NEXT.format(port=asked.port, teachers=asked.teachers)
    while (code := _serve(command, asked.folder, environment, ports, told, stopped)) is None:
        print("The hub ended, and is started again; learners' servers go on.", file=sys.stderr, flush=True)
    return code


def proxy() -> str | None:
    """The hub's proxy, of this machine or of the course's folder; None where there is none."""
    return shutil.which("configurable-http-proxy") or shutil.which(ROOT / "node_modules/.bin/configurable-http-proxy")


def _serve(
    command: list[str], folder: Path, environment: dict, ports: list[int], told: str, stopped: threading.Event
) -> int | None:
    """Run the hub until it ends or is stopped; None where it ended by itself after it had been up.

    `told` is printed once all of `ports` answer. What the hub began ends with it, but for learners' servers where the
    hub was not stopped.
    """
    process = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True)  # Ctrl+C comes here alone
    hub, services, up = psutil.Process(process.pid), set(), False
    while process.poll() is None and not stopped.wait(1):
        with contextlib.suppress(psutil.Error):
            services |= {one for one in hub.children() if any(name in one.cmdline() for name in SERVICES)}
        if not up and all(map(_answers, ports)):
            up = True
            print(told, flush=True)
    if stopped.is_set():
        with contextlib.suppress(psutil.NoSuchProcess):
            services |= set(hub.children(recursive=True))
        process.terminate()
        process.wait()
    _end(services, ask=not stopped.is_set())
    if stopped.is_set():
        print("The class has ended.", flush=True)
        return 0
    return None if up else 1


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _end(processes: set[psutil.Process], *, ask: bool) -> None:
    """Wait until they have ended, and kill what does not. ask: nobody has asked them to end before."""
    left = [one for one in processes if one.is_running()]
    for one in left if ask else ():
        with contextlib.suppress(psutil.NoSuchProcess):
            left += one.children(recursive=True)
            one.terminate()
    left = psutil.wait_procs(left, timeout=PATIENCE)[1]
    for one in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(left, timeout=PATIENCE)


if __name__ == "__main__":
    sys.exit(main())
