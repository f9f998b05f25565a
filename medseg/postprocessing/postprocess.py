"""One postprocess method by name."""

from __future__ import annotations

from typing import Any

from medseg.core.errors import GeometryMismatchError
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method.catalog import find
from medseg.method.method import Stage


def postprocess(label_map: LabelMap, name: str, *, volume: Volume | None = None, **parameters: Any) -> LabelMap:
    """Run the postprocess method of that name with checked parameters; `volume` is the scan, for methods that look at intensities.

    Raises UnknownMethodError, ParameterError, GeometryMismatchError where the scan lies on another grid, and what the
    method raises.

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> from medseg.core.segment import Segment
    >>> organs = LabelMap(np.array([[[1, 0, 1, 1]]], np.uint8), Geometry((1, 1, 4), np.eye(4)), (Segment(1, "liver"),))
    >>> postprocess(organs, "keep-largest").array.ravel().tolist()
    [0, 0, 1, 1]
    """
    found = find(name, Stage.POSTPROCESS)
    if volume is not None and not volume.geometry.matches(label_map.geometry):
        raise GeometryMismatchError(
            f"{name}: the scan lies on another grid than the label map; restore the label map onto it first",
            label_map.geometry,
            volume.geometry,
        )
    result: LabelMap = found(label_map, found.build(parameters), volume=volume)
    return result
