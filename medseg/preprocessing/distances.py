"""Distances in mm on any grid, and masks grown and shrunk by them: right-angled grids by transform, sheared ones point by point."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.geometry import Geometry
from medseg.preprocessing.crop import plane_distance_mm

_SLACK = 1e-6  # a voxel at the very radius of a ball belongs to it although its distance was rounded

Mask = npt.NDArray[np.uint8]


def reach_mm(geometry: Geometry) -> float:
    """Return the diagonal of a voxel: around a segment widened by this lies every voxel that can be nearest to one inside.

    It bounds twice the covering radius of the lattice, so it holds on sheared grids too.
    """
    return float(np.linalg.norm(geometry.spacing_mm))


def depth_mm(mask: npt.NDArray[Any], geometry: Geometry, most_mm: float | None = None) -> npt.NDArray[np.float32]:
    """Return the distance in mm of each voxel inside to the nearest voxel outside, between centres; 0 outside.

    `mask` (k,j,i) lies on the grid, or on a box of it that is wider than the mask by `reach_mm` where the grid goes on.
    Infinity where nothing is outside, and above `most_mm`. What lies beyond the array is neither inside nor outside.

    >>> row = np.array([[[0, 1, 1, 1]]], np.uint8)
    >>> depth_mm(row, Geometry((4, 1, 1), np.diag([0.5, 1, 1, 1]))).tolist()
    [[[0.0, 0.5, 1.0, 1.5]]]
    """
    if not geometry.is_sheared:
        from medseg.kernels.distance import distance_mm

        return distance_mm(mask, geometry.spacing_mm[::-1], most_mm)
    inside = np.asarray(mask != 0)
    return _between(inside, ~inside, geometry, most_mm)


def away_mm(mask: npt.NDArray[Any], geometry: Geometry, most_mm: float | None = None) -> npt.NDArray[np.float32]:
    """Return the distance in mm of each voxel outside to the nearest voxel inside, between centres; 0 inside.

    Infinity where nothing is inside, and above `most_mm`.
    """
    outside = np.asarray(mask == 0)
    if not geometry.is_sheared:
        from medseg.kernels.distance import distance_mm

        return distance_mm(outside, geometry.spacing_mm[::-1], most_mm)
    return _between(outside, ~outside, geometry, most_mm)


def grown(mask: npt.NDArray[Any], geometry: Geometry, radius_mm: float) -> Mask:
    """Return the voxels (k,j,i, uint8) whose centre lies within a radius of the centre of a voxel inside."""
    if not geometry.is_sheared:
        from medseg.kernels.distance import dilate

        return dilate(mask, radius_mm, geometry.spacing_mm[::-1])
    if radius_mm == 0:
        return np.asarray(mask != 0).view(np.uint8)
    return np.isfinite(away_mm(mask, geometry, radius_mm)).view(np.uint8)


def shrunk(mask: npt.NDArray[Any], geometry: Geometry, radius_mm: float) -> Mask:
    """Return the voxels (k,j,i, uint8) inside that are farther than a radius from every voxel outside; the array's end takes nothing."""
    if not geometry.is_sheared:
        from medseg.kernels.distance import erode

        return erode(mask, radius_mm, geometry.spacing_mm[::-1])
    if radius_mm == 0:
        return np.asarray(mask != 0).view(np.uint8)
    return np.isinf(depth_mm(mask, geometry, radius_mm)).view(np.uint8)


def opened(mask: npt.NDArray[Any], geometry: Geometry, radius_mm: float) -> Mask:
    """Return the part of the mask (k,j,i, uint8) that balls of a radius inside it reach."""
    return grown(shrunk(mask, geometry, radius_mm), geometry, radius_mm)


def closed(mask: npt.NDArray[Any], geometry: Geometry, radius_mm: float) -> Mask:
    """Return the mask (k,j,i, uint8) with the gaps that balls of a radius outside it do not reach; the array's end plays no part."""
    if not geometry.is_sheared:
        from medseg.kernels.distance import close

        return close(mask, radius_mm, geometry.spacing_mm[::-1])
    voxels = np.ceil((radius_mm + reach_mm(geometry)) / plane_distance_mm(geometry)).astype(int)[::-1]
    margins = [int(add) if length > 1 else 0 for add, length in zip(voxels, mask.shape, strict=True)]
    wide = np.pad(np.asarray(mask != 0), [(add, add) for add in margins])
    inner = tuple(slice(add, add + length) for add, length in zip(margins, mask.shape, strict=True))
    return np.ascontiguousarray(shrunk(grown(wide, geometry, radius_mm), geometry, radius_mm)[inner])


def _between(
    asked: npt.NDArray[np.bool_], targets: npt.NDArray[np.bool_], geometry: Geometry, most_mm: float | None
) -> npt.NDArray[np.float32]:
    """The distance from each voxel asked about to the nearest target (both k,j,i)."""
    from medseg.kernels.nearest import nearest_distances_mm

    out = np.zeros(asked.shape, np.float32)
    points = np.argwhere(targets)
    if len(points) == 0:
        out[asked] = np.inf
        return out
    queries = np.argwhere(asked)
    if len(queries):
        found = nearest_distances_mm(queries, points, geometry.affine)
        if most_mm is not None:
            found[found > most_mm * (1 + _SLACK)] = np.inf
        out[asked] = found
    return out
