"""Whose turn it is: first come first served, two images a learner, and a slow reader holds nobody up."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import socket
import time
import tracemalloc
import weakref

import pytest
from starlette.requests import Request

from classroom.door import FRAMES, Door, Line, Lost, Refused, _Stream
from tests.classroom.serving import known, serving


def refused(line, name, **more) -> int:
    with pytest.raises(Refused) as raised:
        line.enter(name, **more)
    assert raised.value.after >= 1
    return raised.value.status


def test_first_come_first_served_and_places_are_counted() -> None:
    line = Line(slots=2, each=2, most=10)
    tickets = [line.enter(name) for name in ("ada", "ben", "ada", "cem")]
    assert [one.turn.is_set() for one in tickets] == [True, True, False, False]
    assert [line.before(one) for one in tickets] == [0, 0, 0, 1]
    assert refused(line, "ada") == 429
    line.leave(tickets[1])
    line.leave(tickets[1])
    assert [one.turn.is_set() for one in tickets] == [True, True, True, False]
    line.leave(tickets[3])  # its learner went away while it waited
    line.leave(tickets[0])
    assert len(line.running) == 1 and not line.waiting


def test_the_line_is_bounded_and_the_teacher_may_have_more() -> None:
    line = Line(slots=1, each=2, most=3)
    for name in ("ada", "ben", "cem", "dora"):
        line.enter(name)
    assert refused(line, "emil") == 503
    line.leave(next(iter(line.running)))
    assert refused(line, "ada") == 503  # the place is kept for emil
    line.enter("emil")
    assert refused(line, "emil", each=4) == 503


def test_the_refused_have_their_turn_before_those_who_ask_again(monkeypatch) -> None:
    now, learners, images = 0, 40, 5
    monkeypatch.setattr("classroom.door.time.monotonic", lambda: now)
    line = Line(slots=2, each=2, most=8)
    line.seconds = 1.0  # and so long an image takes
    made, asks, tickets = dict.fromkeys(range(learners), 0), dict.fromkeys(range(learners), 0.0), {}
    while sum(made.values()) < learners * images:
        for number, due in sorted(asks.items(), key=lambda one: one[1]):
            if due <= now:
                try:
                    tickets[line.enter(str(number))] = number
                    del asks[number]
                except Refused as error:
                    asks[number] = now + math.ceil(error.after)
        now += 1
        for ticket in list(line.running):
            line.leave(ticket)
            made[number := tickets.pop(ticket)] += 1
            if made[number] < images:
                asks[number] = 0.0  # at once, before all others
        assert max(made.values()) - min(made.values()) <= 2
    assert now <= learners * images / 2 + 2  # and no replica was idle


def test_a_place_is_kept_for_a_while_and_never_leaves_a_replica_idle(monkeypatch) -> None:
    now = 0.0
    monkeypatch.setattr("classroom.door.time.monotonic", lambda: now)
    line = Line(slots=1, each=1, most=1)
    tickets = [line.enter(name) for name in ("ada", "ben")]
    for name in ("cem", "dora"):
        assert refused(line, name) == 503
    line.leave(tickets[0])  # ben's turn
    line.enter("emil")  # nobody waits
    assert refused(line, "fay") == 503 and list(line.promised) == ["cem", "dora", "fay"]
    now = 60.0
    assert refused(line, "gil") == 503 and list(line.promised) == ["gil"]


class Quick:
    """An engine that makes nothing of many steps. most: how many calls it had at a time."""

    def __init__(self, replicas: int, steps: int) -> None:
        self.replicas, self.steps, self.now, self.most = replicas, steps, 0, 0

    async def describe(self, wanted):
        return {}

    async def call(self, request):
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            for step in range(self.steps):
                await asyncio.sleep(0)
                yield {"step": step}
            yield {"output": request["number"]}
        finally:
            self.now -= 1


def test_two_hundred_learners_on_two_replicas_all_get_their_image() -> None:
    engine = Quick(2, 3)
    door = Door(engine, known, waiting=64)
    order, refusals, longest = [], 0, 0

    async def learner(number: int) -> None:
        nonlocal refusals, longest
        while True:
            try:
                ticket = door.line.enter(f"learner {number}")
            except Refused as error:
                assert error.status == 503
                refusals += 1
                await asyncio.sleep(0.01)
                continue
            longest = max(longest, len(door.line.waiting))
            frames = [json.loads(frame) async for frame in door._frames(ticket, {"number": number})]
            assert frames[-1] == {"output": number}
            order.append(number)
            return

    async def everybody() -> None:
        await asyncio.gather(*(learner(number) for number in range(200)))

    asyncio.run(asyncio.wait_for(everybody(), 60))
    assert sorted(order) == list(range(200))
    assert order[:60] == sorted(order[:60])  # as they came
    assert refusals and longest == 64 and engine.most == 2
    assert not door.line.running and not door.line.waiting


def test_a_reader_who_takes_nothing_frees_the_replica_and_misses_steps_only() -> None:
    engine = Quick(1, 1000)
    door = Door(engine, known)

    async def slow() -> list[dict]:
        frames = door._frames(door.line.enter("ada"), {"number": 7})
        first = json.loads(await anext(frames))
        while engine.now or not door._ended:
            await asyncio.sleep(0)
        assert not door.line.running
        return [first, *[json.loads(frame) async for frame in frames]]

    frames = asyncio.run(asyncio.wait_for(slow(), 30))
    assert frames[-1] == {"output": 7} and len(frames) <= FRAMES + 2


def test_a_reader_who_leaves_frees_the_replica_and_the_line() -> None:
    engine = Quick(1, 10**9)
    door = Door(engine, known)

    async def leaving() -> None:
        frames = door._frames(door.line.enter("ada"), {"number": 1})
        await anext(frames)
        waiting = door._frames(door.line.enter("ben"), {"number": 2})
        assert json.loads(await anext(waiting)) == {"before": 1}
        await waiting.aclose()
        assert not door.line.waiting
        await frames.aclose()
        await asyncio.sleep(0.01)
        assert engine.now == 0 and not door.line.running

    asyncio.run(asyncio.wait_for(leaving(), 30))


def test_what_fails_in_the_engine_is_told_and_frees_the_replica() -> None:
    class Broken(Quick):
        async def call(self, request):
            raise OSError("the disk")
            yield

    door = Door(Broken(1, 0), known)

    async def failing() -> list[dict]:
        return [json.loads(frame) async for frame in door._frames(door.line.enter("ada"), {})]

    [told] = asyncio.run(failing())
    assert "the engine failed (OSError)" in told["error"]["message"] and not door.line.running


def asked(door: Door, token: str) -> tuple[int, dict]:
    """What GET /status answers to whoever has this token."""
    headers = [(b"authorization", f"token {token}".encode())] if token else []
    request = Request({"type": "http", "method": "GET", "path": "/status", "headers": headers})
    response = asyncio.run(door.status(request))
    return response.status_code, json.loads(response.body)


def test_the_teacher_alone_is_told_how_the_engine_does() -> None:
    door = Door(Quick(2, 3), known)
    for token, status in {"": 401, "nobody": 401, "eve": 403, "ada": 403}.items():
        told, body = asked(door, token)
        assert told == status and set(body) == {"error"}, token
    assert asked(door, "ada")[1]["error"]["message"] == "the engine's state is for the teacher."
    assert asked(door, "teacher")[0] == 200


def test_the_teacher_sees_what_runs_what_waits_and_what_became_of_the_calls(monkeypatch) -> None:
    class Mixed(Quick):
        async def call(self, request):
            if request["number"] == 1:
                raise OSError("the disk")
            if request["number"] == 2:
                raise Lost
            async for frame in super().call(request):
                yield frame

    door = Door(Mixed(2, 3), known)

    async def made() -> None:
        for number in range(5):
            async for _ in door._frames(door.line.enter("ada"), {"number": number}):
                pass

    asyncio.run(made())
    for name in ("ada", "ben", "cem"):
        door.line.enter(name)
    counts = {"images": 3, "errors": 1, "lost": 1, "refused": 0}
    now = {"replicas": 2, "running": 2, "waiting": 1, "images_a_minute": 3}
    assert asked(door, "teacher") == (200, counts | now)
    later = time.monotonic() + 61
    monkeypatch.setattr("classroom.door.time.monotonic", lambda: later)
    assert asked(door, "teacher") == (200, counts | now | {"images_a_minute": 0})


def test_the_teacher_sees_how_many_requests_were_refused() -> None:
    door = Door(Quick(1, 3), known)
    request = Request({"type": "http", "method": "POST", "path": "/calls", "headers": []})
    assert asyncio.run(door.call(request)).status_code == 401
    assert asked(door, "teacher")[1]["refused"] == 1


STEP, STEPS = 20_000, 1000  # bytes of a frame, and how many: 20 MB


class Large(Quick):
    """As many frames as would fill the memory, each of them late enough for a reader who reads."""

    async def call(self, request):
        async for frame in super().call(request):
            await asyncio.sleep(0)
            yield frame | {"latents": "x" * STEP}


@pytest.fixture
def wire(monkeypatch):
    """A door behind a real socket, whose requests are not looked at; a function that asks, and reads the head alone."""

    async def call(self, learner, request):
        held.append(weakref.ref(ticket := self.line.enter(learner.name)))
        return _Stream(self._frames(ticket, request))

    monkeypatch.setattr(Door, "_call", call)
    engine, sockets, held = Large(1, STEPS), [], []
    with serving(engine) as address:

        def ask(name: str = "ada") -> socket.socket:
            one = socket.socket()
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**17)  # before it connects, or the system takes more
            one.connect(("127.0.0.1", int(address.rpartition(":")[2])))
            one.settimeout(30)
            head = f"POST /calls HTTP/1.1\r\nHost: here\r\nAuthorization: token {name}\r\nContent-Length: 13\r\n\r\n"
            one.sendall(head.encode() + b'{"number": 7}')
            assert one.recv(15) == b"HTTP/1.1 200 OK"
            return one

        yield engine, ask, held
        for one in sockets:
            one.close()


def until(true, seconds=30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_over_a_socket_a_slow_reader_holds_no_replica_and_fills_no_memory(wire) -> None:
    engine, ask, held = wire
    tracemalloc.start()
    slow = ask()
    until(lambda: engine.most and not engine.now)  # all frames were made, and few were read
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < (FRAMES + 50) * STEP * 2 < STEPS * STEP / 4
    quick = ask("ben")  # the replica is free
    read = b""
    while not read.endswith(b"0\r\n\r\n"):
        read += quick.recv(2**20)
    assert b'{"output": 7' in read
    read = b""
    while not read.endswith(b"0\r\n\r\n"):
        read += slow.recv(2**20)
    assert read.count(b'{"step"') < STEPS / 2 and b'{"output": 7' in read


def test_over_a_socket_a_reader_who_takes_nothing_is_left(wire, monkeypatch) -> None:
    monkeypatch.setattr("classroom.door.READER", 0.3)
    engine, ask, held = wire
    sleeper = ask()
    until(lambda: engine.most and not engine.now)
    until(lambda: gc.collect() >= 0 and held[0]() is None)  # and all that it held is gone
    read = b"x"
    while more := sleeper.recv(2**20):
        read += more
    assert b'{"output"' not in read and not read.endswith(b"0\r\n\r\n")  # it ended in the middle
