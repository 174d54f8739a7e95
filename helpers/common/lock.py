"""One lock for this process: held by a thread while its pipeline call moves models that other threads may share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_lock = threading.RLock()


def alone(action: Callable[[], T]) -> T:
    """Return `action()`, run while no other thread is in here; the same thread may come in again.

    An interrupt ends the wait within a twentieth of a second. Wherever it strikes, the lock is not left taken: `extend`
    takes it and notes so without a bytecode in between, and no call stands before its release.
    """
    taken: list[bool] = []
    try:
        while True not in taken:  # a signal just before a wait without end would not end it
            taken.extend(map(_lock.acquire, (True,), (0.05,)))
        return action()
    finally:
        if True in taken:
            _lock.release()
