"""Two segmentations compared segment by segment: overlap, volumes, surfaces and lesions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryMismatchError, UnknownSegmentError
from medseg.core.finding import Finding
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap, smallest_unsigned
from medseg.core.layers import check_layers
from medseg.evaluation.bootstrap import Bootstrap
from medseg.evaluation.detection import MatchRule, detect_lesions
from medseg.evaluation.score import Definition, Outcome, SegmentScore, SurfaceRule
from medseg.evaluation.segment_pairs import SegmentPair, pair_segments

Layers = LabelMap | Sequence[LabelMap]

_ONLY_REFERENCE = "only the reference has this segment"
_ONLY_PREDICTION = "only the prediction has this segment"
_MOST_DIRECT = 1 << 24  # numbers up to here are looked up in a table of their own length
_MOST_NAMED = 20


@dataclass(frozen=True)
class Evaluation:
    """The scores of all segments, how segments were matched ("label" or "number"), and what was found on the way.

    `surface` is the rule behind the distances and `match` the one behind the lesions, None where they were left out.
    """

    scores: tuple[SegmentScore, ...]
    matched_by: str
    surface: SurfaceRule | None = None
    match: MatchRule | None = None
    findings: tuple[Finding, ...] = ()

    def __getitem__(self, label: str) -> SegmentScore:
        for score in self.scores:
            if score.label == label:
                return score
        known = ", ".join(score.label for score in self.scores[:_MOST_NAMED]) or "none"
        raise UnknownSegmentError(f"no score for {label!r}; there are: {known}")

    def to_dict(self, bootstrap: Bootstrap | None = None) -> dict[str, Any]:
        """Return the JSON document of `medseg evaluate`: every row counts; nothing undefined enters a mean unsaid."""
        from medseg.evaluation.summary import summarise

        summary = {"matched_by": self.matched_by} | summarise([self.scores], self.surface, self.match, bootstrap)
        rows = [score.to_dict() for score in self.scores]
        findings = [finding.to_dict() for finding in self.findings]
        return {"schema": "medseg.evaluate/1", "segments": rows, "summary": summary, "findings": findings}


def evaluate(
    reference: Layers,
    prediction: Layers,
    *,
    surfaces: bool = True,
    tolerances_mm: Sequence[float] = (1.0,),
    percentile: float = 95.0,
    definition: Definition = "max-directed",
    lesions: bool = False,
    match: str = "any-overlap",
) -> Evaluation:
    """Score every segment of two segmentations on one grid; each may be a label map, or layers of overlapping segments.

    Segments are matched by label where the two share at least one, else by number. A segment that only one side has is a miss
    or a false one: its shares are 0, its distances undefined with a reason, never 0 mm, never dropped. Distances are in mm
    on the grid's true axes (`surface_scores`), NSD and boundary F1 at each of `tolerances_mm`. `lesions` also matches the
    components of each segment by the rule `match`: any-overlap, iou>=T or centre-inside. Raises GeometryMismatchError where
    the grids differ, ParameterError for a rule or tolerance that makes no sense.

    >>> from medseg.core.segment import Segment
    >>> def line(n): return LabelMap(np.arange(8).reshape(8, 1, 1) < n, Geometry((8, 1, 1), np.eye(4)), (Segment(1, "a"),))
    >>> score = evaluate(line(4), line(2))["a"]
    >>> round(score.dice, 3), score.surface["hd95_mm"]
    (0.667, 2.0)
    """
    rule = SurfaceRule(tuple(tolerances_mm), percentile, definition) if surfaces else None
    matching = MatchRule.parse(match) if lesions else None
    ours, theirs = check_layers(reference), check_layers(prediction)
    check_one_grid(ours[0].geometry, theirs[0].geometry)
    pairing = pair_segments(ours, theirs)
    diagonal = diagonal_mm(ours[0].geometry)
    scores = [replace(score, diagonal_mm=diagonal) for score in _counted(pairing.pairs, ours, theirs)]
    if rule is not None:
        scores = _with_surfaces(scores, pairing.pairs, ours, theirs, rule)
    if matching is not None:
        found = detect_lesions([(pair.reference, pair.prediction) for pair in pairing.pairs], ours, theirs, matching)
        scores = [replace(score, detection=detection) for score, detection in zip(scores, found, strict=True)]
    return Evaluation(tuple(scores), pairing.matched_by, rule, matching, pairing.findings)


def evaluate_without(
    reference: Layers, settings: Mapping[str, Any], *, note: str = "", failure: str = "", findings: tuple[Finding, ...] = ()
) -> Evaluation:
    """Score a reference whose prediction is missing (every segment is missed), or could not be compared (`failure` says why)."""
    ours = check_layers(reference)
    empty = LabelMap(np.zeros(ours[0].geometry.shape, np.uint8, order="F"), ours[0].geometry, ())
    found = evaluate(ours, empty, **settings)
    scores = tuple(replace(score, note="" if failure else note or score.note, failure=failure) for score in found.scores)
    return replace(found, scores=scores, findings=findings, matched_by="")


def check_one_grid(reference: Geometry, prediction: Geometry) -> None:
    """Raise GeometryMismatchError, saying how far they are apart, where two grids differ."""
    if reference.matches(prediction):
        return
    raise GeometryMismatchError(
        f"reference and prediction are not on one grid ({how_they_differ(reference, prediction)}): compare files made on one"
        " scan, or bring the prediction onto the reference's grid with --resample, which changes its volumes",
        reference,
        prediction,
    )


def how_they_differ(reference: Geometry, prediction: Geometry) -> str:
    """Say in one line what separates two grids."""

    def grid(geometry: Geometry) -> str:
        return f"{'×'.join(map(str, geometry.shape))} voxels of {'×'.join(f'{step:.4g}' for step in geometry.spacing_mm)} mm"

    frames = (reference.frame_of_reference_uid, prediction.frame_of_reference_uid)
    parts = [f"reference {grid(reference)}", f"prediction {grid(prediction)}"]
    if None not in frames and frames[0] != frames[1]:
        parts.append("their frames of reference differ")
    first = float(np.linalg.norm(np.subtract(reference.origin_mm, prediction.origin_mm)))
    distance = reference.distance_mm(prediction)
    parts.append(f"corners up to {distance:.4g} mm apart" if np.isfinite(distance) else f"first voxels {first:.4g} mm apart")
    return "; ".join(parts)


def diagonal_mm(geometry: Geometry) -> float:
    """Return the longest diagonal of the grid, outer corner to outer corner: no distance on it can be larger.

    >>> diagonal_mm(Geometry((3, 4, 12), np.eye(4)))
    13.0
    """
    edges = geometry.affine[:3, :3] * np.asarray(geometry.shape)
    signs = np.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]])
    return float(np.linalg.norm(signs @ edges.T, axis=1).max())


def _counted(pairs: Sequence[SegmentPair], ours: Sequence[LabelMap], theirs: Sequence[LabelMap]) -> list[SegmentScore]:
    """Count the voxels of every pair; each pair of layers that holds partners is gone through once."""
    numbers = _numbers(pairs)
    totals: dict[int, tuple[int, int]] = {}
    common: dict[int, int] = {}
    for first, second, shared in _layer_pairs(pairs, ours, theirs):
        for number, (in_reference, in_prediction, both) in _overlaps(first, second, pairs, numbers).items():
            before = totals.get(number, (0, 0))
            totals[number] = (max(before[0], in_reference), max(before[1], in_prediction))
            if number in shared:
                common[number] = both
    ml = ours[0].geometry.voxel_volume_mm3 / 1000
    scores = []
    for number, pair in zip(numbers, pairs, strict=True):
        reference, prediction = totals.get(number, (0, 0))
        note = "" if pair.reference and pair.prediction else _ONLY_REFERENCE if pair.reference else _ONLY_PREDICTION
        shown = pair.shown
        counts = (reference, prediction, common.get(number, 0), reference * ml, prediction * ml)
        scores.append(SegmentScore(shown.number, shown.label, *counts, note=note, matched_by=pair.matched_by))
    return scores


def _numbers(pairs: Sequence[SegmentPair]) -> list[int]:
    """The number under which each pair is counted: the reference's, or a free one for what only the prediction has."""
    free = 1 + max((pair.reference.number for pair in pairs if pair.reference), default=0)
    numbers = []
    for pair in pairs:
        numbers.append(pair.reference.number if pair.reference else free)
        free += pair.reference is None
    return numbers


def _layer_pairs(
    pairs: Sequence[SegmentPair], ours: Sequence[LabelMap], theirs: Sequence[LabelMap]
) -> Iterable[tuple[LabelMap, LabelMap, set[int]]]:
    """Yield the layers that hold partners, and the counted numbers that are partners there; every layer at least once."""
    layer_of_ours = {segment.number: n for n, layer in enumerate(ours) for segment in layer.segments}
    layer_of_theirs = {segment.number: n for n, layer in enumerate(theirs) for segment in layer.segments}
    shared: dict[tuple[int, int], set[int]] = {}
    for pair in pairs:
        if pair.reference and pair.prediction:
            key = (layer_of_ours[pair.reference.number], layer_of_theirs[pair.prediction.number])
            shared.setdefault(key, set()).add(pair.reference.number)
    for n in range(len(ours)):
        if not any(key[0] == n for key in shared):
            shared[n, 0] = set()
    for n in range(len(theirs)):
        if not any(key[1] == n for key in shared):
            shared[0, n] = set()
    for (first, second), numbers in shared.items():
        yield ours[first], theirs[second], numbers


def _overlaps(first: LabelMap, second: LabelMap, pairs: Sequence[SegmentPair], numbers: Sequence[int]) -> dict[int, tuple[int, int, int]]:
    from medseg.kernels.overlap import overlap_counts

    target = {pair.prediction.number: number for number, pair in zip(numbers, pairs, strict=True) if pair.prediction}
    predicted = _renumbered(second, {segment.number: target[segment.number] for segment in second.segments})
    found, *counts = overlap_counts(first.array.T, predicted)
    return {int(number): (int(a), int(b), int(c)) for number, a, b, c in zip(found, *counts, strict=True)}


def _renumbered(prediction: LabelMap, target: Mapping[int, int]) -> npt.NDArray[Any]:
    """Return the prediction (k,j,i) with each segment under the number its pair is counted under."""
    if all(old == new for old, new in target.items()):
        return prediction.array.T
    dtype = smallest_unsigned(max(target.values()))
    largest = max(target)
    if largest <= _MOST_DIRECT:
        table = np.zeros(largest + 1, dtype=dtype)
        table[list(target)] = list(target.values())
        return np.asarray(table[prediction.array.T])
    known = np.array([0, *sorted(target)], dtype=np.uint64)  # numbers may be as large as 2^32: no table of that length
    values = np.array([0, *(target[number] for number in sorted(target))], dtype=dtype)
    return np.asarray(np.stack([values[np.searchsorted(known, plane)] for plane in prediction.array.T]))


def _with_surfaces(
    scores: Sequence[SegmentScore],
    pairs: Sequence[SegmentPair],
    ours: Sequence[LabelMap],
    theirs: Sequence[LabelMap],
    rule: SurfaceRule,
) -> list[SegmentScore]:
    """Add surface distances where both sides have voxels; elsewhere they are None, and `reason` says why."""
    from medseg.evaluation.surface import surface_scores

    nothing: dict[str, float | None] = dict.fromkeys((*rule.distances, *rule.shares))
    found: dict[int, SegmentScore] = {}
    compared = {
        pair.reference.number: (position, pair.prediction.number)
        for position, (score, pair) in enumerate(zip(scores, pairs, strict=True))
        if score.outcome is Outcome.COMPARED and pair.reference and pair.prediction
    }
    for first, second, shared in _layer_pairs(pairs, ours, theirs):
        wanted = {number: (number, compared[number][1]) for number in sorted(shared) if number in compared}
        if not wanted:
            continue
        options: dict[str, Any] = {"tolerances_mm": rule.tolerances_mm, "percentile": rule.percentile, "definition": rule.definition}
        for number, surface in surface_scores(first, second, wanted, **options).items():
            position = compared[number][0]
            found[position] = replace(scores[position], surface=nothing | rule.values(surface), surface_reason=surface.reason)
    return [found.get(n) or replace(score, surface=nothing, surface_reason=score.reason) for n, score in enumerate(scores)]
