"""How far the surfaces of a prediction and a reference lie apart: HD, HD95, ASSD, MASD, NSD and boundary F1, in mm.

A surface is made of surfels: cells of 2 x 2 x 2 voxels that are partly inside the segment, each at the centre of its cell
and weighted by the area of the marching-cubes surface in it, exactly as DeepMind's surface-distance
(Nikolov et al. 2021, doi:10.2196/26151). Distances run from each surfel to the nearest surfel of the other side, exact
on every grid (oblique, left-handed, sheared). With d(R) the distances of the reference's surfels to the prediction, d(P)
those of the prediction's surfels to the reference, all weighted by area:

| name | definition |
|---|---|
| HD | larger of max d(R) and max d(P) |
| HD95 | larger of the 95th percentiles of d(R) and of d(P); `definition="pooled"`: the percentile of both taken together |
| ASSD | mean of d(R) and d(P) taken together (the larger surface counts for more) |
| MASD | mean of mean d(R) and mean d(P) |
| NSD at tau | share of both surfaces, together, that lies within tau of the other (Nikolov et al.'s surface Dice) |
| boundary F1 at tau | harmonic mean of the shares of each surface within tau of the other (Csurka et al. 2013, doi:10.5244/C.27.32) |

A percentile is the least distance within which that share of the area lies; nothing is interpolated. `surface="voxels"`
takes the voxels with a face neighbour outside the segment instead, all of one weight, percentiles interpolated linearly:
MONAI's definition. Where the field of view cuts a segment off, its cut face counts as surface in both definitions. A side
without voxels has no surface: every distance is then None with a reason, never 0 and never infinite.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryMismatchError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap

Definition = Literal["max-directed", "pooled"]
Surface = Literal["surfels", "voxels"]
FloatArray = npt.NDArray[np.float64]

# Spacings are often stored as float32: five steps of "0.6 mm" are 3.0000001 mm and lie within 3 mm all the same.
_TOLERANCE_SLACK = 1e-6
# Sums of areas are rounded: a share that is the percentile but for the last digits has reached it.
_SHARE_SLACK = 1e-9
_POINTS_AT_ONCE = 4_000_000  # about 150 MB with their distances and areas
_BINS = 2048

_EMPTY_BOTH = "neither the reference nor the prediction has a voxel of this segment: there is no surface"
_EMPTY_REFERENCE = "the reference has no voxel of this segment: there is no surface to measure to"
_EMPTY_PREDICTION = "the prediction has no voxel of this segment (a miss): there is no surface to measure from"


@dataclass(frozen=True)
class SurfaceScore:
    """The surface distances of one segment in mm; what is not defined is None, and `reason` says why.

    `hd_percentile_mm` is the robust Hausdorff distance at `percentile` by `definition`; `hd95_mm` is the same number where
    the percentile is 95. `percentile_name` is the name under which tables write it, which says what it is.
    """

    number: int
    hd_mm: float | None = None
    hd_percentile_mm: float | None = None
    assd_mm: float | None = None
    masd_mm: float | None = None
    nsd: Mapping[float, float | None] = field(default_factory=dict)
    boundary_f1: Mapping[float, float | None] = field(default_factory=dict)
    centre_distance_mm: float | None = None
    reference_area_mm2: float | None = None
    prediction_area_mm2: float | None = None
    mean_from_reference_mm: float | None = None
    mean_from_prediction_mm: float | None = None
    percentile: float = 95.0
    definition: Definition = "max-directed"
    surface: Surface = "surfels"
    reason: str = ""

    @property
    def hd95_mm(self) -> float | None:
        """HD95 by `definition`; None where another percentile was asked for."""
        return self.hd_percentile_mm if self.percentile == 95 else None

    @property
    def percentile_name(self) -> str:
        """Such as "hd95_mm", or "hd95_pooled_mm" by the pooled definition."""
        return f"hd{self.percentile:g}{'_pooled' if self.definition == 'pooled' else ''}_mm"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON entries: distances in mm, shares by tolerance such as "nsd_1mm"."""
        row: dict[str, Any] = {"hd_mm": self.hd_mm, self.percentile_name: self.hd_percentile_mm}
        row |= {"assd_mm": self.assd_mm, "masd_mm": self.masd_mm}
        row |= {f"nsd_{tau:g}mm": share for tau, share in self.nsd.items()}
        row |= {f"boundary_f1_{tau:g}mm": share for tau, share in self.boundary_f1.items()}
        names = ("centre_distance_mm", "reference_area_mm2", "prediction_area_mm2")
        return row | {name: getattr(self, name) for name in names} | {"surface_reason": self.reason}


@dataclass(frozen=True)
class _Options:
    tolerances_mm: tuple[float, ...]
    percentile: float
    definition: Definition
    surface: Surface


def surface_scores(
    reference: LabelMap,
    prediction: LabelMap,
    pairs: Mapping[int, tuple[int | None, int | None]] | None = None,
    *,
    tolerances_mm: Sequence[float] = (1.0,),
    percentile: float = 95.0,
    definition: Definition = "max-directed",
    surface: Surface = "surfels",
) -> dict[int, SurfaceScore]:
    """Measure how far the surfaces of each pair of segments lie apart.

    ``pairs`` maps the number of a row to the numbers of its segment in the reference and in the prediction, None for a
    side that has none; by default every number of either map is compared with itself. Both maps must lie on one grid of
    any kind. The definitions stand at the head of this module. Raises GeometryMismatchError for different grids and
    ParameterError for a negative tolerance, a percentile outside (0, 100] or an unknown definition.

    >>> from medseg.core.segment import Segment
    >>> def box(first):
    ...     array = np.zeros((16, 8, 8), np.uint8)
    ...     array[first : first + 6, 2:6, 2:6] = 1
    ...     return LabelMap(array, Geometry((16, 8, 8), np.diag([0.5, 1, 2, 1])), (Segment(1, "box"),))
    >>> score = surface_scores(box(2), box(6))[1]
    >>> score.hd_mm, score.hd95_mm, score.centre_distance_mm
    (2.0, 2.0, 2.0)
    """
    if not reference.geometry.matches(prediction.geometry):
        raise GeometryMismatchError(
            "reference and prediction are not on one grid: resample the prediction onto the reference first",
            reference.geometry,
            prediction.geometry,
        )
    options = _checked(tolerances_mm, percentile, definition, surface)
    if pairs is None:
        numbers = sorted({segment.number for label_map in (reference, prediction) for segment in label_map.segments})
        pairs = {number: (number, number) for number in numbers}
    centres = _centres_mm(reference, reference.geometry), _centres_mm(prediction, reference.geometry)
    scores: dict[int, SurfaceScore] = {}
    complete: dict[int, tuple[int, int]] = {}
    for number, (ref, pred) in pairs.items():
        has = ref in centres[0], pred in centres[1]
        if ref is not None and pred is not None and all(has):
            complete[number] = (ref, pred)
        else:
            scores[number] = _undefined(number, *has, options)
    for number, score in _measured(reference, prediction, complete, options):
        ref, pred = complete[number]
        apart = float(np.linalg.norm(centres[0][ref] - centres[1][pred]))
        scores[number] = SurfaceScore(number=number, centre_distance_mm=apart, **score)
    return {number: scores[number] for number in pairs}


def _checked(tolerances_mm: Sequence[float], percentile: float, definition: str, surface: str) -> _Options:
    tolerances = tuple(float(tau) for tau in tolerances_mm)
    if not all(np.isfinite(tau) and tau >= 0 for tau in tolerances):
        raise ParameterError(f"tolerances are distances in mm, 0 or above; got {list(tolerances)}")
    if not 0 < percentile <= 100:
        raise ParameterError(f"the percentile is {percentile}; give a number above 0 and up to 100, such as 95")
    if definition not in ("max-directed", "pooled"):
        raise ParameterError(f"definition {definition!r} is not known; there are max-directed and pooled")
    if surface not in ("surfels", "voxels"):
        raise ParameterError(f"surface {surface!r} is not known; there are surfels and voxels")
    return _Options(tolerances, float(percentile), definition, surface)  # type: ignore[arg-type]


def _undefined(number: int, in_reference: bool, in_prediction: bool, options: _Options) -> SurfaceScore:
    reason = _EMPTY_PREDICTION if in_reference else _EMPTY_REFERENCE if in_prediction else _EMPTY_BOTH
    none: dict[float, float | None] = dict.fromkeys(options.tolerances_mm)
    return SurfaceScore(
        number,
        nsd=none,
        boundary_f1=dict(none),
        percentile=options.percentile,
        definition=options.definition,
        surface=options.surface,
        reason=reason,
    )


def _centres_mm(label_map: LabelMap, geometry: Geometry) -> dict[int | None, FloatArray]:
    from medseg.kernels.statistics import label_statistics

    found = label_statistics(label_map.array.T)
    return dict(zip(found.numbers.tolist(), geometry.index_to_world(found.centroid[:, ::-1]), strict=True))


def _measured(
    reference: LabelMap, prediction: LabelMap, pairs: Mapping[int, tuple[int, int]], options: _Options
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The scores of the pairs, a few million surface points at a time."""
    from medseg.kernels.slabs import in_slabs
    from medseg.kernels.surfels import SurfaceScan, surfel_areas_mm2

    if not pairs:
        return
    affine = reference.geometry.affine
    areas = surfel_areas_mm2(affine) if options.surface == "surfels" else None
    sides = [sorted({pair[side] for pair in pairs.values()}) for side in (0, 1)]
    scans = [
        SurfaceScan(label_map.array.T, side, voxels=options.surface == "voxels")
        for label_map, side in zip((reference, prediction), sides, strict=True)
    ]
    rows = [{number: row for row, number in enumerate(side)} for side in sides]
    counts = [scan.counts for scan in scans]
    for group in _groups({n: int(counts[0][rows[0][a]] + counts[1][rows[1][b]]) for n, (a, b) in pairs.items()}):
        chosen = [sorted({rows[side][pairs[number][side]] for number in group}) for side in (0, 1)]
        points = [scan.points(some) for scan, some in zip(scans, chosen, strict=True)]
        places = [{row: place for place, row in enumerate(some)} for some in chosen]

        def score(start: int, stop: int, group: list[int] = group, points: Any = points, places: Any = places) -> list[Any]:
            found = []
            for number in group[start:stop]:
                parts = [_side(points[s], places[s][rows[s][pairs[number][s]]], areas) for s in (0, 1)]
                found.append((number, _distances(parts[0], parts[1], affine, options)))
            return found

        for part in in_slabs(score, len(group), len(group)):
            yield from part


def _groups(points: Mapping[int, int]) -> list[list[int]]:
    groups: list[list[int]] = [[]]
    held = 0
    for number, count in points.items():
        if groups[-1] and held + count > _POINTS_AT_ONCE:
            groups.append([])
            held = 0
        groups[-1].append(number)
        held += count
    return groups


_Side = tuple[npt.NDArray[np.int32], FloatArray]


def _side(points: Any, place: int, areas: FloatArray | None) -> _Side:
    """The points of one segment and the area of each (1 for voxels)."""
    rows = slice(int(points.begins[place]), int(points.begins[place + 1]))
    found = points.points[rows]
    return found, np.ones(len(found)) if areas is None else areas[points.codes[rows]]


def _distances(reference: _Side, prediction: _Side, affine: FloatArray, options: _Options) -> dict[str, Any]:
    from medseg.kernels.nearest import nearest_distances_mm

    weights = reference[1], prediction[1]
    far = (
        nearest_distances_mm(reference[0], prediction[0], affine),
        nearest_distances_mm(prediction[0], reference[0], affine),
    )
    totals = [float(weight.sum()) for weight in weights]
    # not `@`: BLAS would start threads of its own inside ours
    sums = [float((distance * weight).sum()) for distance, weight in zip(far, weights, strict=True)]
    means = [part / total for part, total in zip(sums, totals, strict=True)]
    nsd: dict[float, float | None] = {}
    f1: dict[float, float | None] = {}
    for tau in options.tolerances_mm:
        within = [float(weight[distance <= tau * (1 + _TOLERANCE_SLACK)].sum()) for distance, weight in zip(far, weights, strict=True)]
        shares = [part / total for part, total in zip(within, totals, strict=True)]
        nsd[tau] = sum(within) / sum(totals)
        f1[tau] = 2 * shares[0] * shares[1] / sum(shares) if sum(shares) else 0.0
    is_area = options.surface == "surfels"
    return {
        "hd_mm": max(float(distance.max()) for distance in far),
        "hd_percentile_mm": _robust(far, weights, options),
        "assd_mm": sum(sums) / sum(totals),
        "masd_mm": sum(means) / 2,
        "nsd": nsd,
        "boundary_f1": f1,
        "reference_area_mm2": totals[0] if is_area else None,
        "prediction_area_mm2": totals[1] if is_area else None,
        "mean_from_reference_mm": means[0],
        "mean_from_prediction_mm": means[1],
        "percentile": options.percentile,
        "definition": options.definition,
        "surface": options.surface,
    }


def _robust(far: Sequence[FloatArray], weights: Sequence[FloatArray], options: _Options) -> float:
    parts = [(np.concatenate(far), np.concatenate(weights))] if options.definition == "pooled" else list(zip(far, weights, strict=True))
    if options.surface == "voxels":
        return max(float(np.percentile(distance, options.percentile)) for distance, _ in parts)
    return max(_weighted_percentile(distance, weight, options.percentile) for distance, weight in parts)


def _weighted_percentile(distances: FloatArray, weights: FloatArray, percentile: float) -> float:
    """The least distance within which ``percentile`` % of the weight lies."""
    most = float(distances.max())
    if most == 0:
        return 0.0
    share = percentile / 100 * (1 - _SHARE_SLACK)
    inside, below, target = np.arange(len(distances)), 0.0, float(weights.sum()) * share
    if len(distances) > _BINS:  # only the distances about the percentile are sorted: all are counted in bins first
        bins = (distances * ((_BINS - 1) / most)).astype(np.int64)
        filled = np.cumsum(np.bincount(bins, weights, _BINS))
        target = float(filled[-1]) * share
        reached = int(np.searchsorted(filled, target))
        inside, below = np.flatnonzero(bins == reached), float(filled[reached - 1]) if reached else 0.0
    order = inside[np.argsort(distances[inside], kind="stable")]
    at = int(np.searchsorted(below + np.cumsum(weights[order]), target))
    return float(distances[order[min(at, len(order) - 1)]])
