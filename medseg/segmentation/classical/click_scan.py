"""What `click-lesion` looks at: the surroundings of a point, fine near it and in larger voxels further away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.preprocessing.crop import Box, plane_distance_mm
from medseg.preprocessing.denoise import gaussian_mm

FINE_MM = 20.0  # rays up to here are read from the scan's own voxels
COARSE_MM = 2.0  # further out a voxel of this size serves: neighbouring rays are wider apart than that
SAMPLES = 2  # along each axis, that stand for one of these
SMOOTHING_MM = 1.0
SOFT_TISSUE_HU = (-160.0, 240.0)  # CT is looked at in this window: skin and air beyond fat, or bone, do not blind
OUTSIDE_WINDOW = 0.05  # share of a difference that is left outside the window
LUNG_HU = (-940.0, -500.0)  # a click is in the lung, where the window is left away, ...
LUNG_SHARE = 0.15  # ... if this share of the voxels around it reads so
RADII = 48  # on each ray, a constant factor apart
WINDOW = 3  # radii on each side of an edge


@dataclass(frozen=True)
class Intensities:
    """How intensities are read: (value - offset) * scale, and beyond the `window` (low, high) hardly any change."""

    offset: float
    scale: float
    window: tuple[float, float] | None = None


@dataclass(frozen=True)
class Patch:
    """A smoothed part of the scan: image (k,j,i) on its own grid."""

    image: npt.NDArray[np.float32]
    geometry: Geometry


@dataclass(frozen=True)
class Rays:
    """Intensities along rays from a centre: values, edges and whether they lie in the scan, (V, M), at the radii `grid`."""

    centre_mm: npt.NDArray[np.float64]
    grid: npt.NDArray[np.float64]
    values: npt.NDArray[np.float32]
    edges: npt.NDArray[np.float32]
    within: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ClickScan:
    """The scan around a click; least deviation `floor`, radii of all rays `grid`."""

    volume: Volume
    fine: Patch
    coarse: Patch
    values: Intensities
    floor: float
    grid: npt.NDArray[np.float64]

    def rays_from(self, centre_mm: npt.NDArray[np.float64]) -> Rays:
        """Return what the rays from a point meet."""
        from medseg.kernels.star_fit import signed_edges
        from medseg.kernels.star_surface import sample_rays, smooth_over_rays, sphere

        ball = sphere(2)
        values = np.empty((len(ball.directions), self.grid.size), np.float32)
        radii = np.broadcast_to(self.grid, values.shape)
        far = int(np.searchsorted(self.grid, FINE_MM * 0.9))
        for part, first in ((self.fine, 0), (self.coarse, far)):
            geometry = part.geometry
            sample_rays(
                part.image, geometry.world_to_index(centre_mm)[::-1].copy(), steps_per_mm(geometry, ball.directions), radii, values, first
            )
        index = self.volume.geometry.world_to_index(centre_mm + ball.directions[:, None] * self.grid[:, None])
        within: npt.NDArray[np.bool_] = np.all((index >= -0.5) & (index <= np.array(self.volume.geometry.shape) - 0.5), axis=-1)
        values = smooth_over_rays(values, ball.neighbours)
        return Rays(centre_mm, self.grid, values, signed_edges(values, WINDOW), within)


def steps_per_mm(geometry: Geometry, directions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Steps of one mm in voxels (k,j,i): right on every grid, sheared ones too."""
    return np.ascontiguousarray((directions @ np.linalg.inv(geometry.affine[:3, :3]).T)[:, ::-1])


def click_scan(volume: Volume, centre_mm: npt.NDArray[np.float64], largest_mm: float, kind: str = "") -> ClickScan:
    """Prepare the surroundings of a point for lesions of up to `largest_mm` across; raises InputError where nothing differs there."""
    geometry = volume.geometry
    reach_mm = 0.8 * largest_mm
    box = box_around(geometry, centre_mm, min(FINE_MM, reach_mm))
    near = volume.array[box.slices]
    finite = near[np.isfinite(near)] if near.dtype.kind == "f" else near.ravel()
    extent = float(finite.max()) - float(finite.min()) if finite.size else 0.0
    if not extent > 0:
        raise InputError(
            f"click-lesion: all voxels within {min(FINE_MM, reach_mm):.0f} mm of the click have the same intensity (or none): "
            "there is no border to find; move the click onto the lesion"
        )
    scale = 1.0 if 1e-2 < extent < 1e5 else 1e3 / min(extent, 1e300)
    offset, noise = _level_and_noise(volume, centre_mm, finite)
    voxel_mm = geometry.voxel_volume_mm3 ** (1 / 3)
    smallest = max(0.8 * voxel_mm, min(1.2, reach_mm / 20))
    grid = np.geomspace(smallest, max(reach_mm, 4 * smallest), RADII)
    window = None
    if kind == "CT" and volume.unit in ("HU", "") and scale == 1.0 and ((near > LUNG_HU[0]) & (near < LUNG_HU[1])).mean() < LUNG_SHARE:
        window = (SOFT_TISSUE_HU[0] - offset, SOFT_TISSUE_HU[1] - offset)
    reading = Intensities(offset, scale, window)
    fine = patch(volume, box, (1, 1, 1), reading, SMOOTHING_MM)
    coarse = fine
    if reach_mm > FINE_MM:
        coarse = patch(volume, box_around(geometry, centre_mm, 1.05 * reach_mm), factors_for(geometry, COARSE_MM), reading, SMOOTHING_MM)
    floor = max(0.25 * noise * scale, 2e-4 * min(extent * scale, 1e6), 1e-6)
    return ClickScan(volume, fine, coarse, reading, floor, grid)


def _level_and_noise(volume: Volume, centre_mm: npt.NDArray[np.float64], finite: npt.NDArray[Any]) -> tuple[float, float]:
    """Median, and deviation from its median, of the 7 x 7 x 7 voxels around a point (or of what is finite near it)."""
    at = box_around(volume.geometry, centre_mm, 0.0).start
    i, j, k = (slice(max(n - 3, 0), n + 4) for n in at)
    near = volume.array[i, j, k]
    values = near[np.isfinite(near)]
    with np.errstate(over="ignore", invalid="ignore"):
        values = (values if values.size else finite).astype(np.float64)
        level = float(np.median(values))
        steps = np.abs(np.diff(near.astype(np.float64), axis=0))
        steps = steps[np.isfinite(steps)]
        # a lesion smaller than the box spreads the values, hardly the steps between neighbours (which noise of a scanner shares)
        spread = float(np.median(np.abs(values - level)))
        return level, 1.48 * (min(spread, 1.5 * float(np.median(steps)) / 2**0.5) if steps.size else spread)


def factors_for(geometry: Geometry, size_mm: float) -> tuple[int, int, int]:
    """Return how many voxels along i, j, k make one of about a size."""
    i, j, k = (max(1, int(min(size_mm / spacing + 0.25, 1e6))) for spacing in geometry.spacing_mm)
    return i, j, k


def box_around(geometry: Geometry, centre_mm: npt.NDArray[np.float64], reach_mm: float) -> Box:
    """Return the voxels within a distance of a point, cut at the scan; never empty."""
    at = np.clip(np.rint(geometry.world_to_index(centre_mm)).astype(int), 0, np.array(geometry.shape) - 1)
    with np.errstate(over="ignore"):
        voxels = np.minimum(np.ceil(reach_mm / plane_distance_mm(geometry)), max(geometry.shape)).astype(int)
    start, stop = at - voxels, at + voxels + 1
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2])).within(geometry.shape)


def patch(volume: Volume, box: Box, factors: tuple[int, ...], reading: Intensities, smoothing_mm: float) -> Patch:
    """Return a box of the scan in voxels `factors` times as large, smoothed."""
    from medseg.kernels.block_mean import block_mean

    image: npt.NDArray[Any] = block_mean(
        volume.array.T, box.start[::-1], box.stop[::-1], factors[::-1], reading.offset, reading.scale, SAMPLES
    )
    if reading.window is not None:
        low, high = reading.window
        image += (OUTSIDE_WINDOW - 1) * (np.minimum(image - low, 0) + np.maximum(image - high, 0))
    middle = [start + (factor - 1) / 2 for start, factor in zip(box.start, factors, strict=True)]
    geometry = volume.geometry.transformed(np.diag(factors), middle, image.shape[::-1])
    return Patch(gaussian_mm(image, geometry, smoothing_mm), geometry)
