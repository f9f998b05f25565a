"""Lesions found and missed: the components of a segment on both sides, matched one to one by a rule that has a name.

Whether a tumour counts as found depends on the rule (Maier-Hein et al. 2024, doi:10.1038/s41592-023-02151-z, "localization
criterion"), so every figure carries its rule.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment

IntArray = npt.NDArray[np.int64]
_Touching = tuple[IntArray, IntArray, npt.NDArray[np.float64]]
Kind = Literal["any-overlap", "iou", "centre-inside"]

CONNECTIVITY: Literal[26] = 26  # voxels of one lesion touch by a face, an edge or a corner

_IOU = re.compile(r"iou\s*(>=|≥|>)\s*([0-9.]+)")


@dataclass(frozen=True)
class MatchRule:
    """When a predicted lesion can stand for a lesion of the reference.

    any-overlap: they share a voxel. iou>=T: their IoU is at least T. centre-inside: the voxel at the centroid of the
    predicted lesion belongs to the reference lesion.
    """

    kind: Kind
    iou: float = 0.0

    @staticmethod
    def parse(text: str) -> MatchRule:
        """Return the rule of a text; "iou>0" is any-overlap. Raises ParameterError for anything else.

        >>> MatchRule.parse("iou>=0.5")
        MatchRule(kind='iou', iou=0.5)
        """
        plain = text.strip().lower()
        if plain in ("any-overlap", "centre-inside"):
            return MatchRule("any-overlap" if plain == "any-overlap" else "centre-inside")
        found = _IOU.fullmatch(plain)
        if found:
            try:
                share = float(found[2])
            except ValueError:
                share = 2.0
            if found[1] == ">" and share == 0:
                return MatchRule("any-overlap")
            if found[1] != ">" and 0 < share <= 1:
                return MatchRule("iou", share)
        raise ParameterError(f"lesions are matched by any-overlap, iou>=T with T above 0 and up to 1, or centre-inside, not by {text!r}")

    def __str__(self) -> str:
        return f"iou>={self.iou:g}" if self.kind == "iou" else self.kind


@dataclass(frozen=True)
class LesionMatch:
    """A lesion of the reference, of the prediction, or one of each that were matched.

    `centre_mm` (RAS) is that of the reference's lesion where there is one. Volumes are None for the side that lacks it.
    """

    centre_mm: tuple[float, float, float]
    reference_volume_ml: float | None
    prediction_volume_ml: float | None
    common_volume_ml: float = 0.0

    @property
    def dice(self) -> float:
        """Dice of the two lesions; 0 for a missed or false one."""
        if self.reference_volume_ml is None or self.prediction_volume_ml is None:
            return 0.0
        return 2 * self.common_volume_ml / (self.reference_volume_ml + self.prediction_volume_ml)

    @property
    def kind(self) -> str:
        """matched, missed or false."""
        if self.reference_volume_ml is None:
            return "false"
        return "missed" if self.prediction_volume_ml is None else "matched"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON row."""
        volumes = {"reference_volume_ml": self.reference_volume_ml, "prediction_volume_ml": self.prediction_volume_ml}
        return {"kind": self.kind, "centre_ras_mm": list(self.centre_mm), **volumes, "dice": self.dice}


@dataclass(frozen=True)
class Detection:
    """The lesions of one segment matched one to one by `rule`; shares are None where nothing was there to find, or nothing was found.

    `merged_count` is the number of predicted lesions that share voxels with two or more of the reference, `split_count` of
    reference lesions that share voxels with two or more predicted ones: one partner of each counts as found, the others as
    missed or false.
    """

    rule: MatchRule
    lesions: tuple[LesionMatch, ...]
    merged_count: int = 0
    split_count: int = 0

    def count(self, kind: str) -> int:
        """Return how many lesions were matched, missed or false."""
        return sum(1 for lesion in self.lesions if lesion.kind == kind)

    @property
    def sensitivity(self) -> float | None:
        """Share of the reference's lesions that were found."""
        matched, missed = self.count("matched"), self.count("missed")
        return matched / (matched + missed) if matched + missed else None

    @property
    def precision(self) -> float | None:
        """Share of the predicted lesions that are there."""
        matched, false = self.count("matched"), self.count("false")
        return matched / (matched + false) if matched + false else None

    @property
    def f1(self) -> float | None:
        """2TP/(2TP+FP+FN) of lesions."""
        return 2 * self.count("matched") / (self.count("matched") + len(self.lesions)) if self.lesions else None

    @property
    def lesion_dice(self) -> float | None:
        """Mean Dice over matched, missed and false lesions, the last two at 0."""
        return sum(lesion.dice for lesion in self.lesions) / len(self.lesions) if self.lesions else None

    @property
    def matched_dice(self) -> float | None:
        """Mean Dice over the matched lesions alone."""
        dice = [lesion.dice for lesion in self.lesions if lesion.kind == "matched"]
        return sum(dice) / len(dice) if dice else None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        matched, missed, false = (self.count(kind) for kind in ("matched", "missed", "false"))
        missed_ml = sorted((m.reference_volume_ml for m in self.lesions if m.kind == "missed" and m.reference_volume_ml), reverse=True)
        return {
            "rule": str(self.rule),
            "reference_count": matched + missed,
            "prediction_count": matched + false,
            "true_positives": matched,
            "false_negatives": missed,
            "false_positives": false,
            "sensitivity": self.sensitivity,
            "precision": self.precision,
            "f1": self.f1,
            "lesion_dice": self.lesion_dice,
            "matched_dice": self.matched_dice,
            "merged_count": self.merged_count,
            "split_count": self.split_count,
            "missed_volumes_ml": missed_ml,
            "rows": [lesion.to_dict() for lesion in self.lesions],
        }


def detect_lesions(
    pairs: Sequence[tuple[Segment | None, Segment | None]], ours: Sequence[LabelMap], theirs: Sequence[LabelMap], rule: MatchRule
) -> list[Detection]:
    """Match the lesions of every pair of segments; a lesion is a component whose voxels touch by face, edge or corner."""
    reference, prediction = _boxes(ours), _boxes(theirs)
    geometry = ours[0].geometry
    found = []
    for first, second in pairs:
        one = reference.get(first.number) if first else None
        other = prediction.get(second.number) if second else None
        boxes = [place[1] for place in (one, other) if place]
        if not boxes:
            found.append(Detection(rule, ()))
            continue
        low, high = np.min([box[0] for box in boxes], axis=0), np.max([box[1] for box in boxes], axis=0)
        part = tuple(slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True))
        empty = np.zeros(tuple(high - low + 1), np.uint8)
        masks = [
            (place[0].array.T[part] == segment.number).view(np.uint8) if place and segment else empty
            for place, segment in ((one, first), (other, second))
        ]
        found.append(match_components(masks[0], masks[1], geometry.cropped(low[::-1], empty.shape[::-1]), rule))
    return found


def _boxes(layers: Sequence[LabelMap]) -> dict[int, tuple[LabelMap, tuple[IntArray, IntArray]]]:
    """The layer of each segment that has voxels, and its box: least and greatest index (k,j,i)."""
    from medseg.kernels.statistics import label_statistics

    found = {}
    for layer in layers:
        table = label_statistics(layer.array.T)
        for number, first, last in zip(table.numbers, table.first, table.last, strict=True):
            found[int(number)] = (layer, (first, last))
    return found


def match_components(reference: npt.NDArray[np.uint8], prediction: npt.NDArray[np.uint8], geometry: Geometry, rule: MatchRule) -> Detection:
    """Match the components of two masks (k,j,i) on one grid.

    The assignment has as many matches as the rule allows; among those, the largest sum of IoU.

    >>> line = np.array([[[1, 1, 0, 1, 0, 0, 0]]], np.uint8)
    >>> other = np.array([[[0, 1, 0, 0, 0, 1, 1]]], np.uint8)
    >>> found = match_components(line, other, Geometry((7, 1, 1), np.eye(4)), MatchRule.parse("any-overlap"))
    >>> found.sensitivity, found.precision, found.count("missed")
    (0.5, 0.5, 1)
    """
    from medseg.kernels.components import label_components

    sides = [label_components(np.ascontiguousarray(mask), CONNECTIVITY) for mask in (reference, prediction)]
    (ours, our_sizes), (theirs, their_sizes) = sides
    r, p, common = _common(ours, theirs, len(their_sizes))
    iou = common / (our_sizes[r] + their_sizes[p] - common)
    centres = [_centres(labels, sizes) for labels, sizes in sides]
    matched = _assigned(*_candidates(rule, (r, p, iou), ours, centres[1]))
    ml = geometry.voxel_volume_mm3 / 1000
    of_pair = {(int(a), int(b)): int(n) for a, b, n in zip(r, p, common, strict=True)}
    partner = dict(matched)
    in_mm = [geometry.index_to_world(centre[:, ::-1]) for centre in centres]
    lesions = []
    for a in range(1, len(our_sizes)):
        b = partner.get(a)
        volume = None if b is None else float(their_sizes[b] * ml)
        shared = 0.0 if b is None else of_pair.get((a, b), 0) * ml
        lesions.append(LesionMatch(_point(in_mm[0][a - 1]), float(our_sizes[a] * ml), volume, shared))
    taken = set(partner.values())
    false = [b for b in range(1, len(their_sizes)) if b not in taken]
    lesions += [LesionMatch(_point(in_mm[1][b - 1]), None, float(their_sizes[b] * ml)) for b in false]
    merged, split = (int(np.count_nonzero(np.bincount(side) > 1)) if side.size else 0 for side in (p, r))
    return Detection(rule, tuple(lesions), merged, split)


def _point(row: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    return float(row[0]), float(row[1]), float(row[2])


def _common(ours: npt.NDArray[np.int32], theirs: npt.NDArray[np.int32], count: int) -> tuple[IntArray, IntArray, IntArray]:
    """Components that share voxels, and how many: reference, prediction, voxels."""
    both = (ours > 0) & (theirs > 0)
    keys, common = np.unique(ours[both].astype(np.int64) * count + theirs[both], return_counts=True)
    return keys // count, keys % count, common.astype(np.int64)


def _centres(labels: npt.NDArray[np.int32], sizes: IntArray) -> npt.NDArray[np.float64]:
    """Centroids (k,j,i) of the components, row n - 1 for component n."""
    inside = np.nonzero(labels)
    component = labels[inside]
    sums = [np.bincount(component, weights=axis, minlength=len(sizes))[1:] for axis in inside]
    return np.stack(sums, axis=1) / np.maximum(sizes[1:], 1)[:, None] if len(sizes) > 1 else np.zeros((0, 3))


def _candidates(
    rule: MatchRule, touching: _Touching, ours: npt.NDArray[np.int32], centres: npt.NDArray[np.float64]
) -> tuple[IntArray, IntArray, npt.NDArray[np.float64]]:
    """Which components may be partners by the rule: reference, prediction, IoU."""
    r, p, iou = touching
    if rule.kind == "iou":
        allowed = iou >= rule.iou
        return r[allowed], p[allowed], iou[allowed]
    if rule.kind == "any-overlap":
        return touching
    at = np.floor(centres + 0.5).astype(np.int64)
    home = ours[tuple(at.T)].astype(np.int64)  # a centroid lies in the box of its lesion, so inside the array
    inside = np.flatnonzero(home)
    known = {(int(a), int(b)): float(share) for a, b, share in zip(r, p, iou, strict=True)}
    # a ring may have its centre in a lesion that it does not touch: the rule holds all the same, the IoU is 0
    shares = [known.get((int(home[n]), int(n) + 1), 0.0) for n in inside]
    return home[inside], inside + 1, np.array(shares, dtype=np.float64)


def _assigned(r: IntArray, p: IntArray, iou: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """The largest one-to-one assignment, of those the one with the largest sum of IoU; each tangle of lesions by itself."""
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not r.size:
        return []
    size = int(max(r.max(), p.max())) + 1
    graph = coo_array((np.ones(r.size), (r, p + size)), shape=(2 * size, 2 * size))
    tangle = connected_components(graph, directed=False)[1][r]
    found: list[tuple[int, int]] = []
    order = np.argsort(tangle, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(tangle[order])) + 1):
        rows, row = np.unique(r[members], return_inverse=True)
        columns, column = np.unique(p[members], return_inverse=True)
        gain = np.zeros((len(rows), len(columns)))
        gain[row, column] = iou[members] + len(members)  # one match more outweighs every sum of IoU
        for a, b in zip(*linear_sum_assignment(gain, maximize=True), strict=True):
            if gain[a, b] > 0:
                found.append((int(rows[a]), int(columns[b])))
    return found
