"""A server of its own for each process of tests, although they all look for free ports at the same time."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

TAKEN = ("is already in use", "is not available")  # what Jupyter says of a port before it gives up


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def started(command: list[str], runtime: Path, *, seconds: float = 120, **process) -> Iterator[str]:
    """The address of a Jupyter server that runs meanwhile: on another port where somebody took the first one.

    runtime: its own JUPYTER_RUNTIME_DIR, where it says that it listens: what answers at the port may be another's.
    """
    deadline = time.monotonic() + seconds
    log = runtime.with_suffix(".log")
    while True:
        url = f"http://127.0.0.1:{(port := free_port())}/"
        with log.open("w") as output:
            server = subprocess.Popen([*command, f"--port={port}"], stdout=output, stderr=subprocess.STDOUT, **process)
        try:
            while server.poll() is None and time.monotonic() < deadline:
                if any(runtime.glob("jpserver-*.json")) and _answers(url):
                    yield url
                    return
                time.sleep(0.2)
        finally:
            _stop(server)
        said = log.read_text()
        if time.monotonic() > deadline or not any(words in said for words in TAKEN):
            raise RuntimeError(f"JupyterLab did not start:\n{said[-2000:]}")


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}api/status", timeout=5).close()
    except OSError:
        return False
    return True


def _stop(server: subprocess.Popen) -> None:
    server.terminate()
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()
