"""Boxes of voxels: around segments, with a margin in mm, and what lies inside them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryError, ParameterError, SegmentError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.preprocessing.orientation import Subject

Index = tuple[int, int, int]


@dataclass(frozen=True)
class Box:
    """A box of voxels: from index `start` (inclusive) to index `stop` (exclusive), axes (i,j,k). Raises GeometryError where empty.

    >>> Box((0, 1, 2), (4, 4, 4)).shape
    (4, 3, 2)
    """

    start: Index
    stop: Index

    def __post_init__(self) -> None:
        if len(self.start) != 3 or len(self.stop) != 3 or min(self.shape) < 1:
            raise GeometryError(f"the box from {self.start} to {self.stop} holds no voxel: give start < stop on three axes")

    @property
    def shape(self) -> Index:
        """Voxels along i, j, k."""
        i, j, k = (int(stop) - int(start) for start, stop in zip(self.start, self.stop, strict=True))
        return i, j, k

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The index of the box into an array (I,J,K)."""
        i, j, k = (slice(start, stop) for start, stop in zip(self.start, self.stop, strict=True))
        return i, j, k

    def within(self, shape: Iterable[int]) -> Box:
        """Return the part of the box that lies on a grid of that shape; raises GeometryError where there is none."""
        start = [max(0, int(n)) for n in self.start]
        stop = [min(int(n), int(length)) for n, length in zip(self.stop, shape, strict=True)]
        return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))

    def widened(self, geometry: Geometry, margin_mm: float) -> Box:
        """Return the box with at least `margin_mm` more on every side, cut at the grid.

        The margin is measured at right angles to the faces, so it holds on sheared grids too.
        """
        if not margin_mm >= 0:
            raise ParameterError(f"margin_mm is {margin_mm}: give 0 or more")
        voxels = np.ceil(margin_mm / plane_distance_mm(geometry) - 1e-6).astype(int)
        start, stop = np.asarray(self.start) - voxels, np.asarray(self.stop) + voxels
        return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2])).within(geometry.shape)


def plane_distance_mm(geometry: Geometry) -> npt.NDArray[np.float64]:
    """Return the distance between neighbouring planes of voxels across i, j, k: the spacing, but less on a sheared grid."""
    inverse = np.linalg.inv(geometry.affine[:3, :3])
    return np.asarray(1 / np.linalg.norm(inverse, axis=1))


def segment_boxes(label_map: LabelMap) -> dict[int, Box]:
    """Return the bounding box of each segment that has voxels, by number.

    >>> grid = Geometry((3, 3, 3), np.eye(4))
    >>> from medseg.core.segment import Segment
    >>> labels = np.zeros((3, 3, 3), np.uint8)
    >>> labels[1, 1, :2] = 2
    >>> segment_boxes(LabelMap(labels, grid, (Segment(2, "liver"),)))
    {2: Box(start=(1, 1, 0), stop=(2, 2, 2))}
    """
    from medseg.kernels.statistics import label_statistics

    found = label_statistics(label_map.array.T)
    boxes = {}
    for number, first, last in zip(found.numbers, found.first, found.last, strict=True):
        (k0, j0, i0), (k1, j1, i1) = first.tolist(), last.tolist()
        boxes[int(number)] = Box((i0, j0, k0), (i1 + 1, j1 + 1, k1 + 1))
    return boxes


def bounding_box(label_map: LabelMap, segments: Iterable[str] | None = None) -> Box:
    """Return the smallest box that holds the named segments, or all; raises SegmentError where they have no voxel."""
    wanted = [label_map[label] for label in segments] if segments is not None else list(label_map.segments)
    boxes = segment_boxes(label_map)
    held = [boxes[segment.number] for segment in wanted if segment.number in boxes]
    if not held:
        raise SegmentError(
            f"no voxel belongs to {', '.join(segment.label for segment in wanted) or 'any segment'}: there is no bounding box"
        )
    start = np.min([box.start for box in held], axis=0).tolist()
    stop = np.max([box.stop for box in held], axis=0).tolist()
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def crop_to(subject: Subject, box: Box, margin_mm: float = 0.0) -> Subject:
    """Return the part of a volume or label map inside a box, widened by a margin and cut at the grid; every voxel keeps its place.

    >>> from medseg.core.volume import Volume
    >>> scan = Volume(np.zeros((9, 9, 9)), Geometry((9, 9, 9), np.diag([1, 1, 2, 1])))
    >>> crop_to(scan, Box((4, 4, 4), (5, 5, 5)), margin_mm=2).array.shape
    (5, 5, 3)
    """
    part = box.within(subject.geometry.shape).widened(subject.geometry, margin_mm)
    cut: npt.NDArray[Any] = subject.array[part.slices]
    return subject.with_array(cut, subject.geometry.cropped(part.start, part.shape))
