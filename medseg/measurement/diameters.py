"""Diameters of masks in patient mm: the longest in a slice, the perpendicular to it, and the longest in 3D, with end points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.volume import Source, Volume

if TYPE_CHECKING:
    from medseg.kernels.diameters import Chords
    from medseg.kernels.instances import Instances

PlaneName = Literal["acquired", "axial", "coronal", "sagittal"]
Point = tuple[float, float, float]

PERPENDICULAR_SURPLUS = 0.2  # of a voxel's extent along it: mean surplus of the widest place of an outline of turned ellipsoids
SAME_SPACING = 1.01  # spacings closer than this do not tell the slices of a scan from its rows and columns
_NORMALS = {"sagittal": 0, "coronal": 1, "axial": 2}


@dataclass(frozen=True)
class Diameter:
    """A diameter of a mask: its length, its two `ends_mm` in RAS+, and the slice it lies in.

    `mesh_mm` is the chord of the mesh, half a voxel outside the outer voxel centres: the definition of pyradiomics, which on
    round lesions is half a voxel to one voxel long. `least_mm` is the longest distance of two of the voxel centres, which a
    body that covers them cannot fall below; None for a perpendicular. `length_mm` is the middle of both, within half a voxel
    of the true diameter of a smooth lesion; of a perpendicular, the mesh chord less a fifth of a voxel's extent along it, and
    no more than the longest. The ends lie on the mesh chord, each moved in by as much as the other, `length_mm` apart.
    `slice_index` counts along the axis across the slices; it and `sop_instance_uid`, the DICOM slice, are None for a
    diameter in 3D and where the scan gives none.
    """

    length_mm: float
    ends_mm: tuple[Point, Point]
    mesh_mm: float
    least_mm: float | None = None
    slice_index: int | None = None
    sop_instance_uid: str | None = None


@dataclass(frozen=True)
class Diameters:
    """The three diameters of one mask; `perpendicular` lies in the slice of `longest`, at 90° to it."""

    longest: Diameter
    perpendicular: Diameter
    diameter_3d: Diameter


@dataclass(frozen=True)
class Slices:
    """The slices that diameters are taken in: the grid axis across them, their plane's name and their distance in mm.

    `sop_instance_uids` has the DICOM instance of each slice (None where it was not scanned), or is empty with a `reason`.
    """

    axis: int
    plane: str
    distance_mm: float
    sop_instance_uids: tuple[str | None, ...] = ()
    reason: str = ""

    def sop_instance_uid(self, index: int) -> str | None:
        """The DICOM instance of one slice, None where it is not known."""
        return self.sop_instance_uids[index] if self.sop_instance_uids else None


def slices_of(geometry: Geometry, volume: Volume | None = None, plane: PlaneName = "acquired", source: Source | None = None) -> Slices:
    """Return the slices of a grid: those acquired, or those nearest to the named plane of the patient.

    Acquired slices lie across k in a DICOM series, else across the axis of the coarsest spacing (the one nearest to head-feet
    where spacings differ by less than 1 %). Raises ParameterError for another plane.

    >>> slices_of(Geometry((4, 4, 4), np.diag([1.0, 3.0, 1.0, 1.0]))).plane
    'coronal'
    """
    if plane not in get_args(PlaneName):
        raise ParameterError(f"no plane {plane!r}; use one of: {', '.join(get_args(PlaneName))}")
    origin = volume.source if volume is not None and volume.source is not None else source
    letters = _world_axes(geometry)
    if plane != "acquired":
        axis = letters.index(_NORMALS[plane])
    elif origin is not None and origin.format.lower().startswith("dicom"):
        axis = 2
    else:
        coarsest = max(geometry.spacing_mm)
        axis = max((n for n in range(3) if geometry.spacing_mm[n] * SAME_SPACING >= coarsest), key=lambda n: letters[n])
    uids, reason = _instances(volume, geometry, axis)
    return Slices(axis, plane_name(geometry, axis), slice_distance_mm(geometry, axis), uids, reason)


def _world_axes(geometry: Geometry) -> list[int]:
    """The patient axis (0 right-left, 1 front-back, 2 head-feet) that each grid axis follows most."""
    return [next(n for n, pair in enumerate(("RL", "AP", "SI")) if code in pair) for code in geometry.orientation]


def plane_name(geometry: Geometry, axis: int) -> str:
    """Return the patient plane that the slices across a grid axis are nearest to.

    >>> plane_name(Geometry((2, 2, 2), np.eye(4)), 2)
    'axial'
    """
    return next(word for word, world in _NORMALS.items() if world == _world_axes(geometry)[axis])


def slice_distance_mm(geometry: Geometry, axis: int) -> float:
    """Return the distance between neighbouring slices across a grid axis, along their normal (less than a sheared step).

    >>> slice_distance_mm(Geometry((2, 2, 2), np.diag([1.0, 1.0, 5.0, 1.0])), 2)
    5.0
    """
    first, second = (geometry.affine[:3, n] for n in range(3) if n != axis)
    return geometry.voxel_volume_mm3 / float(np.linalg.norm(np.cross(first, second)))


def _instances(volume: Volume | None, geometry: Geometry, axis: int) -> tuple[tuple[str | None, ...], str]:
    """The SOP instance of each slice across an axis, or why there is none."""
    if volume is None or volume.source is None or not volume.source.sop_instance_uids:
        return (), "no DICOM scan was given" if volume is None else "the scan was not read from DICOM"
    if axis != 2:
        return (), "the plane is not that of the DICOM slices"
    uids = volume.source.sop_instance_uids
    codes = {finding.code: finding for finding in volume.findings}
    filled = set(codes["GAPS_INTERPOLATED"].details.get("k", ())) if "GAPS_INTERPOLATED" in codes else set()
    if len(uids) + len(filled) != geometry.shape[2]:
        return (), "the scanned slices were brought onto an even grid: this slice was not scanned as it is"
    given = iter(uids)
    return tuple(None if k in filled else next(given) for k in range(geometry.shape[2])), ""


def in_slices(label_map: LabelMap, axis: int) -> npt.NDArray[Any]:
    """Return the labels with the slices across `axis` first, C-contiguous; a view where the axis is k."""
    return np.ascontiguousarray(np.moveaxis(label_map.array.T, 2 - axis, 0))


def out_of_slices(array: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    """Return an array made by `in_slices` with axes (i,j,k) again."""
    return np.moveaxis(array, 0, 2 - axis).T


def find_diameters(
    found: Instances,
    geometry: Geometry,
    slices: Slices,
    parts: npt.NDArray[np.int64] | None = None,
    islands: npt.NDArray[np.int32] | None = None,
) -> tuple[Diameters, ...]:
    """Return the diameters of the parts that were found in an array made by `in_slices`: all, or some in rising order.

    With `islands` a diameter in a slice does not cross from one island of a part to another.
    """
    from medseg.kernels.diameters import mask_diameters

    order = [slices.axis, *(axis for axis in (2, 1, 0) if axis != slices.axis)]
    steps = geometry.affine[:3, order].T
    origins = geometry.affine[:3, 3] + np.arange(found.shape[0])[:, None] * steps[0]
    longest, perpendicular, solid = mask_diameters(found, origins, steps, parts, islands)
    lengths = (longest.least_mm + longest.length_mm) / 2
    across = perpendicular.length_mm - PERPENDICULAR_SURPLUS * _voxel_extents_mm(perpendicular, steps)
    three = (
        _listed(longest, lengths, slices),
        _listed(perpendicular, np.minimum(across, lengths), slices),
        _listed(solid, (solid.least_mm + solid.length_mm) / 2, None),
    )
    return tuple(Diameters(*found) for found in zip(*three, strict=True))


def _voxel_extents_mm(chords: Chords, steps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How far a line in the direction of each chord runs through the middle of a voxel."""
    way = (chords.ends_mm[:, 1] - chords.ends_mm[:, 0]) / chords.length_mm[:, None]
    extents: npt.NDArray[np.float64] = 1 / np.abs(way @ np.linalg.inv(steps)).max(axis=1, initial=1e-9)
    return extents


def _listed(chords: Chords, lengths_mm: npt.NDArray[np.float64], slices: Slices | None) -> list[Diameter]:
    """Chords as values; their first end is the one on the patient's right (then front, then top), whatever the order of the voxels."""
    middle = chords.ends_mm.mean(axis=1, keepdims=True)
    shortened = middle + (chords.ends_mm - middle) * (lengths_mm / chords.length_mm)[:, None, None]
    way = np.round(chords.ends_mm[:, 1] - chords.ends_mm[:, 0], 6)
    first = np.where(way[:, 0] != 0, way[:, 0], np.where(way[:, 1] != 0, way[:, 1], way[:, 2]))
    ends = np.where((first > 0)[:, None, None], shortened[:, ::-1], shortened).tolist()
    found = []
    least = [None if np.isnan(value) else value for value in chords.least_mm.tolist()]
    values = zip(lengths_mm.tolist(), ends, chords.length_mm.tolist(), least, chords.slices.tolist(), strict=True)
    for length, (one, other), mesh, low, index in values:
        uid = None if slices is None else slices.sop_instance_uid(index)
        found.append(Diameter(length, (tuple(one), tuple(other)), mesh, low, None if slices is None else index, uid))
    return found


def segment_diameters(label_map: LabelMap, volume: Volume | None = None, *, plane: PlaneName = "acquired") -> dict[int, Diameters]:
    """Return the diameters of every segment that has voxels, by its number; a segment in several parts is measured as one.

    Their `mesh_mm` are those of pyradiomics: of `diameter_3d` Maximum3DDiameter, of `longest` the largest of Maximum2DDiameterSlice
    over the slices themselves (pyradiomics also looks at the planes midway between two slices, which no image shows).

    >>> grid = Geometry((4, 4, 4), np.eye(4))
    >>> from medseg.core.segment import Segment
    >>> box = np.zeros((4, 4, 4), np.uint8); box[:, 1, 1] = 1
    >>> rod = segment_diameters(LabelMap(box, grid, (Segment(1, "rod"),)))[1].longest
    >>> rod.least_mm, rod.length_mm, rod.mesh_mm
    (3.0, 3.5, 4.0)
    """
    from medseg.kernels.instances import find_instances

    slices = slices_of(label_map.geometry, volume, plane, label_map.source)
    found = find_instances(in_slices(label_map, slices.axis), None)
    measured = find_diameters(found, label_map.geometry, slices)
    return dict(zip((int(number) for number in found.numbers), measured, strict=True))


def angle_degrees(one: Diameter, other: Diameter) -> float:
    """Return the angle between two diameters, 0 to 90."""
    ways = [np.subtract(diameter.ends_mm[1], diameter.ends_mm[0]) for diameter in (one, other)]
    cosine = abs(float(ways[0] @ ways[1])) / float(np.prod([np.linalg.norm(way) for way in ways]))
    return float(np.degrees(np.arccos(min(1.0, cosine))))
