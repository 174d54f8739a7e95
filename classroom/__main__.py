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
import urllib.error
import urllib.request
from pathlib import Path

import psutil

from helpers.common.paths import ROOT

SERVICES = ("classroom.engine", "classroom.results", "jupyterhub_idle_culler")  # which the hub starts
PATIENCE = 30.0  # seconds that a process may take to end before it is killed

NEXT = """
The class is at   http://127.0.0.1:{port}
The results at    http://127.0.0.1:{port}/services/results/     (for: {teachers})

It listens on this machine alone. Before a class uses it (docs/classroom.md):
  1. accounts   {accounts}
  2. TLS        a proxy such as Caddy or nginx with a certificate, before port {port}
  3. firewall   only that proxy's port is open; never the engine's, nor Ray's
Ctrl+C ends the class: the hub, the engine and every learner's server.
"""
ACCOUNTS = {
    "pam": "each learner signs in with an account of this machine; or --accounts native",
    "native": "sign up at /hub/signup under the teacher's name now; later, let learners in at /hub/authorize",
    "dummy": "everybody is one Unix user",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m classroom", description="Start a class on this machine.")
    parser.add_argument("--port", type=int, default=8000, help="of the hub; the four after it are used as well")
    parser.add_argument("--accounts", choices=("pam", "native", "dummy"), default="pam")
    me = os.environ.get("SUDO_USER") or os.environ.get("USER", "teacher")
    parser.add_argument("--teachers", default=me, help="names, with commas between")
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
    if asked.accounts == "native" and os.geteuid() != 0:
        print("--accounts native makes a Unix account for each learner: start it as root.", file=sys.stderr)
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
    mine = {*range(asked.port, asked.port + 5)} - ({asked.port + 3} if os.environ.get("COURSE_POOL") else set())
    if taken := [one for one in sorted(mine) if _in_use(one)]:
        print(f"Port {taken[0]} is in use: by a class that runs already? Else choose another --port.", file=sys.stderr)
        return 1
    hub = f"http://127.0.0.1:{asked.port}"
    engine = os.environ.get("COURSE_POOL") or f"http://127.0.0.1:{asked.port + 3}"
    pages = [f"{hub}/hub/health", f"{hub}/services/results/", f"{engine}/status"]
    told = NEXT.format(port=asked.port, teachers=asked.teachers, accounts=ACCOUNTS[asked.accounts])
    begun: set[psutil.Process] = set()
    while (code := _serve(command, asked.folder, environment, pages, told, begun, stopped)) is None:
        print("The hub ended, and is started again; learners' servers go on.", file=sys.stderr, flush=True)
    return code


def proxy() -> str | None:
    """The hub's proxy, of this machine or of the course's folder; None where there is none."""
    return shutil.which("configurable-http-proxy") or shutil.which(ROOT / "node_modules/.bin/configurable-http-proxy")


def _serve(
    command: list[str],
    folder: Path,
    environment: dict[str, str],
    pages: list[str],
    told: str,
    begun: set[psutil.Process],
    stopped: threading.Event,
) -> int | None:
    """Run the hub until it ends or is stopped; None where it ended by itself after it had been up.

    `told` is printed once all of `pages` answer. begun: what hubs have started, this one and those before it. All of it
    ends with the hub where that was stopped; where the hub ended by itself, its services end, not learners' servers.
    """
    process = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True)  # Ctrl+C comes here alone
    hub, up = psutil.Process(process.pid), False
    while process.poll() is None and not stopped.wait(1):
        with contextlib.suppress(psutil.NoSuchProcess):
            begun |= set(hub.children())
        if not up and all(map(_answers, pages)):
            up = True
            print(told, flush=True)
    if not stopped.is_set():
        _end({one for one in begun if _is_service(one)})
        return None if up else 1
    with contextlib.suppress(psutil.NoSuchProcess):
        begun |= set(hub.children(recursive=True))
    process.terminate()
    process.wait()
    _end(begun, PATIENCE)
    print("The class has ended.", flush=True)
    return 0


def _is_service(one: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(name in one.cmdline() for name in SERVICES)
    return False


def _in_use(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _answers(page: str) -> bool:
    """Whether what serves this page is there; the hub's proxy says 404 or 503 where it is not yet."""
    try:
        with urllib.request.urlopen(page, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)
    except OSError:
        return False


def _end(processes: set[psutil.Process], leave: float = 0) -> None:
    """End these and what they began: after `leave` seconds in which they may do so by themselves, or are killed."""
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        left = psutil.wait_procs([one for one in processes if one.is_running()], timeout=leave)[1]
        for one in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                processes |= set(one.children(recursive=True))
                ask(one)
        leave = PATIENCE
    psutil.wait_procs(processes, timeout=PATIENCE)


if __name__ == "__main__":
    sys.exit(main())
