"""Connected components of a mask, and what is made of them: the largest, the large ones, filled holes.

All functions take a uint8 or bool mask with axes (k, j, i), where non-zero is inside, and return a new array. They
agree voxel for voxel with scipy.ndimage and SimpleITK.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Connectivity, as_labels, as_mask
from .runs import Runs, connect_runs, fill_run, find_runs, paint_runs, reach
from .slabs import in_slabs


def _mask_runs(mask: NDArray[Any]) -> Runs:
    return find_runs(as_mask(mask), np.uint8(1), np.uint8(255))


def label_components(
    mask: NDArray[Any], connectivity: Connectivity = 26, value: int | None = None
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number the connected components from 1, the largest first (equal sizes: the first in memory first).

    ``mask`` may be a label array of unsigned integers when ``value`` names the label to look at. Returns the labels
    (int32, same shape) and the voxels of each label (int64 [n + 1]; place 0 is the background).

    >>> labels, sizes = label_components(np.array([[[1, 0, 1, 1]]], np.uint8))
    >>> labels.tolist(), sizes.tolist()
    ([[[2, 0, 1, 1]]], [1, 2, 1])
    """
    if value is None:
        runs = _mask_runs(mask)
    else:
        labels = as_labels(mask)
        if not 0 <= value <= np.iinfo(labels.dtype).max:
            return np.zeros(labels.shape, np.int32), np.array([labels.size], np.int64)
        runs = find_runs(labels, labels.dtype.type(value), labels.dtype.type(value))
    component, voxels = connect_runs(runs, connectivity)
    order = np.argsort(-voxels, kind="stable")
    numbers = np.empty(len(order), np.int32)
    numbers[order] = np.arange(1, len(order) + 1, dtype=np.int32)
    sizes = np.concatenate([[mask.size - int(voxels.sum())], voxels[order]]).astype(np.int64)
    return paint_runs(runs, component, numbers), sizes


def keep_largest(mask: NDArray[Any], count: int = 1, connectivity: Connectivity = 26) -> NDArray[np.uint8]:
    """The ``count`` largest components as a uint8 mask (equal sizes: the first in memory is kept).

    >>> keep_largest(np.array([[[1, 0, 1, 1]]], np.uint8)).tolist()
    [[[0, 0, 1, 1]]]
    """
    if count < 1:
        raise ValueError(f"count is {count}; keep at least one component")
    runs = _mask_runs(mask)
    component, voxels = connect_runs(runs, connectivity)
    keep = np.zeros(len(voxels), np.uint8)
    keep[np.argsort(-voxels, kind="stable")[:count]] = 1
    return paint_runs(runs, component, keep)


def remove_small(mask: NDArray[Any], keep_at_least_voxels: int, connectivity: Connectivity = 26) -> NDArray[np.uint8]:
    """The components of at least ``keep_at_least_voxels`` voxels as a uint8 mask.

    >>> remove_small(np.array([[[1, 0, 1, 1]]], np.uint8), 2).tolist()
    [[[0, 0, 1, 1]]]
    """
    runs = _mask_runs(mask)
    component, voxels = connect_runs(runs, connectivity)
    return paint_runs(runs, component, (voxels >= keep_at_least_voxels).astype(np.uint8))


@njit(cache=True, nogil=True)
def _reaches_border(lines, first, stop, component, shape, planes, count):  # type: ignore[no-untyped-def]
    depth, height, length = shape
    reaches = np.zeros(count, np.uint8)
    for line in range(depth * height):
        k, j = line // height, line % height
        at_border = j == 0 or j == height - 1 or (planes and (k == 0 or k == depth - 1))
        for n in range(lines[line], lines[line + 1]):
            if at_border or first[n] == 0 or stop[n] == length:
                reaches[component[n]] = 1
    return reaches


@njit(cache=True, nogil=True)
def _clear_slab(out, lines, first, stop, component, clear, start, end):  # type: ignore[no-untyped-def]
    height = out.shape[1]
    for k in range(start, end):
        for j in range(height):
            line = out[k, j]
            for i in range(line.size):
                line[i] = 1
            for n in range(lines[k * height + j], lines[k * height + j + 1]):
                if clear[component[n]]:
                    fill_run(line, first[n], stop[n], 0)


def fill_holes(mask: NDArray[Any], connectivity: Connectivity = 6, axis: int | None = None) -> NDArray[np.uint8]:
    """The mask with its holes filled: background that no path leads from to the border of the array.

    ``connectivity`` is that of the **background** (6: a diagonal gap does not open a hole). With ``axis`` each plane
    across that axis is filled by itself (0: slice by slice in k); 6 then means four neighbours, 18 and 26 eight.

    >>> fill_holes(np.array([[[0, 1, 1, 1], [0, 1, 0, 1], [0, 1, 1, 1]]], np.uint8), axis=0)[0].tolist()
    [[0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]]
    """
    reach(connectivity)
    if axis not in (None, 0, 1, 2):
        raise ValueError(f"axis is {axis}; use None (3D), 0 (k), 1 (j) or 2 (i)")
    inside = as_mask(mask)
    if axis in (1, 2):
        turned = np.ascontiguousarray(np.moveaxis(inside, axis, 0))
        return np.ascontiguousarray(np.moveaxis(fill_holes(turned, connectivity, axis=0), 0, axis))
    planes = axis is None
    runs = find_runs(inside, np.uint8(0), np.uint8(0))
    component, voxels = connect_runs(runs, connectivity, planes=planes)
    table = (runs.lines, runs.first, runs.stop, component)
    clear = _reaches_border(*table, runs.shape, planes, len(voxels))
    out = np.empty(runs.shape, np.uint8)
    in_slabs(lambda start, end: _clear_slab(out, *table, clear, start, end), runs.shape[0])
    return out
