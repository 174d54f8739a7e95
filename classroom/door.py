"""The engine's door: who asks, whether the request can run at all, and whose turn it is.

Whatever is refused is refused here, in the local call's own words, before a replica is used. The answer to a call is a
line of JSON for each frame; what a slow reader misses is dropped steps, never the image.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Send

from classroom.replica import Frame
from helpers.catalog.checkpoints import CATALOG
from helpers.catalog.editions import edition
from helpers.catalog.tasks import CLASSES
from helpers.generation import calls
from helpers.images import as_json
from helpers.pipelines import pool, schedulers

logger = logging.getLogger(__name__)

BYTES = 64 * 2**20  # of a request
PIXELS = 2048 * 2048  # of an image in it
FRAMES = 64  # that wait for a slow reader
READER = 60.0  # seconds that a reader may take nothing
HEARTBEAT = 5.0  # seconds without a frame, after which an empty one tells that the work goes on
TOLD = 1.0  # seconds between two words on the place in the line
KEPT = 10.0  # seconds after the time when a refused learner should ask again, that their place is kept
JSON_LINES = "application/jsonl"
SCOPE = "access:services!service=engine"


@dataclass(frozen=True)
class Learner:
    """Who asks. allowed: whether the hub lets them use the engine."""

    name: str
    teacher: bool = False
    allowed: bool = True


class Lost(Exception):
    """The replica ended in the middle of a call."""


class Engine(Protocol):
    """What makes the calls. replicas: how many at a time."""

    replicas: int

    async def describe(self, wanted: dict[str, Any]) -> dict[str, Any]: ...

    def call(self, request: dict[str, Any]) -> AsyncIterator[Frame]: ...


class Refused(Exception):
    """A request that is not made: the HTTP status, and the kind and message of the error that the caller raises."""

    def __init__(self, status: int, message: str, kind: str = "PoolError", after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.after = status, kind, after

    def response(self) -> Response:
        headers = {} if self.after is None else {"Retry-After": str(math.ceil(self.after))}
        return JSONResponse({"error": {"type": self.kind, "message": str(self)}}, self.status, headers)


@dataclass(eq=False)
class Ticket:
    """A call's place in the line."""

    name: str
    turn: asyncio.Event = field(default_factory=asyncio.Event)


class Line:
    """Calls in the order they came: `slots` run, at most `most` wait, at most `each` of one learner are in either.

    Who is refused for want of room is told when there is some, and has it before those who come later.
    """

    def __init__(self, *, slots: int, each: int, most: int) -> None:
        self.slots, self.each, self.most = slots, each, most
        self.running: set[Ticket] = set()
        self.waiting: deque[Ticket] = deque()
        self.promised: dict[str, float] = {}  # the refused in the order they came, and until when their place is kept
        self.seconds = 2.0  # that an image takes, about

    def enter(self, name: str, *, each: int | None = None) -> Ticket:
        """A ticket, whose `turn` may be set at once; Refused with 429 or 503."""
        mine = sum(one.name == name for one in [*self.running, *self.waiting])
        if mine >= (each or self.each):
            message = f"{mine} of your images are being made: wait for one, or cancel it. Others want to have a turn."
            raise Refused(429, message, after=self.seconds)
        now = time.monotonic()
        self.promised = {one: until for one, until in self.promised.items() if until > now}
        first = list(self.promised).index(name) if name in self.promised else len(self.promised)
        before = len(self.waiting) + first
        if self.waiting and before >= self.most:
            after = max(1.0, self.seconds * (before + 1 - self.most) / self.slots)
            self.promised[name] = now + after + KEPT
            message = f"the engine is busy: {before} images wait already. Try again in {math.ceil(after)} s."
            raise Refused(503, message, after=after)
        self.promised.pop(name, None)
        ticket = Ticket(name)
        self.waiting.append(ticket)
        self._call_up()
        return ticket

    def before(self, ticket: Ticket) -> int:
        """How many images are made before it is this one's turn."""
        return self.waiting.index(ticket) if ticket in self.waiting else 0

    def leave(self, ticket: Ticket) -> None:
        """The call is over, or nobody wants it any more. Twice is fine."""
        self.running.discard(ticket)
        with contextlib.suppress(ValueError):
            self.waiting.remove(ticket)
        self._call_up()

    def _call_up(self) -> None:
        while self.waiting and len(self.running) < self.slots:
            ticket = self.waiting.popleft()
            self.running.add(ticket)
            ticket.turn.set()


class Door:
    """The handlers of the engine's requests.

    identify: the learner that a token stands for, None for a token that nobody has. each: images in flight of one
    learner; waiting: of all, besides those that run.
    """

    def __init__(
        self,
        engine: Engine,
        identify: Callable[[str], Awaitable[Learner | None]],
        *,
        each: int = 2,
        waiting: int = 64,
    ) -> None:
        self.engine, self.identify = engine, identify
        self.line = Line(slots=engine.replicas, each=each, most=waiting)
        self._described: dict[str, dict[str, Any]] = {}
        self._counts = {"images": 0, "errors": 0, "refused": 0, "lost": 0}
        self._ended: deque[float] = deque(maxlen=1000)  # when images were done

    async def describe(self, request: Request) -> Response:
        """POST /describe: all of a pipeline but its weights."""
        return await self._answer(request, self._describe)

    async def call(self, request: Request) -> Response:
        """POST /calls: make an image; frames stream back."""
        return await self._answer(request, self._call)

    async def status(self, request: Request) -> Response:
        """GET /status: for the teacher, how the engine does."""
        try:
            if not (await self._learner(request)).teacher:
                raise Refused(403, "the engine's state is for the teacher.")
        except Refused as refused:
            return refused.response()
        since = time.monotonic() - 60
        return JSONResponse(
            self._counts
            | {
                "replicas": self.engine.replicas,
                "running": len(self.line.running),
                "waiting": len(self.line.waiting),
                "images_a_minute": sum(ended > since for ended in self._ended),
            }
        )

    async def _answer(
        self, request: Request, handle: Callable[[Learner, dict[str, Any]], Awaitable[Response]]
    ) -> Response:
        try:
            learner = await self._learner(request)
            return await handle(learner, await _body(request))
        except Refused as refused:
            self._counts["refused"] += 1
            return refused.response()

    async def _learner(self, request: Request) -> Learner:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        learner = await self.identify(token.strip()) if scheme.lower() in ("token", "bearer") and token else None
        if learner is None:
            raise Refused(
                401, "the engine does not know you: start the notebook from the hub, or set COURSE_POOL_TOKEN."
            )
        if not learner.allowed:
            raise Refused(403, f"{learner.name} may not use the engine: ask your teacher.")
        return learner

    async def _describe(self, learner: Learner, wanted: dict[str, Any]) -> Response:
        _check_wanted(wanted)
        described = await self._known(wanted)
        _check_same(wanted, described["origin"])
        return Response(_line(described | {"in_flight": self._each(learner)}), media_type=JSON_LINES)

    async def _call(self, learner: Learner, request: dict[str, Any]) -> Response:
        _check_wanted(request)
        known = await self._known(request)
        _check_same(request, known["origin"])
        if request.get("origin") != known["origin"]:
            raise Refused(409, "the engine was started anew, on another machine or in another way: call load() again.")
        await asyncio.to_thread(_check_call, request)
        ticket = self.line.enter(learner.name, each=self._each(learner))
        return _Stream(self._frames(ticket, request), media_type=JSON_LINES)

    async def _known(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if (key := _key(wanted)) not in self._described:
            self._described[key] = await self.engine.describe(wanted)
        return self._described[key]

    def _each(self, learner: Learner) -> int:
        return max(self.line.each, 2 * self.line.slots) if learner.teacher else self.line.each

    async def _frames(self, ticket: Ticket, request: dict[str, Any]) -> AsyncIterator[bytes]:
        frames: asyncio.Queue[Frame | None] = asyncio.Queue(FRAMES)
        work = asyncio.create_task(self._pump(ticket, request, frames))
        try:
            while True:
                try:
                    frame = await asyncio.wait_for(frames.get(), HEARTBEAT)
                except TimeoutError:  # a checkpoint is read, or a replica is started
                    frame = {}
                if frame is None:
                    return
                yield _line(frame)
        finally:
            work.cancel()
            self.line.leave(ticket)

    async def _pump(self, ticket: Ticket, request: dict[str, Any], frames: asyncio.Queue[Frame | None]) -> None:
        """Put the call's frames where its reader takes them; the place in the line is free before the last is taken."""
        last: Frame = {}
        while not ticket.turn.is_set():
            if not frames.full():
                frames.put_nowait({"before": self.line.before(ticket) + 1})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ticket.turn.wait(), TOLD)
        start = time.monotonic()
        try:
            async with contextlib.aclosing(self.engine.call(request)) as made:
                async for last in made:
                    if not {"output", "error"} & last.keys() and not frames.full():  # a slow reader misses steps
                        frames.put_nowait(last)
        except Lost:
            last = {"lost": True}
        except Exception as error:
            logger.exception("a call failed in the engine")
            last = {
                "error": {
                    "type": "PoolError",
                    "message": f"the engine failed ({type(error).__name__}): tell your teacher.",
                }
            }
        kind = "images" if "output" in last else "errors" if "error" in last else "lost"
        self._counts[kind] += 1
        if kind == "images":
            self._ended.append(time.monotonic())
            self.line.seconds += 0.2 * (time.monotonic() - start - self.line.seconds)
        self.line.leave(ticket)
        for frame in (last, None):
            await frames.put(frame)


class _Stream(StreamingResponse):
    """An answer that ends where its reader takes nothing for `READER` seconds."""

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(lambda message: asyncio.wait_for(send(message), READER))
        except TimeoutError:
            logger.warning("an answer was not read for %.0f s, and ends", READER)


async def _body(request: Request) -> dict[str, Any]:
    """The request's JSON; Refused with 413 as soon as it is too large, with 422 where it is none."""
    stated = request.headers.get("Content-Length", "")
    data = bytearray()
    if not stated.isdigit() or int(stated) <= BYTES:
        async for chunk in request.stream():
            data += chunk
            if len(data) > BYTES:
                break
    if len(data) > BYTES or (stated.isdigit() and int(stated) > BYTES):
        raise Refused(413, f"this call takes more than {BYTES // 2**20} MiB: make its images smaller.", "ValueError")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise Refused(422, "the request is not a JSON object.", "ValueError")
    return body


_FIELDS = {
    "checkpoint": str, "pipeline": str, "controlnet": (str, type(None)), "dtype": (str, type(None)), "edition": str,
    "sources": list, "versions": dict,
}  # fmt: skip
_CALL = {"schedulers": dict, "arguments": dict, "generators": list, "many": bool, "watch": list, "origin": dict}


def _check_wanted(wanted: dict[str, Any]) -> None:
    """Refused with 422 for a request that names no pipeline of the course."""
    _check_fields(wanted, _FIELDS)
    try:
        entry = CATALOG[wanted["checkpoint"]]
        if wanted["controlnet"] is not None:
            CATALOG[wanted["controlnet"]]
    except ValueError as error:
        raise Refused(422, str(error), "ValueError") from error
    if wanted["pipeline"] not in CLASSES.get(entry.family, {}).values():
        raise Refused(422, f"{entry.name!r} makes no {wanted['pipeline'][:60]!r}.", "ValueError")


def _check_fields(request: dict[str, Any], fields: dict[str, Any]) -> None:
    for name, kind in fields.items():
        if name not in request or not isinstance(request[name], kind):
            raise Refused(422, f"the request's {name} is missing or of a wrong kind.", "ValueError")


def _check_same(wanted: dict[str, Any], origin: dict[str, Any]) -> None:
    """Refused with 409 where the learner's machine would make the image with something else than the engine."""
    sources = [source for source in (origin["source"], origin["controlnet"]) if source is not None]
    theirs = {"edition": wanted["edition"], "weights": wanted["sources"], "dtype": wanted["dtype"] or origin["dtype"]}
    ours = {"edition": edition(), "weights": sources, "dtype": origin["dtype"]}
    for name, version in pool.versions().items():
        theirs[name], ours[name] = wanted["versions"].get(name), version
    if different := [f"{name} {ours[name]} there, {theirs[name]} here" for name in ours if ours[name] != theirs[name]]:
        remedy = 'Update the course here, or let load(..., device="cpu") make images on this machine.'
        raise Refused(409, f"the engine does not make what this machine would: {'; '.join(different)}. {remedy}")


def _check_call(request: dict[str, Any]) -> None:
    """Refused with 422 or 413, in the local call's words, for a call that cannot run."""
    import diffusers

    _check_fields(request, _CALL)
    kind = getattr(diffusers, request["pipeline"])
    pipe = kind.__new__(kind)  # its signature is all that is asked of it
    try:
        for name, value in request["arguments"].items():
            calls.check_known(pipe, name, value)
            if name in calls.REFUSED and name != "num_images_per_prompt":
                raise TypeError(f"{name} does not travel: the engine sets it itself.")
            value = as_json.decode(value)
            calls.check_number(name, value)
            _check_pixels(name, value)
        for description in request["schedulers"].values():
            schedulers.build(description)
        for state in request["generators"]:
            seed = type(state) is int and 0 <= state < 2**64
            if not seed and getattr(as_json.decode(state), "nbytes", None) != _STATE:
                raise ValueError("generators: expected seeds, or the states of torch's generators")
        if not request["generators"]:
            raise ValueError("generators: expected one state or more")
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused(422, str(error), type(error).__name__) from error


_STATE = 5056  # bytes of torch.Generator("cpu").get_state()


def _check_pixels(name: str, value: Any) -> None:
    for one in value if isinstance(value, (list, tuple)) else [value]:
        if hasattr(one, "getbands") and one.width * one.height > PIXELS:
            raise Refused(
                413, f"{name} has {one.width} x {one.height} pixels; the engine takes {PIXELS} in all.", "ValueError"
            )


def _line(frame: Frame) -> bytes:
    return json.dumps(frame).encode() + b"\n"


def _key(wanted: dict[str, Any]) -> str:
    return json.dumps([wanted[name] for name in ("checkpoint", "pipeline", "controlnet")])
