"""Smoothing over neighbours that are alike: the bilateral filter."""

from __future__ import annotations

import numpy as np

from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number
from medseg.preprocessing.noise import neighbours_within, noise_deviation, refuse_unfilterable, without_noise

TRUNCATE = 2.0  # neighbours beyond this many sigma_mm weigh less than a seventh and are left out
SIGMA_PER_NOISE = 3.0


class BilateralParams(MethodParams):
    """Parameters of `bilateral`."""

    sigma_mm: Number = Field(
        1.5, description="Standard deviation of the weights by distance; neighbours up to twice as far count", unit="mm", gt=0
    )
    sigma_intensity: Number | None = Field(
        None,
        description="Standard deviation of the weights by difference in intensity; empty: three times the noise of the scan",
        unit="image",
        gt=0,
    )


@method("bilateral", stage=Stage.PREPROCESS, reference="doi:10.1109/ICCV.1998.710815")
def bilateral(volume: Volume, params: BilateralParams) -> Volume:
    """Replace each voxel by a mean of its neighbours in which near and similar ones weigh most, so that edges stay.

    Distances are measured in the patient, so unequal spacing and shear are honoured; at the border the nearest voxel counts.
    The result is float32. Raises InputError where the scan holds NaN or infinity, ParameterError where sigma_mm reaches
    too many voxels.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[0, 2, 90]]], np.int16), Geometry((1, 1, 3), np.eye(4)))
    >>> smooth = bilateral(scan, BilateralParams(sigma_mm=9, sigma_intensity=10)).array
    >>> [round(float(value), 1) for value in smooth.ravel()]
    [0.5, 0.7, 90.0]
    """
    from medseg.kernels import bilateral as kernel

    refuse_unfilterable(volume.array, "bilateral")
    image = volume.array.T
    steps, distance_mm = neighbours_within(volume.geometry, TRUNCATE * params.sigma_mm, "bilateral")
    sigma = params.sigma_intensity if params.sigma_intensity is not None else SIGMA_PER_NOISE * noise_deviation(image)
    if not sigma > 0:
        return without_noise(volume, "bilateral")
    weights = np.exp(-0.5 * (distance_mm / params.sigma_mm) ** 2)
    return volume.with_array(kernel.bilateral(image, steps, weights, sigma).T)
