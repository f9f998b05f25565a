"""The cube of a scan that a click network looks at: where it lies, what it shows, and the way back to the scan."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.kernels.resample import resample_linear
from medseg.preprocessing.crop import Box
from medseg.preprocessing.plan import reversed_axes

FloatArray = npt.NDArray[np.float32]
OUTSIDE_SHARE = 0.5  # percentile of the region's intensities that stands for what lies beyond the scan
_FAR_OUTSIDE = -10.0  # logit of what lies beyond the region
_SMALL_BYTES = 4


def region_at(centre_mm: npt.ArrayLike, spacing_mm: float, size: int) -> Geometry:
    """Return a cube of `size`³ voxels along the patient axes (RAS) about a point.

    >>> region_at((0, 0, 10), 2.0, 4).index_to_world((1.5, 1.5, 1.5)).tolist()
    [0.0, 0.0, 10.0]
    """
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = np.asarray(centre_mm, np.float64) - spacing_mm * (size - 1) / 2
    return Geometry((size, size, size), affine)


def read_region(volume: Volume, region: Geometry) -> FloatArray:
    """Return the scan in the voxels of a region, (k,j,i) float32.

    Linear interpolation; where the region is coarser than the scan, blocks of voxels are averaged first. Beyond the scan,
    and where the scan holds NaN or infinity, it is as dark as its darkest half percent. Raises GeometryError where the
    region lies wholly outside.
    """
    box = box_of_region(volume.geometry, region, margin_voxels=2)
    part = volume.array.T[box.slices[::-1]]
    factors = [max(1, min(int(region.spacing_mm[0] / s), n)) for s, n in zip(volume.geometry.spacing_mm[::-1], part.shape, strict=True)]
    image = _block_means(part, factors)
    finite = np.isfinite(image)
    known = image[::2, ::2, ::2][finite[::2, ::2, ::2]]
    filling = float(np.percentile(known, OUTSIDE_SHARE)) if known.size else 0.0
    if not finite.all():
        image = np.where(finite, image, np.float32(filling))
    step = reversed_axes(_index_map(region, volume.geometry))
    factor = np.asarray(factors, np.float64)
    start = (step[:, 3] - np.asarray(box.start[::-1]) - (factor - 1) / 2) / factor
    return np.asarray(resample_linear(image, step[:, :3] / factor[:, None], start, region.shape[::-1], filling), np.float32)


def read_mask(mask: npt.NDArray[np.uint8], geometry: Geometry, region: Geometry) -> FloatArray:
    """Return how much of each voxel of a region a mask (k,j,i) on a scan's grid fills, from 0 to 1; 0 beyond the scan."""
    return np.maximum(read_region(Volume(mask.T.astype(np.float32), geometry), region), 0)


def paint(logits: FloatArray, region: Geometry, geometry: Geometry) -> tuple[npt.NDArray[np.uint8], Box]:
    """Return where interpolated logits (k,j,i) of a region are positive, in the box of a scan's voxels that it meets.

    Nothing is painted beyond the centres of the region's outer voxels.
    """
    closed = np.pad(logits[1:-1, 1:-1, 1:-1], 1, constant_values=np.float32(_FAR_OUTSIDE))
    box = box_of_region(geometry, region)
    step = reversed_axes(_index_map(geometry.cropped(box.start, box.shape), region))
    values = resample_linear(closed, step[:, :3], step[:, 3], box.shape[::-1], _FAR_OUTSIDE)
    return (values > 0).view(np.uint8), box


def box_of_region(geometry: Geometry, region: Geometry, margin_voxels: int = 0) -> Box:
    """Return the box of a scan's voxels that holds a region, cut at the scan; raises GeometryError where there is none."""
    corners = list(itertools.product(*((-0.5, n - 0.5) for n in region.shape)))
    places = geometry.world_to_index(region.index_to_world(corners))
    low = np.floor(places.min(axis=0)).astype(int) - margin_voxels
    high = np.ceil(places.max(axis=0)).astype(int) + 1 + margin_voxels
    if (high <= 0).any() or (low >= np.asarray(geometry.shape)).any():
        raise GeometryError("the region of the prompts lies outside the scan")
    return Box((int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2]))).within(geometry.shape)


def _index_map(of: Geometry, onto: Geometry) -> npt.NDArray[np.float64]:
    """The (3, 4) map from an index of one grid to the index of the same place in another, axes (i,j,k)."""
    matrix = np.linalg.inv(onto.affine)[:3, :3] @ of.affine[:3, :3]
    return np.hstack([matrix, onto.world_to_index(of.affine[:3, 3])[:, None]])


def _block_means(part: npt.NDArray[Any], factors: Sequence[int]) -> FloatArray:
    """Means of blocks of voxels, float32; a rest at the far end that fills no block is left out."""
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is taken for no number
        image: npt.NDArray[Any] = part.astype(np.float32, copy=False) if part.dtype.itemsize > _SMALL_BYTES else part
    for axis, factor in enumerate(factors):
        if factor == 1:
            continue
        whole = image.shape[axis] // factor * factor
        total: npt.NDArray[Any] | None = None
        for first in range(factor):
            piece = image[(slice(None),) * axis + (slice(first, whole, factor),)]
            total = piece.astype(np.float32) if total is None else total + piece
        image = np.asarray(total) / np.float32(factor)
    return np.ascontiguousarray(image, dtype=np.float32)
