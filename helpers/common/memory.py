"""Memory: which errors mean that it ran out, and how to free what is unused."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

# What torch says where it has no error class for it: CPU (two systems), MPS, CUDA's libraries. (accelerate's
# should_reduce_batch_size knows neither MemoryError nor the last three.)
OUT_OF_MEMORY = re.compile(
    r"can't allocate memory|not enough memory: you tried to allocate|out of memory|Invalid buffer size"
    r"|_STATUS_ALLOC_FAILED|Cannot allocate memory",
    re.IGNORECASE,
)


def ran_out(error: BaseException | None) -> bool:
    """Whether this error, or one that led to it, means that memory ran out: on CUDA, on MPS or in main memory."""
    return any(
        isinstance(one, MemoryError)
        or type(one).__name__ == "OutOfMemoryError"
        or (isinstance(one, RuntimeError) and OUT_OF_MEMORY.search(str(one)) is not None)
        for one in _chain(error)
    )


def release_traceback(error: BaseException) -> None:
    """Free what a failed call still holds: the frames of this error and of those that led to it, with their tensors."""
    for one in _chain(error):
        one.__traceback__ = None
    free()


def free() -> None:
    """Free what nothing refers to: Python's garbage, the GPU's cache, the heap's unused pages (Linux)."""
    if "torch" in sys.modules:
        from accelerate.utils.memory import clear_device_cache

        clear_device_cache(garbage_collection=True)
    else:
        gc.collect()
    if (trim := _malloc_trim()) is not None:
        trim(0)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, then what it was raised from or while handling, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


@cache
def _malloc_trim() -> Any:
    """glibc's function that returns freed pages to the system; None where the C library has none."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # musl
        return None
