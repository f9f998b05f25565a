"""What a registration works on: a scan at 8, 4 and 2 mm with the body in it, as SimpleITK images in RAS+ mm."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medseg.core.errors import InputError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume

FloatArray = npt.NDArray[np.float64]

CT_LIMITS_HU = (-1000.0, 500.0)  # metal and the calibration of air beyond these say nothing about anatomy
CT_BODY_HU = -400.0  # skin and everything denser
PERCENTILES = (0.5, 99.5)
BODY_MARGIN_MM = 10.0  # of air around the body: its outline is what aligns scans best
COUCH_MM = 8.0  # thinner things (couch, blanket, tubes) are no body
LEAST_VOXELS = 4
_SAMPLES = 1 << 18
_BODY_POINTS = 4000


@dataclass(frozen=True, eq=False)
class Level:
    """A scan at one voxel size: intensities and body, both (i,j,k), on a grid with axes at right angles."""

    array: npt.NDArray[np.float32]
    body: npt.NDArray[np.bool_]
    geometry: Geometry

    @cached_property
    def image(self) -> Any:
        """The intensities as a SimpleITK image whose physical points are RAS+ mm."""
        return _sitk(self.array, self.geometry)

    @cached_property
    def mask(self) -> Any:
        """The body and the air around it as a SimpleITK image."""
        reach = [max(1, round(BODY_MARGIN_MM / step)) for step in self.geometry.spacing_mm]
        grown = ndimage.maximum_filter(self.body.astype(np.uint8), size=[2 * n + 1 for n in reach])
        return _sitk(grown, self.geometry)


@dataclass(frozen=True, eq=False)
class Pyramid:
    """A scan from coarse to fine."""

    levels: tuple[Level, ...]

    @property
    def centre_mm(self) -> FloatArray:
        """Middle of the grid."""
        grid = self.levels[0].geometry
        return grid.index_to_world((np.asarray(grid.shape) - 1) / 2)

    @cached_property
    def body_centre_mm(self) -> FloatArray:
        """Centre of mass of the body."""
        return np.asarray(self.body_points_mm.mean(axis=0))

    @cached_property
    def body_points_mm(self) -> FloatArray:
        """Centres of voxels of the body, spread evenly over it, (n, 3)."""
        level = self.levels[0]
        index = np.argwhere(level.body)
        return level.geometry.index_to_world(index[:: max(1, len(index) // _BODY_POINTS)])


def pyramid(volume: Volume, spacing_mm: float, name: str) -> Pyramid:
    """Return a scan at 8, 4 and `spacing_mm`; raises InputError where it holds nothing to register."""
    if min(volume.geometry.shape) < LEAST_VOXELS:
        raise InputError(
            f"{name} has {min(volume.geometry.shape)} voxels along one axis: a registration needs a whole scan of at least {LEAST_VOXELS}; "
            "say --registration none where both already lie in one frame"
        )
    volume = _right_angled(volume)
    low, high = _limits(volume)
    if not high > low:
        raise InputError(f"{name} has the same intensity everywhere: there is nothing to register; check that it is the scan")
    levels: list[Level] = []
    for wanted in (spacing_mm, 4.0, 8.0):
        if levels and wanted <= spacing_mm:
            continue
        source = levels[-1] if levels else None
        array, geometry = (source.array, source.geometry) if source else (volume.array, volume.geometry)
        array, geometry = averaged(array, geometry, wanted, (low, high))
        if source is not None and geometry.shape == source.geometry.shape:
            continue  # a coarse scan has no finer level
        levels.append(Level(array, _body(array, geometry, volume.unit == "HU", (low, high)), geometry))
    if not levels[-1].body.any():
        raise InputError(f"no body was found in {name}: check that it is the scan; say --registration none where both lie in one frame")
    return Pyramid(tuple(reversed(levels)))


def averaged(
    array: npt.NDArray[Any], geometry: Geometry, spacing_mm: float, limits: tuple[float, float]
) -> tuple[npt.NDArray[np.float32], Geometry]:
    """Return the mean of blocks of voxels about `spacing_mm` wide, clipped to `limits`; the last block may be smaller.

    >>> grid = Geometry((8, 1, 1), np.eye(4))
    >>> values, coarse = averaged(np.arange(8.0).reshape(8, 1, 1), grid, 2.0, (0.0, 9.0))
    >>> values.ravel().tolist(), coarse.origin_mm
    ([0.5, 2.5, 4.5, 6.5], (0.5, 0.0, 0.0))
    """
    factor = [max(1, int(spacing_mm / step + 0.25)) for step in geometry.spacing_mm]
    factor = [min(n, max(1, length // LEAST_VOXELS)) for n, length in zip(factor, geometry.shape, strict=True)]
    shape = [-(-length // n) for length, n in zip(geometry.shape, factor, strict=True)]
    out = np.empty(shape, np.float32, order="F")
    for k in range(shape[2]):  # a slab at a time: a copy of a large scan in float would not fit
        slab = np.asarray(array[:, :, k * factor[2] : (k + 1) * factor[2]], dtype=np.float32)
        slab = np.clip(np.nan_to_num(slab, nan=limits[0], posinf=limits[1], neginf=limits[0]), *limits).mean(axis=2)
        slab = np.pad(slab, [(0, shape[n] * factor[n] - geometry.shape[n]) for n in (0, 1)], mode="edge")
        out[:, :, k] = slab.reshape(shape[0], factor[0], shape[1], factor[1]).mean(axis=(1, 3))
    return out, geometry.transformed(np.diag(factor), (np.asarray(factor) - 1) / 2, shape)


def sampled_at(volume: Volume, points_mm: FloatArray) -> npt.NDArray[np.float32]:
    """Return the intensities at points (n, 3) in RAS+ mm, linear; the lowest of the scan outside."""
    index = volume.geometry.world_to_index(points_mm).T
    array = np.nan_to_num(np.asarray(volume.array, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return np.asarray(ndimage.map_coordinates(array, index, order=1, mode="constant", cval=float(array.min()), output=np.float32))


def _limits(volume: Volume) -> tuple[float, float]:
    """The intensities between which there is something to see."""
    if volume.unit == "HU" or volume.modality == "CT":
        return CT_LIMITS_HU
    flat = volume.array.reshape(-1, order="F")
    values = flat[:: max(1, flat.size // _SAMPLES)].astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 0.0
    low, high = (float(v) for v in np.percentile(values, PERCENTILES))
    return (low, high) if high > low else (float(values.min()), float(values.max()))


def _body(array: npt.NDArray[np.float32], geometry: Geometry, is_hu: bool, limits: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """The patient: the largest piece brighter than the background, without couch and with its holes filled."""
    threshold = CT_BODY_HU if is_hu else _background_limit(array, limits)
    mask = array > threshold
    reach = [max(1, round(COUCH_MM / 2 / step)) if step < COUCH_MM else 0 for step in geometry.spacing_mm]
    # thin things go along the slices only: thick slices of a scan have no third dimension to spare
    box = np.ones([2 * n + 1 for n in reach], bool)
    core = ndimage.binary_opening(np.pad(mask, [(n, n) for n in reach], mode="edge"), box)
    core = core[tuple(slice(n, n + length) for n, length in zip(reach, mask.shape, strict=True))]
    labels, count = ndimage.label(core if core.any() else mask)
    if not count:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    body = labels == int(sizes.argmax())
    for k in range(body.shape[2]):
        body[:, :, k] = ndimage.binary_fill_holes(body[:, :, k])
    return np.asarray(body)


def _background_limit(array: npt.NDArray[np.float32], limits: tuple[float, float]) -> float:
    """Otsu's threshold of the square roots: the air of MR and PET is a narrow peak at the low end, tissue a wide one.

    What a scanner or program filled up with its lowest value was never measured, and would look like air beside the real air.
    """
    values = np.clip(array.ravel(order="K") - limits[0], 0, None)
    measured = values[values > values.min()]
    counts, edges = np.histogram(np.sqrt(measured if measured.size > values.size // 4 else values), bins=128)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    mass = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (mass / below - (mass[-1] - mass) / above) ** 2
    best = float(edges[1 + int(np.nanargmax(np.where(np.isfinite(between), between, -1)))])
    return limits[0] + best**2


def _right_angled(volume: Volume) -> Volume:
    """A scan whose axes are at right angles: that of a tilted gantry is resampled, since ITK knows no shear."""
    if not volume.geometry.is_sheared:
        return volume
    from medseg.preprocessing.resample import resample_volume

    axes, upper = np.linalg.qr(volume.geometry.direction)
    axes = axes * np.sign(np.diag(upper))
    corners = volume.geometry.corners_mm() @ axes
    low, high = corners.min(axis=0), corners.max(axis=0)
    step = np.asarray(volume.geometry.spacing_mm)
    shape = [int(n) + 1 for n in np.ceil((high - low) / step - 1e-6)]
    affine = np.eye(4)
    affine[:3, :3] = axes * step
    affine[:3, 3] = axes @ low
    grid = Geometry((shape[0], shape[1], shape[2]), affine, volume.geometry.frame_of_reference_uid)
    return resample_volume(volume, grid)


def _sitk(array: npt.NDArray[Any], geometry: Geometry) -> Any:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(geometry.spacing_mm)
    image.SetOrigin(geometry.origin_mm)
    image.SetDirection(geometry.direction.ravel().tolist())
    return image
