"""Waiting for what comes when it comes: a widget's messages to Python, and pictures that a browser still decodes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

SECONDS = 10.0


def settled(page: Any, read: Callable[[], Any], wanted: Any) -> Any:
    """What `read()` gives once it is `wanted`, or when the time is over: then the test's own assert tells what it is.

    A message from the browser and a cell may reach the kernel in either order.
    """
    end = time.monotonic() + SECONDS
    while (found := read()) != wanted and time.monotonic() < end:
        page.wait_for_timeout(50)
    return found


def two_frames(page: Any) -> None:
    """Until the browser has drawn what is known by now."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
