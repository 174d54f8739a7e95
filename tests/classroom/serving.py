"""A door on 127.0.0.1 in a thread of this process, with replicas that are threads: all of the engine but Ray."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from classroom import replica
from classroom.door import Door, Learner, Lost

LEARNERS = {
    "ada": Learner("ada"), "ben": Learner("ben"), "eve": Learner("eve", allowed=False),
    "teacher": Learner("teacher", teacher=True),
}  # fmt: skip


class Threads:
    """An `Engine` in threads. ends: how many of the next calls end without an image, as if their process was killed.
    hold: while it is cleared, no call begins. used: the calls that reached a replica; ended: those that came to an end.
    """

    def __init__(self, replicas: int = 1) -> None:
        self.replicas, self.ends, self.used, self.ended, self.steps = replicas, 0, 0, 0, 0
        self.hold = threading.Event()
        self.hold.set()
        self._workers = ThreadPoolExecutor(replicas)
        self._pipes: dict[str, Any] = {}

    async def describe(self, wanted: dict[str, Any]) -> dict[str, Any]:
        return replica.describe(self._pipe(wanted))

    async def call(self, request: dict[str, Any]) -> AsyncIterator[replica.Frame]:
        self.used += 1
        lost, self.ends = self.ends > 0, max(0, self.ends - 1)
        async with contextlib.aclosing(replica.stream(partial(self._work, request), self._workers)) as frames:
            async for frame in frames:
                if lost and "step" in frame:
                    raise Lost
                yield frame

    def close(self) -> None:
        self.hold.set()
        self._workers.shutdown(cancel_futures=True)

    def _pipe(self, wanted: dict[str, Any]) -> Any:
        key = str([wanted[name] for name in ("checkpoint", "pipeline", "controlnet")])
        if key not in self._pipes:
            self._pipes[key] = replica.load(wanted)
        return self._pipes[key]

    def _work(self, request: dict[str, Any], emit: Any, stop: threading.Event) -> None:
        def counted(frame: replica.Frame) -> None:
            self.steps += "step" in frame
            emit(frame)

        self.hold.wait()
        replica.make(self._pipe(request), request, counted, stop)
        self.ended += 1


async def known(token: str) -> Learner | None:
    return LEARNERS.get(token)


@contextlib.contextmanager
def serving(engine: Any, **limits: Any) -> Iterator[str]:
    """The address of a door before this engine."""
    door = Door(engine, known, **limits)
    routes = [
        Route("/describe", door.describe, methods=["POST"]),
        Route("/calls", door.call, methods=["POST"]),
        Route("/status", door.status),
    ]
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
