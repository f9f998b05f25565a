"""Watershed from markers: flooding of a grey relief, level by level."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Connectivity, as_image, as_labels, as_mask, connectivity_of, refuse_too_large, same_shape
from .level_queues import fine_queues, queues
from .neighbours import neighbours_of
from .slabs import in_slabs
from .watershed_flood import flood, flood_finely, pack, start, unpack

COARSE_BITS = 16  # a relief of at most 65,536 levels has a queue for each; others have fine levels within each queue
_MOST = 1 << 47
_SIGNS = np.int32(0x7FFFFFFF)


def watershed(
    image: NDArray[Any],
    markers: NDArray[Any],
    connectivity: Connectivity = 6,
    mask: NDArray[Any] | None = None,
    lines: bool = False,
) -> NDArray[Any]:
    """Every voxel gets the label of the marker whose flood reaches it first; with ``lines`` voxels between two basins get 0.

    ``image`` (k, j, i) is the relief, ``markers`` integers >= 0 on the same grid (0: to be flooded); voxels outside
    ``mask`` (uint8 or bool) stay 0, markers there do not count. Returns labels of the dtype of the markers; voxels
    that no flood can reach stay 0. Equal heights are flooded in the order in which they were reached, as
    ITK's MorphologicalWatershedFromMarkers does (Beucher and Meyer 1993), with and without lines; markers that touch
    are not parted by a line.

    Every relief is flooded exactly, floats too; NaN and +infinity last, -infinity first. Memory, the result included: 2
    bytes a voxel where levels and labels stay below 32,768, else 4 (8 for floats of both signs and labels of 2**31), and 4
    for each voxel that waits in a queue (about a tenth of all on the gradient of a CT).

    >>> relief = np.array([[[0, 1, 5, 1, 0]]], np.uint8)
    >>> watershed(relief, np.array([[[1, 0, 0, 0, 2]]], np.uint8)).tolist()
    [[[1, 1, 1, 2, 2]]]
    >>> watershed(relief, np.array([[[1, 0, 0, 0, 2]]], np.uint8), lines=True).tolist()
    [[[1, 1, 0, 2, 2]]]
    """
    image, seeds = as_image(image), as_labels(markers, "markers")
    same_shape(image, seeds, ("image", "markers"))
    connectivity_of(connectivity)
    check_size(image)
    inside = _no_mask() if mask is None else as_mask(mask)
    if mask is not None:
        same_shape(image, inside, ("image", "mask"))
    relief, lowest, highest = levels_of(image)
    words, closed = _words(highest - lowest, int(seeds.max()), image.size)
    flat = (relief.reshape(-1), lowest, seeds.reshape(-1), inside.reshape(-1), closed, words)
    in_slabs(lambda low, high: pack(*flat, low, high), image.size)
    near = neighbours_of(image.shape, connectivity)
    shift = max((highest - lowest).bit_length() - COARSE_BITS, 0)
    queue = queues(((highest - lowest) >> shift) + 1, image.size)
    start(words, flat[0], lowest, shift, near, queue, closed, lines)
    if shift == 0:
        flood(words, near, queue, closed, lines)
    else:
        flood_finely(words, flat[0], lowest, shift, near, queue, fine_queues(1 << shift, image.size), closed, lines)
    del queue
    return _labels_of(words, closed, seeds.dtype).reshape(image.shape).view(markers.dtype)


def _no_mask() -> NDArray[np.uint8]:
    none = np.empty((0, 0, 0), np.uint8)
    none.flags.writeable = False
    return none


def _words(highest: int, label: int, voxels: int) -> tuple[NDArray[Any], int]:
    """Room for a word a voxel, as small as levels and labels allow, and the word of closed voxels."""
    if label >= _MOST:
        raise ValueError(f"the markers go up to {label}; number them anew from 1")
    for dtype in (np.int16, np.int32, np.int64):
        if max(highest, label) <= np.iinfo(dtype).max:
            break
    return np.empty(voxels, dtype), int(np.iinfo(dtype).min)


def _labels_of(words: NDArray[Any], closed: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The labels, in the memory of the words where they fit in: what is left over is given back."""
    if dtype.itemsize > words.itemsize:
        labels = np.empty(words.size, dtype)
        unpack(words, labels, closed)
        return labels
    count = words.size
    unpack(words, words.view(dtype)[:count], closed)
    words.resize(-(-count * dtype.itemsize // words.itemsize), refcheck=False)
    return words.view(dtype)[:count]


def check_size(image: NDArray[Any]) -> None:
    """Raise where the voxels cannot be numbered with 31 bits."""
    refuse_too_large(image.shape)


def levels_of(image: NDArray[Any]) -> tuple[NDArray[Any], int, int]:
    """Integers in the order of the values of an image, the lowest and the highest; a view where that is possible."""
    if image.dtype == np.float64:
        return _levels_of_doubles(image)
    levels = image
    if image.dtype == np.float32:
        levels = image.view(np.int32)  # floats of one sign are in the order of their bits
        if int(levels.min()) < 0:
            values = image + np.float32(0)  # -0 becomes 0: the two have different bits
            values[np.isnan(values)] = np.nan  # of either sign
            levels = values.view(np.int32)
            in_slabs(lambda low, high: _turn_negative(levels[low:high]), len(levels))
    levels = levels.view()
    levels.flags.writeable = False
    return levels, int(levels.min()), int(levels.max())


def _turn_negative(bits: NDArray[np.int32]) -> None:
    bits ^= (bits >> 31) & _SIGNS


def _levels_of_doubles(image: NDArray[np.float64]) -> tuple[NDArray[Any], int, int]:
    with np.errstate(over="ignore"):
        single = image.astype(np.float32)
    if np.array_equal(single, image, equal_nan=True):
        return levels_of(single)
    values, ranks = np.unique(image, return_inverse=True)
    levels = ranks.reshape(image.shape).astype(np.int32)
    levels.flags.writeable = False
    return levels, 0, len(values) - 1
