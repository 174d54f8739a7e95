"""Tests side by side each get a server of their own; a small program stands in for Jupyter."""

from __future__ import annotations

import json
import socket
import sys
import textwrap
import urllib.request

import pytest

from tests.browser import server

# Says what Jupyter says, and as it does tells in its runtime folder that it listens.
STAND_IN = """
    import http.server, json, pathlib, sys
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'"mine"')
    port = int(sys.argv[-1].removeprefix("--port="))
    if "broken" in sys.argv:
        sys.exit("no module named jupyter")
    try:
        listening = http.server.HTTPServer(("127.0.0.1", port), Answer)
    except OSError:
        sys.exit(f"ERROR: the Jupyter server could not be started because port {port} is not available.")
    pathlib.Path(sys.argv[1], "jpserver-1.json").write_text("{}")
    listening.serve_forever()
"""


@pytest.fixture
def command(tmp_path) -> list[str]:
    (tmp_path / "runtime").mkdir()
    return [sys.executable, "-c", textwrap.dedent(STAND_IN), str(tmp_path / "runtime")]


def test_a_port_that_somebody_took_is_left_to_him(command, tmp_path, monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken, free = other.getsockname()[1], server.free_port()
        ports = iter([taken, free])
        monkeypatch.setattr(server, "free_port", lambda: next(ports))
        with server.started(command, tmp_path / "runtime") as url:
            assert url == f"http://127.0.0.1:{free}/"
            assert json.load(urllib.request.urlopen(url, timeout=30)) == "mine"
    with pytest.raises(OSError):
        urllib.request.urlopen(url, timeout=30)


def test_another_reason_not_to_start_is_told_at_once(command, tmp_path) -> None:
    with pytest.raises(RuntimeError, match="did not start:\nno module named jupyter"):
        with server.started([*command, "broken"], tmp_path / "runtime"):
            pass
