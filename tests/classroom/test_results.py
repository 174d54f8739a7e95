"""What check() says reaches the teacher's table, once, under the learner's own name, whatever fails between."""

from __future__ import annotations

import csv
import threading
import time
import uuid

import pytest
import uvicorn
from starlette.testclient import TestClient

from classroom.door import SCOPE
from classroom.identity import from_hub
from classroom.results import Results, application
from helpers.exercises import check, reporting
from tests.classroom.serving import known


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path / "results.sqlite")


@pytest.fixture
def client(results):
    return TestClient(application(results, known))


def answer(exercise="01.1", passed=False, said="Too few.", at=0.0, **more):
    return {
        "key": uuid.uuid4().hex,
        "exercise": exercise,
        "passed": passed,
        "said": said,
        "answer": "3",
        "at": at,
    } | more


def post(client, learner, content):
    return client.post("/answers", json=content, headers={"Authorization": f"token {learner}"}).status_code


def test_the_table_counts_tries_time_and_the_commonest_hint(client, results) -> None:
    for one in (answer(at=0), answer(at=60, said="Too many."), answer(at=90, passed=True), answer(at=500)):
        assert post(client, "ada", one) == 200
    assert post(client, "ben", answer(at=10)) == 200
    rows = results.rows()
    assert [list(row.values()) for row in rows] == [
        ["ada", "01.1", True, 3, 1.5, "Too many."], ["ben", "01.1", False, 1, 0.0, "Too few."],
    ]  # fmt: skip
    [one] = results.by_exercise()
    assert one["solved"] == "1 of 2" and one["most common hint"] == "Too few."
    assert (one["tries"], one["minutes"]) == (2, 0.75)


def test_the_same_answer_twice_counts_once(client, results) -> None:
    same = answer()
    assert [post(client, "ada", same) for _ in range(3)] == [200] * 3
    assert results.rows()[0]["tries"] == 1


def test_nobody_answers_for_another_and_strangers_not_at_all(client, results) -> None:
    assert post(client, "ada", answer(learner="ben")) == 403
    assert post(client, "nobody", answer()) == 401
    assert client.post("/answers", json=answer()).status_code == 401
    for broken in ({}, [], answer(exercise="x"), answer(key="../x"), answer(passed="yes"), answer(at="now")):
        assert post(client, "ada", broken) == 422
    assert post(client, "ada", answer(said="x" * 30_000)) == 413
    assert results.rows() == []


def test_the_table_is_for_the_teacher_and_escapes_what_learners_wrote(client) -> None:
    post(client, "ada", answer(said="<script>alert(1)</script>"))
    post(client, "ada", answer(exercise="01.2", said="=HYPERLINK(1)"))
    as_teacher, as_learner = ({"Authorization": f"token {one}"} for one in ("teacher", "ada"))
    assert client.get("/", headers=as_learner).status_code == 403 and client.get("/table.csv").status_code == 401
    text = client.get("/", headers=as_teacher).text
    assert "<script>" not in text and "&lt;script&gt;" in text and "✗ 1" in text
    rows = list(csv.DictReader(client.get("/table.csv", headers=as_teacher).text.splitlines()))
    assert [row["last hint"] for row in rows] == ["<script>alert(1)</script>", "'=HYPERLINK(1)"]


def test_the_teachers_page_tells_how_the_engine_does(results) -> None:
    def away() -> dict:
        raise OSError

    told = {"replicas": 2, "images_a_minute": 14}
    for engine, expected in ((lambda: told, "<td>2</td><td>14</td>"), (away, "It does not answer.")):
        client = TestClient(application(results, known, engine=engine))
        text = client.get("/", headers={"Authorization": "token teacher"}).text
        assert "The engine" in text and expected in text
        assert client.get("/", headers={"Authorization": "token ada"}).status_code == 403


def test_a_class_posts_at_the_same_time(results) -> None:
    learners = [
        threading.Thread(target=lambda n=n: [results.add(f"l{n}", answer(at=i)) for i in range(10)]) for n in range(20)
    ]
    for one in learners:
        one.start()
    for one in learners:
        one.join()
    assert [row["tries"] for row in results.rows()] == [10] * 20


def test_check_answers_at_once_and_its_result_is_sent_when_the_hub_is_back(
    results, tmp_path, monkeypatch, free_port
) -> None:
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "ada")
    monkeypatch.setattr(reporting, "WAITS", (0.1,))
    assert not check("01.1", 1) and not (tmp_path / "cache" / "results").exists()  # no class is on
    monkeypatch.setenv(reporting.VARIABLE, f"http://127.0.0.1:{free_port}")
    start = time.monotonic()
    assert not check("01.1", 1)
    assert time.monotonic() - start < 1
    assert not reporting.wait(0.5)  # the hub is away
    server = uvicorn.Server(uvicorn.Config(application(results, known), port=free_port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert reporting.wait(20)
    finally:
        server.should_exit = True
        thread.join()
    [row] = results.rows()
    assert (row["learner"], row["exercise"], row["tries"]) == ("ada", "01.1", 1)


def test_a_disk_that_is_full_does_not_stop_check(monkeypatch, tmp_path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(reporting.VARIABLE, "http://127.0.0.1:9")
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "file"))
    assert not check("01.1", 1)


PAGE = {"kind": "service", "name": "results", "scopes": [SCOPE]}


def test_learners_stay_known_while_the_hub_is_restarted(monkeypatch) -> None:
    import asyncio

    from classroom import identity

    hub = {"up": True, "asked": 0}
    now = [0.0]
    model = {"kind": "user", "name": "ada", "admin": False, "groups": ["teachers"], "scopes": ["access:services"]}

    def ask(token):
        hub["asked"] += 1
        if not hub["up"]:
            raise OSError("the hub is away")
        return {"good": model, "service": model | {"kind": "service"}, "page": PAGE, "out": model | {"scopes": []}}.get(
            token
        )

    monkeypatch.setattr(identity, "monotonic", lambda: now[0])
    identify = from_hub(ask)

    def who(token):
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(identify(token))
        finally:
            loop.close()

    now[0] = 10_000.0
    assert who("good").name == "ada" and who("good").teacher and who("good").allowed
    assert hub["asked"] == 1
    assert who("page").teacher and who("service") is None and who("bad") is None and not who("out").allowed
    hub["up"] = False
    now[0] += 120
    assert who("good").name == "ada" and who("unheard") is None
    now[0] += identity.STALE
    assert who("good") is None


@pytest.fixture
def free_port():
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
