"""Closed surfaces of segments in patient space: for 3D printing, planning and display, at the volume of the voxels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medseg.core.errors import ParameterError
from medseg.core.label_map import LabelMap
from medseg.core.layers import check_layers
from medseg.core.segment import Segment
from medseg.kernels.surface_nets import surface_nets
from medseg.kernels.surface_smoothing import smooth_net
from medseg.kernels.surface_split import label_meshes

DEFAULT_SMOOTHING = 16
_MOST_STEPS = 1000


@dataclass(frozen=True, eq=False)
class Surface:
    """The closed surface of one segment: `vertices_mm` (V,3) float32 RAS mm, `triangles` (T,3) int32, seen from outside anticlockwise.

    Every edge belongs to two triangles, every vertex to one fan of them.
    """

    segment: Segment
    vertices_mm: npt.NDArray[np.float32]
    triangles: npt.NDArray[np.int32]

    @property
    def volume_ml(self) -> float:
        """Enclosed volume, by the divergence theorem."""
        if not len(self.triangles):
            return 0.0
        # from the middle of the surface: far from the origin, differences of large numbers would cost digits
        points = self.vertices_mm.astype(np.float64) - self.vertices_mm.mean(axis=0, dtype=np.float64)
        a, b, c = (points[self.triangles[:, n]] for n in range(3))
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6000)

    @property
    def area_mm2(self) -> float:
        """Area of all triangles."""
        a, b, c = (self.vertices_mm[self.triangles[:, n]].astype(np.float64) for n in range(3))
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)

    def normals(self) -> npt.NDArray[np.float32]:
        """Return unit normals (V,3) that point outward: the mean of the triangles at a vertex by area."""
        a, b, c = (self.vertices_mm[self.triangles[:, n]] for n in range(3))
        faces = np.cross(b - a, c - a)
        sums = np.stack(
            [np.bincount(self.triangles.ravel(), np.repeat(faces[:, axis], 3), minlength=len(self.vertices_mm)) for axis in range(3)],
            axis=1,
        )
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        return np.asarray(np.divide(sums, length, out=np.zeros_like(sums), where=length > 0), dtype=np.float32)


def surfaces(
    label_map: LabelMap | Sequence[LabelMap], segments: Collection[str | int] | None = None, *, smoothing: int = DEFAULT_SMOOTHING
) -> tuple[Surface, ...]:
    """Return the surface of each segment, in the order of their numbers; several layers may overlap.

    `segments` are labels or numbers, all by default. `smoothing` is the number of steps; 0 gives the faces of the voxels. Each
    segment keeps the volume of its voxels, neighbours share their boundary, and no point moves by more than half a voxel along
    any axis. Segments at the border of the volume are closed there. A segment without voxels gives an empty surface. Right for
    every affine: anisotropic, oblique, sheared, left-handed. Raises UnknownSegmentError, ParameterError for impossible steps.

    >>> from medseg.core.geometry import Geometry
    >>> grid = Geometry((2, 2, 2), np.diag([-1.0, 2.0, 5.0, 1.0]))
    >>> (box,) = surfaces(LabelMap(np.ones((2, 2, 2), np.uint8), grid, (Segment(1, "box"),)), smoothing=0)
    >>> round(box.volume_ml, 6), round(box.area_mm2, 6)
    (0.08, 136.0)
    """
    if not 0 <= int(smoothing) <= _MOST_STEPS:
        raise ParameterError(f"smoothing is {smoothing}; give a number of steps from 0 (voxel faces) to {_MOST_STEPS}")
    layers = check_layers(label_map)
    wanted = None if segments is None else {_segment(layers, one).number for one in segments}
    found = [
        surface
        for layer in layers
        for surface in _of_layer(layer, [one for one in layer.segments if wanted is None or one.number in wanted], int(smoothing))
    ]
    return tuple(sorted(found, key=lambda surface: surface.segment.number))


def _segment(layers: Sequence[LabelMap], name: str | int) -> Segment:
    for layer in layers:
        for segment in layer.segments:
            if name in (segment.label, segment.number):
                return segment
    return layers[0][name]  # raises with the names that there are


def _of_layer(layer: LabelMap, segments: list[Segment], smoothing: int) -> list[Surface]:
    if not segments:
        return []
    array = layer.array.T
    matrix = layer.geometry.affine[:3, :3]
    metric = matrix.T @ matrix
    net = smooth_net(surface_nets(array), smoothing, metric)
    meshes = label_meshes(net, array, [segment.number for segment in segments], metric)
    mirrored = layer.geometry.is_left_handed
    found = []
    for segment, (vertices, triangles) in zip(segments, meshes, strict=True):
        points = np.asarray(layer.geometry.index_to_world(vertices), dtype=np.float32)
        turned = np.ascontiguousarray(triangles[:, ::-1]) if mirrored else triangles
        for array_ in (points, turned):
            array_.setflags(write=False)
        found.append(Surface(segment, points, turned))
    return found
