"""What every tier shares: the mini edition, no network, and each test's tier as its marker."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path

# Before anything imports huggingface_hub, which reads these once.
os.environ["COURSE_EDITION"] = "mini"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:  # one core for each of those that test side by side
    os.environ["OMP_NUM_THREADS"] = "1"

import pytest  # noqa: E402

REPOSITORY = Path(__file__).resolve().parent.parent
TESTS = REPOSITORY / "tests"
TIERS = ("unit", "classroom", "notebooks", "browser", "hub", "gpu")
# The longest files: with several processes they start first, so that none is left computing alone at the end.
LONG = tuple(f"notebooks/test_{name}.py" for name in ("claims_03", "chapters", "claims_06", "claims_05", "claims_09"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its tier, which is its folder's name; quick tiers run first, or side by side, long files."""
    for item in items:
        if _tier(item) not in TIERS:
            raise pytest.UsageError(f"{item.path}: a test lives in a folder of its tier, one of: {', '.join(TIERS)}.")
        item.add_marker(_tier(item))
    items.sort(key=lambda item: TIERS.index(_tier(item)))
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: (_rank(item), _tier(item) == "unit"))  # its many small files even out the end


def _rank(item: pytest.Item) -> int:
    """Its file's number among the long ones, or the next."""
    name = item.path.relative_to(TESTS).as_posix()
    return LONG.index(name) if name in LONG else len(LONG)


def _tier(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).parts[0]


@pytest.fixture(scope="session", autouse=True)
def no_network():
    """Refuse every connection that would leave this machine: the mini edition needs none."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address, *rest):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            raise ConnectionRefusedError(f"a test reached for {address[0]}; only 127.0.0.1 is allowed")
        return connect(self, address, *rest)

    socket.socket.connect = guarded
    yield
    socket.socket.connect = connect


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture
def picture():
    """A small RGB picture, 64 x 48, no two neighbours alike."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[:48, :64]
    return Image.fromarray(np.stack([x * 4, y * 5, (x + y) * 2], axis=-1).astype("uint8"))


@pytest.fixture
def mask():
    """A mask for `picture`: its middle, 32 x 24, is white."""
    from PIL import Image

    mask = Image.new("L", (64, 48), 0)
    mask.paste(255, (16, 12, 48, 36))
    return mask
