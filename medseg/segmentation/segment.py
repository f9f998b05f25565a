"""One segment method by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from medseg.core.errors import GeometryMismatchError
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method.catalog import find
from medseg.method.method import Stage
from medseg.method.settings import RunSettings


def segment(volume: Volume | Sequence[Volume], method_name: str, *, settings: RunSettings | None = None, **parameters: Any) -> LabelMap:
    """Segment a scan with the method of that name and checked parameters; the label map lies on the grid of the scan.

    Several volumes on one grid are the channels of one scan, for methods that take them (networks trained on T1 and T2).
    Raises UnknownMethodError, ParameterError and what the method raises.

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[-900, 30, 60]]], np.int16), Geometry((1, 1, 3), np.eye(4)), "CT", "HU")
    >>> segment(scan, "threshold", lower=0, label="soft tissue").array.ravel().tolist()
    [0, 1, 1]
    """
    found = find(method_name, Stage.SEGMENT)
    result: LabelMap = found(volume, found.build(parameters), settings=settings)
    volume = volume if isinstance(volume, Volume) else volume[0]
    if not result.geometry.matches(volume.geometry):
        raise GeometryMismatchError(
            f"{method_name} gave a label map on another grid than the scan: the method must bring it back", volume.geometry, result.geometry
        )
    return replace(result, source=volume.source) if result.source is None and volume.source is not None else result
