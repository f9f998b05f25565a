"""What a fault of the geometry costs: the volume of each segment as careless readers give it, and on the true positions.

Definitions, for a segment that has the area aᵢ on slice i at the position tᵢ along the slices' normal:

* on true positions: Σ aᵢ·wᵢ with the widths of `medseg.core.native_slices` (half of both gaps beside a slice).
* interpolated: the share of that volume that no slice shows. A gap gᵢ after slice i in which m slices are missing holds
  gᵢ·m/(m+1)·(aᵢ + aᵢ₊₁)/2 of it. Where all other gaps are the usual g, the volume on true positions is the volume that the
  slices show, Σ aᵢ·g, plus what is interpolated.
* as stacked: the voxels times one voxel volume, as if the slices were even: the voxel in the header of the segmentation where
  it has one, else area × the mean distance between slices, which SimpleITK and MONAI write into such a header.
* readers: the same voxels times other distances that tools take: the mean distance along the stack (a tilted stack leans, so
  that it is longer than along the normal), the usual distance (dcm2niix), SliceThickness, SpacingBetweenSlices.

A segmentation on a complete, even grid holds the interpolated slices already: its volume is voxels × |det|, interpolated is what
lies further than half the usual distance from every slice that was scanned, and as stacked is what the labels on the scanned
slices give.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryError
from medseg.core.label_map import LabelMap
from medseg.core.native_slices import slice_widths_mm
from medseg.core.segment import Segment

FloatArray = npt.NDArray[np.float64]

ROUNDING_MM = 0.01  # positions in headers are rounded by up to this
WORTH_NAMING = 0.005  # a reader whose volume is off by less than this share is not worth a line
_MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class SliceStack:
    """A stack as it was scanned: `positions_mm` (n,) along the normal, rising; `pixel_area_mm2`; how far it leans.

    `missing` holds (i, m) for every slice i after which m slices are missing; where it is None, gaps much wider than the
    usual one are taken for such places. The nominal distances are the header's, None where it has none.
    """

    positions_mm: tuple[float, ...]
    pixel_area_mm2: float
    tilt_degrees: float = 0.0
    missing: tuple[tuple[int, int], ...] | None = None
    slice_thickness_mm: float | None = None
    spacing_between_slices_mm: float | None = None

    def __post_init__(self) -> None:
        slice_widths_mm(self.positions_mm)
        if not self.pixel_area_mm2 > 0 or not abs(self.tilt_degrees) < 89:
            raise GeometryError(f"a stack of pixels of {self.pixel_area_mm2} mm² that leans by {self.tilt_degrees}° is none")

    @property
    def gaps_mm(self) -> FloatArray:
        """Distances between neighbouring slices along the normal, (n - 1,)."""
        return np.diff(np.asarray(self.positions_mm, dtype=np.float64))

    @property
    def usual_gap_mm(self) -> float:
        """The median distance."""
        return float(np.median(self.gaps_mm))

    @property
    def mean_step_mm(self) -> float:
        """The mean distance between neighbouring slices' corners, along the stack and not along the normal."""
        return float(self.gaps_mm.mean()) / math.cos(math.radians(self.tilt_degrees))

    def holes(self) -> tuple[tuple[int, int], ...]:
        """Return (i, m) for every slice i after which m slices are missing."""
        if self.missing is not None:
            return self.missing
        times = np.rint(self.gaps_mm / self.usual_gap_mm).astype(int)
        return tuple((int(i), int(times[i]) - 1) for i in np.flatnonzero(times > 1))

    def readers_mm(self) -> dict[str, float]:
        """Return the distances that tools take for the one between slices, by where they have it from."""
        found: dict[str, float | None] = {
            "mean distance": self.mean_step_mm,
            "usual distance": self.usual_gap_mm,
            "SliceThickness": self.slice_thickness_mm,
            "SpacingBetweenSlices": self.spacing_between_slices_mm,
        }
        return {name: abs(step) for name, step in found.items() if step is not None and math.isfinite(step) and step != 0}


@dataclass(frozen=True)
class GapPrice:
    """A gap with missing slices that a segment touches: where it is, how wide, and how much of the segment it holds."""

    after_mm: float
    gap_mm: float
    interpolated_ml: float


@dataclass(frozen=True)
class SegmentPrice:
    """What the geometry costs one segment, in ml; the module's text defines each figure.

    `readers_ml` names the readers whose volume is off by more than 0.5 %; `touches` holds "first" or "last" where the segment
    reaches that slice: the volume is then a lower bound.
    """

    number: int
    label: str
    stacked_ml: float
    true_ml: float
    interpolated_ml: float
    gaps: tuple[GapPrice, ...] = ()
    touches: tuple[str, ...] = ()
    readers_ml: Mapping[str, float] | None = None

    @property
    def error_percent(self) -> float | None:
        """How far the stacked volume is from the one on true positions; None where there is none."""
        return None if self.true_ml == 0 else 100 * (self.stacked_ml - self.true_ml) / self.true_ml

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "number": self.number,
            "label": self.label,
            "stacked_ml": self.stacked_ml,
            "true_ml": self.true_ml,
            "error_percent": self.error_percent,
            "interpolated_ml": self.interpolated_ml,
            "gaps": [dict(vars(gap)) for gap in self.gaps],
            "touches": list(self.touches),
            "readers_ml": dict(self.readers_ml or {}),
        }


def count_slices(labels: npt.NDArray[Any], segments: Sequence[Segment]) -> npt.NDArray[np.int64]:
    """Count the voxels of each segment on each slice of `labels` (k,j,i): (segments, n).

    >>> count_slices(np.array([[[1, 1]], [[0, 2]]], np.uint8), [Segment(1, "a"), Segment(2, "b")]).tolist()
    [[2, 0], [0, 1]]
    """
    numbers = [segment.number for segment in segments]
    largest = max([int(labels.max(initial=0)), *numbers], default=0)
    counts = np.zeros((len(numbers), len(labels)), dtype=np.int64)
    for k, plane in enumerate(labels):
        counts[:, k] = np.bincount(plane.ravel(), minlength=largest + 1)[numbers]
    return counts


def price_native(
    counts: npt.NDArray[np.integer[Any]], segments: Sequence[Segment], stack: SliceStack, stacked_voxel_mm3: float | None = None
) -> tuple[SegmentPrice, ...]:
    """Price segments drawn on the slices as they were scanned; `counts` (segments, n) are voxels in the order of the positions.

    `stacked_voxel_mm3` is the voxel that the segmentation's own header claims. Raises GeometryError where the counts are not
    those of this stack.

    >>> stack = SliceStack((0.0, 1.0, 2.0, 5.0, 6.0), pixel_area_mm2=100.0)  # 2 slices are missing after 2 mm
    >>> (price,) = price_native(np.array([[0, 10, 10, 10, 0]]), [Segment(1, "tumour")], stack)
    >>> price.true_ml, price.interpolated_ml, price.stacked_ml
    (5.0, 2.0, 4.5)
    """
    areas = _areas(counts, segments, stack)
    true_mm3 = areas @ slice_widths_mm(stack.positions_mm)
    voxel = stack.pixel_area_mm2 * stack.mean_step_mm if stacked_voxel_mm3 is None else stacked_voxel_mm3
    gaps = stack.gaps_mm
    prices = []
    for row, segment in enumerate(segments):
        area = areas[row]
        touched = tuple(
            GapPrice(float(stack.positions_mm[i]), float(gaps[i]), float(gaps[i] * m / (m + 1) * (area[i] + area[i + 1])) / 2 / _MM3_PER_ML)
            for i, m in stack.holes()
            if area[i] or area[i + 1]
        )
        prices.append(_price(segment, counts[row], voxel, true_mm3[row] / _MM3_PER_ML, touched, stack))
    return tuple(prices)


def price_complete(
    counts: npt.NDArray[np.integer[Any]],
    segments: Sequence[Segment],
    stack: SliceStack,
    positions_mm: npt.ArrayLike,
    voxel_volume_mm3: float,
) -> tuple[SegmentPrice, ...]:
    """Price segments on a complete, even grid whose slices lie at `positions_mm` (m,); `counts` is (segments, m)."""
    places = np.asarray(positions_mm, dtype=np.float64)
    shown = np.asarray(stack.positions_mm, dtype=np.float64)
    if counts.shape != (len(segments), len(places)):
        raise GeometryError(f"{counts.shape} counts for {len(segments)} segments on {len(places)} slices")
    distance = np.abs(places[:, None] - shown[None, :])
    reach = stack.usual_gap_mm / 2 + ROUNDING_MM
    is_hidden = distance.min(axis=1) > reach
    # each scanned slice shows the labels nearest to it, where any are near
    on_shown = counts[:, distance.argmin(axis=0)] * (distance.min(axis=0) <= reach)
    prices = []
    for row, segment in enumerate(segments):
        hidden = counts[row] * is_hidden
        touched = tuple(
            gap
            for i, _ in stack.holes()
            for gap in [_gap_between(stack, i, places, hidden, voxel_volume_mm3)]
            if gap.interpolated_ml or on_shown[row, i] or on_shown[row, i + 1]
        )
        true_ml = float(counts[row].sum()) * voxel_volume_mm3 / _MM3_PER_ML
        prices.append(_price(segment, on_shown[row], stack.pixel_area_mm2 * stack.mean_step_mm, true_ml, touched, stack))
    return tuple(prices)


def price_grid(layer: LabelMap) -> tuple[SegmentPrice, ...]:
    """Price the lean of a grid: voxels × the product of the spacings, as many readers have it, against voxels × |det|.

    >>> from medseg.core.geometry import Geometry
    >>> leaning = Geometry((1, 1, 2), np.array([[10, 0, 0, 0], [0, 10, 6, 0], [0, 0, 8, 0], [0, 0, 0, 1.0]]))
    >>> (price,) = price_grid(LabelMap(np.ones((1, 1, 2), np.uint8), leaning, (Segment(1, "box"),)))
    >>> round(price.stacked_ml, 6), round(price.true_ml, 6), price.touches
    (2.0, 1.6, ('first', 'last'))
    """
    counts = count_slices(layer.array.T, layer.segments)
    product, voxel = math.prod(layer.geometry.spacing_mm), layer.geometry.voxel_volume_mm3
    return tuple(
        SegmentPrice(
            segment.number,
            segment.label,
            stacked_ml=float(count.sum()) * product / _MM3_PER_ML,
            true_ml=float(count.sum()) * voxel / _MM3_PER_ML,
            interpolated_ml=0.0,
            touches=_ends(count),
        )
        for segment, count in zip(layer.segments, counts, strict=True)
    )


def _ends(counts: npt.NDArray[Any]) -> tuple[str, ...]:
    return tuple(name for name, count in (("first", counts[0]), ("last", counts[-1])) if count)


def _gap_between(stack: SliceStack, i: int, places: FloatArray, hidden: npt.NDArray[Any], voxel_volume_mm3: float) -> GapPrice:
    low, high = stack.positions_mm[i], stack.positions_mm[i + 1]
    inside = (places > low) & (places < high)
    return GapPrice(float(low), float(high - low), float(hidden[inside].sum()) * voxel_volume_mm3 / _MM3_PER_ML)


def _areas(counts: npt.NDArray[np.integer[Any]], segments: Sequence[Segment], stack: SliceStack) -> FloatArray:
    if counts.shape != (len(segments), len(stack.positions_mm)):
        raise GeometryError(f"{counts.shape} counts for {len(segments)} segments on {len(stack.positions_mm)} slices")
    return np.asarray(counts, dtype=np.float64) * stack.pixel_area_mm2


def _price(
    segment: Segment,
    counts: npt.NDArray[np.integer[Any]],
    stacked_voxel_mm3: float,
    true_ml: float,
    gaps: tuple[GapPrice, ...],
    stack: SliceStack,
) -> SegmentPrice:
    voxels = float(counts.sum())
    stacked_ml = voxels * stacked_voxel_mm3 / _MM3_PER_ML
    readers = {name: voxels * stack.pixel_area_mm2 * step / _MM3_PER_ML for name, step in stack.readers_mm().items()}
    return SegmentPrice(
        number=segment.number,
        label=segment.label,
        stacked_ml=stacked_ml,
        true_ml=float(true_ml),
        interpolated_ml=float(sum(gap.interpolated_ml for gap in gaps)),
        gaps=gaps,
        touches=_ends(counts),
        readers_ml={name: ml for name, ml in readers.items() if abs(ml - true_ml) > WORTH_NAMING * true_ml},
    )
