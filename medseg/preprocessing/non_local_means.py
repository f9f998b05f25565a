"""Smoothing over voxels whose surroundings look alike: non-local means."""

from __future__ import annotations

from typing import Literal

import numpy as np

from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number
from medseg.preprocessing.noise import neighbours_within, noise_deviation, refuse_unfilterable, without_noise


class NonLocalMeansParams(MethodParams):
    """Parameters of `non-local-means`."""

    search_mm: Number = Field(5.0, description="How far from a voxel its like are looked for", unit="mm", gt=0, le=50)
    patch_radius_voxels: Literal[1, 2] = Field(
        1, description="Half the edge of the cubes that are compared: 1 compares 27 voxels, 2 compares 125", unit="voxels"
    )
    noise: Number | None = Field(
        None, description="Standard deviation of the noise; empty: found from the scan (too small after interpolation)", unit="image", gt=0
    )
    strength: Number = Field(0.7, description="How unlike two cubes may be, in units of the noise: more smooths more", gt=0, le=10)
    distribution: Literal["gaussian", "rician"] = Field(
        "gaussian", description="Kind of the noise: rician for magnitude MR, whose dark regions noise makes brighter; this is taken back"
    )


@method("non-local-means", stage=Stage.PREPROCESS, reference="doi:10.1109/TMI.2007.906087")
def non_local_means(volume: Volume, params: NonLocalMeansParams) -> Volume:
    """Replace each voxel by a mean of voxels around it, weighted by how alike the small cubes around them are.

    Textures and thin structures that repeat stay where other filters blur them. Distances are measured in the patient, so
    unequal spacing and shear are honoured; the cubes are voxels of the grid. At the border the nearest voxel counts. The
    result is float32. Raises InputError where the scan holds NaN or infinity, ParameterError where search_mm reaches too
    many voxels.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.full((3, 3, 3), 7.0), Geometry((3, 3, 3), np.eye(4)))
    >>> bool((non_local_means(scan, NonLocalMeansParams(noise=1)).array == 7).all())
    True
    """
    from medseg.kernels import non_local_means as kernel

    refuse_unfilterable(volume.array, "non-local-means")
    image = volume.array.T
    steps, _ = neighbours_within(volume.geometry, params.search_mm, "non-local-means")
    sigma = params.noise if params.noise is not None else noise_deviation(image)
    if not sigma > 0:
        return without_noise(volume, "non-local-means")
    is_rician = params.distribution == "rician"
    mean = kernel.non_local_means(image, steps, sigma, params.strength, params.patch_radius_voxels, is_rician)
    if is_rician:  # the mean square of a magnitude is that of the signal plus 2 sigma²
        mean -= np.float32(2 * sigma**2)
        np.sqrt(np.maximum(mean, 0, out=mean), out=mean)
    return volume.with_array(mean.T)
