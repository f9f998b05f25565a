"""What a user points at: points, boxes and a mask to refine, checked against the scan they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryMismatchError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.segmentation.classical.seeds import seed_indices

METHOD = "prompt"
FloatArray = npt.NDArray[np.float64]
Point = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Prompts:
    """Checked prompts: points (n, 3) and boxes (n, 2, 3) in RAS+ mm, `previous` (k,j,i) as 0 and 1 on the scan's grid.

    A box holds its lowest and its highest corner.
    """

    inside_mm: FloatArray = field(default_factory=lambda: np.empty((0, 3)))
    outside_mm: FloatArray = field(default_factory=lambda: np.empty((0, 3)))
    boxes_mm: FloatArray = field(default_factory=lambda: np.empty((0, 2, 3)))
    previous: npt.NDArray[np.uint8] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing says where the structure is; points outside alone do not."""
        return not len(self.inside_mm) and not len(self.boxes_mm) and self.previous is None


def check_prompts(
    geometry: Geometry,
    points: Sequence[Point] = (),
    background_points: Sequence[Point] = (),
    box_corners: Sequence[Point] = (),
    previous: LabelMap | None = None,
) -> Prompts:
    """Return prompts that fit a scan's grid.

    Raises ParameterError for a point outside the scan (with its position and the range of the scan), for a point that is
    both inside and outside the structure, for an odd number of box corners, a flat box and a box whose middle lies
    outside the scan; GeometryMismatchError for a mask on another grid.

    >>> grid = Geometry((9, 9, 9), np.eye(4))
    >>> check_prompts(grid, box_corners=[(5, 1, 2), (2, 4, 6)]).boxes_mm[0].tolist()
    [[2.0, 1.0, 2.0], [5.0, 4.0, 6.0]]
    """
    inside = seed_indices(geometry, points, METHOD, "points") if points else np.empty((0, 3), np.int64)
    outside = seed_indices(geometry, background_points, METHOD, "background_points") if background_points else np.empty((0, 3), np.int64)
    both = {tuple(index) for index in inside.tolist()} & {tuple(index) for index in outside.tolist()}
    if both:
        place = _text(geometry.index_to_world(np.array(sorted(both)[0])))
        raise ParameterError(f"{METHOD}: the voxel at {place} mm RAS is marked both inside and outside the structure: take one click away")
    boxes = _boxes(geometry, box_corners)
    return Prompts(_floats(points), _floats(background_points), boxes, None if previous is None else _mask(geometry, previous))


def _boxes(geometry: Geometry, corners: Sequence[Point]) -> FloatArray:
    if len(corners) % 2:
        raise ParameterError(f"{METHOD}: box_corners holds {len(corners)} points; a box is two opposite corners, so give them in pairs")
    pairs = np.asarray(corners, np.float64).reshape(-1, 2, 3)
    boxes = np.stack([pairs.min(axis=1), pairs.max(axis=1)], axis=1)
    for low, high in boxes:
        if (high - low).min() <= 0:
            raise ParameterError(f"{METHOD}: the box from {_text(low)} to {_text(high)} mm RAS is flat: corners must differ on all axes")
        seed_indices(geometry, [tuple((low + high) / 2)], METHOD, "box_corners (the middle of a box)")
    return boxes


def _mask(geometry: Geometry, previous: LabelMap) -> npt.NDArray[np.uint8]:
    if not previous.geometry.matches(geometry):
        raise GeometryMismatchError(
            f"{METHOD}: the previous mask lies on another grid than the scan; bring it onto the scan's grid first",
            geometry,
            previous.geometry,
        )
    mask = (previous.array.T != 0).view(np.uint8)
    if not mask.any():
        raise ParameterError(f"{METHOD}: the previous mask is empty: leave it out, and give a point or a box")
    return mask


def _floats(points: Sequence[Point]) -> FloatArray:
    return np.asarray(points, np.float64).reshape(-1, 3)


def _text(point: npt.NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{value:.1f}" for value in point) + ")"
