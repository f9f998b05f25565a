"""Filters against noise, with sizes in mm where the method has one."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number

TRUNCATE = 4.0  # a Gaussian is cut at this many standard deviations: what lies beyond weighs less than 1e-4
LARGEST = 1e38  # differences and sums of three intensities still fit float32


class GaussianParams(MethodParams):
    """Parameters of `gaussian`."""

    sigma_mm: Number = Field(1.0, description="Standard deviation of the Gaussian, the same in all directions", unit="mm", gt=0, le=100)


@method("gaussian", stage=Stage.PREPROCESS, reference="doi:10.1098/rspb.1980.0020")
def gaussian(volume: Volume, params: GaussianParams) -> Volume:
    """Blur a scan with a Gaussian of the same width in mm in all directions.

    The kernel is sampled at the voxel centres and cut at 4 sigma; at the border the nearest voxel counts. Unequal spacing
    and shear are honoured. The result is float32. Raises InputError where the scan holds NaN or infinity.

    >>> scan = Volume(np.full((3, 3, 3), 7.0), Geometry((3, 3, 3), np.eye(4)))
    >>> bool(np.allclose(gaussian(scan, GaussianParams(sigma_mm=2)).array, 7))
    True
    """
    refuse_non_finite(volume.array, "gaussian")
    return volume.with_array(gaussian_mm(volume.array.T, volume.geometry, params.sigma_mm).T)


class MedianParams(MethodParams):
    """Parameters of `median`."""

    radius_voxels: Literal[1, 2] = Field(
        1, description="Half the edge of the cube of neighbours: 1 takes 27 voxels, 2 takes 125", unit="voxels"
    )


@method("median", stage=Stage.PREPROCESS, reference="doi:10.1109/TASSP.1979.1163188")
def median(volume: Volume, params: MedianParams) -> Volume:
    """Replace each voxel by the median of the cube around it, which removes single outliers and keeps edges.

    At the border the nearest voxel counts; the dtype stays. Raises InputError where the scan holds NaN or infinity.

    >>> noisy = np.zeros((3, 3, 3), np.int16)
    >>> noisy[1, 1, 1] = 900
    >>> int(median(Volume(noisy, Geometry((3, 3, 3), np.eye(4))), MedianParams()).array.max())
    0
    """
    from medseg.kernels import filters

    refuse_non_finite(volume.array, "median")
    return volume.with_array(filters.median(volume.array.T, params.radius_voxels).T)


def gaussian_mm(image: npt.NDArray[Any], geometry: Geometry, sigma_mm: float) -> npt.NDArray[np.float32]:
    """Blur an array (k,j,i) that lies on a grid (or on a box of it) with a Gaussian given in mm, as float32."""
    from medseg.kernels import filters

    if geometry.is_sheared:
        return _gaussian_sheared(image, geometry, sigma_mm)
    i, j, k = geometry.spacing_mm
    return filters.gaussian(image, (sigma_mm / k, sigma_mm / j, sigma_mm / i), TRUNCATE)


def gaussian_reach_voxels(geometry: Geometry, sigma_mm: float) -> tuple[int, int, int]:
    """Return how many voxels along i, j, k a Gaussian given in mm reaches."""
    inverse = np.linalg.inv(geometry.affine[:3, :3])
    i, j, k = (int(np.ceil(TRUNCATE * sigma_mm * width)) for width in np.linalg.norm(inverse, axis=1))
    return i, j, k


def _gaussian_sheared(image: npt.NDArray[Any], geometry: Geometry, sigma_mm: float) -> npt.NDArray[np.float32]:
    """A Gaussian that is round in the patient is no product of three on a sheared grid: the kernel is laid out in 3D."""
    from scipy.signal import oaconvolve

    reach = gaussian_reach_voxels(geometry, sigma_mm)[::-1]
    steps = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1)
    offsets_mm = steps[..., ::-1] @ geometry.affine[:3, :3].T
    weights = np.exp(-0.5 * (offsets_mm**2).sum(axis=-1) / sigma_mm**2)
    padded = np.pad(image.astype(np.float32, copy=False), [(n, n) for n in reach], mode="edge")
    blurred = oaconvolve(padded, (weights / weights.sum()).astype(np.float32), mode="valid")
    return np.ascontiguousarray(blurred, dtype=np.float32)


def refuse_non_finite(array: npt.NDArray[Any], method_name: str) -> None:
    """Raise InputError where an array holds NaN, infinity or intensities too great to be added in float32."""
    if array.dtype.kind == "f" and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        count = int(array.size - np.count_nonzero(np.isfinite(array)))
        raise InputError(f"{method_name}: {count} of {array.size} voxels are NaN or infinite; replace them by a number before filtering")
    if array.dtype.kind == "f" and max(-float(array.min()), float(array.max())) > LARGEST:
        raise InputError(
            f"{method_name}: intensities go beyond {LARGEST:g}, where float32 (to 3.4e38) cannot add them; clip the scan first"
        )
