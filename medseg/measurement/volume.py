"""The volume of every segment with its interval and the parts of it, beside what other ways of counting give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryMismatchError
from medseg.core.label_map import LabelMap, ProbabilityMap
from medseg.core.measurement import Measurement, Status
from medseg.core.segment import Segment
from medseg.measurement.uncertainty import Border, VolumeSpread, border_of, half_voxel_shell_mm3, replicate_sd_mm3, volume_spread

if TYPE_CHECKING:
    from medseg.kernels.statistics import LabelStatistics

MM3_PER_ML = 1000.0
DISAGREEMENT_PERCENT = 1.0  # from here on, ways of counting that differ are said to differ
_LIKELY, _UNLIKELY = 0.84, 0.16  # one standard deviation to either side of an even chance

FloatArray = npt.NDArray[np.float64]


class Volumes:
    """The volumes of all segments of a label map, worked out for all labels at once.

    `probabilities` and `replicates` (label maps of folds, augmentations or ensemble members) lie on the same grid and name
    the same segments; a replicate without a segment counts as 0 for it. Without replicates the passes of the network that
    drew the label map (its `model_spread`) stand for them. Raises GeometryMismatchError where a grid differs.
    """

    def __init__(
        self,
        label_map: LabelMap,
        found: LabelStatistics,
        probabilities: ProbabilityMap | None = None,
        replicates: Sequence[LabelMap] = (),
    ) -> None:
        from medseg.kernels.configurations import label_configurations
        from medseg.kernels.marching_cubes import mesh_volumes_voxels

        self._check(label_map, probabilities, replicates)
        self.voxel_mm3 = label_map.geometry.voxel_volume_mm3
        counts = label_configurations(label_map.array.T, found.numbers)
        affine = label_map.geometry.affine
        self.border: Border = border_of(label_map.array.T, found, counts, affine)
        self.voxels = found.voxels
        self.mesh_mm3 = mesh_volumes_voxels(counts) * self.voxel_mm3
        self.probability_mm3, moved = self._probable(label_map, found, probabilities)
        self.model_mm3 = self._replicated(label_map, found, replicates)
        self.spread: VolumeSpread = volume_spread(found.voxels, self.border, affine, boundary_mm3=moved, model_mm3=self.model_mm3)
        self.shell_mm3 = half_voxel_shell_mm3(self.border, self.voxel_mm3)

    def measurements(self, segment: Segment, row: int, status: Status, reason: str) -> dict[str, Measurement]:
        """Return what is measured of the volume of a segment, which is row `row` of the statistics."""
        voxel_mm3 = float(self.voxels[row]) * self.voxel_mm3
        low, high = (float(bound) / MM3_PER_ML for bound in self.spread.interval_mm3[row])
        parts = {"grid": float(self.spread.grid_mm3[row]) / MM3_PER_ML, "boundary": float(self.spread.boundary_mm3[row]) / MM3_PER_ML}
        if not np.isnan(self.model_mm3[row]):
            parts["model"] = float(self.model_mm3[row]) / MM3_PER_ML
        volume = Measurement(segment.label, "volume", voxel_mm3 / MM3_PER_ML, "ml", (low, high), status, reason, parts)
        ways = {"voxel_ml": voxel_mm3, "mesh_ml": float(self.mesh_mm3[row])}
        if not np.isnan(self.probability_mm3[row]):
            ways["probability_ml"] = float(self.probability_mm3[row])
        found = {"volume": volume}
        found |= {name: Measurement(segment.label, name, mm3 / MM3_PER_ML, "ml") for name, mm3 in ways.items()}
        found["volumes_differ_percent"] = _difference(segment.label, ways)
        found["half_voxel_shell_ml"] = Measurement(segment.label, "half_voxel_shell_ml", float(self.shell_mm3[row]) / MM3_PER_ML, "ml")
        return found

    @staticmethod
    def _check(label_map: LabelMap, probabilities: ProbabilityMap | None, replicates: Sequence[LabelMap]) -> None:
        for other, name in ((probabilities, "class probabilities"), *((one, "replicates") for one in replicates)):
            if other is not None and not label_map.geometry.matches(other.geometry):
                raise GeometryMismatchError(f"the {name} are not on the grid of the segmentation", label_map.geometry, other.geometry)

    def _probable(self, label_map: LabelMap, found: LabelStatistics, probabilities: ProbabilityMap | None) -> tuple[FloatArray, FloatArray]:
        """Return the expected volume and the standard deviation of the border, NaN where there are no probabilities."""
        expected, moved = np.full(len(found.numbers), np.nan), np.full(len(found.numbers), np.nan)
        if probabilities is None:
            return expected, moved
        channels = {segment.label: channel for channel, segment in enumerate(probabilities.segments)}
        for row, label in enumerate(_labels(label_map, found)):
            channel = channels.get(label)
            if channel is None:
                continue
            share = probabilities.array[channel]
            expected[row] = float(share.sum(dtype=np.float64)) * self.voxel_mm3
            between = np.count_nonzero(share >= _UNLIKELY) - np.count_nonzero(share >= _LIKELY)
            moved[row] = between / 2 * self.voxel_mm3
        return expected, moved

    def _replicated(self, label_map: LabelMap, found: LabelStatistics, replicates: Sequence[LabelMap]) -> FloatArray:
        labels = _labels(label_map, found)
        spread = label_map.model_spread
        if len(replicates) < 2 and spread is not None and len(spread.passes) > 1:
            rows = [spread.volumes_ml.get(label, (np.nan,) * len(spread.passes)) for label in labels]
            return replicate_sd_mm3((np.array(rows).T * MM3_PER_ML).tolist())
        if len(replicates) < 2:
            return np.full(len(found.numbers), np.nan)
        return replicate_sd_mm3([[one.get(label, 0.0) * self.voxel_mm3 for label in labels] for one in map(_voxels_of, replicates)])


def _difference(label: str, ways_mm3: dict[str, float]) -> Measurement:
    values = list(ways_mm3.values())
    percent = 100 * (max(values) - min(values)) / values[0]
    named = ", ".join(f"{name.removesuffix('_ml')} {mm3 / MM3_PER_ML:.4g} ml" for name, mm3 in ways_mm3.items())
    reason = f"ways of counting the volume differ by {percent:.1f} %: {named}" if percent > DISAGREEMENT_PERCENT else ""
    return Measurement(label, "volumes_differ_percent", percent, "%", reason=reason)


def _labels(label_map: LabelMap, found: LabelStatistics) -> list[str]:
    names = {segment.number: segment.label for segment in label_map.segments}
    return [names[number] for number in found.numbers.tolist()]


def _voxels_of(label_map: LabelMap) -> dict[str, int]:
    from medseg.kernels.statistics import label_statistics

    found = label_statistics(label_map.array.T)
    names = {segment.number: segment.label for segment in label_map.segments}
    return {names[number]: int(count) for number, count in zip(found.numbers.tolist(), found.voxels, strict=True)}
