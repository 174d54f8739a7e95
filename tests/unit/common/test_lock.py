"""The lock: one thread at a time, again by the same thread, and never left taken by an interrupt."""

from __future__ import annotations

import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers.common.lock import alone


class Interrupt(BaseException):
    """Raised where a thread happens to be."""


def is_free() -> bool:
    """Whether a thread that does not have the lock gets it."""
    thread = threading.Thread(target=alone, args=(lambda: None,), daemon=True)
    thread.start()
    thread.join(10)
    return not thread.is_alive()


def test_one_thread_at_a_time_and_the_same_one_again() -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.002)
        inside -= 1

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: alone(lambda: alone(work)), range(40)))
    assert most == 1


def test_what_the_action_raises_is_passed_on_and_frees_the_lock() -> None:
    with pytest.raises(ZeroDivisionError):
        alone(lambda: 1 / 0)
    assert is_free()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals for a thread")
def test_a_wait_is_ended_by_an_interrupt_whenever_it_comes(request) -> None:
    me = threading.main_thread().ident
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    for _ in range(20):
        held, done = threading.Event(), threading.Event()
        holder = threading.Thread(target=lambda held=held, done=done: alone(lambda: held.set() or done.wait(60)))
        holder.start()
        assert held.wait(60)
        timer = threading.Timer(random.uniform(0, 0.01), signal.pthread_kill, (me, signal.SIGINT))
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            alone(lambda: None)
        assert time.monotonic() - start < 30
        done.set()
        holder.join()
    assert is_free()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that interrupt")
def test_a_signal_at_any_instruction_leaves_the_lock_free() -> None:
    def strike(*_: object) -> None:
        raise Interrupt

    before, struck = signal.signal(signal.SIGALRM, strike), 0
    try:
        for _ in range(2000):
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 1e-4))
                for _ in range(100):
                    alone(lambda: None)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupt:
                struck += 1
            assert is_free()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert struck > 500


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that interrupt")
@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock])
def test_a_with_statement_on_a_plain_lock_leaves_it_free_too(kind) -> None:
    """As the loader, the queue and the widgets have them; a Condition's and an Event's own Python code does not."""
    lock = kind()

    def strike(*_: object) -> None:
        raise Interrupt

    def taken_elsewhere() -> None:
        with lock:
            pass

    before, struck = signal.signal(signal.SIGALRM, strike), 0
    try:
        for _ in range(1000):
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 1e-4))
                for _ in range(100):
                    with lock:
                        pass
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupt:
                struck += 1
            thread = threading.Thread(target=taken_elsewhere, daemon=True)
            thread.start()
            thread.join(10)
            assert not thread.is_alive()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert struck > 100
