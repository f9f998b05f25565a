"""Filters that show edges, with derivatives per mm on any grid."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number
from medseg.preprocessing.denoise import gaussian_mm, refuse_non_finite

FloatArray = npt.NDArray[np.float32]


class SobelParams(MethodParams):
    """Parameters of `sobel`."""

    part: Literal["magnitude", "right", "anterior", "superior"] = Field(
        "magnitude", description="Length of the gradient, or its part towards one direction of the patient"
    )


@method("sobel", stage=Stage.PREPROCESS, reference="doi:10.1109/TPAMI.1981.4767105")
def sobel(volume: Volume, params: SobelParams) -> Volume:
    """Replace a scan by its gradient in intensity per mm, from the 3×3×3 Sobel operator.

    Along each axis the central difference is taken and weighted 1-2-1 along the two others (the weights of a derivative sum
    to one voxel step, so the values are true slopes: on a linear ramp the result is exact). Unequal spacing, oblique,
    left-handed and sheared grids are honoured; beyond the border the nearest voxel counts, so the outermost layer sees half
    the slope. The result is float32. Raises InputError where the scan holds NaN or infinity.

    >>> ramp = np.zeros((5, 3, 3), np.int16) + np.arange(0, 50, 10, dtype=np.int16)[:, None, None]
    >>> slope = sobel(Volume(ramp, Geometry((5, 3, 3), np.diag([2.0, 1, 1, 1]))), SobelParams())
    >>> slope.array[:, 1, 1].tolist()
    [2.5, 5.0, 5.0, 5.0, 2.5]
    """
    from medseg.kernels import edges as kernel

    refuse_non_finite(volume.array, "sobel")
    right, anterior, superior = kernel.sobel(volume.array.T, to_voxels(volume.geometry))
    # hypot: squares of large intensities would leave float32
    whole = np.hypot(np.hypot(right, anterior), superior) if params.part == "magnitude" else None
    result = {"magnitude": whole, "right": right, "anterior": anterior, "superior": superior}[params.part]
    return volume.with_array(np.asarray(result, np.float32).T, unit=per_mm(volume.unit))


class LaplacianOfGaussianParams(MethodParams):
    """Parameters of `laplacian-of-gaussian`."""

    sigma_mm: Number = Field(
        2.0, description="Standard deviation of the Gaussian: edges and blobs of this size answer", unit="mm", gt=0, le=100
    )
    scale_normalised: bool = Field(
        False, description="Multiply by sigma squared, so that blobs of different sizes answer alike and the unit is that of the scan"
    )


@method("laplacian-of-gaussian", stage=Stage.PREPROCESS, reference="doi:10.1098/rspb.1980.0020")
def laplacian_of_gaussian(volume: Volume, params: LaplacianOfGaussianParams) -> Volume:
    """Replace a scan by the Laplacian of its Gaussian blur, in intensity per mm²: negative on bright blobs, 0 on edges.

    The blur is that of `gaussian` (kernel cut at 4 sigma), the Laplacian the sum of second differences, exact for every
    polynomial of second degree; where sigma is under two voxels they underrate the true curvature (by about a quarter at
    one voxel). Unequal spacing, oblique, left-handed and sheared grids are honoured; beyond the border the nearest voxel
    counts. The result is float32. Raises InputError where the scan holds NaN or infinity.

    >>> dot = np.zeros((9, 9, 9), np.int16)
    >>> dot[4, 4, 4] = 1000
    >>> answer = laplacian_of_gaussian(Volume(dot, Geometry((9, 9, 9), np.eye(4))), LaplacianOfGaussianParams(sigma_mm=1)).array
    >>> bool(answer[4, 4, 4] == answer.min() < 0)
    True
    """
    refuse_non_finite(volume.array, "laplacian-of-gaussian")
    result = laplacian_mm(volume.array.T, volume.geometry, params.sigma_mm)
    if params.scale_normalised:
        result *= np.float32(params.sigma_mm**2)
        return volume.with_array(result.T)
    return volume.with_array(result.T, unit=per_mm(volume.unit, "mm2"))


def laplacian_mm(image: npt.NDArray[Any], geometry: Geometry, sigma_mm: float) -> FloatArray:
    """Return the Laplacian of the Gaussian blur of an array (k,j,i) that lies on a grid, in intensity per mm²."""
    from medseg.kernels import edges

    smooth, _ = smoothed(image, geometry, sigma_mm)
    return edges.laplacian(smooth, to_voxels(geometry))


def smoothed(image: npt.NDArray[Any], geometry: Geometry, sigma_mm: float) -> tuple[FloatArray, float]:
    """Return an array (k,j,i) less its middle value, blurred where sigma is above 0, as float32; and that value.

    Only differences count to an edge: about its middle a scan keeps more digits in float32.
    """
    low, high = float(image.min()), float(image.max())
    middle = low / 2 + high / 2
    exact = np.float32 if image.dtype.itemsize <= 2 else np.float64
    centred = np.subtract(image, middle, dtype=exact).astype(np.float32, copy=False)
    if sigma_mm > 0:
        return gaussian_mm(centred, geometry, sigma_mm), middle
    return centred, middle


def to_voxels(geometry: Geometry) -> npt.NDArray[np.float64]:
    """Return the matrix that turns a step in mm (R,A,S) into a step in voxels (i,j,k)."""
    return np.asarray(np.linalg.inv(geometry.affine[:3, :3]))


def per_mm(unit: str, length: str = "mm") -> str:
    """Return the unit of a derivative: "HU" becomes "HU/mm"."""
    return f"{unit}/{length}" if unit else ""
