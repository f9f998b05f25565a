"""Cheapest paths from seeds through a cost image: how hard it is to get from a click to a voxel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_image


def geodesic(cost: Any, seeds: Any, *, rounds: int = 1000) -> NDArray[np.float32]:
    """Return the cost (k,j,i) of the cheapest path from the nearest of the seeds (n, 3), indices (k,j,i), to each voxel.

    A step to one of the 26 neighbours costs its length in voxels times the mean of the costs at its ends. The image is
    swept from both corners until nothing changes (the exact answer) or `rounds` times; without seeds all is infinite.
    Costs must be finite and not negative. Raises ValueError for a seed outside the image.

    >>> geodesic(np.array([[[1, 1, 3, 1]]], np.float32), [(0, 0, 0)]).ravel().tolist()
    [0.0, 1.0, 3.0, 5.0]
    """
    image = as_image(cost)
    if image.dtype != np.float32:
        image = image.astype(np.float32)
    places = np.ascontiguousarray(seeds, np.int64).reshape(-1, 3)
    if ((places < 0) | (places >= image.shape)).any():
        raise ValueError(f"a seed lies outside the image of shape {image.shape}")
    if not (np.isfinite(image).all() and image.min() >= 0):
        raise ValueError("costs must be finite and not negative")
    total = np.full(image.shape, np.inf, np.float32)
    total[tuple(places.T)] = 0
    for _ in range(rounds if len(places) else 0):
        if not _sweep(image, total):
            break
    return total


@njit(cache=True, nogil=True)
def _sweep(cost, total):  # type: ignore[no-untyped-def]
    """One pass from the first voxel to the last and back; whether anything became cheaper."""
    planes, rows, columns = cost.shape
    changed = False
    for backward in range(2):
        sign = -1 if backward else 1
        for step_k in range(planes):
            k = planes - 1 - step_k if backward else step_k
            for step_j in range(rows):
                j = rows - 1 - step_j if backward else step_j
                for step_i in range(columns):
                    i = columns - 1 - step_i if backward else step_i
                    best = total[k, j, i]
                    own = cost[k, j, i]
                    for number in range(13):  # the neighbours that this pass has seen already
                        a = k + sign * (number // 9 - 1)
                        b = j + sign * (number // 3 % 3 - 1)
                        c = i + sign * (number % 3 - 1)
                        if a < 0 or b < 0 or c < 0 or a >= planes or b >= rows or c >= columns:
                            continue
                        length = np.float32(np.sqrt(float((a - k) ** 2 + (b - j) ** 2 + (c - i) ** 2)))
                        through = total[a, b, c] + length * np.float32(0.5) * (own + cost[a, b, c])
                        best = min(best, through)
                    if best < total[k, j, i]:
                        total[k, j, i] = best
                        changed = True
    return changed
