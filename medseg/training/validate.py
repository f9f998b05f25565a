"""Scores of a trained fold on the cases it has not seen: the whole scan through medseg's own inference, on its own grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg.core.errors import MedsegError
from medseg.core.label_map import LabelMap, smallest_unsigned
from medseg.core.volume import Volume
from medseg.evaluation.overlap import evaluate
from medseg.method.settings import Progress, no_progress
from medseg.training.dataset import Dataset, TrainingCase, read_case
from medseg.training.plan import TrainingPlan


@dataclass(frozen=True)
class CaseScore:
    """How one segment of one case agrees: Dice (None where neither side has it), HD95 in mm (None where one side lacks it)."""

    case: str
    label: str
    dice: float | None
    hd95_mm: float | None
    reference_ml: float
    prediction_ml: float

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return dict(vars(self))


def score_cases(
    model_folder: Path,
    dataset: Dataset,
    cases: Sequence[TrainingCase],
    plan: TrainingPlan,
    *,
    device: str,
    progress: Progress = no_progress,
) -> list[CaseScore]:
    """Segment each case with the model in a folder (mirrored passes where it was trained for them) and score every label."""
    segment = _segmenter(model_folder, plan, device)
    scores: list[CaseScore] = []
    for done, case in enumerate(cases):
        images, label = read_case(case, dataset)
        try:
            prediction = segment(images)
        except MedsegError as err:
            raise type(err)(f"case {case.id}: {err}") from err
        scores += score_labels(case.id, label, prediction, dataset.ignore_label)
        progress("validating", done + 1, len(cases))
    return scores


def _segmenter(model_folder: Path, plan: TrainingPlan, device: str) -> Callable[[tuple[Volume, ...]], LabelMap]:
    from medseg.segmentation.learned.loading import open_model
    from medseg.segmentation.learned.trained import Request

    model = open_model(model_folder)
    request = Request(device=device, mirroring=bool(plan.mirror_axes))

    def segment(images: tuple[Volume, ...]) -> LabelMap:
        outcome = model.segment(images, request)
        return LabelMap(outcome.labels.T, images[0].geometry, outcome.segments)

    return segment


def score_labels(case: str, label: Volume, prediction: LabelMap, ignore_label: int | None = None) -> list[CaseScore]:
    """Compare a prediction with the values of a reference on the same grid; voxels nobody judged count on neither side.

    Raises GeometryMismatchError where the grids differ.
    """
    values = np.asarray(label.array)
    judged = np.ones(values.shape, bool) if ignore_label is None else values != ignore_label
    numbers = [segment.number for segment in prediction.segments]
    true = np.where(judged & np.isin(values, numbers), values, 0).astype(smallest_unsigned(max(numbers)))
    reference = LabelMap(np.asfortranarray(true), label.geometry, prediction.segments)
    if not judged.all():
        ours = np.asfortranarray(np.where(judged, prediction.array, 0).astype(prediction.array.dtype))
        prediction = LabelMap(ours, prediction.geometry, prediction.segments)
    result = []
    for score in evaluate(reference, prediction).scores:
        entry = score.to_dict()
        result.append(
            CaseScore(
                case, score.label, entry.get("dice"), entry.get("hd95_mm"), entry["reference_volume_ml"], entry["prediction_volume_ml"]
            )
        )
    return result


def summary_of(scores: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return mean, standard deviation, worst Dice (with its case) and mean HD95 of each label, over the cases that have it.

    >>> rows = [{"case": "a", "label": "x", "dice": 0.8, "hd95_mm": 1.0}, {"case": "b", "label": "x", "dice": 0.9, "hd95_mm": None}]
    >>> summary = summary_of(rows)["x"]
    >>> round(summary["mean_dice"], 6), summary["worst_case"], summary["cases"], summary["mean_hd95_mm"]
    (0.85, 'a', 2, 1.0)
    """
    result: dict[str, dict[str, Any]] = {}
    for label in dict.fromkeys(row["label"] for row in scores):
        rows = [row for row in scores if row["label"] == label and row["dice"] is not None]
        dice = [row["dice"] for row in rows]
        distances = [row["hd95_mm"] for row in rows if row["hd95_mm"] is not None]
        worst = min(rows, key=lambda row: row["dice"]) if rows else None
        result[label] = {
            "cases": len(rows),
            "mean_dice": float(np.mean(dice)) if dice else None,
            "sd_dice": float(np.std(dice, ddof=1)) if len(dice) > 1 else None,
            "worst_dice": worst["dice"] if worst else None,
            "worst_case": worst["case"] if worst else None,
            "mean_hd95_mm": float(np.mean(distances)) if distances else None,
        }
    return result
