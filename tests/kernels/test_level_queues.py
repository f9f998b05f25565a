from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from numba import njit

from medseg.kernels.level_queues import LAST, ONE, close, new_chunk, next_chunk, queues


@njit
def _run(bounds, pool, state, levels, voxels, out):  # type: ignore[no-untyped-def]
    """Append a voxel to a level, or take one (voxel below 0); what was taken (-7: the queue was empty)."""
    taken = 0
    for n in range(levels.size):
        level = np.uint64(levels[n])
        if voxels[n] >= 0:
            at = bounds[level, 1]
            if at & LAST == 0:
                at = new_chunk(bounds, pool, state, level, at)
            pool[at] = voxels[n]
            bounds[level, 1] = at + ONE
            continue
        out[taken] = -7
        if bounds[level, 0] != bounds[level, 1]:
            at = bounds[level, 0]
            out[taken] = pool[at]
            at += ONE
            if at & LAST == 0:
                at = next_chunk(bounds, pool, state, level, at)
            bounds[level, 0] = at
        elif voxels[n] == -2:
            close(bounds, pool, state, level)
        taken += 1
    return taken


@pytest.mark.parametrize("share", [0.35, 0.5, 0.55, 0.7])
def test_they_are_queues_however_full_they_get(share: float, rng: np.random.Generator) -> None:
    """Chunks of several queues are filled, linked, read to their ends, given back and used again."""
    count = 60_000
    levels = rng.integers(0, 5, count)
    voxels = np.where(rng.random(count) < share, np.arange(count), -rng.integers(1, 3, count))
    queue = queues(5, count)
    out = np.empty(count, np.int64)
    taken = _run(queue.bounds, queue.pool, queue.state, levels, voxels, out)
    plain: list[deque[int]] = [deque() for _ in range(5)]
    expected = []
    for level, voxel in zip(levels.tolist(), voxels.tolist(), strict=True):
        if voxel >= 0:
            plain[level].append(voxel)
        else:
            expected.append(plain[level].popleft() if plain[level] else -7)
    assert out[:taken].tolist() == expected
    assert queue.state[0] * 127 < count
