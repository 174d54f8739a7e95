"""A Hub that serves every checkpoint, and a machine that knows no other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub import checkpoints
from tests.hub.desk import _desk, desk, no_network  # noqa: F401
from tests.hub.server import Hub

GUARD = Path(__file__).with_name("guard")
MEMORY = 64_000_000_000  # bytes: the plan reckons with the real checkpoints' weights


class Machine:
    """Processes of its own, with an empty cache, that reach `hub` and nothing else.

    python(code), course("download", "00"): a finished process (returncode, stdout, stderr); it is not checked.
    `env` holds what they start with and may be changed; keywords add to it for one call. For processes that start
    later, `offline()` refuses every connection and asks the libraries for none. `hf` is HF_HOME.
    """

    def __init__(self, folder: Path, hub: Hub) -> None:
        self.folder, self.hf = folder, folder / "huggingface"
        taken = ("HF_", "HUGGING", "TRANSFORMERS_", "DIFFUSERS_", "COURSE_", "XDG_CACHE")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(taken)}
        self.env |= {
            "HF_ENDPOINT": hub.url, "HF_HOME": str(self.hf), "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1", "COURSE_EDITION": "full", "COURSE_CACHE": str(folder / "cache"),
            "COURSE_DEVICE": "cpu", "COURSE_TEST_NETWORK": "local", "COURSE_TEST_MEMORY": str(MEMORY),
            "NO_PROXY": "127.0.0.1", "PYTHONPATH": os.pathsep.join([str(GUARD), str(checkpoints.ROOT)]),
        }  # fmt: skip

    def offline(self) -> None:
        self.env |= {"HF_HUB_OFFLINE": "1", "COURSE_TEST_NETWORK": "none"}

    def python(self, code: str, *arguments: str, timeout: float = 300, **env: str) -> subprocess.CompletedProcess[str]:
        return self._run("-c", code, *arguments, timeout=timeout, env=env)

    def course(self, *arguments: str, timeout: float = 300, **env: str) -> subprocess.CompletedProcess[str]:
        return self._run("-m", "helpers", *arguments, timeout=timeout, env=env)

    def _run(self, *command: str, timeout: float, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command], cwd=self.folder, env=self.env | env, capture_output=True, text=True,
            encoding="utf-8", timeout=timeout,
        )  # fmt: skip


@pytest.fixture(scope="session")
def real_hub() -> Iterator[Hub]:
    with Hub() as hub:
        checkpoints.serve(hub)
        yield hub


@pytest.fixture
def hub(real_hub: Hub) -> Iterator[Hub]:
    """The Hub with every checkpoint at its real size; faults and pushes of one test are gone in the next."""
    real_hub.reset()
    yield real_hub
    real_hub.reset()


@pytest.fixture
def machine(tmp_path: Path, hub: Hub) -> Machine:
    """A machine with an empty cache that reaches `hub` alone."""
    return Machine(tmp_path, hub)
