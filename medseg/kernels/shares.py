"""How much of a scan, and of what is bright in it, lies in a mask: counted in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_image, as_mask, same_shape
from .slabs import in_slabs


@njit(cache=True, nogil=True)
def _count(image, mask, least, start, end):  # type: ignore[no-untyped-def]
    finite, finite_inside, bright, bright_inside = 0, 0, 0, 0
    for k in range(start, end):
        for j in range(image.shape[1]):
            line, inside = image[k, j], mask[k, j]
            for i in range(image.shape[2]):
                has_value = np.isfinite(line[i])
                is_inside = inside[i] != 0
                is_bright = has_value & (line[i] >= least)
                finite += has_value
                bright += is_bright
                finite_inside += has_value & is_inside
                bright_inside += is_bright & is_inside
    return finite, finite_inside, bright, bright_inside


def share_counts(image: NDArray[Any], mask: NDArray[Any], least: float) -> tuple[int, int, int, int]:
    """Voxels with a finite value, those of them in the mask, voxels of at least ``least``, those of them in the mask.

    ``image`` and ``mask`` (uint8 or bool) in the order (k, j, i). No memory beyond them.

    >>> share_counts(np.array([[[1.0, 5.0, np.nan, 7.0]]]), np.array([[[1, 1, 1, 0]]], np.uint8), 5)
    (3, 2, 2, 1)
    """
    image, inside = as_image(image), as_mask(mask)
    same_shape(image, inside, ("image", "mask"))
    parts = in_slabs(lambda start, end: _count(image, inside, float(least), start, end), image.shape[0])
    finite, finite_inside, bright, bright_inside = (int(sum(part[n] for part in parts)) for n in range(4))
    return finite, finite_inside, bright, bright_inside
