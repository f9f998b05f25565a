"""One row a lesion: every connected part of the chosen segments with its volume, RECIST and WHO diameters, and organ."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.core.errors import ParameterError, UnknownSegmentError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap, smallest_unsigned
from medseg.core.layers import check_layers, joined, segments_of
from medseg.core.measurement import SegmentRow
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.measurement.diameters import Diameter, Diameters, PlaneName, Slices, find_diameters, in_slices, out_of_slices, slices_of
from medseg.measurement.lesion_organs import OrganPlace, organs_of, without_segments
from medseg.measurement.measurable import is_lymph_node, measurable
from medseg.measurement.measure import measure, mismatch

if TYPE_CHECKING:
    from medseg.kernels.arrays import Connectivity
    from medseg.kernels.instances import Instances

SCHEMA = "medseg.lesions/1"
SAME_PLACE_MM = 0.01  # centres of equally large lesions that lie closer than this along an axis are told apart by the next axis


@dataclass(frozen=True)
class Lesion:
    """One lesion: `number` is its value in the instance map, `segment` the structure it is a part of, `row` its measurements.

    `longest` and `perpendicular` lie in one slice at right angles (RECIST, WHO); `measurable` is by RECIST 1.1.
    """

    id: str
    number: int
    segment: Segment
    row: SegmentRow
    longest: Diameter
    perpendicular: Diameter
    diameter_3d: Diameter
    is_node: bool
    measurable: bool
    measurable_reason: str
    place: OrganPlace | None = None
    slices: Slices = field(repr=False, default_factory=lambda: Slices(2, "axial", 0.0))

    @property
    def organ(self) -> str | None:
        """The organ it lies in, or nearest to; None where no organs were given."""
        return None if self.place is None else self.place.label

    @property
    def organ_share(self) -> float | None:
        """The share of its voxels inside the organ."""
        return None if self.place is None else self.place.share

    @property
    def who_product_mm2(self) -> float:
        """The product of the longest diameter and its perpendicular (WHO criteria 1979)."""
        return self.longest.length_mm * self.perpendicular.length_mm

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON row: mm, ml, RAS+; what is undefined is None with a reason."""
        measured = self.row.to_dict()
        del measured["label"], measured["number"]
        uid = self.longest.sop_instance_uid
        entry: dict[str, Any] = {
            "id": self.id,
            "number": self.number,
            "segment": self.segment.label,
            "segment_number": self.segment.number,
            **measured,
            "longest_diameter_mm": self.longest.length_mm,
            "longest_diameter_least_mm": self.longest.least_mm,
            "longest_diameter_mesh_mm": self.longest.mesh_mm,
            "longest_diameter_ends_ras_mm": [list(end) for end in self.longest.ends_mm],
            "perpendicular_diameter_mm": self.perpendicular.length_mm,
            "perpendicular_diameter_mesh_mm": self.perpendicular.mesh_mm,
            "perpendicular_diameter_ends_ras_mm": [list(end) for end in self.perpendicular.ends_mm],
            "who_product_mm2": self.who_product_mm2,
            "diameter_3d_mm": self.diameter_3d.length_mm,
            "diameter_3d_least_mm": self.diameter_3d.least_mm,
            "diameter_3d_mesh_mm": self.diameter_3d.mesh_mm,
            "diameter_3d_ends_ras_mm": [list(end) for end in self.diameter_3d.ends_mm],
            "slice_index": self.longest.slice_index,
            "slice_axis": "ijk"[self.slices.axis],
            "slice_plane": self.slices.plane,
            "sop_instance_uid": uid,
            "sop_instance_uid_reason": "" if uid else self.slices.reason or "this slice was interpolated, not scanned",
            "is_lymph_node": self.is_node,
            "measurable": self.measurable,
            "measurable_reason": self.measurable_reason,
        }
        return entry | _organ_entry(self.place)


def _organ_entry(place: OrganPlace | None) -> dict[str, Any]:
    if place is None:
        nothing: dict[str, Any] = dict.fromkeys(("organ", "organ_share", "organ_relation", "organ_contact_share", "organ_distance_mm"))
        return nothing | {"organ_reason": "no segmentation of organs was given, or it is empty"}
    return {
        "organ": place.label,
        "organ_share": place.share,
        "organ_relation": place.relation,
        "organ_contact_share": place.contact_share,
        "organ_distance_mm": place.distance_mm,
        "organ_reason": "",
    }


@dataclass(frozen=True, eq=False)
class LesionTable:
    """The lesions of a segmentation, the largest of each segment first, and the `layers` that hold them as numbers 1, 2, ...

    `absent` names chosen segments without a voxel; `left_out` counts parts below the least volume.
    """

    lesions: tuple[Lesion, ...]
    layers: tuple[LabelMap, ...]
    slices: Slices
    modality: str = ""
    unit: str = ""
    absent: tuple[str, ...] = ()
    left_out: int = 0
    findings: tuple[Finding, ...] = ()

    def __iter__(self) -> Iterator[Lesion]:
        return iter(self.lesions)

    def __len__(self) -> int:
        return len(self.lesions)

    def __getitem__(self, id: str | int) -> Lesion:
        for lesion in self.lesions:
            if id in (lesion.id, lesion.number):
                return lesion
        raise UnknownSegmentError(f"no lesion {id!r}; the table has: {', '.join(lesion.id for lesion in self.lesions[:20]) or 'none'}")

    @property
    def instances(self) -> LabelMap:
        """One label map with a segment for each lesion; raises OverlappingSegmentsError where lesions share voxels."""
        return joined(self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `medseg lesions`."""
        return {
            "schema": SCHEMA,
            "modality": self.modality,
            "intensity_unit": self.unit,
            "plane": self.slices.plane,
            "slice_distance_mm": self.slices.distance_mm,
            "absent_segments": list(self.absent),
            "left_out": self.left_out,
            "lesions": [lesion.to_dict() for lesion in self.lesions],
        }


def lesions(
    label_map: LabelMap | Sequence[LabelMap],
    volume: Volume | None = None,
    *,
    segments: Sequence[str | int] | None = None,
    organs: LabelMap | Sequence[LabelMap] | None = None,
    connectivity: Connectivity | None = 26,
    keep_at_least_mm3: float = 0.0,
    plane: PlaneName = "acquired",
    nodes: Sequence[str | int] = (),
) -> LesionTable:
    """Measure every lesion: each connected part of `segments` (labels or numbers; None is all) is one.

    Diameters are the middle of the longest distance of two voxel centres and of the chord of the mesh half a voxel outside
    them, within half a voxel of the truth of smooth lesions; where a slice shows a lesion as several islands, those in the
    slice stay within one of them. `connectivity` 6, 18 or 26 says which voxels touch; None makes each segment one lesion, in
    however many parts, and diameters span them. Parts below `keep_at_least_mm3` are left out and counted. `plane` is the
    plane of the diameters: that of the acquired slices, or the grid plane nearest to axial, coronal or sagittal. `nodes` are
    segments that are lymph nodes (measurable by their short axis); those whose type or name says so are taken as nodes anyway.
    Several label maps are layers of one segmentation.

    Ids are the segment's name and a count, the largest part first, and do not depend on the order of the voxels; a segment in
    one part keeps its tracking id. Raises GeometryMismatchError, UnknownSegmentError, ParameterError.

    >>> from medseg.core.geometry import Geometry
    >>> array = np.zeros((9, 9, 9), np.uint8); array[1:4, 1:3, 1:3] = 1; array[6, 6, 6] = 1
    >>> found = lesions(LabelMap(array, Geometry((9, 9, 9), np.diag([4.0, 4.0, 4.0, 1.0])), (Segment(1, "tumour"),)))
    >>> [(one.id, round(one.longest.length_mm, 1), one.measurable) for one in found]
    [('tumour-1', 10.8, True), ('tumour-2', 2.0, False)]
    """
    layers = check_layers(label_map)
    organ_layers = () if organs is None else check_layers(organs)
    for grid in (*(layer.geometry for layer in organ_layers), *(() if volume is None else (volume.geometry,))):
        if not layers[0].geometry.matches(grid):
            raise mismatch(layers[0].geometry, grid)
    if connectivity not in (None, 6, 18, 26) or not keep_at_least_mm3 >= 0:
        raise ParameterError(
            f"connectivity is 6, 18, 26 or None and keep_at_least_mm3 0 or more, got {connectivity} and {keep_at_least_mm3}"
        )
    chosen = _chosen(layers, segments)
    node_numbers = {segment.number for segment in chosen if is_lymph_node(segment)} | {_find(layers, name).number for name in nodes}
    slices = slices_of(layers[0].geometry, volume, plane, layers[0].source)
    # a tumour is not its own organ, whatever file it stands in; a label alone tells: numbers mean other things there
    organ_layers = tuple(without_segments(organ_layers, {segment.label for segment in chosen}))
    parts, left_out = _parts(layers, chosen, slices, connectivity, keep_at_least_mm3)
    found: dict[int, Lesion] = {}
    maps = []
    for index, layer in enumerate(layers):
        mine = [part for part in parts if part.layer == index]
        instances = _instance_map(layer, mine, slices)
        maps.append(instances)
        places = organs_of(instances, organ_layers) if organ_layers and mine else {}
        for part, row in zip(mine, measure(instances, volume), strict=True):
            is_node = part.segment.number in node_numbers
            found[part.number] = _lesion(part, row, is_node, slices, volume, places.get(part.number))
    present = {part.segment.number for part in parts}
    absent = tuple(segment.label for segment in chosen if segment.number not in present)
    rows = tuple(found[number] for number in sorted(found))
    modality, unit = ("", "") if volume is None else (volume.modality, volume.unit)
    return LesionTable(rows, tuple(maps), slices, modality, unit, absent, left_out, _findings(rows, absent, left_out, keep_at_least_mm3))


@dataclass(frozen=True, eq=False)
class _Part:
    """A connected part: where it comes from, and its name and number once all parts are ranked."""

    segment: Segment
    layer: int
    found: Instances
    component: int
    voxels: int
    centroid_mm: tuple[float, ...]
    diameters: Diameters
    number: int = 0
    id: str = ""
    tracking_uid: str = ""


def _find(layers: Sequence[LabelMap], name: str | int) -> Segment:
    known = segments_of(layers)
    for segment in known:
        if name in (segment.label, segment.number) or str(name) == str(segment.number):
            return segment
    raise UnknownSegmentError(f"no segment {name!r} in the segmentation; it has: {', '.join(s.label for s in known[:20]) or 'none'}")


def _chosen(layers: Sequence[LabelMap], names: Sequence[str | int] | None) -> tuple[Segment, ...]:
    if names is None:
        return segments_of(layers)
    return tuple(dict.fromkeys(_find(layers, name) for name in names))


def _parts(
    layers: Sequence[LabelMap], chosen: Sequence[Segment], slices: Slices, connectivity: Connectivity | None, keep_mm3: float
) -> tuple[tuple[_Part, ...], int]:
    """Every part that is large enough, ranked and named, and how many are not."""
    from medseg.kernels.instances import find_instances

    geometry = layers[0].geometry
    least = keep_mm3 / geometry.voxel_volume_mm3 * (1 - 1e-9)
    parts: list[_Part] = []
    left_out = 0
    for index, layer in enumerate(layers):
        found = find_instances(in_slices(layer, slices.axis), connectivity)
        wanted = np.isin(found.numbers, [segment.number for segment in chosen])
        large = found.voxels >= least
        left_out += int((wanted & ~large).sum())
        kept = np.flatnonzero(wanted & large)
        islands = None if connectivity is None else found.islands(connectivity)
        measured = find_diameters(found, geometry, slices, kept, islands)
        centroids = geometry.index_to_world(_to_ijk(found.centroids(), slices.axis))
        segment_of = {segment.number: segment for segment in layer.segments}
        for n, diameters in zip(kept.tolist(), measured, strict=True):
            centre = tuple(centroids[n].tolist())
            parts.append(_Part(segment_of[int(found.numbers[n])], index, found, n, int(found.voxels[n]), centre, diameters))
    return _named(parts), left_out


def _to_ijk(index: np.ndarray[Any, np.dtype[np.float64]], axis: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    order = [axis, *(other for other in (2, 1, 0) if other != axis)]
    turned = np.empty_like(index)
    turned[:, order] = index
    return turned


def _named(parts: Sequence[_Part]) -> tuple[_Part, ...]:
    """Rank parts by segment, then size, then from head to feet, front to back, right to left; give numbers and ids."""
    if not parts:
        return ()
    ranks = [_ranks([part.centroid_mm[axis] for part in parts]) for axis in (2, 1, 0)]
    order = sorted(range(len(parts)), key=lambda n: (parts[n].segment.number, -parts[n].voxels, *(-rank[n] for rank in ranks)))
    counts: dict[int, int] = {}
    for part in parts:
        counts[part.segment.number] = counts.get(part.segment.number, 0) + 1
    names = _names({part.segment.number: part.segment for part in parts}.values())
    taken: set[str] = set()
    named, seen = [], dict.fromkeys(counts, 0)
    for number, n in enumerate(order, start=1):
        part = parts[n]
        segment = part.segment
        seen[segment.number] += 1
        id = f"{names[segment.number]}-{seen[segment.number]}"
        tracked = _slug(segment.tracking_id) if counts[segment.number] == 1 else ""
        if tracked and tracked not in taken:
            id = tracked
        while id in taken:
            id += "-"
        taken.add(id)
        named.append(replace(part, number=number, id=id, tracking_uid=segment.tracking_uid if counts[segment.number] == 1 else ""))
    return tuple(named)


def _ranks(values: Sequence[float]) -> list[int]:
    """Rank values so that those a hair apart, as two file formats may store them, share a rank."""
    order = np.argsort(values, kind="stable")
    steps = np.diff(np.asarray(values)[order]) > SAME_PLACE_MM
    ranks = np.empty(len(values), dtype=int)
    ranks[order] = np.concatenate([[0], np.cumsum(steps)])
    return [int(rank) for rank in ranks]


def _names(segments: Any) -> dict[int, str]:
    """A short name for each segment that can name files; the number is added where two would share one."""
    slugs = {segment.number: _slug(segment.label) or f"segment-{segment.number}" for segment in segments}
    counts = Counter(name.lower() for name in slugs.values())
    return {number: f"{name}-{number}" if counts[name.lower()] > 1 else name for number, name in slugs.items()}


def _slug(text: str) -> str:
    return re.sub(r"[^\w]+", "-", text.strip()).strip("-")[:60]


def _instance_map(layer: LabelMap, parts: Sequence[_Part], slices: Slices) -> LabelMap:
    numbers = [part.number for part in parts]
    dtype = smallest_unsigned(max(numbers, default=1))
    if parts:
        found = parts[0].found
        values = np.zeros(found.voxels.size, dtype)
        values[[part.component for part in parts]] = numbers
        array = out_of_slices(found.painted(values), slices.axis)
    else:
        array = np.zeros(layer.geometry.shape, dtype, order="F")
    made = [
        replace(part.segment, number=part.number, label=part.id, colour=None, tracking_id=part.id, tracking_uid=part.tracking_uid)
        for part in parts
    ]
    return LabelMap(array, layer.geometry, tuple(made), layer.source)


def _lesion(part: _Part, row: SegmentRow, is_node: bool, slices: Slices, volume: Volume | None, place: OrganPlace | None) -> Lesion:
    modality = "" if volume is None else volume.modality
    answer, why = measurable(row, part.diameters, is_node, slices.distance_mm, modality)
    found = part.diameters
    return Lesion(
        part.id, part.number, part.segment, row, found.longest, found.perpendicular, found.diameter_3d, is_node, answer, why, place, slices
    )


def _findings(rows: Sequence[Lesion], absent: Sequence[str], left_out: int, least_mm3: float) -> tuple[Finding, ...]:
    found = []
    if not rows:
        text = "no lesion was found: " + ("every chosen segment is empty" if not left_out else "every part is below the least volume")
        found.append(Finding("NO_LESION", Severity.WARNING, text, {"absent": list(absent), "left_out": left_out}))
    elif absent:
        text = f"{len(absent)} of the chosen segments have no voxel, so no lesion: {', '.join(absent[:5])}"
        found.append(Finding("EMPTY_SEGMENTS", Severity.INFO, text, {"absent": list(absent)}))
    if left_out:
        text = f"{left_out} parts smaller than {least_mm3:g} mm³ were left out"
        found.append(Finding("SMALL_PARTS_LEFT_OUT", Severity.INFO, text, {"count": left_out, "keep_at_least_mm3": least_mm3}))
    return tuple(found)
