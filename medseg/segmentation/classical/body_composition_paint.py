"""From the regions of the coarse grid to one tissue per voxel of the scan, a slab of slices at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from medseg.segmentation.classical.body_composition_grid import HIGHEST_HU, LOWEST_HU, CoarseGrid, FloatImage, Mask

BODY, MUSCLE, SUBCUTANEOUS_FAT, TORSO_FAT, BONE, AIR = 1, 2, 3, 4, 5, 6
SHELL, INSIDE, NEAR_BONE, TOO_DENSE, FAT_FREE = 1, 2, 4, 8, 16  # bits of the code of a block
SLAB_VOXELS = 1 << 20  # of the scan, worked on at once by a thread: keeps the copies in other types small
THREADS = 2  # numpy and scipy release the interpreter in their loops
NOISY_MM = 2.0  # along finer axes each voxel is averaged with its neighbours (1:2:1): thin slices are noisy
FAR_MM = 10.0  # signed distances are only needed near their border


class Ranges(Protocol):
    """The ranges of Hounsfield units that tell tissues apart."""

    muscle_lower: float
    muscle_upper: float
    fat_lower: float
    fat_upper: float
    bone_lower: float
    air_upper: float


@dataclass(frozen=True)
class Regions:
    """What the coarse grid knows, with the axes of the scan (k,j,i): codes of blocks, and signed distances in mm (inside > 0)."""

    codes: npt.NDArray[np.uint8]
    envelope: FloatImage
    wall: FloatImage
    bone: FloatImage


def signed_distance(mask: Mask, spacing_mm: tuple[float, float, float]) -> FloatImage:
    """Return how deep a voxel lies inside a mask, negative outside, between -10 and 10 mm; 0 is half-way between voxels."""
    from medseg.kernels.distance import distance_mm

    half = min(spacing_mm) / 2
    inside, outside = (np.minimum(distance_mm(part, spacing_mm, FAR_MM + half), FAR_MM + half) for part in (mask, ~mask))
    return np.where(mask, inside - half, half - outside).astype(np.float32)


def paint(image: npt.NDArray[Any], grid: CoarseGrid, regions: Regions, ranges: Ranges, mixture_mm: float) -> npt.NDArray[np.uint8]:
    """Return the labels of a scan (k,j,i); nothing outside the body is labelled."""
    labels = np.zeros(image.shape, np.uint8)
    spacing = [grid.spacing_mm[grid.axes.index(axis)] / grid.factors[axis] for axis in range(3)]
    noisy = [axis for axis in range(3) if spacing[axis] < NOISY_MM]
    # beyond twice the reach of a mixture, neighbours do not share a voxel's tissue
    reach = [0 if step > 2 * mixture_mm else max(1, round(mixture_mm / step)) for step in spacing]
    margin = (0 in noisy) + reach[0]
    (begin, end), rows, columns = grid.scan_box()
    part = image[:, slice(*rows), slice(*columns)]
    planes = max(1, SLAB_VOXELS // int(np.prod(part.shape[1:])))

    def work(first: int) -> None:
        stop = min(first + planes, end)
        low, high = max(0, first - margin), min(len(part), stop + margin)
        hu = _smoothed(part[low:high], noisy)
        inner = slice(first - low, stop - low)
        near_air = _grown(hu <= ranges.air_upper, reach)[inner]
        here = _at_voxels(grid, regions, (first, rows[0], columns[0]), (stop - first, *part.shape[1:]))
        _paint_slab(labels[first:stop, slice(*rows), slice(*columns)], hu[inner], near_air, here, ranges)

    with ThreadPoolExecutor(THREADS, thread_name_prefix="medseg") as pool:
        list(pool.map(work, range(begin, end, planes)))
    return labels


def _at_voxels(grid: CoarseGrid, regions: Regions, begin: tuple[int, int, int], shape: tuple[int, int, int]) -> Regions:
    """The regions at the voxels of a box of the scan."""
    from medseg.kernels.resample import resample_linear, resample_nearest

    matrix, offset = grid.to_scan(begin)
    fields = [resample_linear(field, matrix, offset, shape, fill=-FAR_MM) for field in (regions.envelope, regions.wall, regions.bone)]
    return Regions(resample_nearest(regions.codes, matrix, offset, shape), *fields)


def _smoothed(planes: npt.NDArray[Any], noisy: list[int]) -> npt.NDArray[np.int16]:
    """Hounsfield units as whole numbers, averaged with the neighbours along noisy axes; NaN is air."""
    from scipy import ndimage

    with np.errstate(over="ignore"):
        hu = planes.astype(np.float32)
    if planes.dtype.kind == "f":
        np.nan_to_num(hu, copy=False, nan=LOWEST_HU, posinf=HIGHEST_HU, neginf=LOWEST_HU)
    np.clip(hu, LOWEST_HU, HIGHEST_HU, out=hu)
    for axis in noisy:
        hu = ndimage.correlate1d(hu, [0.25, 0.5, 0.25], axis, mode="nearest")
    return np.rint(hu, out=hu).astype(np.int16)


def _grown(mask: Mask, reach: list[int]) -> Mask:
    """A mask grown voxel by voxel over faces, `reach` times along each axis."""
    out = mask
    for n in range(max(reach)):
        before, out = out, out.copy()
        for axis in range(3):
            if n < reach[axis]:
                low, high = [slice(None)] * 3, [slice(None)] * 3
                low[axis], high[axis] = slice(None, -1), slice(1, None)
                out[tuple(high)] |= before[tuple(low)]
                out[tuple(low)] |= before[tuple(high)]
    return out


def _paint_slab(labels: npt.NDArray[np.uint8], hu: npt.NDArray[np.int16], near_air: Mask, regions: Regions, ranges: Ranges) -> None:
    """Write the tissue of every voxel of the body; later lines overrule earlier ones."""
    codes = regions.codes
    is_air = hu <= ranges.air_upper
    body = (codes & INSIDE).astype(np.bool_) | ((codes & SHELL).astype(np.bool_) & ~is_air)
    labels[body] = BODY
    within = regions.envelope > 0
    wall = within & (regions.wall > 0)
    muscle = body & wall & (hu >= ranges.muscle_lower) & (hu <= ranges.muscle_upper) & ((codes & TOO_DENSE) == 0)
    labels[muscle] = MUSCLE
    fat = body & (hu >= ranges.fat_lower) & (hu <= ranges.fat_upper) & ~near_air
    labels[fat & ~within] = SUBCUTANEOUS_FAT
    labels[fat & within & ((codes & FAT_FREE) == 0)] = TORSO_FAT
    labels[body & is_air] = AIR
    dense = (codes & NEAR_BONE).astype(np.bool_) & (hu > ranges.bone_lower)
    labels[body & ((regions.bone > 0) | dense) & ~is_air] = BONE
