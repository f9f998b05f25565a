"""Work on slabs of an array in threads.

The loops release the GIL, so ordinary threads use all cores. Numba's own parallel loops are not used: they abort the
process when two threads enter them at once or after a fork, and take three times as long to compile.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock, Thread
from typing import Generic, TypeVar

from numba import config

T = TypeVar("T")

# Fixed, not taken from the number of cores: sums of floats are then the same on every machine.
SLABS = 16


def slab_limits(count: int, slabs: int = SLABS) -> list[tuple[int, int]]:
    """Start and stop of at most ``slabs`` non-empty ranges that cover ``range(count)`` in order."""
    slabs = max(1, min(slabs, count))
    return [(count * n // slabs, count * (n + 1) // slabs) for n in range(slabs)]


def in_slabs(work: Callable[[int, int], T], count: int, slabs: int = SLABS) -> list[T]:
    """Call ``work(start, stop)`` for each slab, in threads, and give the results in the order of the slabs."""
    limits = slab_limits(count, slabs)
    threads = min(len(limits), int(config.NUMBA_NUM_THREADS))
    if threads <= 1:
        return [work(start, stop) for start, stop in limits]
    return _Shared(work, limits).run(threads)


class _Shared(Generic[T]):
    """Slabs that threads take one after the other; the calling thread works too.

    A pool with its queue and futures takes longer than a small kernel: this starts one thread less and hands nothing over.
    """

    def __init__(self, work: Callable[[int, int], T], limits: list[tuple[int, int]]) -> None:
        self.work, self.limits = work, limits
        self.results: dict[int, T] = {}
        self.failures: dict[int, BaseException] = {}
        self.turns = iter(range(len(limits)))
        self.lock = Lock()

    def run(self, threads: int) -> list[T]:
        """Work in that many threads; raises what the first slab that failed raised."""
        helpers = [Thread(target=self._take_turns, name=f"medseg-{n}") for n in range(threads - 1)]
        for helper in helpers:
            helper.start()
        try:
            self._take_turns()
        finally:
            with self.lock:
                self.turns = iter(())
            for helper in helpers:
                helper.join()
        if self.failures:
            raise self.failures[min(self.failures)]
        return [self.results[n] for n in range(len(self.limits))]

    def _take_turns(self) -> None:
        while (n := self._next()) is not None:
            try:
                self.results[n] = self.work(*self.limits[n])
            except Exception as err:  # noqa: BLE001 - raised again by the calling thread
                self.failures[n] = err
                return

    def _next(self) -> int | None:
        with self.lock:
            return None if self.failures else next(self.turns, None)
