"""Points in the patient as voxels of a scan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry

Point = tuple[float, float, float]


def seed_indices(geometry: Geometry, seeds: Sequence[Point], method_name: str, parameter: str = "seeds") -> npt.NDArray[np.int64]:
    """Return the nearest voxel (i,j,k) of each point in RAS+ mm, N x 3.

    Raises ParameterError that names the first point outside the scan, and the range of the scan.

    >>> seed_indices(Geometry((4, 4, 4), np.diag([2.0, 2.0, 2.0, 1.0])), [(2.2, 0, 6)], "region-growing").tolist()
    [[1, 0, 3]]
    """
    index = np.rint(geometry.world_to_index(np.asarray(seeds, dtype=np.float64).reshape(-1, 3))).astype(np.int64)
    for point, inside in zip(seeds, geometry.contains(index), strict=True):
        if not inside:
            raise ParameterError(f"{method_name}: {parameter}: the point {_text(point)} mm RAS lies outside the scan, {_extent(geometry)}")
    return index


def _text(point: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.1f}" for value in point) + ")"


def _extent(geometry: Geometry) -> str:
    corners = geometry.corners_mm()
    ranges = [f"{axis} {low:.1f} to {high:.1f}" for axis, low, high in zip("RAS", corners.min(axis=0), corners.max(axis=0), strict=True)]
    tilted = " (a tilted grid: not every point in this range is inside)" if geometry.is_oblique else ""
    return f"whose voxels span {', '.join(ranges)} mm{tilted}"
