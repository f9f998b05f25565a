"""Where a region starts: points, or the voxels of a mask, and what they look like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryMismatchError, InputError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.segmentation.classical.seeds import Point, seed_indices

Index = npt.NDArray[np.int64]

# A ball reaches this many voxels at most: enough for statistics, and bounded on the finest grids.
_MOST_REACH = 64
_CLIPPINGS = 5
# 1.4826 median absolute deviations are one standard deviation of a normal distribution
_MAD_TO_STD = 1.4826


def seed_voxels(geometry: Geometry, points: Sequence[Point], mask: LabelMap | None, method_name: str) -> Index:
    """Return the voxels (i,j,k) of all points and of all segments of a mask, N x 3, points first.

    Raises ParameterError for a point outside the scan, GeometryMismatchError for a mask on another grid, and InputError for
    a mask without a voxel.

    >>> seed_voxels(Geometry((4, 4, 4), np.eye(4)), [(1, 2, 3)], None, "region-growing").tolist()
    [[1, 2, 3]]
    """
    index = seed_indices(geometry, points, method_name)
    if mask is None:
        return index
    check_grid(geometry, mask, method_name, "seed_mask")
    marked = np.argwhere(mask.array.T)[:, ::-1].astype(np.int64)
    if not len(marked):
        raise InputError(f"{method_name}: seed_mask holds no voxel; mark at least one inside the structure")
    return np.concatenate([index, marked])


def check_grid(geometry: Geometry, given: LabelMap, method_name: str, parameter: str) -> None:
    """Raise GeometryMismatchError where a label map lies on another grid than the scan."""
    if not given.geometry.matches(geometry):
        raise GeometryMismatchError(
            f"{method_name}: {parameter} lies on another grid than the scan; restore it onto the scan's grid first",
            geometry,
            given.geometry,
        )


def ball_indices(geometry: Geometry, index: Index, radius_mm: float) -> Index:
    """Return the voxels (i,j,k) within a radius of any of the given ones, each once; at least these, shear honoured.

    A ball ends 64 voxels from its centre along each axis of the grid, however large its radius.
    """
    per_mm = np.linalg.norm(np.linalg.inv(geometry.affine[:3, :3]), axis=1)  # the widest reach of a ball along each axis
    reach = np.minimum(np.floor(radius_mm * per_mm * (1 + 1e-9)).astype(np.int64), np.minimum(geometry.shape, _MOST_REACH))
    steps = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij"), axis=-1).reshape(-1, 3)
    steps = steps[np.linalg.norm(steps @ geometry.affine[:3, :3].T, axis=1) <= radius_mm * (1 + 1e-9)]
    balls = []
    for centre in index:  # one at a time: a ball may hold a million voxels
        places = centre + steps
        places = places[geometry.contains(places)]
        balls.append(np.ravel_multi_index(tuple(places.T), geometry.shape))
    flat = np.unique(np.concatenate(balls))
    return np.stack(np.unravel_index(flat, geometry.shape), axis=1).astype(np.int64)


def typical(values: npt.NDArray[Any], method_name: str) -> tuple[float, float]:
    """Return the median and the robust standard deviation (1.4826 median absolute deviations) of the finite values.

    Values more than two deviations from the median are left out and both taken again, a few times: around a seed near a
    border it is the structure that counts, not its neighbour. Raises InputError where no value is finite.

    >>> typical(np.array([10, 11, 12, 13, 14, 90]), "region-growing")[0]
    12.0
    """
    kept = values[np.isfinite(values)].astype(np.float64)
    if not kept.size:
        raise InputError(f"{method_name}: the voxels around the seeds hold NaN or infinity; move the seeds")
    for _ in range(_CLIPPINGS):
        middle = float(np.median(kept))
        spread = _MAD_TO_STD * float(np.median(np.abs(kept - middle)))
        near = kept[np.abs(kept - middle) <= 2 * spread] if spread > 0 else kept
        if near.size == kept.size:
            break
        kept = near
    return middle, spread


def without_non_finite(volume: Volume) -> npt.NDArray[Any]:
    """Return the intensities (k,j,i) with the least finite one in place of NaN and infinity, for filters that spread them."""
    image = volume.array.T
    if image.dtype.kind != "f" or np.isfinite(image).all():
        return image
    finite = np.isfinite(image)
    return np.where(finite, image, image[finite].min() if finite.any() else 0).astype(image.dtype)
