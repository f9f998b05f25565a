"""Intensities as a network was trained on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError
from medseg.core.volume import Volume
from medseg.segmentation.learned.description import ClipAndScale, ClipAndZScore, ModelDescription

Rule = tuple[float, float, float, float]


def background_of(volume: Volume, description: ModelDescription) -> float:
    """Return the intensity that stands for "outside the scan"; raises InputError where no voxel is a finite number."""
    if description.background is not None:
        return float(description.background)
    finite = volume.array[np.isfinite(volume.array)]
    if not finite.size:
        raise InputError("the scan holds no finite intensity: check the file it came from")
    return float(finite.min())


def normaliser(volume: Volume, description: ModelDescription, channel: int = 0) -> Rule:
    """Return (lower, upper, centre, scale) of a channel: clip to the first two, subtract `centre`, divide by `scale`.

    The statistics of a z-score are those of the finite voxels of the scan on its own grid (with `nonzero`, of those
    that are not 0). Raises InputError for a scan of one intensity.
    """
    rule = description.channel_normalisation[channel]
    if isinstance(rule, ClipAndScale):
        return rule.lower, rule.upper, (rule.lower + rule.upper) / 2, (rule.upper - rule.lower) / 2
    if isinstance(rule, ClipAndZScore):
        return rule.lower, rule.upper, rule.mean, rule.std
    counted = np.isfinite(volume.array)
    if rule.nonzero:
        counted &= volume.array != 0
    values = volume.array[counted]
    scale = float(values.std(dtype=np.float64)) if values.size else 0.0
    if scale == 0:
        raise InputError("the scan has one intensity only: there is nothing to segment")
    return -np.inf, np.inf, float(values.mean(dtype=np.float64)), scale


def normalised(array: npt.NDArray[Any], rule: Rule, out: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
    """Return an array clipped, centred and scaled, float32; `out` may be the array itself."""
    lower, upper, centre, scale = rule
    result = np.clip(array.astype(np.float32, copy=False), np.float32(lower), np.float32(upper), out=out)
    result -= np.float32(centre)
    result /= np.float32(scale)
    return result
