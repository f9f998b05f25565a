"""Means that cannot flatter: without misses, misses as the worst case, and the interval over cases, for every label and overall."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.evaluation.bootstrap import Bootstrap, intervals
from medseg.evaluation.detection import Detection, MatchRule
from medseg.evaluation.score import OVERLAP_SHARES, VOLUME_DIFFERENCES, Outcome, SegmentScore, SurfaceRule

FloatArray = npt.NDArray[np.float64]

RULE = "means over defined segments; a missed or false segment counts as 0"
WORST_CASE_RULE = (
    "a missed or false segment, and one whose case could not be compared, counts as 0 for shares and as the diagonal of the image for"
    " distances; volumes count as they are; a segment that neither side has is not counted"
)
MOST_LABELS = 1_000  # with more labels than this, only the overall means get an interval

_INTERVAL_METHOD = "percentile bootstrap over cases, all figures from the same draws (paired)"
_LESION_RATIOS = ("sensitivity", "precision", "f1", "false_positives_per_case", "lesion_dice")


@dataclass
class _Sums:
    """Sums and counts of every metric by case, (cases, metrics)."""

    sums: FloatArray
    counts: FloatArray

    def add(self, case: int, values: Iterable[float | None]) -> None:
        for column, value in enumerate(values):
            if value is not None:
                self.sums[case, column] += value
                self.counts[case, column] += 1

    def means(self) -> list[float | None]:
        totals, counts = self.sums.sum(axis=0), self.counts.sum(axis=0)
        return [float(total / count) if count else None for total, count in zip(totals, counts, strict=True)]


def summarise(
    cases: Sequence[Sequence[SegmentScore]],
    surface: SurfaceRule | None,
    match: MatchRule | None,
    bootstrap: Bootstrap | None = None,
) -> dict[str, Any]:
    """Return the summary of the scores of one or several cases as its JSON form."""
    bootstrap = bootstrap or Bootstrap()
    scores = [score for case in cases for score in case]
    metrics = metric_keys(surface)
    draws = bootstrap.draws(len(cases))
    rows_of: dict[str, list[tuple[int, SegmentScore]]] = {}
    for number, case in enumerate(cases):
        for score in case:
            rows_of.setdefault(score.label, []).append((number, score))
    shown = rows_of if len(rows_of) <= MOST_LABELS else {}
    everything = [(number, score) for number, case in enumerate(cases) for score in case]
    overall = _lines(everything, len(cases), metrics, draws)
    labels = [{"label": label} | _lines(rows, len(cases), metrics, draws) for label, rows in shown.items()]
    summary: dict[str, Any] = _plain_means(scores)
    summary |= surface.to_dict() if surface else {"definition": None, "percentile": None, "tolerances_mm": []}
    summary["worst_case_rule"] = WORST_CASE_RULE
    summary["bootstrap"] = {"resamples": bootstrap.resamples, "seed": bootstrap.seed, "level": 0.95, "method": _INTERVAL_METHOD}
    summary["bootstrap"]["reason"] = bootstrap.why_none(len(cases))
    summary |= {"metrics": list(metrics), "overall": overall, "labels": labels}
    if len(shown) < len(rows_of):
        summary["labels_reason"] = f"{len(rows_of):,} labels, more than {MOST_LABELS:,}: only the overall means are given"
    if match is not None:
        known = np.array([not any(score.failure for score in case) for case in cases], dtype=float)
        lesions_of = {label: _lesion_sums(rows, known) for label, rows in shown.items()}
        overall_lesions = _lesion_sums(everything, known).to_dict(draws)
        by_label = [{"label": label} | sums.to_dict(draws) for label, sums in lesions_of.items()]
        summary["lesions"] = {"rule": str(match), "overall": overall_lesions, "labels": by_label}
    return summary


def metric_keys(surface: SurfaceRule | None) -> tuple[str, ...]:
    """Return the keys that are averaged, in the order of the tables."""
    return (*OVERLAP_SHARES, *VOLUME_DIFFERENCES, *((*surface.distances, *surface.shares) if surface else ()))


def worst_values(score: SegmentScore, metrics: Sequence[str]) -> list[float | None]:
    """Return the values with which a segment enters the line "misses as worst case".

    Nothing is known of the prediction of a failed case: it counts as if nothing had been found.
    """
    if score.outcome is Outcome.ABSENT:
        return [None] * len(metrics)
    values = score.values()
    if score.outcome is Outcome.COMPARED:
        return [values.get(key) for key in metrics]
    lost: dict[str, float | None] = {key: values.get(key) for key in VOLUME_DIFFERENCES}
    if score.outcome is Outcome.FAILED:
        lost = dict(zip(VOLUME_DIFFERENCES, (-score.reference_volume_ml, -100.0, 100.0), strict=True))
    return [lost[key] if key in lost else score.diagonal_mm if key.endswith("_mm") else 0.0 for key in metrics]


def _lines(rows: Sequence[tuple[int, SegmentScore]], cases: int, metrics: Sequence[str], draws: FloatArray | None) -> dict[str, Any]:
    """The counts and the three lines of one label, or of all together."""
    without, worst = (_Sums(np.zeros((cases, len(metrics))), np.zeros((cases, len(metrics)))) for _ in range(2))
    outcomes = dict.fromkeys(Outcome, 0)
    for case, score in rows:
        outcomes[score.outcome] += 1
        if score.outcome is Outcome.COMPARED:
            values = score.values()
            without.add(case, [values.get(key) for key in metrics])
        worst.add(case, worst_values(score, metrics))
    found: dict[str, Any] = {"case_count": len({case for case, _ in rows})}
    found |= {f"{outcome.value}_count": count for outcome, count in outcomes.items()}
    found["without_misses"] = dict(zip(metrics, without.means(), strict=True))
    found["misses_as_worst_case"] = dict(zip(metrics, worst.means(), strict=True))
    limits: list[tuple[float, float] | None] = [None] * (2 * len(metrics))
    if draws is not None:
        sums, counts = np.hstack([worst.sums, without.sums]), np.hstack([worst.counts, without.counts])
        limits = intervals(draws, sums, counts)
    for name, part in (("interval", limits[: len(metrics)]), ("interval_without_misses", limits[len(metrics) :])):
        found[name] = {key: list(pair) if pair else None for key, pair in zip(metrics, part, strict=True)}
    found["value_counts"] = {
        name: {key: int(count) for key, count in zip(metrics, line.counts.sum(axis=0), strict=True)}
        for name, line in (("without_misses", without), ("misses_as_worst_case", worst))
    }
    return found


def _plain_means(scores: Sequence[SegmentScore]) -> dict[str, Any]:
    """The keys that the summary has had from its first version on."""
    outcomes = [score.outcome for score in scores]
    dice = [0.0 if score.outcome is Outcome.FAILED else score.dice for score in scores]
    iou = [0.0 if score.outcome is Outcome.FAILED else score.iou for score in scores]
    return {
        "segment_count": len(scores),
        "undefined_count": outcomes.count(Outcome.ABSENT),
        "missed_count": outcomes.count(Outcome.MISSED),
        "false_count": outcomes.count(Outcome.FALSE),
        "failed_count": outcomes.count(Outcome.FAILED),
        "mean_dice": _mean(dice),
        "mean_iou": _mean(iou),
        "rule": RULE,
    }


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


@dataclass
class _LesionSums:
    """What the lesions of one label add up to, a value a case; `cases` is 1 where the prediction of the case is known."""

    cases: FloatArray
    columns: dict[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.columns = {name: np.zeros(len(self.cases)) for name in ("matched", "missed", "false", "dice", "merged", "split")}

    def add(self, case: int, detection: Detection) -> None:
        for kind in ("matched", "missed", "false"):
            self.columns[kind][case] += detection.count(kind)
        self.columns["dice"][case] += sum(lesion.dice for lesion in detection.lesions)
        self.columns["merged"][case] += detection.merged_count
        self.columns["split"][case] += detection.split_count

    def ratios(self) -> tuple[FloatArray, FloatArray]:
        """Numerators and denominators of the figures in the order of _LESION_RATIOS."""
        matched, missed, false = (self.columns[kind] for kind in ("matched", "missed", "false"))
        above = [matched, matched, 2 * matched, false, self.columns["dice"]]
        below = [matched + missed, matched + false, 2 * matched + missed + false, self.cases, matched + missed + false]
        return np.stack(above, axis=1), np.stack(below, axis=1)

    def to_dict(self, draws: FloatArray | None) -> dict[str, Any]:
        above, below = self.ratios()
        names = {"matched": "true_positives", "missed": "false_negatives", "false": "false_positives"}
        names |= {"merged": "merged_count", "split": "split_count"}
        found: dict[str, Any] = {"case_count": int(self.cases.sum())}
        found |= {key: int(self.columns[name].sum()) for name, key in names.items()}
        limits = intervals(draws, above, below) if draws is not None else [None] * len(_LESION_RATIOS)
        for column, name in enumerate(_LESION_RATIOS):
            base = below[:, column].sum()
            found[name] = float(above[:, column].sum() / base) if base else None
        found["interval"] = {name: list(pair) if pair else None for name, pair in zip(_LESION_RATIOS, limits, strict=True)}
        return found


def _lesion_sums(rows: Iterable[tuple[int, SegmentScore]], known: FloatArray) -> _LesionSums:
    """Add up the lesions of all cases; those of a missing or failed prediction are missed."""
    sums = _LesionSums(known)
    for case, score in rows:
        if score.detection is not None:
            sums.add(case, score.detection)
    return sums
