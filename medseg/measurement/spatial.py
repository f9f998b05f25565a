"""Features of where a segment's intensities lie: centre-of-mass shift, integrated intensity, Moran's I and Geary's C."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medseg.core.measurement import Measurement, Status
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.measurement.intensity import ABSENT, CONSTANT

if TYPE_CHECKING:
    from medseg.kernels.extents import LabelExtents, LabelRuns

FloatArray = npt.NDArray[np.float64]
Value = tuple[float, str]

SPATIAL_FEATURES = ("centre_of_mass_shift_mm", "integrated_intensity", "moran_i", "geary_c")
MOST_LAGS = 1 << 23  # places of the padded box that pairs of voxels are counted on: about 0.5 GB, a box of 100 voxels a side
_NOTHING = "no voxel of the segment has a finite intensity"


def spatial_features(
    volume: Volume, tables: tuple[LabelRuns, LabelExtents, FloatArray], segments: Sequence[Segment], autocorrelation: bool
) -> dict[int, dict[str, Measurement]]:
    """Measure what needs the place and the intensity of a voxel together; called by `shape_features`.

    The shift lies between the mean position of the voxels and that weighted by their intensities; it is None where these add
    up to 0, and means little where some are negative (HU). The integrated intensity is the mean times the mesh volume in mm3.
    Moran's I and Geary's C weigh every pair of voxels by the inverse of its distance; None where the box of a segment is too
    large (`MOST_LAGS`) or all voxels have one intensity. NaN and infinity are left out. IBSI: KLMA, 99N0, N365, NPT7.
    """
    from medseg.kernels.first_order import label_weights

    runs, extents, mesh_mm3 = tables
    image, steps_mm = volume.array.T, volume.geometry.affine[:3, 2::-1].T
    sums, finite, index = label_weights(runs, image)
    shifts = np.linalg.norm((index - extents.centroid) @ steps_mm, axis=1)
    rows = {int(number): row for row, number in enumerate(runs.numbers)}
    units = {"centre_of_mass_shift_mm": "mm", "integrated_intensity": f"{volume.unit}.mm3" if volume.unit else "mm3"}
    names = SPATIAL_FEATURES if autocorrelation else SPATIAL_FEATURES[:2]
    features = {}
    for segment in segments:
        row = rows.get(segment.number)
        if row is None or not finite[row]:
            values: dict[str, Value] = dict.fromkeys(names, (math.nan, ABSENT if row is None else _NOTHING))
        else:
            integrated = float(sums[row]) / int(finite[row]) * float(mesh_mm3[row])
            values = {
                "centre_of_mass_shift_mm": (float(shifts[row]), "the intensities add up to 0"),
                "integrated_intensity": (integrated, "the value is too large for a double"),
            }
            if autocorrelation:
                moran, geary, reason = _autocorrelation(_index(runs, row), image, steps_mm)
                values |= {"moran_i": (moran, reason), "geary_c": (geary, reason)}
        status = Status.ABSENT if row is None else Status.FAILED
        features[segment.number] = {
            name: _measurement(segment.label, name, value, units.get(name, ""), status) for name, value in values.items()
        }
    return features


def _measurement(label: str, name: str, value: Value, unit: str, status: Status) -> Measurement:
    number, reason = value
    if math.isfinite(number):
        return Measurement(label, name, number, unit)
    return Measurement(label, name, None, unit, status=status, reason=reason)


def _index(runs: LabelRuns, row: int) -> npt.NDArray[np.int64]:
    """The voxels (k, j, i) of one label, [n, 3]."""
    here = slice(int(runs.starts[row]), int(runs.starts[row + 1]))
    lengths = (runs.stop[here] - runs.first[here]).astype(np.int64)
    before = np.cumsum(lengths) - lengths
    i = np.arange(int(lengths.sum())) + np.repeat(runs.first[here] - before, lengths)
    return np.stack([np.repeat(runs.k[here], lengths), np.repeat(runs.j[here], lengths), i], axis=1)


def _autocorrelation(index: npt.NDArray[np.int64], image: npt.NDArray[Any], steps_mm: FloatArray) -> tuple[float, float, str]:
    """Moran's I and Geary's C over all pairs, grouped by their difference in index: correlations by Fourier transforms."""
    from scipy.fft import irfftn, next_fast_len, rfftn

    shape = tuple(np.ptp(index, axis=0) + 1)
    padded = tuple(next_fast_len(2 * n - 1, real=True) for n in shape)
    if math.prod(padded) > MOST_LAGS:
        return math.nan, math.nan, "the segment's box is too large to weigh every pair of its voxels"
    held = image[tuple(index.T)].astype(np.float64)
    finite = np.isfinite(held)
    held, at = held[finite], (index - index.min(axis=0))[finite]
    if held.min() == held.max():
        return math.nan, math.nan, CONSTANT
    centred = held - held.mean()
    transforms = []
    for values in (np.ones(len(held)), centred, centred**2):
        field = np.zeros(shape)
        field[tuple(at.T)] = values
        transforms.append(rfftn(field, padded))
    ones, first, second = transforms
    pairs = irfftn(np.abs(ones) ** 2, padded)
    products = irfftn(np.abs(first) ** 2, padded)
    squares = 2 * irfftn((second * ones.conj()).real, padded) - 2 * products  # sums of (a - b)^2: both orders of a pair
    lags = np.meshgrid(*(np.where(2 * (n := np.arange(m)) > m, n - m, n) for m in padded), indexing="ij", sparse=True)
    gram = steps_mm @ steps_mm.T
    distance = np.sqrt(sum(gram[a, b] * lags[a] * lags[b] for a in range(3) for b in range(3)))
    distance[0, 0, 0] = np.inf  # a voxel is no pair with itself
    weights = 1 / distance
    weight = float((weights * pairs).sum())
    variance = float(centred @ centred)
    moran = len(held) / weight * float((weights * products).sum()) / variance
    geary = (len(held) - 1) / (2 * weight) * float((weights * squares).sum()) / variance
    return moran, geary, ""
