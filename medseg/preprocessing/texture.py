"""Filters that show texture: Gabor waves, local binary patterns, structure tensors."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number
from medseg.preprocessing.denoise import gaussian_mm, refuse_non_finite
from medseg.preprocessing.edges import smoothed, to_voxels

FloatArray = npt.NDArray[np.float32]

WIDTH_IN_WAVELENGTHS = 0.56  # sigma of the envelope: one octave between the frequencies that answer half (Petkov 1995)
REACH_IN_SIGMAS = 4.0  # the scan is continued by so much, for the Fourier transform takes its ends as joined
LONGEST_IN_EXTENTS = 4.0  # a scan that holds a quarter of a wave shows nothing of it
_GOLDEN = np.pi * (3 - np.sqrt(5))
_PARTS = ("coherence", "linearity", "planarity")


class GaborParams(MethodParams):
    """Parameters of `gabor`."""

    wavelength_mm: Number = Field(10.0, description="Distance from stripe to stripe that the filters answer to", unit="mm", gt=0, le=500)
    directions: int = Field(13, description="Directions of the bank, spread evenly over the half sphere", ge=1, le=100)
    combine: Literal["maximum", "mean"] = Field("maximum", description="The strongest answer of the bank, or the mean over its directions")


@method("gabor", stage=Stage.PREPROCESS, reference="doi:10.1364/JOSAA.2.001160")
def gabor(volume: Volume, params: GaborParams) -> Volume:
    """Replace a scan by how strongly it is striped at a wavelength in mm: the answer of a bank of 3D Gabor filters.

    Each filter is a wave of `wavelength_mm` along one direction in the patient under a round Gaussian (one octave wide),
    without answer to a constant. The result is the amplitude of the wave, phase left out: a plane wave of that length along a
    direction of the bank gives its own amplitude. The directions are fixed in the patient, so unequal spacing, oblique,
    left-handed and sheared grids are honoured; beyond the border the nearest voxel counts. The result is float32. Takes about 30
    bytes a voxel of the widened scan. Raises InputError where the scan holds NaN or infinity, ParameterError where the wavelength is less
    than two voxels of the finest axis, or more than four times the scan.

    >>> places = np.arange(40)
    >>> stripes = (50 * np.cos(2 * np.pi * places / 8))[:, None, None] * np.ones((1, 12, 12))
    >>> answer = gabor(Volume(stripes, Geometry((40, 12, 12), np.eye(4))), GaborParams(wavelength_mm=8, directions=60))
    >>> bool(abs(answer.array[20, 6, 6] - 50) < 4)
    True
    """
    refuse_non_finite(volume.array, "gabor")
    result = gabor_amplitude(volume.array.T, volume.geometry, params)
    return volume.with_array(result.T)


class LocalBinaryPatternParams(MethodParams):
    """Parameters of `local-binary-pattern`."""

    radius_mm: Number | None = Field(
        None, description="Distance of the 26 points that are compared; empty: the 26 neighbours", unit="mm", gt=0, le=100
    )
    least_difference: Number = Field(
        0.0, description="A point counts as brighter from this difference on; above the noise it leaves flat regions alone", unit="image"
    )
    kind: Literal["count", "uniform"] = Field(
        "count", description="How many points are brighter (0 to 26), or the same with 27 where they do not lie together"
    )


@method("local-binary-pattern", stage=Stage.PREPROCESS, reference="doi:10.1109/TPAMI.2002.1017623")
def local_binary_pattern(volume: Volume, params: LocalBinaryPatternParams) -> Volume:
    """Replace each voxel by how many of 26 points around it are at least as bright: a pattern that no rotation changes.

    Bright blobs give 0, dark ones 26, smooth edges about 13, whatever the brightness of the scan. The points are the neighbours,
    or all lie at `radius_mm` (values between voxels are linear) along the axes of the scan and halfway between them in mm:
    the directions of the neighbours where the spacing is equal, others where it is not. Shear is honoured. Beyond the
    border the nearest voxel counts. The result is uint8, without unit. Raises InputError where the scan holds NaN or infinity.

    >>> dot = np.zeros((3, 3, 3), np.int16)
    >>> dot[1, 1, 1] = 9
    >>> int(local_binary_pattern(Volume(dot, Geometry((3, 3, 3), np.eye(4))), LocalBinaryPatternParams()).array[1, 1, 1])
    0
    """
    refuse_non_finite(volume.array, "local-binary-pattern")
    return volume.with_array(pattern_counts(volume.array.T, volume.geometry, params).T, unit="")


class StructureTensorParams(MethodParams):
    """Parameters of `structure-tensor`."""

    sigma_mm: Number = Field(1.0, description="Standard deviation of the Gaussian before the slopes are taken", unit="mm", ge=0, le=100)
    neighbourhood_mm: Number = Field(
        4.0, description="Standard deviation of the Gaussian over which the slopes are gathered", unit="mm", gt=0, le=100
    )
    measure: Literal["coherence", "linearity", "planarity"] = Field(
        "coherence", description="How much slopes agree; or how much the place looks like a line, or like a plane"
    )


@method("structure-tensor", stage=Stage.PREPROCESS, reference="doi:10.1023/A:1008009714131")
def structure_tensor(volume: Volume, params: StructureTensorParams) -> Volume:
    """Replace a scan by how much its slopes agree around each voxel, 0 to 1: coherence, linearity or planarity.

    The products of the slopes (towards R, A, S, in mm) are blurred over the neighbourhood; of the eigenvalues l1 ≥ l2 ≥ l3
    coherence is ((l1 - l3) / (l1 + l3))², linearity (l2 - l3) / l1 (vessels, fibres) and planarity (l1 - l2) / l1 (walls,
    edges). Flat places give 0. Unequal spacing, oblique, left-handed and sheared grids are honoured; beyond the border the
    nearest voxel counts. The result is float32 without unit. Takes about 50 bytes a voxel. Raises InputError where the scan holds
    NaN or infinity.

    >>> wall = np.zeros((9, 9, 9), np.int16)
    >>> wall[5:] = 100
    >>> scan = Volume(wall, Geometry((9, 9, 9), np.eye(4)))
    >>> round(float(structure_tensor(scan, StructureTensorParams(measure="planarity")).array[4, 4, 4]), 3)
    1.0
    """
    refuse_non_finite(volume.array, "structure-tensor")
    shapes = tensor_shapes_mm(volume.array.T, volume.geometry, params.sigma_mm, params.neighbourhood_mm)
    return volume.with_array(shapes[_PARTS.index(params.measure)].T, unit="")


def directions_of(count: int) -> npt.NDArray[np.float64]:
    """Return unit vectors (R,A,S) spread evenly over the half sphere, count x 3; the first lies near S.

    >>> directions_of(2).shape, bool(np.allclose(np.linalg.norm(directions_of(13), axis=1), 1))
    ((2, 3), True)
    """
    height = 1 - (np.arange(count) + 0.5) / count
    angle = _GOLDEN * np.arange(count)
    across = np.sqrt(1 - height**2)
    return np.stack([across * np.cos(angle), across * np.sin(angle), height], axis=1)


def gabor_amplitude(image: npt.NDArray[Any], geometry: Geometry, params: GaborParams) -> FloatArray:
    """Return the amplitude (float32) of the bank's waves in an array (k,j,i) that lies on a grid."""
    from scipy.fft import fftn, ifftn

    from medseg.kernels import texture

    finest = min(geometry.spacing_mm)
    if params.wavelength_mm < 2 * finest:
        raise ParameterError(
            f"gabor: a wave of {params.wavelength_mm:g} mm cannot be seen with voxels of {finest:g} mm; choose {2 * finest:g} mm or more"
        )
    extent = max(n * step for n, step in zip(geometry.shape, geometry.spacing_mm, strict=True))
    if params.wavelength_mm > LONGEST_IN_EXTENTS * extent:
        raise ParameterError(
            f"gabor: a wave of {params.wavelength_mm:g} mm is far longer than the scan, which is {extent:g} mm; choose a shorter one"
        )
    sigma_mm = WIDTH_IN_WAVELENGTHS * params.wavelength_mm
    inverse = to_voxels(geometry)
    reach = np.ceil(REACH_IN_SIGMAS * sigma_mm * np.linalg.norm(inverse, axis=1)).astype(int)[::-1]
    reach = np.where(np.array(image.shape) == 1, 0, np.minimum(reach, 4 * np.array(image.shape)))
    centred, _ = smoothed(image, geometry, 0)
    # a power of two, so nothing is rounded: the sums of the transform then stay within float32
    greatest = np.float32(2.0 ** np.frexp(np.abs(centred).max())[1]) if centred.any() else np.float32(1)
    centred = centred / greatest
    shape = tuple(_fast_odd(int(n + 2 * r)) for n, r in zip(image.shape, reach, strict=True))
    before = [(total - n) // 2 for n, total in zip(image.shape, shape, strict=True)]
    spectrum = fftn(_continued(centred, before, shape))
    product = np.empty_like(spectrum)
    inner = tuple(slice(start, start + n) for n, start in zip(image.shape, before, strict=True))
    total = np.zeros(image.shape, np.float32)
    for direction in directions_of(params.directions):
        texture.weigh_wave(spectrum, inverse, direction / params.wavelength_mm, sigma_mm, product)
        answer = np.abs(ifftn(product, overwrite_x=True)[inner])
        total = np.maximum(total, answer) if params.combine == "maximum" else total + answer / np.float32(params.directions)
    return np.ascontiguousarray(total * greatest, np.float32)


def _continued(image: FloatArray, before: list[int], shape: tuple[int, ...]) -> FloatArray:
    """Return an array with its border voxels repeated; the odd plane between two ends is their mean."""
    widths = [(start, total - n - start) for n, start, total in zip(image.shape, before, shape, strict=True)]
    wide = np.pad(image, widths, mode="edge")
    for axis, (start, end) in enumerate(widths):
        if end > start:
            planes = np.moveaxis(wide, axis, 0)
            planes[-1] = (planes[-1] + planes[0]) / 2
    return wide


def _fast_odd(least: int) -> int:
    """Return an odd length for a fast Fourier transform: an even one has a frequency without its opposite, which sees a flip."""
    from scipy.fft import next_fast_len

    length = least | 1
    while next_fast_len(length) != length:
        length += 2
    return length


def pattern_counts(image: npt.NDArray[Any], geometry: Geometry, params: LocalBinaryPatternParams) -> npt.NDArray[np.uint8]:
    """Return the local binary patterns (uint8) of an array (k,j,i) that lies on a grid."""
    from medseg.kernels import texture

    offsets = texture.DIRECTIONS.astype(np.float64)
    if params.radius_mm is not None:
        axes = geometry.direction[:, ::-1]  # k, j, i as columns
        length = np.linalg.norm(offsets @ axes.T, axis=1, keepdims=True)
        offsets = params.radius_mm * offsets / length / np.array(geometry.spacing_mm[::-1])
    return texture.binary_patterns(image, offsets, params.least_difference, params.kind == "uniform")


def tensor_shapes_mm(image: npt.NDArray[Any], geometry: Geometry, sigma_mm: float, neighbourhood_mm: float) -> FloatArray:
    """Return coherence, linearity and planarity (float32 [3, k, j, i]) of an array (k,j,i) that lies on a grid."""
    from medseg.kernels import edges, texture

    smooth, _ = smoothed(image, geometry, sigma_mm)
    slopes = edges.gradient(smooth, to_voxels(geometry))
    steepest = float(np.abs(slopes).max())
    if steepest > 0:
        slopes /= np.float32(steepest)  # squares then stay within float32
    pairs = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
    tensor = np.empty((6, *smooth.shape), np.float32)
    for n, (one, other) in enumerate(pairs):
        tensor[n] = gaussian_mm(slopes[one] * slopes[other], geometry, neighbourhood_mm)
    return texture.tensor_shapes(tensor)
