"""Smooth fields of segments for rendering: reduced to a size that a picture needs, at the volume they had."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medseg.core.label_map import LabelMap
from medseg.reporting.places import Place

_LONGEST_AXIS = 160  # cells: more than the pixels of a picture can show, and 16 MB at most
_PAD = 3  # empty cells around a segment: the smoothed surface is closed, also where the scan cut it
_LEAST_LEVEL = 0.08
_SIGMA = 1.5  # cells; less for what is only a few cells thick


@dataclass(frozen=True)
class Field:
    """A smoothed mask (i,j,k), the value at its surface, and the affine of its cells to RAS mm."""

    values: npt.NDArray[np.float32]
    level: float
    affine: npt.NDArray[np.float64]


def smooth_field(label_map: LabelMap, place: Place) -> Field:
    """Return the smoothed mask of one segment.

    Blocks of voxels are averaged until the longest axis has at most 160 cells; the smoothing reaches over the coarsest
    axis, so thick slices do not show as steps. The level is chosen so that about as many cells lie inside as before:
    thin structures neither vanish nor grow.
    """
    extent = np.array([last - first + 1 for first, last in zip(place.first, place.last, strict=True)])
    spacing = np.array(label_map.geometry.spacing_mm)
    cell_mm = max(float(spacing.min()), float((extent * spacing).max()) / _LONGEST_AXIS)
    factors = np.maximum(1, np.floor(cell_mm / spacing + 0.5).astype(int))
    share = _block_means(label_map, place, factors)
    cells_mm = spacing * factors
    thinnest = float(min(share.shape))
    sigma = min(_SIGMA, max(0.6, thinnest / 8)) * np.maximum(1.0, 0.7 * float(cells_mm.max()) / cells_mm)
    values = np.pad(share, [(_PAD + int(np.ceil(2 * s)),) * 2 for s in sigma])
    pads = np.array([_PAD + int(np.ceil(2 * s)) for s in sigma])
    amount = float(share.sum())
    ndimage.gaussian_filter(values, sigma, output=values, truncate=3.0)
    step = np.eye(4)
    step[:3, :3] = np.diag(factors)
    # The centre of the first block lies half a block after the corner of its first voxel
    step[:3, 3] = np.array(place.first) + (factors - 1) / 2 - pads * factors
    return Field(values, _level(values, amount), label_map.geometry.affine @ step)


def _block_means(label_map: LabelMap, place: Place, factors: npt.NDArray[np.int_]) -> npt.NDArray[np.float32]:
    """The share of each block of voxels that belongs to a segment, a slab at a time: no copy of the whole array."""
    box = tuple(slice(first, last + 1) for first, last in zip(place.first, place.last, strict=True))
    part = label_map.array[box]
    shape = tuple(-(-n // int(f)) for n, f in zip(part.shape, factors, strict=True))
    means = np.zeros(shape, dtype=np.float32, order="F")
    fi, fj, fk = (int(f) for f in factors)
    for k in range(shape[2]):
        slab = part[:, :, k * fk : (k + 1) * fk] == place.segment.number
        counts = slab.sum(axis=2, dtype=np.float32)
        counts = np.add.reduceat(counts, np.arange(0, part.shape[0], fi), axis=0)
        means[:, :, k] = np.add.reduceat(counts, np.arange(0, part.shape[1], fj), axis=1)
    means /= np.float32(fi * fj * fk)
    return means


def _level(values: npt.NDArray[np.float32], amount: float) -> float:
    flat = values.ravel(order="K")
    inside = min(max(1, round(amount)), flat.size - 1)
    near = flat[flat > _LEAST_LEVEL]  # few of the cells: what lies below cannot be the level
    if near.size < inside:
        return _LEAST_LEVEL
    return min(0.5, float(np.partition(near, near.size - inside)[near.size - inside]))
