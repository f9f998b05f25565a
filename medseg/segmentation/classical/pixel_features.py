"""What a voxel and its surroundings look like, as numbers: for clustering and for classifiers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.preprocessing.denoise import gaussian_mm
from medseg.preprocessing.edges import smoothed, to_voxels
from medseg.preprocessing.texture import (
    GaborParams,
    LocalBinaryPatternParams,
    gabor_amplitude,
    pattern_counts,
    tensor_shapes_mm,
)
from medseg.segmentation.classical.filled import filled

FloatArray = npt.NDArray[np.float32]
Texture = Literal["intensity", "deviation", "gabor", "pattern", "tensor"]


def channels_of(
    volume: Volume | Sequence[Volume], method_name: str
) -> tuple[tuple[Volume, ...], list[npt.NDArray[Any]], npt.NDArray[np.bool_]]:
    """Return the channels of a scan, their arrays (k,j,i) without NaN, and where all of them were finite."""
    volumes = (volume,) if isinstance(volume, Volume) else tuple(volume)
    arrays, finite = [], np.ones(volumes[0].array.T.shape, dtype=bool)
    for channel in volumes:
        array, held = filled(channel.array.T, method_name, channel.geometry.spacing_mm)
        arrays.append(array)
        if held is not None:
            finite &= held
    return volumes, arrays, finite


def texture_features(
    image: npt.NDArray[Any], geometry: Geometry, kinds: Sequence[Texture], scale_mm: float, wavelength_mm: float
) -> list[FloatArray]:
    """Return float32 arrays (k,j,i) that tell the texture around each voxel, gathered over a Gaussian of `scale_mm`.

    intensity: the mean; deviation: the standard deviation; gabor: the strength of waves of one and two `wavelength_mm`; pattern: the mean
    local binary pattern and its deviation; tensor: coherence, linearity and planarity of the slopes.
    """
    centred, _ = smoothed(image, geometry, 0)
    greatest = max(float(centred.max()), -float(centred.min()))
    if greatest > 0:
        centred = centred / np.float32(greatest)  # squares then stay within float32

    def gathered(field: npt.NDArray[Any]) -> FloatArray:
        return gaussian_mm(field, geometry, scale_mm)

    def deviation(field: FloatArray) -> FloatArray:
        return np.sqrt(np.maximum(gathered(field * field) - gathered(field) ** 2, 0))

    def waves() -> list[FloatArray]:
        found = [gabor_amplitude(centred, geometry, GaborParams(wavelength_mm=length)) for length in (wavelength_mm, 2 * wavelength_mm)]
        return [gathered(field) for field in found]

    def patterns() -> list[FloatArray]:
        counts = pattern_counts(centred, geometry, LocalBinaryPatternParams()).astype(np.float32)
        return [gathered(counts), deviation(counts - np.float32(13))]

    makers: dict[str, Callable[[], list[FloatArray]]] = {
        "intensity": lambda: [gathered(centred)],
        "deviation": lambda: [deviation(centred)],
        "gabor": waves,
        "pattern": patterns,
        "tensor": lambda: list(tensor_shapes_mm(centred, geometry, scale_mm / 4, scale_mm)),
    }
    return [field for kind in dict.fromkeys(kinds) for field in makers[kind]()]


def scale_features(image: npt.NDArray[Any], geometry: Geometry, sigmas_mm: Sequence[float]) -> list[FloatArray]:
    """Return float32 arrays (k,j,i): the intensity, and for each sigma in mm the blur, its slope, Laplacian and coherence."""
    from medseg.kernels import edges

    inverse = to_voxels(geometry)
    features = [smoothed(image, geometry, 0)[0]]
    for sigma_mm in sigmas_mm:
        smooth, _ = smoothed(image, geometry, sigma_mm)
        features += [smooth, edges.magnitude(smooth, inverse), edges.laplacian(smooth, inverse)]
        features.append(np.ascontiguousarray(tensor_shapes_mm(image, geometry, sigma_mm / 2, sigma_mm)[0]))
    return features
