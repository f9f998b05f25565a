"""Connected pieces of a segment: keep the largest, remove the small."""

from __future__ import annotations

import math
from typing import Literal

from medseg.core.label_map import LabelMap
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number
from medseg.postprocessing.selection import changed

_SOURCE = "doi:10.1145/321356.321357"


class KeepLargestParams(MethodParams):
    """Parameters of `keep-largest`."""

    segments: list[str] | None = Field(None, description="Labels of the segments to work on; empty: all")
    count: int = Field(1, description="Connected components that are kept of each segment", ge=1)
    connectivity: Literal[6, 18, 26] = Field(26, description="Neighbours that count as touching: faces, also edges, also corners")


@method("keep-largest", stage=Stage.POSTPROCESS, reference=_SOURCE)
def keep_largest(label_map: LabelMap, params: KeepLargestParams) -> LabelMap:
    """Keep the largest connected components of each segment; the others become background.

    Of components of equal size the first in memory is kept (lowest k, then j, then i).

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> from medseg.core.segment import Segment
    >>> organs = LabelMap(np.array([[[1, 0, 1, 1]]], np.uint8), Geometry((1, 1, 4), np.eye(4)), (Segment(1, "liver"),))
    >>> keep_largest(organs, KeepLargestParams()).array.ravel().tolist()
    [0, 0, 1, 1]
    """
    from medseg.kernels import components

    return changed(label_map, params.segments, lambda mask: components.keep_largest(mask, params.count, params.connectivity))


class RemoveSmallParams(MethodParams):
    """Parameters of `remove-small`."""

    segments: list[str] | None = Field(None, description="Labels of the segments to work on; empty: all")
    keep_at_least_mm3: Number = Field(1000.0, description="Components smaller than this become background", unit="mm3", ge=0)
    connectivity: Literal[6, 18, 26] = Field(26, description="Neighbours that count as touching: faces, also edges, also corners")


@method("remove-small", stage=Stage.POSTPROCESS, reference=_SOURCE)
def remove_small(label_map: LabelMap, params: RemoveSmallParams) -> LabelMap:
    """Remove the connected components of each segment that are smaller than a volume.

    The volume of a component is its voxels times |det| of the affine. A segment that loses all voxels gives the finding
    SEGMENT_EMPTY.

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> from medseg.core.segment import Segment
    >>> grid = Geometry((1, 1, 4), np.diag([1, 1, 5, 1]))
    >>> organs = LabelMap(np.array([[[1, 0, 1, 1]]], np.uint8), grid, (Segment(1, "liver"),))
    >>> remove_small(organs, RemoveSmallParams(keep_at_least_mm3=10)).array.ravel().tolist()
    [0, 0, 1, 1]
    """
    from medseg.kernels import components

    # a component of exactly the asked volume stays, also where the division leaves a rounding error
    voxels = math.ceil(params.keep_at_least_mm3 / label_map.geometry.voxel_volume_mm3 * (1 - 1e-9))
    return changed(label_map, params.segments, lambda mask: components.remove_small(mask, voxels, params.connectivity))
