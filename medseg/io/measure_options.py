"""What `medseg measure` is asked for beyond volumes, places and plain intensities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medseg.core.errors import ParameterError
from medseg.core.label_map import LabelMap, ProbabilityMap
from medseg.io.read import read, read_label_map

FEATURES = ("shape", "intensity")


@dataclass(frozen=True)
class MeasureOptions:
    """`percentiles` of the intensities; `features` (shape, intensity); `segments` to measure, in this order (all by default).

    `bin_width` is that of the histogram for entropy and uniformity, in the unit of the scan.

    `probabilities` are files by the label of their segment, `replicates` segmentations of the same scan by other folds,
    augmentations or ensemble members: both widen the interval by what they show. `resample_mask` brings a segmentation from
    another grid onto that of the scan. Raises ParameterError for an unknown feature.
    """

    percentiles: tuple[float, ...] = ()
    features: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    probabilities: Mapping[str, str | Path] = field(default_factory=dict)
    replicates: tuple[str | Path, ...] = ()
    resample_mask: bool = False
    bin_width: float = 25.0

    def __post_init__(self) -> None:
        unknown = [name for name in self.features if name not in FEATURES]
        if unknown:
            raise ParameterError(f"there are no features called {unknown[0]!r}: {', '.join(FEATURES)}")


def read_probabilities(label_map: LabelMap, options: MeasureOptions) -> ProbabilityMap | None:
    """Return the class probabilities of those segments of a label map that have a file, None where none has.

    Raises ParameterError where a value lies outside 0 to 1, GeometryMismatchError (when measured) where a grid differs.
    """
    wanted = [segment for segment in label_map.segments if segment.label in options.probabilities]
    if not wanted:
        return None
    volumes = [read(options.probabilities[segment.label]) for segment in wanted]
    for segment, volume in zip(wanted, volumes, strict=True):
        low, high = float(volume.array.min()), float(volume.array.max())
        if not (low >= 0 and high <= 1):
            raise ParameterError(f"the probabilities of {segment.label!r} run from {low:g} to {high:g}: they lie between 0 and 1")
    array = np.stack([volume.array.astype(np.float32, copy=False) for volume in volumes])
    return ProbabilityMap(array, volumes[0].geometry, tuple(wanted))


def read_replicates(options: MeasureOptions) -> tuple[LabelMap, ...]:
    """Return the segmentations by other folds or augmentations; one alone tells nothing and is refused (ParameterError)."""
    if len(options.replicates) == 1:
        raise ParameterError("one replicate tells nothing of the spread between models: give two or more")
    return tuple(read_label_map(path) for path in options.replicates)
