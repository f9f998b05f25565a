"""Several structures that grow from seeds at once and stop where they meet: GrowCut as a race along cheapest paths."""

from __future__ import annotations

from typing import Literal

import numpy as np

from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, Number
from medseg.segmentation.classical.marks import MarkParams, everything_taken, mark
from medseg.segmentation.classical.result import label_map_on


class GrowFromSeedsParams(MarkParams):
    """Parameters of `grow-from-seeds`."""

    edge_mm: Number = Field(
        50.0,
        description="Way that a difference of one `contrast` between neighbours costs; 0: only distance counts",
        unit="mm",
        ge=0,
        le=1e4,
    )
    contrast: Number | None = Field(
        None,
        description="Difference of intensity that costs `edge_mm`; empty: the mean absolute difference of neighbours in the smoothed scan",
        unit="image",
        gt=0,
    )
    connectivity: Literal[6, 18, 26] = Field(
        6, description="Neighbours a path may step to: faces, also edges, also corners; more give rounder distances and pass thinner gaps"
    )


@method(
    "grow-from-seeds",
    stage=Stage.SEGMENT,
    reference="doi:10.1109/TPAMI.2004.1261076; geodesic segmentation: doi:10.1007/978-3-540-88682-2_9",
)
def grow_from_seeds(volume: Volume, params: GrowFromSeedsParams) -> LabelMap:
    """Give each voxel to the mark that reaches it along the cheapest path: short, and over small differences of intensity.

    A step between neighbours costs sqrt(length² + (edge_mm · difference / contrast)²), length in mm on any grid (unequal
    spacing, oblique, sheared), but no more than 1,024 of the shortest steps on the grid; the paths are exact, so the result
    depends on no order of growth, and voxels at equal cost go to the lower number. What background marks win is background;
    without any every voxel belongs to a structure (one alone gives the finding EVERYTHING_TAKEN). NaN and infinity belong
    to nothing and no path leads through them. Markers keep their segments; where seeds and markers share a voxel the seed
    counts. Raises ParameterError for a point outside the scan or seeds on one voxel, InputError where no mark is left,
    GeometryMismatchError where the markers lie on another grid.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[0, 1, 0, 9, 9, 8, 9]]], np.int16), Geometry((1, 1, 7), np.eye(4)))
    >>> chosen = GrowFromSeedsParams(seeds=[(0, 0, 0)], background_seeds=[(0, 0, 6)], sigma_mm=0)
    >>> grow_from_seeds(scan, chosen).array.ravel().tolist()
    [1, 1, 1, 0, 0, 0, 0]
    """
    from medseg.kernels.cheapest_paths import grow

    marks = mark(volume, params, "grow-from-seeds")
    step, box = marks.step(params.contrast), marks.box()
    finite = None if marks.finite is None else marks.finite[box]
    axes_mm = volume.geometry.affine[:3, :3].T[::-1]
    grown, _ = grow(marks.image[box], marks.array[box], axes_mm, params.edge_mm / step if step else 0.0, params.connectivity, finite)
    labels = np.zeros_like(marks.array)
    labels[box] = grown
    if marks.background:
        labels[labels == marks.background] = 0
    return label_map_on(volume, labels, marks.segments, everything_taken(marks.segments, marks.background, "grow-from-seeds"))
