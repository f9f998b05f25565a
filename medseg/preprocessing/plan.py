"""The way of a scan to the grid a network was trained on, or to a part of its own, and the way of its labels back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.preprocessing.crop import Box, crop_to

Alignment = Literal["patient", "grid"]

# A target grid gets no extra voxel for an overhang below this share of a voxel: rounding must not add a layer.
_OVERHANG = 1e-3
MOST_TARGET_VOXELS = 1 << 29  # a prepared scan above this is a fault of the spacing, not a scan

_AXES = {"R": (0, 1.0), "L": (0, -1.0), "A": (1, 1.0), "P": (1, -1.0), "S": (2, 1.0), "I": (2, -1.0)}


@dataclass(frozen=True)
class PreparationPlan:
    """From the `source` grid of a scan to the `target` grid of a network, and back.

    Both grids lie in the same patient space, so either way is the same linear map between their indices.
    """

    source: Geometry
    target: Geometry

    def target_to_source(self) -> npt.NDArray[np.float64]:
        """Return the (3, 4) map from target indices (i,j,k,1) to fractional source indices."""
        return _between(self.target, self.source)

    def source_to_target(self) -> npt.NDArray[np.float64]:
        """Return the (3, 4) map from source indices (i,j,k,1) to fractional target indices: the way back of labels."""
        return _between(self.source, self.target)

    def prepare(self, volume: Volume, background: float) -> Volume:
        """Return the scan on the target grid, float32, linearly interpolated; outside the scan it is `background`.

        Where the target is coarser than the scan, the scan is blurred first along each of its axes so that the noise
        between target voxels is averaged and not picked (see `antialias_sigma_voxels`). Raises GeometryError for
        another grid than the plan's source.
        """
        from medseg.kernels.filters import gaussian
        from medseg.kernels.resample import resample_linear

        if not volume.geometry.matches(self.source):
            raise GeometryError("this plan was made for another grid: make one for the geometry of this volume")
        array = np.asarray(volume.array.T, dtype=np.float32)
        sigma = antialias_sigma_voxels(self.source, self.target)
        if any(sigma):
            array = gaussian(array, sigma[::-1])
        step = reversed_axes(self.target_to_source())
        prepared = resample_linear(array, step[:, :3], step[:, 3], self.target.shape[::-1], background)
        return volume.with_array(prepared.T, self.target)


@dataclass(frozen=True)
class CropPlan:
    """From the `source` grid of a scan to a `box` of it, and back; no voxel is interpolated on either way."""

    source: Geometry
    box: Box

    @property
    def target(self) -> Geometry:
        """The grid of the cropped scan."""
        return self.source.cropped(self.box.start, self.box.shape)

    def prepare(self, volume: Volume) -> Volume:
        """Return the scan within the box; raises GeometryError for another grid than the plan's source."""
        if not volume.geometry.matches(self.source):
            raise GeometryError("this plan was made for another grid: make one for the geometry of this volume")
        return crop_to(volume, self.box)

    def restore(self, label_map: LabelMap) -> LabelMap:
        """Return a label map made on the cropped grid on the source grid, background around it; raises GeometryError for another grid."""
        if not label_map.geometry.matches(self.target):
            raise GeometryError("this label map does not lie on the grid that the plan crops to: restore it with the plan it was made with")
        whole = np.zeros(self.source.shape, label_map.array.dtype, order="F")
        whole[self.box.slices] = label_map.array
        return label_map.with_array(whole, self.source)


def plan_crop(geometry: Geometry, box: Box) -> CropPlan:
    """Return the plan that crops a scan's grid to a box, cut at the grid; raises GeometryError where nothing of it lies on the grid.

    >>> plan = plan_crop(Geometry((9, 9, 9), np.eye(4)), Box((4, 4, -3), (12, 6, 5)))
    >>> plan.target.shape, plan.target.origin_mm
    ((5, 2, 5), (4.0, 4.0, 0.0))
    """
    return CropPlan(geometry, box.within(geometry.shape))


def plan_preparation(
    geometry: Geometry, spacing_mm: Sequence[float], orientation: str = "RAS", alignment: Alignment = "patient"
) -> PreparationPlan:
    """Return the plan for a scan's grid: right-angled axes in `orientation`, voxels of `spacing_mm` (i,j,k), same extent.

    With `alignment` "patient" the target axes are the patient axes themselves, so an oblique or tilted scan is turned
    upright; with "grid" they are the right-angled axes nearest to the scan's own. The box of target voxels covers the
    box of source voxels and has the same centre. Raises GeometryError where that takes impossibly many voxels.

    >>> plan = plan_preparation(Geometry((10, 10, 4), np.diag([-1.0, 1.0, 5.0, 1.0])), (2.0, 2.0, 2.0))
    >>> plan.target.shape, plan.target.orientation, plan.target.spacing_mm
    ((5, 5, 10), 'RAS', (2.0, 2.0, 2.0))
    """
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape != (3,) or not np.isfinite(spacing).all() or (spacing <= 0).any():
        raise GeometryError(f"a spacing is three positive numbers in mm, got {tuple(spacing_mm)}")
    direction = _target_direction(geometry, orientation, alignment)
    corners = np.stack(np.meshgrid(*([-0.5, n - 0.5] for n in geometry.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    along = geometry.index_to_world(corners) @ direction
    low, high = along.min(axis=0), along.max(axis=0)
    counts = np.maximum(1, np.ceil((high - low) / spacing - _OVERHANG))
    if counts.prod() > MOST_TARGET_VOXELS:
        raise GeometryError(
            f"at {tuple(spacing.tolist())} mm this scan would have {counts.prod():.3g} voxels "
            f"(extent {np.round(high - low).tolist()} mm): check its spacing, or crop it"
        )
    first = (low + high) / 2 - (counts - 1) / 2 * spacing
    affine = np.eye(4)
    affine[:3, :3] = direction * spacing
    affine[:3, 3] = direction @ first
    i, j, k = (int(n) for n in counts)
    return PreparationPlan(geometry, Geometry((i, j, k), affine, geometry.frame_of_reference_uid))


def antialias_sigma_voxels(source: Geometry, target: Geometry) -> tuple[float, float, float]:
    """Return the Gaussian along i, j, k of the source, in voxels, that readies it for coarser target voxels.

    Its variance is what the box of a target voxel has more along that axis than the box of a source voxel,
    (t² - s²) / 12 mm²; 0 along axes that do not become coarser.
    """
    sigma = []
    for axis, s in zip(source.direction.T, source.spacing_mm, strict=True):
        t = float(np.linalg.norm(target.direction.T @ axis * np.asarray(target.spacing_mm)))
        sigma.append(float(np.sqrt(max(0.0, t * t - s * s) / 12) / s) if t > s * (1 + _OVERHANG) else 0.0)
    return sigma[0], sigma[1], sigma[2]


def reversed_axes(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return a (3, 4) index map for axes in the order (k,j,i) instead of (i,j,k)."""
    return np.ascontiguousarray(np.hstack([matrix[::-1, 2::-1], matrix[::-1, 3:]]))


def _between(first: Geometry, second: Geometry) -> npt.NDArray[np.float64]:
    matrix = np.linalg.inv(second.affine)[:3, :3] @ first.affine[:3, :3]
    start = second.world_to_index(first.affine[:3, 3])
    return np.hstack([matrix, start[:, None]])


def _target_direction(geometry: Geometry, orientation: str, alignment: Alignment) -> npt.NDArray[np.float64]:
    wanted = [_AXES[code] for code in orientation]
    direction = np.zeros((3, 3))
    if alignment == "patient":
        for column, (axis, sign) in enumerate(wanted):
            direction[axis, column] = sign
        return direction
    own = [_AXES[code] for code in geometry.orientation]
    axes = [axis for axis, _ in own]
    for column, (axis, sign) in enumerate(wanted):
        place = axes.index(axis)
        direction[:, column] = geometry.direction[:, place] * (sign * own[place][1])
    # The nearest right-angled system to the scan's axes (polar decomposition) keeps a sheared scan's mean direction.
    left, _, right = np.linalg.svd(direction)
    return np.asarray(left @ right)
