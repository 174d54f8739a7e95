"""Memory: how far the process grows, how to give back what is free, and which errors say that it ran out."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import sys
import threading
from functools import cache
from typing import Any

# What torch says where it has no error of its own for it: CPU (two systems), MPS, CUDA's libraries.
SHORT = re.compile(
    r"can't allocate memory|not enough memory: you tried to allocate|out of memory|Invalid buffer size"
    r"|_STATUS_ALLOC_FAILED|Cannot allocate memory",
    re.IGNORECASE,
)


def ran_out(error: BaseException | None) -> bool:
    """Whether this error, or one that led to it, says that memory ran out: on CUDA, MPS or in main memory."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if isinstance(error, RuntimeError) and SHORT.search(str(error)):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


def free() -> None:
    """Give back what nothing holds any more: Python's garbage, the card's cache, the heap's free pages (Linux)."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch is not None and torch.backends.mps.is_available():
        torch.mps.empty_cache()
    if (trim := _malloc_trim()) is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    """glibc keeps what was freed; other systems' libraries give it back by themselves, or cannot be asked."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # musl
        return None


class Resident:
    """`with Resident() as resident:` samples how far this process grows; `.growth` is its peak, in bytes."""

    def __enter__(self) -> Resident:
        import psutil

        self._process = psutil.Process(os.getpid())
        self._first = self._peak = self._process.memory_info().rss
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.003):
            self._sample()

    def _sample(self) -> None:
        self._peak = max(self._peak, self._process.memory_info().rss)

    def stop(self) -> None:
        """End the sampling before the block ends."""
        if not self._done.is_set():
            self._done.set()
            self._thread.join()
            self._sample()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def growth(self) -> int:
        return self._peak - self._first
