"""Part of an image in larger voxels, as float32 around a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_image
from .slabs import in_slabs

LIMIT = 1e6  # what lies further from the offset, after scaling, is cut here: squares stay finite


@njit(cache=True, nogil=True)
def _blocks(image, begin, factors, skip, offset, scale, out, start, end):  # type: ignore[no-untyped-def]
    depth, height, length = image.shape
    for k in range(start, end):
        k0 = begin[0] + k * factors[0]
        for j in range(out.shape[1]):
            j0 = begin[1] + j * factors[1]
            for i in range(out.shape[2]):
                i0 = begin[2] + i * factors[2]
                total, count = 0.0, 0
                for p in range(k0, min(k0 + factors[0], depth), skip[0]):
                    for q in range(j0, min(j0 + factors[1], height), skip[1]):
                        for r in range(i0, min(i0 + factors[2], length), skip[2]):
                            value = (np.float64(image[p, q, r]) - offset) * scale
                            if np.isfinite(value):
                                total += min(max(value, -LIMIT), LIMIT)
                                count += 1
                out[k, j, i] = total / count if count else 0.0


def block_mean(
    image: NDArray[Any],
    begin: Sequence[int],
    end: Sequence[int],
    factors: Sequence[int] = (1, 1, 1),
    offset: float = 0.0,
    scale: float = 1.0,
    sparse: int = 0,
) -> NDArray[np.float32]:
    """The mean of (image - offset) * scale over blocks of ``factors`` voxels in the box from ``begin`` to ``end`` (k, j, i).

    The last block of an axis may be smaller and may reach past the box. Voxels that are not finite do not count; a block of
    them alone is 0. With ``sparse`` about that many voxels along an axis stand for a block. Memory: 4 bytes a block.

    >>> block_mean(np.array([[[1, 3, 5, 7]]], np.int16), (0, 0, 0), (1, 1, 4), (1, 1, 2), offset=1).tolist()
    [[[1.0, 5.0]]]
    """
    image = as_image(image)
    first, size = np.asarray(begin, np.int64), np.asarray(factors, np.int64)
    shape = tuple(int(n) for n in -(-(np.asarray(end, np.int64) - first) // size))
    skip = np.maximum(size // sparse, 1) if sparse else np.ones(3, np.int64)
    out = np.empty(shape, np.float32)
    in_slabs(lambda start, stop: _blocks(image, first, size, skip, float(offset), float(scale), out, start, stop), shape[0])
    return out
