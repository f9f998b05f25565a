"""Components of a weak range that hold a voxel of a strong range."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Connectivity, as_image, connectivity_of, limits_as
from .runs import connect_runs, find_runs, paint_runs
from .slabs import in_slabs


@njit(cache=True, nogil=True)
def _mark_slab(image, lower, upper, lines, first, stop, component, keep, start, end):  # type: ignore[no-untyped-def]
    """Mark the components that hold a voxel of the strong range (two threads may write the same 1)."""
    height = image.shape[1]
    for k in range(start, end):
        for j in range(height):
            line = image[k, j]
            for n in range(lines[k * height + j], lines[k * height + j + 1]):
                if keep[component[n]] != 0:
                    continue
                for i in range(first[n], stop[n]):
                    if line[i] >= lower and line[i] <= upper:
                        keep[component[n]] = 1
                        break


def hysteresis(
    image: NDArray[Any], weak: tuple[float, float], strong: tuple[float, float], connectivity: Connectivity = 26
) -> NDArray[np.uint8]:
    """The components of the voxels between the weak limits that hold a voxel between the strong limits, as 0 and 1.

    ``image`` (k, j, i); limits are (lower, upper), both included; a strong voxel outside the weak limits counts for
    nothing; NaN is never inside. Memory: 1 byte per voxel for the result, 8 bytes per run of weak voxels.

    >>> hysteresis(np.array([[[5, 9, 0, 5]]], np.int16), (4, 20), (8, 20)).tolist()
    [[[1, 1, 0, 0]]]
    """
    image = as_image(image)
    connectivity_of(connectivity)
    weak_limits, strong_limits = limits_as(image.dtype, *weak), limits_as(image.dtype, *strong)
    if weak_limits is None or strong_limits is None:
        return np.zeros(image.shape, np.uint8)
    runs = find_runs(image, *weak_limits)
    component, voxels = connect_runs(runs, connectivity)
    keep = np.zeros(len(voxels), np.uint8)
    table = (runs.lines, runs.first, runs.stop, component, keep)
    in_slabs(lambda start, end: _mark_slab(image, *strong_limits, *table, start, end), image.shape[0])
    return np.asarray(paint_runs(runs, component, keep))
