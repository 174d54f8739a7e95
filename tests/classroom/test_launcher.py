"""What `make class` does around the hub: tells when all answers, ends everything, starts a hub that died again."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time

import psutil
import pytest

from classroom import __main__ as launcher

HUB = """
import http.server, pathlib, signal, subprocess, sys

statuses = iter((404, 503, 401))  # as of a proxy whose hub is not there yet

class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status = next(statuses, 200)
        self.send_response(status)
        self.end_headers()
        if status == 401:
            pathlib.Path("answered").touch()

def start(*words):
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    return subprocess.Popen([sys.executable, "-c", stubborn, *words], start_new_session=True)

begun = [start("classroom.engine"), start("jupyterhub.singleuser")]
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Pages)
pathlib.Path("pids").write_text(" ".join(str(one.pid) for one in begun))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
server.serve_forever()
"""


@pytest.fixture
def port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def serve(tmp_path, port, monkeypatch):
    """Serve a hub that starts one service and one learner's server, which do not end when they are asked."""
    monkeypatch.setattr(launcher, "PATIENCE", 1.0)
    stopped, code, kept = threading.Event(), [], set()

    def served(script: str = HUB) -> tuple[threading.Thread, list]:
        command = [sys.executable, "-c", script, str(port)]
        arguments = (command, tmp_path, dict(os.environ), [f"http://127.0.0.1:{port}"], "all answers", kept, stopped)
        thread = threading.Thread(target=lambda: code.append(launcher._serve(*arguments)))
        thread.start()
        return thread, code

    yield served, stopped
    stopped.set()
    for one in begun(tmp_path) if (tmp_path / "pids").exists() else ():
        one.kill()


def begun(folder) -> list[psutil.Process]:
    found = []
    for pid in map(int, (folder / "pids").read_text().split()):
        try:
            found.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    return found


def until(true, seconds=30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def told(capsys, text) -> None:
    heard = ""

    def came() -> bool:
        nonlocal heard
        heard += capsys.readouterr().out
        return text in heard

    until(came)


def alive(one: psutil.Process) -> bool:
    return one.is_running() and one.status() != psutil.STATUS_ZOMBIE


def test_when_all_answers_it_is_told_and_stopping_leaves_no_process(serve, tmp_path, capsys) -> None:
    served, stopped = serve
    thread, code = served()
    told(capsys, "all answers")
    assert (tmp_path / "answered").exists()
    service, learner = begun(tmp_path)
    stopped.set()
    thread.join(30)
    assert code == [0] and not alive(service) and not alive(learner)
    told(capsys, "has ended")


def test_a_hub_that_dies_is_started_again_and_learners_go_on(serve, tmp_path, capsys) -> None:
    served, stopped = serve
    thread, code = served()
    told(capsys, "all answers")
    service, learner = begun(tmp_path)
    service.parent().send_signal(signal.SIGKILL)
    thread.join(30)
    assert code == [None] and not alive(service) and alive(learner)  # None: again
    thread, code = served()
    told(capsys, "all answers")
    stopped.set()
    thread.join(30)
    assert code == [None, 0] and not alive(learner)  # though another hub began it


def test_a_hub_that_cannot_start_is_not_tried_again(serve, capsys) -> None:
    served, _ = serve
    thread, code = served("raise SystemExit(3)")
    thread.join(30)
    assert code == [1] and "all answers" not in capsys.readouterr().out


def test_what_it_cannot_start_with_is_said_first(port, tmp_path, monkeypatch, capsys) -> None:
    def said(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["classroom", "--folder", str(tmp_path), "--port", str(port), *arguments])
        assert launcher.main() == 1
        return capsys.readouterr().err

    monkeypatch.setattr(launcher, "proxy", lambda: None)
    assert "npm install" in said()
    monkeypatch.setattr(launcher, "proxy", lambda: "proxy")
    assert "for tests" in said("--accounts", "dummy")
    with socket.create_server(("127.0.0.1", port)):
        assert f"Port {port} is in use" in said()
