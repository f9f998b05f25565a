"""Shape features of every segment, as IBSI and pyradiomics define them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.measurement import Measurement, Status
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.measurement.intensity import ABSENT
from medseg.measurement.measure import border_sides, mismatch

if TYPE_CHECKING:
    from medseg.kernels.extents import LabelExtents, LabelRuns

FloatArray = npt.NDArray[np.float64]
Axes = Literal["ibsi", "pyradiomics"]

_MM3_PER_ML = 1000.0
_UNITS = {
    "mesh_volume_ml": "ml",
    "voxel_volume_ml": "ml",
    "surface_area_mm2": "mm2",
    "surface_volume_ratio_per_mm": "/mm",
    "compactness_1": "",
    "compactness_2": "",
    "spherical_disproportion": "",
    "sphericity": "",
    "asphericity": "",
    "maximum_3d_diameter_mm": "mm",
    "maximum_2d_diameter_slice_mm": "mm",
    "maximum_2d_diameter_column_mm": "mm",
    "maximum_2d_diameter_row_mm": "mm",
    "major_axis_mm": "mm",
    "minor_axis_mm": "mm",
    "least_axis_mm": "mm",
    "elongation": "",
    "flatness": "",
    "volume_density_bounding_box": "",
    "area_density_bounding_box": "",
    "volume_density_ellipsoid": "",
    "area_density_ellipsoid": "",
    "convex_hull_volume_ml": "ml",
    "volume_density_convex_hull": "",
    "area_density_convex_hull": "",
}
SHAPE_FEATURES = tuple(_UNITS)
_FLAT = "the voxel centres lie in a plane, so the ellipsoid has no volume"


def shape_features(
    label_map: LabelMap, volume: Volume | None = None, *, axes: Axes = "ibsi", autocorrelation: bool = False
) -> dict[int, dict[str, Measurement]]:
    """Measure the shape of every segment: mesh, diameters, principal axes, and densities in enclosing bodies.

    The mesh is that of marching cubes at 0.5 (`kernels.marching_cubes`), made for each segment alone, also where segments
    touch. The box lies along the axes of the grid; on an oblique or sheared grid everything is measured in mm of the
    patient. The principal axes are 4 standard deviations of the voxel centres: with `axes` "ibsi" the variance divides by the
    voxels minus one, which is what the IBSI reference values need, with "pyradiomics" by the voxels. A `volume` adds the
    centre-of-mass shift and the integrated intensity, with `autocorrelation` also Moran's I and Geary's C
    (`measurement.spatial`; slow for large segments). Undefined values are None with a reason: all of an absent segment, the axes of
    a single voxel, the ellipsoid of a flat one. A segment cut by the border is measured as far as it is visible, and says so.
    Raises GeometryMismatchError where the grids differ, ParameterError for other `axes`. IBSI reference manual, section 3.1.

    >>> from medseg.core.segment import Segment
    >>> array = np.zeros((5, 5, 5), np.uint8); array[1:4, 1:4, 1:4] = 1
    >>> found = shape_features(LabelMap(array, Geometry((5, 5, 5), np.eye(4)), (Segment(1, "cube"),)))[1]
    >>> round(found["mesh_volume_ml"].value, 6), round(found["maximum_3d_diameter_mm"].value, 4)
    (0.023167, 4.1231)
    """
    from medseg.kernels.configurations import label_configurations
    from medseg.kernels.extents import label_extents, label_runs
    from medseg.kernels.marching_cubes import mesh_areas_mm2, mesh_volumes_voxels

    if axes not in get_args(Axes):
        raise ParameterError(f"axes is {axes!r}; use one of: {', '.join(get_args(Axes))}")
    geometry = label_map.geometry
    if volume is not None and not geometry.matches(volume.geometry):
        raise mismatch(geometry, volume.geometry)
    labels = label_map.array.T
    runs = label_runs(labels)
    steps_mm = np.ascontiguousarray(geometry.affine[:3, 2::-1].T)
    extents = label_extents(runs, steps_mm)
    counts = label_configurations(labels, runs.numbers)
    mesh_mm3 = mesh_volumes_voxels(counts) * geometry.voxel_volume_mm3
    solids = _Solids(geometry, runs, extents, steps_mm, mesh_mm3, mesh_areas_mm2(counts, geometry.affine))
    lengths_mm = _principal_axes(solids, axes)
    columns = _mesh_values(solids) | _diameter_values(solids) | _axis_values(lengths_mm) | _density_values(solids, lengths_mm)
    table = {name: columns[name].tolist() for name in _UNITS}
    rows = {int(number): row for row, number in enumerate(runs.numbers)}
    features = {}
    for segment in label_map.segments:
        row = rows.get(segment.number)
        if row is None:
            features[segment.number] = _absent(segment)
            continue
        sides = _touched(solids, row)
        context = (sides, "a single voxel has no spread" if runs.voxels[row] == 1 else _FLAT)
        features[segment.number] = {
            name: _measurement(segment.label, name, table[name][row], unit, context) for name, unit in _UNITS.items()
        }
    if volume is not None:
        from medseg.measurement.spatial import spatial_features

        for number, found in spatial_features(volume, (runs, extents, mesh_mm3), label_map.segments, autocorrelation).items():
            features[number] |= found
    return features


@dataclass(frozen=True, eq=False)
class _Solids:
    """The segments that have voxels: their tables and meshes, one row each; `steps_mm` has the steps along k, j, i as rows."""

    geometry: Geometry
    runs: LabelRuns
    extents: LabelExtents
    steps_mm: FloatArray
    mesh_mm3: FloatArray
    area_mm2: FloatArray


def _absent(segment: Segment) -> dict[str, Measurement]:
    return {name: Measurement(segment.label, name, None, unit, status=Status.ABSENT, reason=ABSENT) for name, unit in _UNITS.items()}


def _measurement(label: str, name: str, value: float, unit: str, context: tuple[tuple[str, ...], str]) -> Measurement:
    sides, why_not = context
    note = f"touches the border of the field of view ({', '.join(sides)}): of the visible part" if sides else ""
    if math.isfinite(value):
        return Measurement(label, name, value, unit, status=Status.CUT_BY_FIELD_OF_VIEW if sides else Status.MEASURED, reason=note)
    return Measurement(label, name, None, unit, status=Status.FAILED, reason=f"{why_not}; {note}" if note else why_not)


def _touched(solids: _Solids, row: int) -> tuple[str, ...]:
    first, last = solids.extents.first[row], solids.extents.last[row]
    return border_sides(
        solids.geometry, [int(n) for pair in zip(first == 0, last == np.array(solids.runs.shape) - 1, strict=True) for n in pair]
    )


def _mesh_values(solids: _Solids) -> dict[str, FloatArray]:
    volume, area = solids.mesh_mm3, solids.area_mm2
    sphere = np.cbrt(36 * math.pi * volume**2)  # the area of the sphere of this volume
    return {
        "mesh_volume_ml": volume / _MM3_PER_ML,
        "voxel_volume_ml": solids.runs.voxels.astype(np.float64) * solids.geometry.voxel_volume_mm3 / _MM3_PER_ML,
        "surface_area_mm2": area,
        "surface_volume_ratio_per_mm": area / volume,
        "compactness_1": volume / np.sqrt(math.pi * area**3),
        "compactness_2": (sphere / area) ** 3,
        "spherical_disproportion": area / sphere,
        "sphericity": sphere / area,
        "asphericity": area / sphere - 1,
    }


def _diameter_values(solids: _Solids) -> dict[str, FloatArray]:
    from medseg.measurement.enclosing import convex_hull

    extents = solids.extents
    pairs = zip(extents.hull_starts[:-1], extents.hull_starts[1:], strict=True)
    hulls = [convex_hull(extents.hull[start:stop], solids.steps_mm) for start, stop in pairs]
    volume, area, diameter = (
        np.array([getattr(hull, name) for hull in hulls], np.float64) for name in ("volume_mm3", "area_mm2", "diameter_mm")
    )
    return {
        "maximum_3d_diameter_mm": diameter,
        "maximum_2d_diameter_slice_mm": extents.plane_diameters_mm[:, 0],
        "maximum_2d_diameter_column_mm": extents.plane_diameters_mm[:, 1],
        "maximum_2d_diameter_row_mm": extents.plane_diameters_mm[:, 2],
        "convex_hull_volume_ml": volume / _MM3_PER_ML,
        "volume_density_convex_hull": solids.mesh_mm3 / volume,
        "area_density_convex_hull": solids.area_mm2 / area,
    }


def _principal_axes(solids: _Solids, axes: Axes) -> FloatArray:
    """Four standard deviations along the principal axes, falling, [n, 3] in mm; NaN where they are undefined."""
    voxels = solids.runs.voxels.astype(np.float64)
    divisor = voxels - 1 if axes == "ibsi" else voxels
    divisor[voxels == 1] = np.nan
    scatter = solids.steps_mm.T @ solids.extents.scatter @ solids.steps_mm
    variances = np.linalg.eigvalsh(scatter)[:, ::-1] / divisor[:, None]
    # what is 0 but for rounding: the spread across a plane or a line of voxels
    variances[variances < 1e-12 * variances[:, :1]] = 0
    return np.asarray(4 * np.sqrt(variances))


def _axis_values(lengths_mm: FloatArray) -> dict[str, FloatArray]:
    major, minor, least = lengths_mm.T
    return {
        "major_axis_mm": major,
        "minor_axis_mm": minor,
        "least_axis_mm": least,
        "elongation": minor / major,
        "flatness": least / major,
    }


def _density_values(solids: _Solids, lengths_mm: FloatArray) -> dict[str, FloatArray]:
    from medseg.measurement.enclosing import box_areas_mm2, ellipsoid_areas_mm2

    edges = (solids.extents.last - solids.extents.first + 1).astype(np.float64)
    semi = lengths_mm / 2
    ellipsoid_mm3 = 4 / 3 * math.pi * semi.prod(axis=1)
    ellipsoid_mm3[ellipsoid_mm3 == 0] = np.nan
    ellipsoid_mm2 = ellipsoid_areas_mm2(semi)
    ellipsoid_mm2[np.isnan(ellipsoid_mm3)] = np.nan
    return {
        "volume_density_bounding_box": solids.mesh_mm3 / (edges.prod(axis=1) * solids.geometry.voxel_volume_mm3),
        "area_density_bounding_box": solids.area_mm2 / box_areas_mm2(edges, solids.steps_mm),
        "volume_density_ellipsoid": solids.mesh_mm3 / ellipsoid_mm3,
        "area_density_ellipsoid": solids.area_mm2 / ellipsoid_mm2,
    }
