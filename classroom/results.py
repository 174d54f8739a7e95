"""Who solved what: `check()` posts here, the teacher reads a table.

A service of the hub: learners and teachers are known by the hub's tokens and logins alone, whatever a request says.

    POST answers       one answer of the learner who asks
    GET  .             the teacher's table; GET table.csv: the same as a file
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import html
import io
import json
import os
import re
import sqlite3
import statistics
import urllib.parse
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from classroom.door import Learner
from classroom.identity import Identify, from_hub

LONGEST = 20_000  # bytes of a posted answer
_FIELDS = {"key": str, "exercise": str, "passed": bool, "said": str, "answer": str, "at": (int, float)}
_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, learner TEXT NOT NULL, exercise TEXT NOT NULL, passed INTEGER NOT NULL,
    said TEXT NOT NULL, answer TEXT NOT NULL, at REAL NOT NULL
) STRICT
"""
COLUMNS = ("learner", "exercise", "solved", "tries", "minutes", "last hint")


class Results:
    """The answers in one SQLite file, which many processes may write to and read at a time (WAL)."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute(_TABLE)

    def add(self, learner: str, answer: dict[str, Any]) -> None:
        """Keep one answer; the same key again, as after a lost reply, changes nothing."""
        row = (answer["key"], learner, *(answer[name] for name in ("exercise", "passed", "said", "answer", "at")))
        with self._open() as database:
            database.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each learner and exercise, by `COLUMNS`; minutes: from the first try to the first right answer."""
        tries: dict[tuple[str, str], list[sqlite3.Row]] = defaultdict(list)
        for one in self._all():
            tries[one["learner"], one["exercise"]].append(one)
        return [_row(*who, given) for who, given in sorted(tries.items())]

    def by_exercise(self) -> list[dict[str, Any]]:
        """For each exercise: how many solved it, of those who tried, how fast, and what was wrong most often."""
        rows, wrong = defaultdict(list), defaultdict(Counter)
        for row in self.rows():
            rows[row["exercise"]].append(row)
        for one in self._all():
            if not one["passed"]:
                wrong[one["exercise"]][one["said"]] += 1
        return [
            {
                "exercise": exercise,
                "solved": f"{sum(row['solved'] for row in found)} of {len(found)}",
                "tries": statistics.median(row["tries"] for row in found),
                "minutes": statistics.median(row["minutes"] for row in found),
                "most common hint": next((said for said, _ in wrong[exercise].most_common(1)), ""),
            }
            for exercise, found in sorted(rows.items())
        ]

    def _all(self) -> list[sqlite3.Row]:
        with self._open() as database:
            return database.execute("SELECT * FROM answers ORDER BY at").fetchall()

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.file, timeout=10)) as database:
            database.row_factory = sqlite3.Row
            with database:
                yield database


def application(
    results: Results,
    identify: Identify,
    *,
    prefix: str = "/",
    login: Any = None,
    engine: Callable[[], dict[str, Any]] | None = None,
) -> Starlette:
    """The service. login: jupyterhub's HubOAuth, for browsers; None where tokens alone are known, as in tests.

    engine: how the engine does, as its GET /status says; OSError or ValueError where it does not answer.
    """

    async def visitor(request: Request) -> Learner | None:
        token = request.headers.get("Authorization", "").partition(" ")[2].strip()
        token = token or (request.cookies.get(login.cookie_name, "") if login else "")
        return await identify(token) if token else None

    async def post(request: Request) -> Response:
        learner = await visitor(request)
        if learner is None or "Authorization" not in request.headers:  # no other site's form posts for a visitor
            return _refused(401, "the hub does not know you.")
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > LONGEST:
                return _refused(413, f"an answer has at most {LONGEST} bytes.")
        answer = _answer(bytes(data))
        if answer is None:
            return _refused(422, "this is no answer to an exercise.")
        if answer.get("learner", learner.name) != learner.name:
            return _refused(403, f"you are {learner.name}, and answer for yourself alone.")
        await asyncio.to_thread(results.add, learner.name, answer)
        return JSONResponse({})

    async def table(request: Request) -> Response:
        teacher = await visitor(request)
        if teacher is None and login is not None:
            state = login.generate_state(next_url=request.url.path)
            response = RedirectResponse(f"{login.login_url}&state={urllib.parse.quote(state)}")
            response.set_cookie(login.state_cookie_name, state, httponly=True, samesite="lax")
            return response
        if teacher is None or not teacher.teacher:
            return _refused(401 if teacher is None else 403, "the results are for the teacher.")
        rows = await asyncio.to_thread(results.rows)
        if request.url.path.endswith(".csv"):
            headers = {"Content-Disposition": 'attachment; filename="results.csv"'}
            return Response(as_csv(rows), media_type="text/csv; charset=utf-8", headers=headers)
        state = "" if engine is None else await asyncio.to_thread(_state, engine)
        return HTMLResponse(page(rows, await asyncio.to_thread(results.by_exercise), state))

    async def logged_in(request: Request) -> Response:
        state, known = request.query_params.get("state"), request.cookies.get(login.state_cookie_name)
        if not state or state != known or "code" not in request.query_params:
            return _refused(403, "this login was not begun here: open the page again.")
        token = await asyncio.to_thread(login.token_for_code, request.query_params["code"])
        response = RedirectResponse(login.get_next_url(known) or prefix)
        response.set_cookie(login.cookie_name, token, httponly=True, samesite="lax", path=prefix)
        return response

    routes = [
        Route(f"{prefix}answers", post, methods=["POST"]),
        Route(f"{prefix}table.csv", table),
        Route(prefix, table),
    ]
    if login is not None:
        routes.append(Route(f"{prefix}oauth_callback", logged_in))
    return Starlette(routes=routes)


def _refused(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)


def _answer(data: bytes) -> dict[str, Any] | None:
    """The posted answer, None where it is none."""
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict) or not all(isinstance(answer.get(name), kind) for name, kind in _FIELDS.items()):
        return None
    fine = re.fullmatch(r"[0-9a-f]{32}", answer["key"]) and re.fullmatch(r"\d\d[a-z]?\.\d+", answer["exercise"])
    return answer if fine else None


def _row(learner: str, exercise: str, given: list[sqlite3.Row]) -> dict[str, Any]:
    right = next((place for place, one in enumerate(given) if one["passed"]), None)
    counted = given if right is None else given[: right + 1]
    wrong = [one["said"] for one in counted if not one["passed"]]
    minutes = round((counted[-1]["at"] - counted[0]["at"]) / 60, 1)
    values = (learner, exercise, right is not None, len(counted), minutes, wrong[-1] if wrong else "")
    return dict(zip(COLUMNS, values, strict=True))


def as_csv(rows: list[dict[str, Any]]) -> str:
    """The rows as CSV; what a spreadsheet would take for a formula begins with an apostrophe."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        plain = {
            key: f"'{value}" if str(value).startswith(("=", "+", "-", "@")) else value for key, value in row.items()
        }
        writer.writerow(plain)
    return text.getvalue()


def _state(engine: Callable[[], dict[str, Any]]) -> str:
    """How the engine does, as HTML."""
    try:
        told = engine()
    except (OSError, ValueError):
        return "<h2>The engine</h2><p>It does not answer.</p>"
    table = _table([name.replace("_", " ") for name in told], [list(told.values())])
    return (
        f"<h2>The engine</h2>{table}<p>Running and waiting: images now. Images, errors, refused calls, and calls that "
        "a replica lost when it ended: since the engine was started.</p>"
    )


def page(rows: list[dict[str, Any]], exercises: list[dict[str, Any]], state: str = "") -> str:
    """The teacher's page: learners by exercises, each exercise's most common hint, and how the engine does (HTML)."""
    names = [one["exercise"] for one in exercises]
    cells: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        cells[row["learner"]][row["exercise"]] = row
    body = [[learner, *(_cell(found.get(name)) for name in names)] for learner, found in cells.items()]
    details = [list(one.values()) for one in exercises]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Results</title><style>'
        "body{font:16px system-ui;margin:2em}table{border-collapse:collapse;margin:1em 0}"
        "th,td{border:1px solid #999;padding:.3em .6em;text-align:left}</style><h1>Results</h1>"
        '<p>✓ solved, ✗ not yet, with the number of tries. <a href="table.csv">As CSV</a>. Load this page again for '
        "newer answers; a learner appears with their first.</p>"
        f"{_table(['learner', *names], body)}<h2>Exercises</h2>"
        f"{_table(['exercise', 'solved', 'tries (median)', 'minutes (median)', 'most common hint'], details)}"
        f"<p>Minutes: from the first try to the first right answer, or to the last try so far.</p>{state}"
    )


def _cell(row: dict[str, Any] | None) -> str:
    return "" if row is None else f"{'✓' if row['solved'] else '✗'} {row['tries']}"


def _table(head: list[str], body: list[list[Any]]) -> str:
    def cells(tag: str, values: list[Any]) -> str:
        return "".join(f"<{tag}>{html.escape(str(value))}</{tag}>" for value in values)

    lines = "".join(f"<tr>{cells('td', row)}</tr>" for row in body)
    return f"<table><thead><tr>{cells('th', head)}</tr></thead><tbody>{lines}</tbody></table>"


def _ask_engine() -> dict[str, Any]:
    headers = {"Authorization": f"token {os.environ['JUPYTERHUB_API_TOKEN']}"}
    asked = urllib.request.Request(f"{os.environ['COURSE_POOL']}/status", headers=headers)
    with urllib.request.urlopen(asked, timeout=3) as answer:
        return json.load(answer)


def main() -> None:
    """Serve where the hub says, from the file that COURSE_RESULTS_FILE names."""
    import uvicorn
    from jupyterhub.services.auth import HubOAuth

    where = urllib.parse.urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
    results = Results(Path(os.environ["COURSE_RESULTS_FILE"]))
    app = application(
        results,
        from_hub(),
        prefix=os.environ["JUPYTERHUB_SERVICE_PREFIX"],
        login=HubOAuth(cache_max_age=60),
        engine=_ask_engine if "COURSE_POOL" in os.environ else None,
    )
    uvicorn.run(app, host=str(where.hostname), port=int(where.port or 0), log_level="warning")


if __name__ == "__main__":
    main()
