"""Overlap of two label maps, segment by segment: Dice, IoU, sensitivity, precision and the difference of the volumes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryMismatchError, UnknownSegmentError
from medseg.core.label_map import LabelMap, smallest_unsigned
from medseg.core.segment import Segment

_ABSENT_IN_BOTH = "the segment has no voxel in the reference and none in the prediction"
_ABSENT_IN_REFERENCE = "the segment has no voxel in the reference"
_ABSENT_IN_PREDICTION = "the segment has no voxel in the prediction"


@dataclass(frozen=True)
class SegmentScore:
    """The agreement of one segment; a value that is not defined is None, and `reason` says why.

    Dice 2TP/(2TP+FP+FN) and IoU TP/(TP+FP+FN) are 0 for a segment that only one side has, undefined where both lack it;
    sensitivity TP/(TP+FN) is undefined without reference voxels, precision TP/(TP+FP) without predicted ones
    (Maier-Hein et al. 2024, doi:10.1038/s41592-023-02151-z).
    """

    number: int
    label: str
    reference_voxels: int
    prediction_voxels: int
    common_voxels: int
    reference_volume_ml: float
    prediction_volume_ml: float
    note: str = ""

    @property
    def dice(self) -> float | None:
        """Dice coefficient."""
        total = self.reference_voxels + self.prediction_voxels
        return 2 * self.common_voxels / total if total else None

    @property
    def iou(self) -> float | None:
        """Intersection over union."""
        union = self.reference_voxels + self.prediction_voxels - self.common_voxels
        return self.common_voxels / union if union else None

    @property
    def sensitivity(self) -> float | None:
        """Share of the reference that was found."""
        return self.common_voxels / self.reference_voxels if self.reference_voxels else None

    @property
    def precision(self) -> float | None:
        """Share of the prediction that is right."""
        return self.common_voxels / self.prediction_voxels if self.prediction_voxels else None

    @property
    def volume_difference_ml(self) -> float:
        """Prediction minus reference."""
        return self.prediction_volume_ml - self.reference_volume_ml

    @property
    def volume_difference_percent(self) -> float | None:
        """Difference relative to the reference."""
        return 100 * self.volume_difference_ml / self.reference_volume_ml if self.reference_voxels else None

    @property
    def reason(self) -> str:
        """Why a value is undefined or a side is empty, or ""."""
        if not self.reference_voxels and not self.prediction_voxels:
            return _ABSENT_IN_BOTH
        if not self.reference_voxels:
            return _ABSENT_IN_REFERENCE
        if not self.prediction_voxels:
            return _ABSENT_IN_PREDICTION
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON row."""
        names = ("dice", "iou", "sensitivity", "precision", "volume_difference_ml", "volume_difference_percent")
        row = {"number": self.number, "label": self.label} | {name: getattr(self, name) for name in names}
        row |= {name: getattr(self, name) for name in ("reference_voxels", "prediction_voxels", "common_voxels")}
        row |= {name: getattr(self, name) for name in ("reference_volume_ml", "prediction_volume_ml", "reason", "note")}
        return row


@dataclass(frozen=True)
class Evaluation:
    """The scores of all segments, and how segments were matched ("label" or "number")."""

    scores: tuple[SegmentScore, ...]
    matched_by: str

    def __getitem__(self, label: str) -> SegmentScore:
        for score in self.scores:
            if score.label == label:
                return score
        raise UnknownSegmentError(f"no score for {label!r}; there are: {', '.join(score.label for score in self.scores)}")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `medseg evaluate`: every row counts; nothing undefined enters a mean unsaid."""
        defined = [score.dice for score in self.scores if score.dice is not None]
        ious = [score.iou for score in self.scores if score.iou is not None]
        summary = {
            "matched_by": self.matched_by,
            "segment_count": len(self.scores),
            "undefined_count": len(self.scores) - len(defined),
            "missed_count": sum(1 for s in self.scores if s.reference_voxels and not s.prediction_voxels),
            "false_count": sum(1 for s in self.scores if s.prediction_voxels and not s.reference_voxels),
            "mean_dice": sum(defined) / len(defined) if defined else None,
            "mean_iou": sum(ious) / len(ious) if ious else None,
            "rule": "means over defined segments; a missed or false segment counts as 0",
        }
        return {"schema": "medseg.evaluate/1", "segments": [score.to_dict() for score in self.scores], "summary": summary}


def evaluate(reference: LabelMap, prediction: LabelMap) -> Evaluation:
    """Score every segment of two label maps on one grid, in one pass.

    Segments are matched by label where the two maps share at least one, else by number. A segment that only one side
    knows is scored against nothing, never dropped. Raises GeometryMismatchError where the grids differ.

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> def line(n): return LabelMap(np.arange(8).reshape(8, 1, 1) < n, Geometry((8, 1, 1), np.eye(4)), (Segment(1, "a"),))
    >>> evaluate(line(4), line(2))["a"].dice
    0.6666666666666666
    """
    from medseg.kernels.overlap import overlap_counts

    if not reference.geometry.matches(prediction.geometry):
        raise GeometryMismatchError(
            "reference and prediction are not on one grid: resample the prediction onto the reference first "
            "(medseg convert PRED OUT --like REF)",
            reference.geometry,
            prediction.geometry,
        )
    pairs, matched_by = _match(reference, prediction)
    predicted = _renumbered(pairs, prediction)
    numbers, in_reference, in_prediction, common = overlap_counts(reference.array.T, predicted)
    row_of = {int(number): row for row, number in enumerate(numbers)}
    ml = reference.geometry.voxel_volume_mm3 / 1000
    scores = []
    for number, (ref, pred) in _scored_numbers(pairs).items():
        row = row_of.get(number)
        counts = (0, 0, 0) if row is None else (int(in_reference[row]), int(in_prediction[row]), int(common[row]))
        note = "" if ref and pred else "only the reference has this segment" if ref else "only the prediction has this segment"
        for shown in (ref, pred):
            if shown is not None:
                scores.append(SegmentScore(shown.number, shown.label, *counts, counts[0] * ml, counts[1] * ml, note))
                break
    return Evaluation(tuple(scores), matched_by)


Pair = tuple[Segment | None, Segment | None]


def _match(reference: LabelMap, prediction: LabelMap) -> tuple[list[Pair], str]:
    shared = {s.label for s in reference.segments} & {s.label for s in prediction.segments}
    by: str = "label" if shared else "number"
    waiting = {getattr(segment, by): segment for segment in prediction.segments}
    pairs: list[Pair] = [(segment, waiting.pop(getattr(segment, by), None)) for segment in reference.segments]
    return pairs + [(None, segment) for segment in waiting.values()], by


def _scored_numbers(pairs: list[Pair]) -> dict[int, Pair]:
    """Give each pair the number under which it is counted: the reference's, or a free one for what only the prediction has."""
    free = 1 + max((ref.number for ref, _ in pairs if ref), default=0)
    numbered: dict[int, Pair] = {}
    for ref, pred in pairs:
        if ref is not None:
            numbered[ref.number] = (ref, pred)
        else:
            numbered[free] = (ref, pred)
            free += 1
    return numbered


def _renumbered(pairs: list[Pair], prediction: LabelMap) -> npt.NDArray[Any]:
    """Return the prediction (k,j,i) with each segment under the number its pair is counted under."""
    target = {pred.number: number for number, (_, pred) in _scored_numbers(pairs).items() if pred is not None}
    if all(old == new for old, new in target.items()):
        return prediction.array.T
    largest = max(segment.number for segment in prediction.segments)
    table = np.zeros(largest + 1, dtype=smallest_unsigned(max(target.values())))
    for old, new in target.items():
        table[old] = new
    return np.asarray(table[prediction.array.T])
