"""The label map that a classical method gives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy.typing as npt

from medseg.core.finding import Finding
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume


def label_map_on(volume: Volume, labels: npt.NDArray[Any], segments: Iterable[Segment], findings: Iterable[Finding] = ()) -> LabelMap:
    """Return labels (k,j,i) as a label map on the grid of the scan; the findings of the scan go with it."""
    return LabelMap(labels.T, volume.geometry, tuple(segments), volume.source, (*volume.findings, *findings))
