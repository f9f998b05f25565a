"""One preprocess method by name."""

from __future__ import annotations

from typing import Any

from medseg.core.volume import Volume
from medseg.method.catalog import find
from medseg.method.method import Stage


def preprocess(volume: Volume, name: str, **parameters: Any) -> Volume:
    """Run the preprocess method of that name with checked parameters.

    Raises UnknownMethodError, ParameterError and what the method raises.

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.zeros((2, 3, 4)), Geometry((2, 3, 4), np.eye(4)))
    >>> preprocess(scan, "reorient", orientation="ASR").array.shape
    (3, 4, 2)
    """
    found = find(name, Stage.PREPROCESS)
    result: Volume = found(volume, found.build(parameters))
    return result
