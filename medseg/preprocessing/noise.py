"""How noisy a scan is, and what the filters against noise need of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError, ParameterError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.preprocessing.denoise import refuse_non_finite

WIDEST = 1e18  # squared differences of intensities must stay within float32
MOST_NEIGHBOURS = 20_000
_ENOUGH_VOXELS = 2_000_000  # planes are left out beyond this: a median of that many residuals is steady
_MAD_TO_DEVIATION = 1.4826  # median absolute deviation of a normal distribution to its standard deviation


def noise_deviation(image: npt.NDArray[Any]) -> float:
    """Return the standard deviation of white noise in an image (k,j,i): robust, from what neighbours do not explain.

    Each voxel is compared with the mean of its neighbours along the axes (doi:10.1093/biomet/73.3.625); voxels that equal
    it exactly, as a background of zeros does, do not count. 0 where nothing varies. Noise that is shared between
    neighbours, as after interpolation, is seen too small.

    >>> noise = np.random.default_rng(0).normal(50, 4, (20, 20, 20))
    >>> bool(abs(noise_deviation(noise) - 4) < 0.2)
    True
    """
    axes = [axis for axis, length in enumerate(image.shape) if length > 2]
    if not axes:
        return 0.0
    inner = tuple(slice(1, -1) if axis in axes else slice(None) for axis in range(3))
    every = max(1, image.size // _ENOUGH_VOXELS)
    planes = range(1, image.shape[0] - 1, every) if 0 in axes else range(image.shape[0])
    found = []
    for k in planes:
        block = np.asarray(image[max(k - 1, 0) : k + 2] if 0 in axes else image[k : k + 1], np.float64)
        around = np.zeros(block[inner].shape)
        for axis in axes:
            for step in (slice(None, -2), slice(2, None)):
                around += block[tuple(step if n == axis else part for n, part in enumerate(inner))]
        count = 2 * len(axes)
        residual = (block[inner] - around / count) * np.sqrt(count / (count + 1))
        found.append(np.abs(residual[residual != 0]))
    residuals = np.concatenate(found)
    return float(_MAD_TO_DEVIATION * np.median(residuals)) if residuals.size else 0.0


def refuse_unfilterable(array: npt.NDArray[Any], method_name: str) -> None:
    """Raise InputError where an array holds NaN or infinity, or intensities too far apart to compare them in float32."""
    refuse_non_finite(array, method_name)
    if float(array.max()) - float(array.min()) > WIDEST:
        raise InputError(f"{method_name}: intensities lie more than {WIDEST:g} apart; clip the scan first")


def without_noise(volume: Volume, method_name: str) -> Volume:
    """Return a scan in which no noise was found as it is, as float32, with the finding NO_NOISE_FOUND."""
    message = f"{method_name}: no noise was found in the scan, so it was left as it is; give the noise or edge yourself to filter it"
    findings = (*volume.findings, Finding("NO_NOISE_FOUND", Severity.INFO, message))
    return volume.with_array(np.asarray(volume.array, np.float32), findings=findings)


def neighbours_within(geometry: Geometry, radius_mm: float, method_name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the steps to all voxels within a distance, [n, 3] in voxels (k,j,i), and how far they are in mm.

    Exact on every grid, sheared ones included; steps longer than the grid are left out. Raises ParameterError where
    there are too many to be filtered in a sensible time.

    >>> steps, distance_mm = neighbours_within(Geometry((9, 9, 9), np.diag([1.0, 1.0, 5.0, 1.0])), 1.0, "bilateral")
    >>> steps.tolist(), distance_mm.tolist()
    ([[0, -1, 0], [0, 0, -1], [0, 0, 0], [0, 0, 1], [0, 1, 0]], [1.0, 1.0, 0.0, 1.0, 1.0])
    """
    inverse = np.linalg.inv(geometry.affine[:3, :3])
    reach = np.floor(radius_mm * np.linalg.norm(inverse, axis=1) + 1e-9)
    reach = np.minimum(reach, np.asarray(geometry.shape) - 1).astype(int)
    cube = int(np.prod(2 * reach + 1))
    if cube > 4 * MOST_NEIGHBOURS:
        raise ParameterError(
            f"{method_name}: {radius_mm:g} mm reach about {cube} voxels around each on this grid, too many: choose a smaller reach, "
            "or resample the scan to a coarser spacing first"
        )
    i, j, k = (np.arange(-n, n + 1) for n in reach)
    steps = np.stack(np.meshgrid(k, j, i, indexing="ij"), axis=-1).reshape(-1, 3)
    distance_mm = np.linalg.norm(steps[:, ::-1] @ geometry.affine[:3, :3].T, axis=1)
    near = distance_mm <= radius_mm * (1 + 1e-9)
    return steps[near], distance_mm[near]
