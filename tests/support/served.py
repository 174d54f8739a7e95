"""A folder of pages on 127.0.0.1, whose server can break connections off and go away."""

from __future__ import annotations

import contextlib
import functools
import http.server
import importlib.util
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from docs.site import build


def require(*modules: str, npm: str) -> None:
    """Skip where the extra [site] or npm's packages are missing; fail where a skip must not pass for a success."""
    lacking = [module for module in modules if importlib.util.find_spec(module) is None]
    try:
        build.npm_package(npm)
    except FileNotFoundError as error:
        lacking.append(str(error))
    if lacking:
        stop = pytest.fail if os.environ.get("COURSE_REQUIRE_BROWSER") == "1" else pytest.skip
        stop(f"make test installs what the site needs; not here: {', '.join(lacking)}")


@dataclass
class Served:
    """`url` of the folder. cut: file name -> how many of its answers break off half-way. sent: bytes by file name."""

    url: str
    cut: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    ranges: list[str] = field(default_factory=list)


class _Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}
    served: Served

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        file = Path(self.translate_path(self.path))
        if file.is_dir():
            file /= "index.html"
        if not file.is_file():
            self.send_error(404)
            return
        data, start = file.read_bytes(), 0
        if wanted := self.headers.get("Range"):
            self.served.ranges.append(f"{file.name} {wanted}")
            start = int(wanted.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", self.guess_type(str(file)))
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        body = data[start:]
        if self.served.cut.get(file.name, 0) > 0:
            self.served.cut[file.name] -= 1
            body = body[: len(body) // 2]
            self.close_connection = True
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)
        self.served.sent[file.name] = self.served.sent.get(file.name, 0) + len(body)


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Served]:
    served = Served("")
    handler = type("Handler", (_Handler,), {"served": served})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    served.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
