"""Turns: one pipeline call at a time in this process, whichever thread it comes from.

A scheduler counts its steps, and models are shared between pipelines, so two calls at once spoil each other (diffusers
raises IndexError in both). Callers are served in the order they came.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_change = threading.Condition()
_waiting: deque[object] = deque()
_owner: int | None = None  # the thread whose turn it is
_depth = 0


@contextmanager
def turn(check: Callable[[], Any] | None = None) -> Iterator[None]:
    """Wait for this thread's turn and hold it; a thread that has it already goes on.

    check is called again and again while waiting, and ends the wait by raising.
    """
    global _owner, _depth
    me = threading.get_ident()
    with _change:
        if _owner != me:
            ticket = object()
            _waiting.append(ticket)
            try:
                while _owner is not None or _waiting[0] is not ticket:
                    _change.wait(0.05 if check else None)
                    if check:
                        check()
                _owner = me
            finally:
                _waiting.remove(ticket)
                _change.notify_all()
        _depth += 1
    try:
        yield
    finally:
        with _change:
            _depth -= 1
            if not _depth:
                _owner = None
                _change.notify_all()


def guard(pipe: Any) -> Any:
    """Make plain calls of this pipeline wait for their turn as well; returns the same pipeline.

    Its class becomes a subclass of the same name that differs in nothing else.
    """
    kind = type(pipe)
    if getattr(kind, "_takes_turns", False):
        return pipe

    def __call__(self, *args, **kwargs):  # noqa: N807
        with turn():
            return kind.__call__(self, *args, **kwargs)

    __call__.__wrapped__ = kind.__call__  # the signature that people and diffusers look at
    __call__.__doc__ = kind.__call__.__doc__
    body = {"__call__": __call__, "_takes_turns": True, "__module__": kind.__module__, "__doc__": kind.__doc__}
    pipe.__class__ = type(kind.__name__, (kind,), body)
    return pipe
