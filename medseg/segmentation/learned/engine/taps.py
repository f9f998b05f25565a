"""Where the voxels of one output axis lie between the rows of one axis of the network's grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Taps:
    """For each output voxel: value = (1 - weight) × row `low` + weight × row `high`."""

    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.low)

    def at(
        self, which: npt.NDArray[np.int64], first: int = 0
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return low, high and weight of some output voxels, rows counted from `first`."""
        return self.low[which] - first, self.high[which] - first, self.weight[which]

    def whole(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return low, high and weight of all output voxels."""
        return self.low, self.high, self.weight


def linear_taps(length: int, count: int) -> Taps:
    """Return the taps of `count` voxels over the extent of `length` rows, linear, borders repeated (skimage's `resize`, order 1).

    >>> linear_taps(2, 4).weight.tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    return taps_at((np.arange(count) + 0.5) * (length / count) - 0.5, length)


def nearest_taps(length: int, count: int) -> Taps:
    """Return the taps of order 0 as `scipy.ndimage.map_coordinates` picks them: nnU-Net's rule along a coarse axis."""
    from scipy.ndimage import map_coordinates

    at = (length / count) * (np.arange(count) + 0.5) - 0.5
    low = map_coordinates(np.arange(length, dtype=np.float64), at[None], order=0, mode="nearest").astype(np.int64)
    return Taps(low, low, np.zeros(count, np.float32))


def taps_at(places: npt.NDArray[np.floating[Any]], length: int) -> Taps:
    """Return the taps at fractional rows; beyond the outer rows their value stays."""
    at = np.clip(places, 0, length - 1)
    low = np.minimum(np.floor(at).astype(np.int64), max(0, length - 2))
    return Taps(low, np.minimum(low + 1, length - 1), (at - low).astype(np.float32))
