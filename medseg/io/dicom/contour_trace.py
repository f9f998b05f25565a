"""Segments as contours in the planes of their grid, finer than its voxels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.label_map import LabelMap
from medseg.kernels.outlines import mask_outlines


@dataclass(frozen=True, eq=False)
class Outline:
    """One closed contour: the plane `k` it lies in, and `points_mm` (n, 3) RAS."""

    k: int
    points_mm: npt.NDArray[np.float64]


def trace_segments(label_map: LabelMap) -> dict[int, list[Outline]]:
    """Return the contours of every segment, by its number, from the first plane to the last; none where it has no voxel.

    A contour encloses as much as its voxels do and has every voxel centre on the right side (`kernels.outlines`); a hole is
    reached by a slit from the contour around it.
    """
    labels = label_map.array.T
    boxes = _boxes(labels)
    return {
        segment.number: list(_outlines(labels, segment.number, boxes[segment.number], label_map)) if segment.number in boxes else []
        for segment in label_map.segments
    }


def _boxes(labels: npt.NDArray[Any]) -> dict[int, tuple[slice, slice, slice]]:
    from scipy import ndimage

    found = ndimage.find_objects(labels)
    return {number: box for number, box in enumerate(found, start=1) if box is not None}


def _outlines(labels: npt.NDArray[Any], number: int, box: tuple[slice, slice, slice], label_map: LabelMap) -> Iterator[Outline]:
    planes, rows, columns = box
    for k in range(planes.start, planes.stop):
        points, starts = mask_outlines(labels[k, rows, columns] == number)
        if len(starts) < 2:
            continue
        index = np.empty((len(points), 3))
        index[:, 0], index[:, 1], index[:, 2] = points[:, 0] + columns.start, points[:, 1] + rows.start, k
        world = label_map.geometry.index_to_world(index)
        for first, stop in pairwise(starts):
            yield Outline(k, world[first:stop])
