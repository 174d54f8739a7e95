"""The engine: a door and its replicas on Ray Serve.

    python -m classroom.engine --replicas 2 --threads 1 --tokens tokens.json

Inside a hub's service the tokens are the hub's. The door listens at 127.0.0.1. Ray's own ports ask for a token that
this user alone can read; they belong behind a firewall all the same: who reaches them with the token runs programs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import ray
from ray import serve
from ray._private import parameter, services
from ray.exceptions import RayError
from starlette.requests import Request
from starlette.responses import Response

from classroom import identity, replica
from classroom.door import Door, Lost

NAME = "engine"
MODELS = 4  # checkpoints that a replica keeps
PORT = 8100


@serve.deployment(max_ongoing_requests=1, health_check_period_s=5, graceful_shutdown_timeout_s=5)
class Replica:
    """One pipeline call at a time, in the process of its own that makes it."""

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._worker = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,))

    @serve.multiplexed(max_num_models_per_replica=MODELS)
    async def pipe(self, key: str) -> Any:
        checkpoint, pipeline, controlnet = key.split()
        wanted = {
            "checkpoint": checkpoint,
            "pipeline": pipeline,
            "controlnet": None if controlnet == "-" else controlnet,
        }
        return await asyncio.get_running_loop().run_in_executor(self._worker, replica.load, wanted)

    async def describe(self, key: str) -> dict[str, Any]:
        pipe = await self.pipe(key)
        return await asyncio.get_running_loop().run_in_executor(self._worker, replica.describe, pipe)

    async def call(self, key: str, request: dict[str, Any]) -> AsyncIterator[replica.Frame]:
        pipe = await self.pipe(key)
        async for frame in replica.stream(partial(replica.make, pipe, request), self._worker):
            yield frame


class _Replicas:
    """The replicas, as the door asks them."""

    def __init__(self, handle: Any, replicas: int) -> None:
        self._handle, self.replicas = handle, replicas

    async def describe(self, wanted: dict[str, Any]) -> dict[str, Any]:
        key = _key(wanted)
        return await self._handle.options(multiplexed_model_id=key).describe.remote(key)

    async def call(self, request: dict[str, Any]) -> AsyncIterator[replica.Frame]:
        key = _key(request)
        frames = self._handle.options(multiplexed_model_id=key, stream=True).call.remote(key, request)
        try:
            async for frame in frames:
                yield frame
        except RayError as error:  # what the call itself raises comes as a frame
            raise Lost from error
        finally:
            frames.cancel()


@serve.deployment(num_replicas=1, max_ongoing_requests=10_000, ray_actor_options={"num_cpus": 0})
class Entrance:
    """The one door: counts of each learner's calls are right because there is no other."""

    def __init__(self, handle: Any, replicas: int, tokens: str | None, each: int, waiting: int) -> None:
        identify = identity.from_file(tokens) if tokens else identity.from_hub()
        self._door = Door(_Replicas(handle, replicas), identify, each=each, waiting=waiting)

    async def __call__(self, request: Request) -> Response:
        door = self._door
        handlers = {
            "/describe": ("POST", door.describe),
            "/calls": ("POST", door.call),
            "/status": ("GET", door.status),
        }
        method, handle = handlers.get(request.url.path, ("", None))
        return Response(status_code=404) if handle is None or method != request.method else await handle(request)


def start(
    *,
    replicas: int = 1,
    threads: int = 1,
    gpus: float = 0,
    port: int = PORT,
    tokens: str | None = None,
    each: int = 2,
    waiting: int = 64,
    address: str | None = None,
) -> None:
    """Start the engine on this machine, or on the Ray cluster at `address`; it answers when this returns.

    threads, gpus: of a replica. tokens: a file of them, see `identity.from_file`; the hub's by default.
    """
    if address is None:
        with _agents_may_be_slow() as metrics:
            ray.init(
                num_cpus=replicas * threads, num_gpus=None if gpus else 0, _metrics_export_port=metrics,
                include_dashboard=False, log_to_driver=False, configure_logging=False,
            )  # fmt: skip
    else:
        ray.init(address)
    limits = {"tokens": tokens, "each": each, "waiting": waiting}
    serve.start(http_options={"host": "127.0.0.1", "port": port}, proxy_location="HeadOnly")
    serve.run(build({"replicas": replicas, "threads": threads, "gpus": gpus} | limits), name=NAME, route_prefix="/")


def build(options: dict[str, Any]) -> serve.Application:
    """The door and its replicas. options: `start`'s, as a RayService gives them (kubernetes/engine.yaml)."""
    return _bind(**options)


def _bind(
    *, replicas: int, threads: int, gpus: float, tokens: str | None = None, each: int = 2, waiting: int = 64
) -> serve.Application:
    environment = {"env_vars": {"OMP_NUM_THREADS": str(threads)}}
    actor = {"num_cpus": threads, "num_gpus": gpus, "runtime_env": environment}
    made = Replica.options(num_replicas=replicas, ray_actor_options=actor).bind(threads)
    return Entrance.bind(made, replicas, tokens, each, waiting)


def stop() -> None:
    """End the engine and all of Ray's processes that `start` began."""
    if ray.is_initialized():  # or it would start another
        with contextlib.suppress(Exception):
            serve.shutdown()
    ray.shutdown()
    if file := os.environ.get("RAY_AUTH_TOKEN_PATH", ""):
        if Path(file).name.startswith("course-token-"):
            Path(file).unlink(missing_ok=True)


@contextlib.contextmanager
def _agents_may_be_slow() -> Iterator[int]:
    """Within it, a node of Ray is told its agents' ports; gives the one that `ray.init` has an argument for.

    Else the node waits 15 s (a constant of Ray 2.60) for each agent to write its port down, which is too short where a
    machine is busy, and dies; `ray.init` waits on for five minutes.
    """
    with contextlib.ExitStack() as held:
        free = (held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4))
        metrics, metrics_agent, runtime_env, listen = (one.getsockname()[1] for one in free)
    start = services.start_ray_process

    def told(command: list[str], process_type: str, *args: Any, **more: Any) -> Any:
        port = [f"--dashboard_agent_listen_port={listen}"] if process_type == "raylet" else []  # which Ray leaves out
        return start([*command, *port], process_type, *args, **more)

    ports = {"metrics_agent_port": metrics_agent, "runtime_env_agent_port": runtime_env}
    parameters = partial(parameter.RayParams, **ports, dashboard_agent_listen_port=listen)
    if not ray.__version__.startswith("2.60."):
        yield metrics
        return
    with mock.patch.object(parameter, "RayParams", parameters), mock.patch.object(services, "start_ray_process", told):
        yield metrics


def _protection() -> dict[str, str]:
    """The environment in which Ray stays on this machine, and asks for a token that only this user can read."""
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or Path.home() / ".ray")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"course-token-{os.getpid()}"
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(secrets.token_hex(32))
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(file),
        # Named after other systems: without a cluster, Ray listens at 127.0.0.1 and not on every interface.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_agent_register_timeout_ms": "300000",  # a busy machine
        "RAY_worker_register_timeout_seconds": "600",
        "RAY_worker_niceness": "0",  # not 15: learners' own kernels are on this machine too
    }


def _key(wanted: dict[str, Any]) -> str:
    return f"{wanted['checkpoint']} {wanted['pipeline']} {wanted['controlnet'] or '-'}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m classroom.engine", description="Start the class's engine.")
    parser.add_argument("--replicas", type=int, default=1, help="how many images at a time")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of a replica")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of a replica")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--tokens", help="JSON file of tokens, where there is no hub")
    parser.add_argument("--each", type=int, default=2, help="images of one learner at a time")
    parser.add_argument("--waiting", type=int, default=64, help="images that may wait")
    parser.add_argument("--address", help="of a Ray cluster")
    options = vars(parser.parse_args())
    if options["address"] is None and "RAY_AUTH_MODE" not in os.environ:  # Ray reads it when it is imported
        os.execve(sys.executable, [sys.executable, "-m", "classroom.engine", *sys.argv[1:]], os.environ | _protection())
    ended = threading.Event()
    try:
        start(**options)
        for one in (signal.SIGINT, signal.SIGTERM):  # after Ray has set its own, which leave processes behind
            signal.signal(one, lambda *_: ended.set())
        print(f"The engine answers at http://127.0.0.1:{options['port']}", flush=True)
        ended.wait()
    finally:
        stop()


if __name__ == "__main__":
    from classroom.engine import main as run  # Ray's processes look the classes up in the module of this name

    run()
