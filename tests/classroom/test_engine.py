"""The engine on Ray Serve, in processes of its own: pixels, a cancelled call, a killed replica, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from helpers.common.paths import ROOT
from helpers.generation.records import make
from helpers.generation.sweeps import sweep
from helpers.pipelines import loading, pool
from tests.classroom.test_pool import CALL, quiet
from tests.support.tiny import mini_edition

PORT = 8127
# What every Python process runs first: Ray's agents are as slow as on a busy machine, where it would give them 15 s.
SLOW = """
import sys, time
if any("agent" in one for one in sys.orig_argv[:6]):
    time.sleep(16)
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """The engine's process; it has one replica, and tiny checkpoints."""
    root = tmp_path_factory.mktemp("engine")
    tokens = root / "tokens.json"
    tokens.touch(0o600)
    tokens.write_text(json.dumps({"secret-a": {"name": "ada"}, "secret-t": {"name": "teacher", "teacher": True}}))
    with pytest.MonkeyPatch.context() as patch:
        folder = mini_edition(patch, root)
        patch.setenv("COURSE_DATA", str(folder.parent))
        patch.setenv("RAY_TMPDIR", "/tmp")
        (root / "sitecustomize.py").write_text(SLOW)
        patch.setenv("PYTHONPATH", f"{root}{os.pathsep}{ROOT}")
        command = [sys.executable, "-m", "classroom.engine", "--port", str(PORT), "--tokens", str(tokens)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert any("answers at" in line for line in process.stdout)
        patch.setenv(pool.VARIABLE, f"http://127.0.0.1:{PORT}")
        patch.setenv("COURSE_POOL_TOKEN", "secret-a")
        family = psutil.Process(process.pid)
        yield family
        begun = family.children(recursive=True)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        loading.unload()
        _, left = psutil.wait_procs(begun, timeout=20)
        for one in left:
            one.kill()
        assert left == []


def replicas(engine) -> list[psutil.Process]:
    return [one for one in engine.children(recursive=True) if "engine:Replica" in "".join(one.cmdline()[:1])]


def test_local_and_pool_give_equal_pixels(engine) -> None:
    there, here = quiet("sd15-inpaint"), quiet("sd15-inpaint", runtime="torch")
    for seed in range(2):
        assert make(there, seed=seed, **CALL).image.tobytes() == make(here, seed=seed, **CALL).image.tobytes()
    assert make(there, seed=0, **CALL).origin["threads"] == 1


def test_ray_stays_on_this_machine_and_asks_for_its_token(engine) -> None:
    outside = [
        (one, connection.laddr.port)
        for one in [engine, *engine.children(recursive=True)]
        for connection in one.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.ip.removeprefix("::ffff:") != "127.0.0.1"
    ]
    assert all("ServeReplica" in one.cmdline()[0] for one, _ in outside)  # Serve has no option for these
    grpc = pytest.importorskip("grpc")
    for _, port in outside:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary("/ray.serve.ASGIService/HandleRequest")(b"", timeout=10)
        assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED
    environment = engine.children()[0].environ()
    assert environment["RAY_AUTH_MODE"] == "token"
    assert os.stat(environment["RAY_AUTH_TOKEN_PATH"]).st_mode & 0o077 == 0


def test_a_cancelled_call_frees_the_replica(engine) -> None:
    there, steps = quiet("sd15-inpaint"), []

    def stop(*_):
        steps.append(time.monotonic())
        raise KeyboardInterrupt

    def seconds(**more) -> float:
        start = time.monotonic()
        assert make(there, seed=0, **CALL | more).error is None
        return time.monotonic() - start

    long = {"num_inference_steps": 900}
    whole = seconds(**long)
    with pytest.raises(KeyboardInterrupt):
        make(there, seed=0, watch=stop, **CALL | long)
    assert len(steps) == 1 and seconds() < whole / 2  # the next call waits for no more than a step


def test_a_killed_replica_costs_a_sweep_no_cell_and_no_duplicate(engine, tmp_path) -> None:
    there, here = quiet("sd15-inpaint"), quiet("sd15-inpaint", runtime="torch")
    call = CALL | {"num_inference_steps": 60}
    [victim] = replicas(engine)
    threading.Timer(0.5, victim.kill).start()
    with pytest.warns(UserWarning, match="made once more"):
        records = list(sweep(there, over={"seed": range(6)}, folder=tmp_path, progress=False, **call))
    expected = list(sweep(here, over={"seed": range(6)}, progress=False, **call))
    assert [one.error for one in records] == [None] * 6
    assert [one.image.tobytes() for one in records] == [one.image.tobytes() for one in expected]
    assert len(list(tmp_path.glob("*.png"))) == 6
