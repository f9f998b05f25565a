"""First-order intensity features of every segment, as IBSI and pyradiomics define them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from medseg.core.errors import ParameterError
from medseg.core.label_map import LabelMap
from medseg.core.measurement import Measurement, Status
from medseg.core.volume import Volume
from medseg.measurement.measure import mismatch

if TYPE_CHECKING:
    from medseg.kernels.first_order import FirstOrder

ABSENT = "no voxel has this segment's number"
CONSTANT = "all voxels have one intensity"
# quantity -> power of the intensity in its unit; all are features of the finite voxels of a segment
_POWERS = {
    "mean": 1,
    "std": 1,
    "variance": 2,
    "skewness": 0,
    "excess_kurtosis": 0,
    "min": 1,
    "percentile_10": 1,
    "median": 1,
    "percentile_90": 1,
    "max": 1,
    "range": 1,
    "interquartile_range": 1,
    "mean_absolute_deviation": 1,
    "robust_mean_absolute_deviation": 1,
    "median_absolute_deviation": 1,
    "coefficient_of_variation": 0,
    "quartile_coefficient_of_dispersion": 0,
    "energy": 2,
    "total_energy": 2,
    "root_mean_square": 1,
    "entropy": 0,
    "uniformity": 0,
}
INTENSITY_FEATURES = tuple(_POWERS)


def intensity_features(label_map: LabelMap, volume: Volume, bin_width: float = 25.0) -> dict[int, dict[str, Measurement]]:
    """Measure the intensities of every segment: the 18 statistics of IBSI, and those that pyradiomics has beside them.

    Intensities are taken as they are: nothing is resampled, clipped or normalised. NaN and infinity are left out and counted
    in the reason. `std`, variance, skewness and `excess_kurtosis` (0 for a normal distribution; pyradiomics' Kurtosis is 3
    more) divide by the number of voxels. `entropy` (bits) and `uniformity` are those of a histogram whose bins begin at
    multiples of `bin_width`, in the unit of the scan. Undefined values are None with a reason: all of an absent segment,
    the shape of the distribution of a constant one, ratios whose denominator is 0. Raises GeometryMismatchError where the
    two grids differ, ParameterError for a bin width that is not positive. IBSI reference manual, section 3.3.

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> from medseg.core.segment import Segment
    >>> grid = Geometry((4, 1, 1), np.eye(4))
    >>> labels = LabelMap(np.array([1, 1, 1, 0], np.uint8).reshape(4, 1, 1), grid, (Segment(1, "liver"),))
    >>> found = intensity_features(labels, Volume(np.array([1, 2, 6, 9.0]).reshape(4, 1, 1), grid, "CT", "HU"))
    >>> print(found[1]["mean"], found[1]["median"], found[1]["energy"])
    3.0 HU 2.0 HU 41.0 HU2
    """
    from medseg.kernels.extents import label_runs
    from medseg.kernels.first_order import label_first_order

    if not label_map.geometry.matches(volume.geometry):
        raise mismatch(label_map.geometry, volume.geometry)
    if not (math.isfinite(bin_width) and bin_width > 0):
        raise ParameterError(f"bin_width is {bin_width}; give a positive width in the unit of the scan, such as 25")
    runs = label_runs(label_map.array.T)
    found = label_first_order(runs, volume.array.T, bin_width)
    rows = {int(number): row for row, number in enumerate(runs.numbers)}
    voxel_mm3 = label_map.geometry.voxel_volume_mm3
    features = {}
    for segment in label_map.segments:
        if segment.number not in rows:
            values: dict[str, tuple[float, str]] = dict.fromkeys(_POWERS, (math.nan, ABSENT))
            status, note = Status.ABSENT, ""
        else:
            row = rows[segment.number]
            left_out = int(runs.voxels[row] - found.finite[row])
            values = _values(found, row, voxel_mm3)
            status = Status.FAILED
            note = f"{left_out} voxels without a finite intensity are left out" if left_out else ""
        features[segment.number] = {
            name: _measurement(segment.label, name, value, (volume.unit, status, note)) for name, value in values.items()
        }
    return features


def _measurement(label: str, name: str, value: tuple[float, str], context: tuple[str, Status, str]) -> Measurement:
    number, why_not = value
    unit, status, note = context
    power = _POWERS[name]
    unit = "" if not unit or not power else unit if power == 1 else f"{unit}{power}"
    if name == "total_energy":
        unit = f"{unit}.mm3" if unit else "mm3"
    elif name == "entropy":
        unit = "bit"
    if math.isfinite(number):
        return Measurement(label, name, number, unit, reason=note)
    reason = why_not or "the value is too large for a double"
    return Measurement(label, name, None, unit, status=status, reason=f"{reason}; {note}" if note else reason)


def _values(found: FirstOrder, row: int, voxel_mm3: float) -> dict[str, tuple[float, str]]:
    """Each feature of a segment with the reason that holds if it is NaN."""
    if not found.finite[row]:
        return dict.fromkeys(_POWERS, (math.nan, "no voxel of the segment has a finite intensity"))
    p10, p25, median, p75, p90 = (float(value) for value in found.percentiles[row])
    mean, variance, energy = float(found.mean[row]), float(found.variance[row]), float(found.energy[row])
    least, most = float(found.minimum[row]), float(found.maximum[row])
    std = math.sqrt(variance) if math.isfinite(variance) else math.nan
    values: dict[str, tuple[float, str]] = {
        "skewness": (float(found.skewness[row]), CONSTANT),
        "excess_kurtosis": (float(found.excess_kurtosis[row]), CONSTANT),
        "coefficient_of_variation": (_ratio(std, mean), "the mean is 0"),
        "quartile_coefficient_of_dispersion": (_ratio(p75 - p25, p75 + p25), "the quartiles add up to 0"),
    }
    plain = {
        "mean": mean,
        "std": std,
        "variance": variance,
        "min": least,
        "percentile_10": p10,
        "median": median,
        "percentile_90": p90,
        "max": most,
        "range": most - least,
        "interquartile_range": p75 - p25,
        "mean_absolute_deviation": float(found.mean_absolute_deviation[row]),
        "robust_mean_absolute_deviation": float(found.robust_mean_absolute_deviation[row]),
        "median_absolute_deviation": float(found.median_absolute_deviation[row]),
        "energy": energy,
        "total_energy": energy * voxel_mm3,
        "root_mean_square": math.sqrt(energy / int(found.finite[row])),
        "entropy": float(found.entropy[row]),
        "uniformity": float(found.uniformity[row]),
    }
    values |= {name: (value, "") for name, value in plain.items()}
    return {name: values[name] for name in _POWERS}


def _ratio(above: float, below: float) -> float:
    return above / below if below else math.nan
