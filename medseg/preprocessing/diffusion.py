"""Smoothing that stops at edges: anisotropic diffusion."""

from __future__ import annotations

from typing import Literal

import numpy as np

from medseg.core.errors import GeometryError, ParameterError
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number
from medseg.preprocessing.noise import noise_deviation, refuse_unfilterable, without_noise

EDGE_PER_NOISE = 3.0  # noise makes neighbours differ by 1.4 of its deviation: three of them are passed by few
MOST_STEPS = 500


class AnisotropicDiffusionParams(MethodParams):
    """Parameters of `anisotropic-diffusion`."""

    sigma_mm: Number = Field(
        1.0,
        description="How far it smooths: where nothing is an edge it equals a Gaussian of this standard deviation",
        unit="mm",
        gt=0,
        le=50,
    )
    edge: Number | None = Field(
        None,
        description="Difference between neighbouring voxels that begins to count as an edge; empty: three times the noise of the scan",
        unit="image",
        gt=0,
    )
    conductance: Literal["exponential", "rational"] = Field(
        "exponential",
        description="How fast smoothing falls with the difference d: exp(-(d/edge)²) favours strong edges, 1/(1+(d/edge)²) large regions",
    )


@method("anisotropic-diffusion", stage=Stage.PREPROCESS, reference="doi:10.1109/34.56205")
def anisotropic_diffusion(volume: Volume, params: AnisotropicDiffusionParams) -> Volume:
    """Smooth a scan within regions and keep the edges between them.

    Intensities diffuse between the six neighbours, by 1/mm² of their distance, for a time of sigma²/2; the smaller the
    spacing, the more steps this takes. The mean of the scan stays, and no intensity leaves its range. The result is
    float32. Raises GeometryError on a sheared grid, where the six neighbours do not lie at right angles; ParameterError
    where the spacing would take more than 500 steps; InputError where the scan holds NaN or infinity.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[0, 2, 100, 102]]], np.int16), Geometry((1, 1, 4), np.eye(4)))
    >>> smooth = anisotropic_diffusion(scan, AnisotropicDiffusionParams(sigma_mm=10, edge=10))
    >>> smooth.array.ravel().round(2).tolist()
    [1.0, 1.0, 101.0, 101.0]
    """
    from medseg.kernels.diffusion import perona_malik, steps_needed

    refuse_unfilterable(volume.array, "anisotropic-diffusion")
    geometry = volume.geometry
    if geometry.is_sheared:
        raise GeometryError(
            f"anisotropic-diffusion: the axes of this grid are {geometry.shear_degrees:.1f} degrees off a right angle (gantry tilt); "
            "bring the scan onto an upright grid first (medseg convert IN OUT --like SCAN), or use bilateral"
        )
    image, spacing_mm = volume.array.T, geometry.spacing_mm[::-1]
    time_mm2 = params.sigma_mm**2 / 2
    steps = steps_needed(time_mm2, spacing_mm, image.shape)
    if steps > MOST_STEPS:
        raise ParameterError(
            f"anisotropic-diffusion: sigma_mm {params.sigma_mm:g} takes {steps} steps at a spacing of {min(spacing_mm):g} mm, "
            f"more than {MOST_STEPS}: choose a smaller sigma_mm, or resample the scan to a coarser spacing first"
        )
    edge = params.edge if params.edge is not None else EDGE_PER_NOISE * noise_deviation(image)
    if not edge > 0:
        return without_noise(volume, "anisotropic-diffusion")
    smooth = perona_malik(image, spacing_mm, edge, time_mm2, params.conductance == "rational")
    return volume.with_array(np.asarray(smooth.T))
