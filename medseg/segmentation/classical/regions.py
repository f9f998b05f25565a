"""Regions that a method found by itself: numbered by their size and named."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError
from medseg.core.label_map import smallest_unsigned
from medseg.core.segment import Segment

MOST_REGIONS = 1_000_000  # beyond that every region is a few voxels of noise
_SLAB_VOXELS = 1 << 22  # bincount and take turn their input into int64: a slab at a time keeps that copy small


def by_size(labels: npt.NDArray[Any], label: str, algorithm: str, advice: str) -> tuple[npt.NDArray[Any], list[Segment]]:
    """Number regions (k,j,i; 0: none) anew, the largest first (of equal ones the first in memory), and name them label_1, label_2, ...

    A single region is called by the label alone. Raises InputError, with the advice, for more than a million regions.
    """
    flat = labels.reshape(-1)
    voxels = np.zeros(int(flat.max()) + 1, np.int64)
    for start in range(0, flat.size, _SLAB_VOXELS):
        found = np.bincount(flat[start : start + _SLAB_VOXELS])
        voxels[: len(found)] += found
    voxels[0] = 0
    count = int(np.count_nonzero(voxels))
    if count > MOST_REGIONS:
        raise InputError(f"{algorithm}: the scan falls into {count} regions, most of them noise: {advice}")
    order = np.argsort(-voxels, kind="stable")[:count]
    numbers = np.zeros(len(voxels), smallest_unsigned(count))
    numbers[order] = np.arange(1, count + 1)
    names = [label] if count == 1 else [f"{label}_{n}" for n in range(1, count + 1)]
    out = np.empty(flat.size, numbers.dtype)
    for start in range(0, flat.size, _SLAB_VOXELS):
        out[start : start + _SLAB_VOXELS] = numbers[flat[start : start + _SLAB_VOXELS]]
    return out.reshape(labels.shape), [Segment(n, name, algorithm=algorithm) for n, name in enumerate(names, 1)]
