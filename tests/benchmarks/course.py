"""The whole course, executed: seconds and peak memory of each chapter and solution."""

from __future__ import annotations

import threading
import time

from tests.benchmarks.timing import duration, tell

MIB = 2**20


def course(quick: bool) -> None:
    """Every chapter and solution from its first cell to its last: seconds, and the most memory that its kernel held."""
    from helpers.cli import notebook_runner

    paths = notebook_runner.chapters(["all"])[: 1 if quick else None]
    total, most = 0.0, 0
    for path in paths:
        with Kernels() as kernels:
            start = time.perf_counter()
            notebook_runner.execute(path, edition="mini")
            spent = time.perf_counter() - start
        total, most = total + spent, max(most, kernels.peak)
        tell(notebook_runner.label(path), f"{duration(spent):>8}, {kernels.peak / MIB:.0f} MiB")
    tell(f"all {len(paths)}", f"{duration(total):>8}, {most / MIB:.0f} MiB at the most")


class Kernels:
    """The most resident memory that the processes begun by this one held together."""

    def __enter__(self) -> Kernels:
        self.peak, self._done = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        import psutil

        own = psutil.Process()
        while not self._done.wait(0.1):
            held = 0
            for child in own.children(recursive=True):
                try:
                    held += child.memory_info().rss
                except psutil.Error:  # it ended meanwhile
                    pass
            self.peak = max(self.peak, held)

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
