"""All nested regions of a seed as one small map: the slider of a viewer then needs no recomputation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError, ParameterError
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.segmentation.classical.nested_growing import NestedGrowingParams, NestedRegions, nested_regions_of, regions_told
from medseg.segmentation.classical.result import label_map_on
from medseg.slicer_bridge.array_files import write_array

_MOST_LIMITS = 65535  # numbers that a uint16 map can hold
_TABLE_ENTRIES = 1 << 22

Floats = npt.NDArray[np.float64]


def nested_map(
    volume: Volume, params: NestedGrowingParams, wanted: Mapping[str, Any], base: Path, offset: Sequence[int]
) -> tuple[LabelMap, dict[str, Any]]:
    """Return the region at the starting limit, and the values {"nested": ...} of the map that was written beside `base`.

    A voxel of the map (k,j,i, uint16, cropped to `extent`) holds n where it joins at `limits[n - 1]`, 0 where it never does: the
    region at limit n is 0 < map ≤ n. `start` is the n of the first of `params.limits`, else the one before the greatest leap.
    `wanted["most_ml"]` leaves out limits beyond a volume. `offset` is the index of the volume's first voxel in the whole scan.
    """
    nested = nested_regions_of(volume, params)
    limits, volumes = nested.curve
    if not len(limits):
        raise InputError("nested-growing: no seed lies on a voxel with a finite value between the limits; move the seeds or widen them")
    start = _start(nested, params)
    kept = _kept(limits, volumes, wanted, nested.vary, start)
    limits, volumes = limits[kept], volumes[kept]
    numbers, corner = _numbered(nested, limits)
    first = int(np.searchsorted(_costs(limits, nested.vary), _costs(start, nested.vary), "right"))
    path = write_array(base.with_name(f"{base.name}-nested.npy"), numbers)
    labels = np.zeros(volume.geometry.shape[::-1], np.uint8)
    box = tuple(slice(low, low + size) for low, size in zip(corner, numbers.shape, strict=True))
    labels[box] = (numbers > 0) & (numbers <= first)
    low = [int(corner[2 - axis]) + int(offset[axis]) for axis in range(3)]
    extent = [value for axis in range(3) for value in (low[axis], low[axis] + numbers.shape[2 - axis] - 1)]
    values = {
        "array": str(path),
        "extent": extent,
        "limits": limits.tolist(),
        "volumes_ml": volumes.tolist(),
        "start": first,
        "vary": nested.vary,
        "centre": nested.centre,
        "unit": volume.unit,
    }
    segment = Segment(1, params.label, algorithm="nested-growing")
    found = label_map_on(volume, labels, [segment], [regions_told(nested, [float(limits[first - 1])], volume.unit)])
    return found, {"nested": values}


def _costs(limits: Any, vary: str) -> Any:
    """Return limits so that they rise as the region grows."""
    return -limits if vary == "lower" else limits


def _start(nested: NestedRegions, params: NestedGrowingParams) -> float:
    if params.limits:
        return params.limits[0]
    leap = nested.before_greatest_leap(params.at_least_ml)
    return float(nested.curve[0][-1]) if leap is None else leap


def _kept(limits: Floats, volumes: Floats, wanted: Mapping[str, Any], vary: str, start: float) -> npt.NDArray[np.intp]:
    """Return which limits the map tells apart: those up to a volume, and of very many an even choice with the starting one."""
    most_ml = wanted.get("most_ml")
    if most_ml is not None and (isinstance(most_ml, bool) or not isinstance(most_ml, (int, float)) or not most_ml > 0):
        raise ParameterError("nested.most_ml must be a volume in ml above 0")
    at_start = max(int(np.searchsorted(_costs(limits, vary), _costs(start, vary), "right")) - 1, 0)
    last = len(limits) - 1 if most_ml is None else max(int(np.searchsorted(volumes, most_ml, "right")) - 1, at_start)
    chosen = np.unique(np.linspace(0, last, min(last + 1, _MOST_LIMITS - 1)).round().astype(np.intp))
    return np.union1d(chosen, [at_start])


def _numbered(nested: NestedRegions, limits: Floats) -> tuple[npt.NDArray[np.uint16], tuple[int, ...]]:
    """Return the map cropped to the region of the last limit, and the index (k,j,i) of its first voxel."""
    inside = nested.region(float(limits[-1])).T
    corner, size = [], []
    for axis in range(3):
        along = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        corner.append(int(along[0]))
        size.append(int(along[-1]) - int(along[0]) + 1)
    box = tuple(slice(low, low + count) for low, count in zip(corner, size, strict=True))
    costs = _costs(limits, nested.vary)
    levels = np.where(inside[box], _costs(nested.levels[box], nested.vary), np.inf)
    return _looked_up(levels, costs), tuple(corner)


def _looked_up(levels: npt.NDArray[Any], costs: Floats) -> npt.NDArray[np.uint16]:
    """Return for each level the number (from 1) of the first cost that is not below it, 0 for infinity."""
    joins = np.isfinite(levels)
    numbers = np.zeros(levels.shape, np.uint16)
    low, high = float(costs[0]), float(costs[-1])
    if high - low < _TABLE_ENTRIES and low.is_integer() and not np.any(costs % 1):
        table = (np.searchsorted(costs, np.arange(low, high + 1), "left") + 1).astype(np.uint16)
        numbers[joins] = table[np.maximum(levels[joins] - low, 0).astype(np.intp)]
        return numbers
    numbers[joins] = np.searchsorted(costs, levels[joins], "left") + 1
    return numbers
