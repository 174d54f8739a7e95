"""A small Hub on 127.0.0.1: what huggingface_hub asks of the real one, and misbehaviour on request.

    with Hub() as hub:                                   # tests use the fixture `hub`, which serves every checkpoint
        hub.push("someone/model", {"config.json": b"{}", "model.safetensors": data})
        hub.url                                          # the client's HF_ENDPOINT
        hub.commit("someone/model")                      # what "main" points to; every older commit stays there
        hub.misbehave("cut", file="*.safetensors", times=1)
        hub.requests                                     # what was asked, each with .method .repo .file .sent
        hub.fetched("someone/model")                     # the files whose bytes were sent, in order
        hub.reset()                                      # no faults, nothing asked, later pushes undone

`push(repo, files, kind="datasets")` makes a data set. A value of `files` is bytes, or a function that makes them when
they are first asked for; None deletes. Large kinds of files (LARGE) are sent as the Hub sends them, by a redirect to
another server, with their sha256 as ETag; small ones carry git's hash. Ranges are honoured. A token is any string;
"Bearer hf_stranger" has no access to gated repositories, every other one has.

Faults (`misbehave(kind, repo=, file=, times=)`; patterns as in fnmatch; the first that fits counts down its `times`):

    gone        401 RepoNotFound, as the Hub answers for what was deleted or is private   (whole repositories)
    gated       metadata is open; 401 GatedRepo for files without a token, 403 with a stranger's
    forbidden   403 without an error code
    missing     404 EntryNotFound for these files
    no-revision 404 RevisionNotFound
    busy        429 with Retry-After: 1
    broken      500
    slow        `seconds` (0.05) between pieces of 16 KiB
    cut         the connection ends in the middle of the file
    short       half of the file, and a Content-Length that agrees
    altered     the right length, one byte in the middle changed

The last four need bytes to be sent: they count and act on GET only.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep  # by name: the tests' short waits are the client's, not the Hub's
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".ckpt", ".pt", ".msgpack", ".png", ".jpg", ".webp")
ON_BYTES = ("slow", "cut", "short", "altered")
STATUS = {
    "gone": (401, "RepoNotFound", "Repository not found"),
    "gated": (401, "GatedRepo", "Access to this model is restricted: log in and accept its conditions"),
    "forbidden": (403, "", "Forbidden"),
    "missing": (404, "EntryNotFound", "Entry not found"),
    "no-revision": (404, "RevisionNotFound", "Invalid rev id"),
    "busy": (429, "", "Too many requests"),
    "broken": (500, "", "Internal error"),
}
PIECE = 16 * 1024

Data = bytes | Callable[[], bytes]


@dataclass
class File:
    """One file of a commit; its bytes are made when they are first asked for."""

    data: Data

    @property
    def bytes(self) -> bytes:
        if callable(self.data):
            self.data = self.data()
        return self.data

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.bytes).hexdigest()

    @property
    def blob(self) -> str:
        """Git's own hash of the contents."""
        return hashlib.sha1(b"blob %d\0" % len(self.bytes) + self.bytes).hexdigest()


@dataclass
class Fault:
    kind: str
    repo: str = "*"
    file: str = "*"
    times: int | None = None
    seconds: float = 0.05


@dataclass
class Request:
    """What was asked and answered. `file` is None for questions about a repository."""

    method: str
    path: str
    repo: str = ""
    file: str | None = None
    sent: int = 0  # bytes of the body


@dataclass
class Repo:
    kind: str
    main: str = ""
    commits: dict[str, dict[str, File]] = field(default_factory=dict)


class Hub:
    """The server, in a thread of its own from `with` to the end of it; see the module."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self._lock = threading.RLock()
        self._kept: dict[str, tuple[str, list[str]]] = {}
        # Large files lie on a server of their own: the client follows redirects there on GET, and not on HEAD.
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), _Handler) for _ in range(2)]
        for server in self._servers:
            server.daemon_threads, server.hub = True, self
        self.url, self.store = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def __enter__(self) -> Hub:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def push(self, repo: str, files: Mapping[str, Data | None], *, kind: str = "models") -> str:
        """A new commit on "main": these files added or changed, those with None deleted. Returns its hash."""
        with self._lock:
            known = self.repos.setdefault(repo, Repo(kind))
            tree = dict(known.commits.get(known.main, {}))
            for path, data in files.items():
                tree.pop(path, None)
                if data is not None:
                    tree[path] = File(data)
            known.main = hashlib.sha1(f"{repo} {len(known.commits)}".encode()).hexdigest()
            known.commits[known.main] = dict(sorted(tree.items()))
            return known.main

    def commit(self, repo: str) -> str:
        return self.repos[repo].main

    def files(self, repo: str) -> dict[str, File]:
        """The files of "main" by path, each with .bytes and .sha256."""
        return self.repos[repo].commits[self.repos[repo].main]

    def misbehave(self, kind: str, **how: object) -> None:
        if kind not in (*STATUS, *ON_BYTES):
            raise ValueError(f"kind={kind!r}: expected one of {', '.join((*STATUS, *ON_BYTES))}.")
        self.faults.append(Fault(kind, **how))

    def fetched(self, repo: str = "*") -> list[str]:
        """The files of the repositories that fit, in the order in which their bytes were sent."""
        return [one.file for one in self.requests if one.method == "GET" and one.sent and one.file and
                fnmatch(one.repo, repo)]  # fmt: skip

    def keep(self) -> None:
        """Make the present repositories what `reset` comes back to."""
        self._kept = {name: (repo.main, list(repo.commits)) for name, repo in self.repos.items()}

    def reset(self) -> None:
        with self._lock:
            self.faults.clear()
            self.requests.clear()
            for name in [name for name in self.repos if name not in self._kept]:
                del self.repos[name]
            for name, (main, commits) in self._kept.items():
                repo = self.repos[name]
                repo.main, repo.commits = main, {commit: repo.commits[commit] for commit in commits}

    def fault(self, request: Request, kinds: tuple[str, ...]) -> Fault | None:
        """The first fault of these kinds that fits this request, its count lowered."""
        with self._lock:
            for fault in self.faults:
                if fault.kind not in kinds or fault.times == 0 or not fnmatch(request.repo, fault.repo):
                    continue
                if request.file is None and (fault.file != "*" or fault.kind in ("gated", "missing", "no-revision")):
                    continue
                if request.file is not None and not fnmatch(request.file, fault.file):
                    continue
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def hub(self) -> Hub:
        return self.server.hub

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, TimeoutError):  # the client went away: its own affair
            pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        self.request_log = Request(self.command, self.path)
        self.hub.requests.append(self.request_log)
        if parts[0] == "api" and len(parts) >= 4 and parts[1] in ("models", "datasets"):
            return self._about(parts[1], "/".join(parts[2:4]), parts[4:])
        kind, parts = ("datasets", parts[1:]) if parts[0] == "datasets" else ("models", parts)
        if parts[0] == "lfs":  # where large files lie: /lfs/<kind>/<owner>/<name>/<commit>/<path>
            return self._file(parts[1], "/".join(parts[2:4]), parts[4], "/".join(parts[5:]), direct=True)
        if len(parts) >= 5 and parts[2] == "resolve":
            return self._file(kind, "/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        self._send(404, {"error": "Sorry, we can't find the page you are looking for."})

    def _token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def _commit(self, kind: str, name: str, revision: str) -> tuple[str, dict[str, File]] | None:
        """The commit that a revision means, or None after the error was sent."""
        repo = self.hub.repos.get(name)
        if repo is None or repo.kind != kind:
            self._refuse("gone")
            return None
        commit = repo.main if revision == "main" else revision
        if commit not in repo.commits:
            self._refuse("no-revision")
            return None
        return commit, repo.commits[commit]

    def _about(self, kind: str, name: str, rest: list[str]) -> None:
        """Questions about a repository: what it is, and its whole tree, in one page."""
        self.request_log.repo = name
        if fault := self.hub.fault(self.request_log, tuple(STATUS)):
            return self._refuse(fault.kind)
        revision = rest[1] if len(rest) > 1 and rest[0] in ("revision", "tree") else "main"
        found = self._commit(kind, name, revision)
        if found is None:
            return None
        commit, tree = found
        if not rest or rest[0] == "revision":
            identity = {"id": name, "author": name.split("/")[0], "sha": commit, "private": False, "gated": False}
            state = {"tags": [], "downloads": 1, "likes": 1, "siblings": [{"rfilename": path} for path in tree]}
            return self._send(200, identity | state)
        if rest[0] == "tree":
            return self._send(200, [_entry(path, file) for path, file in tree.items()])
        return self._send(404, {"error": "Not found"})

    def _file(self, kind: str, name: str, revision: str, path: str, *, direct: bool = False) -> None:
        """HEAD or GET of one file; a large one is redirected once, to where `direct` is true."""
        self.request_log.repo, self.request_log.file = name, path
        if fault := None if direct else self.hub.fault(self.request_log, tuple(STATUS)):
            stranger = fault.kind == "gated" and self._token() == "hf_stranger"
            if fault.kind != "gated" or stranger or not self._token():
                return self._refuse(fault.kind, 403 if stranger else None)
        found = self._commit(kind, name, revision)
        if found is None:
            return None
        commit, tree = found
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if path not in tree:
            return self._refuse("missing", extra=headers)
        file = tree[path]
        if not path.endswith(LARGE):
            return self._bytes(file.bytes, headers | {"ETag": f'"{file.blob}"', "Content-Type": "text/plain"})
        if direct:
            return self._bytes(file.bytes, {"Accept-Ranges": "bytes", "ETag": f'"{file.sha256}"'})
        headers |= {"X-Linked-Size": str(len(file.bytes)), "X-Linked-ETag": f'"{file.sha256}"'}
        headers["Location"] = f"{self.hub.store}/lfs/{kind}/{name}/{commit}/{path}"
        return self._send(302, None, headers)

    def _bytes(self, data: bytes, headers: dict[str, str]) -> None:
        fault = self.hub.fault(self.request_log, ON_BYTES) if self.command == "GET" else None
        kind = fault.kind if fault else ""
        if kind == "altered" and data:
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]
        if kind == "short":
            data = data[: len(data) // 2]
        total, status = len(data), 200
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes="):
            start = int(asked.removeprefix("bytes=").partition("-")[0])  # all that the client asks for: the rest
            headers |= {"Content-Range": f"bytes {start}-{total - 1}/{total}"}
            data, status = data[start:], 206
        self._head(status, headers | {"Content-Length": str(len(data))})
        if self.command == "HEAD":
            return None
        if kind == "cut":
            data, self.close_connection = data[: len(data) // 2], True
        for i in range(0, len(data), PIECE):
            if kind == "slow":
                sleep(fault.seconds)
            self.request_log.sent += len(data[i : i + PIECE])  # first: who has it may look here at once
            self.wfile.write(data[i : i + PIECE])
        return None

    def _refuse(self, kind: str, status: int | None = None, extra: dict[str, str] | None = None) -> None:
        code, name, message = STATUS[kind]
        headers = {"X-Error-Message": message} | ({"X-Error-Code": name} if name else {}) | (extra or {})
        headers |= {"Retry-After": "1"} if kind == "busy" else {}
        self._send(status or code, {"error": message}, headers)

    def _send(self, status: int, answer: object, headers: dict[str, str] | None = None) -> None:
        data = b"" if answer is None else json.dumps(answer).encode()
        self._head(status, {"Content-Type": "application/json", "Content-Length": str(len(data))} | (headers or {}))
        if self.command != "HEAD":
            self.wfile.write(data)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _entry(path: str, file: File) -> dict:
    """A file as /tree describes it."""
    entry = {"type": "file", "oid": file.blob, "size": len(file.bytes), "path": path}
    if path.endswith(LARGE):
        entry["lfs"] = {"oid": file.sha256, "size": len(file.bytes), "pointerSize": 134}
    return entry
