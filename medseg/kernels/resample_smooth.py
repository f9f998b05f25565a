"""An image on a coarser grid along the same axes, smoothed on the way so that nothing finer than the new voxels is left to alias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import DTypeLike, NDArray

from .arrays import as_image
from .resample_grid import Grid, check_fill
from .slabs import in_slabs

_TRUNCATE = 4.0


def _weights(
    taps: tuple[Any, Any, Any], length: int, sigma: float, dtype: DTypeLike = np.float32
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """First input index and weights for every output index: a Gaussian sampled at the voxels, then linear between them.

    Beyond the border the border voxel is repeated: its weights are added up there.
    """
    low, high, share = taps
    radius = int(_TRUNCATE * sigma + 0.5)
    steps = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (steps / sigma) ** 2) if radius else np.ones(1)
    kernel /= kernel.sum()
    count = min(2 * radius + 2, length)
    first = np.clip(np.maximum(low, 0) - radius, 0, length - count)
    weights = np.zeros((len(low), count))
    rows = np.arange(len(low))
    for centre, part in ((low, 1 - share), (high, share)):
        for step, value in zip(steps, kernel, strict=True):
            at = np.clip(np.clip(np.maximum(centre, 0) + step, 0, length - 1) - first, 0, count - 1)
            np.add.at(weights, (rows, at), part * value)
    first[low < 0] = -1
    return first, weights.astype(dtype)


@njit(cache=True, nogil=True)
def _smooth_slab(image, along_k, along_j, along_i, fill, rounds, out, start, end):  # type: ignore[no-untyped-def]
    """For each output plane the input planes are added up, then their lines, then the voxels of these."""
    _, height, length = image.shape
    (first_k, weights_k), (first_j, weights_j), (first_i, weights_i) = along_k, along_j, along_i
    plane, line = np.empty((height, length), np.float32), np.empty(length, np.float32)
    for k in range(start, end):
        begin = first_k[k]
        if begin >= 0:
            for j in range(height):
                row = plane[j]
                for i in range(length):
                    row[i] = 0
                for n in range(weights_k.shape[1]):
                    weight, source = weights_k[k, n], image[begin + n, j]
                    for i in range(length):
                        row[i] += weight * source[i]
        for j in range(out.shape[1]):
            target, below = out[k, j], first_j[j]
            if begin < 0 or below < 0:
                for i in range(target.size):
                    target[i] = fill
                continue
            for i in range(length):
                line[i] = 0
            for n in range(weights_j.shape[1]):
                weight, row = weights_j[j, n], plane[below + n]
                for i in range(length):
                    line[i] += weight * row[i]
            for i in range(target.size):
                at = first_i[i]
                if at < 0:
                    target[i] = fill
                    continue
                value = np.float32(0)
                for n in range(weights_i.shape[1]):
                    value += weights_i[i, n] * line[at + n]
                target[i] = np.rint(value) if rounds else value


def _wide(image: NDArray[Any], along: Sequence[tuple[NDArray[np.int64], NDArray[Any]]], fill: float, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The same for integers of 32 and 64 bits, in float64 and axis by axis, the one that shrinks most first."""
    values: NDArray[Any] = image
    for axis in sorted(range(3), key=lambda n: len(along[n][0]) / image.shape[n]):
        first, weights = along[axis]
        shape = [1, 1, 1]
        shape[axis] = len(first)
        begin = np.maximum(first, 0)
        parts = (np.take(values, begin + n, axis) * weights[:, n].reshape(shape) for n in range(weights.shape[1]))
        values = sum(parts, np.zeros(()))
    # in float64 the greatest integer of 64 bits is one too many
    limits = np.iinfo(dtype)
    highest = float(limits.max) if dtype.itemsize == 4 else np.nextafter(float(limits.max), 0)
    out: NDArray[Any] = np.clip(np.rint(values), float(limits.min), highest).astype(dtype)
    for axis, (first, _) in enumerate(along):
        np.moveaxis(out, axis, 0)[first < 0] = dtype.type(fill)
    return out


def resample_smooth(
    image: NDArray[Any], matrix: NDArray[Any], offset: NDArray[Any], shape: Sequence[int], sigma_voxels: Sequence[float], fill: float = 0.0
) -> NDArray[Any]:
    """The image on another grid with the same axes, by linear interpolation after a Gaussian of ``sigma_voxels``.

    The same as `filters.gaussian` followed by `resample.resample_linear`, but only where the output has voxels: faster,
    and without an array of the size of the image. ``sigma_voxels`` (k, j, i) in voxels of the input, 0 for an axis that
    is not smoothed. The dtype is kept, integers are rounded. NaN spreads over the reach of the Gaussian. Memory beyond
    the image: the result, and one plane for each thread; integers of 32 and 64 bits are summed in float64, which takes more.

    Raises ValueError where the axes of the two grids are mixed, or ``fill`` does not fit the dtype.

    >>> resample_smooth(np.array([[[0, 0, 90, 0, 0]]], np.int16), np.diag([1, 1, 2]), np.zeros(3), (1, 1, 3), (0, 0, 0.5)).tolist()
    [[[0, 71, 0]]]
    """
    source = as_image(image)
    dtype = image.dtype.newbyteorder("=")
    check_fill(fill, dtype)
    grid = Grid(matrix, offset, shape)
    aligned = grid.aligned(source)
    if aligned is None:
        raise ValueError("the axes of the new grid are not those of the image; smooth the image first, then use resample_linear")
    sigmas = [float(value) for value in sigma_voxels]
    if len(sigmas) != 3 or not all(np.isfinite(value) and value >= 0 for value in sigmas):
        raise ValueError(f"sigma_voxels is {tuple(sigmas)}; pass three numbers >= 0 (k, j, i)")
    turned, taps = aligned
    follows = [int(column.argmax()) for column in (grid.matrix != 0).T]
    # sums in float32 would lose whole numbers above 2**24
    is_wide = dtype.kind != "f" and dtype.itemsize >= 4
    exact = np.float64 if is_wide else np.float32
    along = [_weights(tap, length, sigmas[axis], exact) for tap, length, axis in zip(taps, turned.shape, follows, strict=True)]
    if is_wide:
        return _wide(turned, along, fill, dtype)
    work = np.dtype(np.float32) if dtype == np.float16 else dtype  # numba has no float16
    out = np.empty(grid.shape, work)
    value, rounds = work.type(fill), dtype.kind != "f"
    in_slabs(lambda start, end: _smooth_slab(turned, *along, value, rounds, out, start, end), out.shape[0])
    return out.astype(dtype, copy=False)
