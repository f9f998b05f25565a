"""A scanner: an anatomy on any grid, with partial volumes, blur and noise, and its label map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.kernels.implicit import Sampled, sample_solids
from medseg.phantom.anatomy import Anatomy, table

HU_LIMITS = (-1024, 3071)  # what 12 stored bits hold
GRAIN_MM = 0.8  # standard deviation of the Gaussian that makes neighbouring noise alike, in the slice
LARGE_VOXEL_MM3 = 20.0  # an organ has fewer border voxels of this size to average over: they are sampled more finely
FWHM = 2.3548200450309493  # full width at half maximum of a Gaussian of standard deviation 1


def sample(anatomy: Anatomy, geometry: Geometry, supersampling: int | Sequence[int] | None = None, label: str | None = None) -> Sampled:
    """Image an anatomy without blur or noise: every voxel holds the mean over its own box.

    Voxels that no border crosses are decided by one sample, those at the border of a segment by a lattice of 37 points
    (61 in voxels above 20 mm³), or by `supersampling` samples an axis (one number, or three along i, j, k); fewer where
    only borders within a segment cross. The arrays have axes (k,j,i). `share` is the part of every voxel that `label`
    fills. Raises ParameterError where supersampling is not 1 to 32 or there is no such label.
    """
    samples: int | tuple[int, int, int] = 37 if geometry.voxel_volume_mm3 < LARGE_VOXEL_MM3 else 61
    if supersampling is not None:
        counts = [int(n) for n in np.broadcast_to(np.asarray(supersampling), 3)]
        if min(counts) < 1 or max(counts) > 32:
            raise ParameterError(f"supersampling is {supersampling}: use 1 to 32 samples an axis")
        samples = (counts[0], counts[1], counts[2])
    rows, values, numbers, within = table(anatomy)
    known = {segment.label: segment.number for segment in anatomy.segments}
    if label is not None and label not in known:
        raise ParameterError(f"no segment {label!r} in this anatomy; it has: {', '.join(known)}")
    i, j, k = geometry.shape
    wanted = -1 if label is None else known[label]
    return sample_solids(rows, values, numbers, within, (k, j, i), geometry.affine, samples, wanted)


def scan(
    anatomy: Anatomy,
    geometry: Geometry,
    *,
    noise_hu: float = 12.0,
    blur_mm: float | Sequence[float] = 0.0,
    seed: int = 0,
    supersampling: int | Sequence[int] | None = None,
    grain_mm: float = GRAIN_MM,
) -> Volume:
    """Image an anatomy as a CT scanner would: an int16 Volume in HU.

    Exact partial volumes first (`sample`), then a Gaussian of full width at half maximum `blur_mm` (one number, or
    three along i, j, k), then noise of standard deviation `noise_hu` whose grain in the slice is set by `grain_mm`
    (0: every voxel by itself), then rounding and clipping to 12 bits. The same seed gives the same scan.
    """
    return image(sample(anatomy, geometry, supersampling), geometry, noise_hu=noise_hu, blur_mm=blur_mm, seed=seed, grain_mm=grain_mm)


def image(
    sampled: Sampled,
    geometry: Geometry,
    *,
    noise_hu: float = 12.0,
    blur_mm: float | Sequence[float] = 0.0,
    seed: int = 0,
    grain_mm: float = GRAIN_MM,
) -> Volume:
    """Blur, add noise to and digitise what `sample` gave; see `scan`."""
    blur = np.broadcast_to(np.asarray(blur_mm, dtype=np.float64), 3)
    if noise_hu < 0 or grain_mm < 0 or (blur < 0).any():
        raise ParameterError(f"noise_hu {noise_hu}, grain_mm {grain_mm} and blur_mm {blur_mm} must not be negative")
    sigma = tuple(float(b) / FWHM / step for b, step in zip(blur, geometry.spacing_mm, strict=True))
    array = sampled.values
    if max(sigma) > 0:
        array = ndimage.gaussian_filter(array, sigma[::-1], mode="nearest")
    if noise_hu > 0:
        array = array + np.float32(noise_hu) * unit_noise(geometry, seed, grain_mm)
    digital = np.clip(np.rint(array), *HU_LIMITS).astype(np.int16)
    return Volume(digital.T, geometry, modality="CT", unit="HU")


def unit_noise(geometry: Geometry, seed: int, grain_mm: float = GRAIN_MM) -> npt.NDArray[np.float32]:
    """Noise of mean 0 and standard deviation 1 with the grain of a reconstruction kernel, float32 (k,j,i).

    White noise is smoothed in the slice and a wider smoothing is taken away, which leaves the band of middle
    frequencies that filtered back-projection leaves (doi:10.1088/0031-9155/23/3/008); slices stay independent. The scale comes
    from the weights of the filter, not from the noise drawn, so that the standard deviation is right on average.
    """
    i, j, k = geometry.shape
    white = np.random.default_rng((seed, 0x6E6F6973)).standard_normal((k, j, i), dtype=np.float32)
    sigma = np.array([grain_mm / geometry.spacing_mm[1], grain_mm / geometry.spacing_mm[0]])
    if grain_mm == 0 or sigma.max() < 0.2:
        return white
    narrow, wide = [_weights(s) for s in sigma], [_weights(2.5 * s) for s in sigma]
    # sum of squares of (narrow - 0.6 wide), each a product of two lines of weights
    energy = _inner(narrow, narrow) - 1.2 * _inner(narrow, wide) + 0.36 * _inner(wide, wide)
    for plane in white:  # a slice at a time stays in the cache
        fine, coarse = plane, plane
        for axis in (0, 1):
            fine = ndimage.correlate1d(fine, narrow[axis], axis, mode="wrap")
            coarse = ndimage.correlate1d(coarse, wide[axis], axis, mode="wrap")
        plane[...] = (fine - np.float32(0.6) * coarse) * np.float32(1 / np.sqrt(energy))
    return white


def _weights(sigma: float) -> npt.NDArray[np.float64]:
    reach = max(1, int(np.ceil(3.5 * sigma)))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    return np.asarray(weights / weights.sum())


def _inner(first: list[npt.NDArray[np.float64]], second: list[npt.NDArray[np.float64]]) -> float:
    total = 1.0
    for a, b in zip(first, second, strict=True):
        short, long = sorted((a, b), key=len)
        extra = (len(long) - len(short)) // 2
        total *= float(short @ long[extra : len(long) - extra])
    return total


def truth_label_map(anatomy: Anatomy, geometry: Geometry, supersampling: int | Sequence[int] | None = None) -> LabelMap:
    """Give each voxel the label that fills most of it (at a tie the one at its centre; 0 is the background)."""
    return label_map_of(anatomy, geometry, sample(anatomy, geometry, supersampling))


def label_map_of(anatomy: Anatomy, geometry: Geometry, sampled: Sampled) -> LabelMap:
    """Make the label map of what `sample` gave."""
    return LabelMap(sampled.labels.T, geometry, anatomy.segments)


def label_share(anatomy: Anatomy, geometry: Geometry, label: str, supersampling: int | Sequence[int] | None = None) -> Volume:
    """Return the part of every voxel that a label fills, 0 to 1, float32: an ideal probability map."""
    return Volume(sample(anatomy, geometry, supersampling, label).share.T, geometry)
