"""Work on slabs of an array in threads.

The loops release the GIL, so ordinary threads use all cores. Numba's own parallel loops are not used: they abort the
process when two threads enter them at once or after a fork, and take three times as long to compile.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

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
    with ThreadPoolExecutor(threads, thread_name_prefix="medseg") as pool:
        return list(pool.map(lambda limit: work(*limit), limits))
