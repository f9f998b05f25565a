"""The grid on which the anatomy of the trunk is worked out: about 3 mm, axes (up, front, right), whatever the scan's axes are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.geometry import Geometry

FloatImage = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

COARSEST_MM = 3.5  # blocks of voxels stay below this: a muscle layer of the flank (7 mm) still spans two of them
MOST_VOXELS = 3_000_000  # of the coarse grid: bounds the memory of scans with huge fields of view
LOWEST_HU, HIGHEST_HU = -1024.0, 3071.0  # scanners pad with less and metal gives more; neither may shift the mean of a block
FLAT_MM = 1e6  # distance between slices that makes a ball a disc: the operation works slice by slice


@dataclass(frozen=True)
class CoarseGrid:
    """Blocks of voxels of a scan: their mean `hu`, and the `lowest` value in them (of means along k, against noise).

    Both, and every mask made from them, have axes (z,y,x): from foot to head, from back to front, from left to right.
    `spacing_mm` is that of these axes; `axes` and `flips` say which axis of the scan (k,j,i) each is and whether it runs
    backwards; `factors` are the voxels in a block and `start` the first block, both in the order (k,j,i).
    """

    hu: FloatImage
    lowest: FloatImage
    spacing_mm: tuple[float, float, float]
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    factors: tuple[int, int, int]
    start: tuple[int, int, int] = (0, 0, 0)
    scan_shape: tuple[int, int, int] = field(default=(0, 0, 0))

    @property
    def slice_spacing_mm(self) -> tuple[float, float, float]:
        """The spacing for operations slice by slice."""
        return (FLAT_MM, *self.spacing_mm[1:])

    @property
    def voxel_ml(self) -> float:
        """The volume of a block, for axes at right angles."""
        return float(np.prod(self.spacing_mm)) / 1000

    def voxels(self, length_mm: float, axis: int) -> int:
        """How many blocks a length spans along an axis, rounded."""
        return round(length_mm / self.spacing_mm[axis])

    def cropped(self, box: tuple[slice, slice, slice]) -> CoarseGrid:
        """Return the part of the grid in a box (z,y,x)."""
        start = list(self.start)
        for n, axis in enumerate(self.axes):
            length = self.hu.shape[n]
            start[axis] += length - box[n].stop if self.flips[n] else box[n].start
        hu, lowest = (np.ascontiguousarray(image[box]) for image in (self.hu, self.lowest))
        return replace(self, hu=hu, lowest=lowest, start=(start[0], start[1], start[2]))

    def in_scan_order(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return an array (z,y,x) with the axes of the scan (k,j,i)."""
        turned = array[tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flips)]
        return np.ascontiguousarray(np.transpose(turned, np.argsort(self.axes)))

    def scan_box(self) -> list[tuple[int, int]]:
        """Return first and stop voxel of the scan that the grid covers along k, j and i."""
        lengths = [self.hu.shape[self.axes.index(axis)] for axis in range(3)]
        parts = zip(self.start, lengths, self.factors, self.scan_shape, strict=True)
        return [(first * factor, min((first + length) * factor, most)) for first, length, factor, most in parts]

    def to_scan(self, begin: Sequence[int]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return matrix and offset that place the voxels of the scan from `begin` (k,j,i) on in this grid."""
        factors, start = np.array(self.factors, float), np.array(self.start, float)
        return np.diag(1 / factors), (np.array(begin, float) + 0.5) / factors - 0.5 - start


def coarse_grid(image: npt.NDArray[Any], geometry: Geometry) -> CoarseGrid:
    """Return the means over blocks of a scan (k,j,i); NaN counts as air."""
    letters = geometry.orientation[::-1]
    axes = tuple(next(n for n, letter in enumerate(letters) if letter in pair) for pair in ("SI", "AP", "RL"))
    flips = tuple(letters[axis] in "IPL" for axis in axes)
    spacing = geometry.spacing_mm[::-1]
    factors = _factors(image.shape, spacing)
    blocks = np.empty((2, *(-(-length // factor) for length, factor in zip(image.shape, factors, strict=True))), np.float32)
    for n in range(blocks.shape[1]):
        blocks[:, n] = _block_values(image[n * factors[0] : (n + 1) * factors[0]], factors)
    reverse = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
    hu, lowest = (np.ascontiguousarray(np.transpose(values, axes)[reverse]) for values in blocks)
    steps = [spacing[axis] * factors[axis] for axis in axes]
    return CoarseGrid(
        hu,
        lowest,
        (steps[0], steps[1], steps[2]),
        (axes[0], axes[1], axes[2]),
        (flips[0], flips[1], flips[2]),
        factors,
        scan_shape=(image.shape[0], image.shape[1], image.shape[2]),
    )


def _factors(shape: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[int, int, int]:
    coarsest = COARSEST_MM
    while True:
        factors = [max(1, min(int(coarsest / step), length)) for step, length in zip(spacing, shape, strict=True)]
        if np.prod([-(-length // factor) for length, factor in zip(shape, factors, strict=True)]) <= MOST_VOXELS:
            return factors[0], factors[1], factors[2]
        coarsest *= 1.1


def _block_values(planes: npt.NDArray[Any], factors: tuple[int, int, int]) -> tuple[FloatImage, FloatImage]:
    """The means and lowest values of one layer of blocks; blocks at the end may be smaller."""
    with np.errstate(over="ignore"):
        values = planes.astype(np.float32)
    np.nan_to_num(values, copy=False, nan=LOWEST_HU, posinf=HIGHEST_HU, neginf=LOWEST_HU)
    np.clip(values, LOWEST_HU, HIGHEST_HU, out=values)
    mean = values.mean(axis=0)
    lowest = mean
    for axis in (0, 1):
        starts = np.arange(0, mean.shape[axis], factors[1 + axis])
        counts = np.diff(np.append(starts, mean.shape[axis])).astype(np.float32)
        mean = np.add.reduceat(mean, starts, axis=axis) / (counts[:, None] if axis == 0 else counts)
        lowest = np.minimum.reduceat(lowest, starts, axis=axis)
    return mean, lowest
