"""Segmentation at one threshold that a rule finds in the histogram of the scan."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import pydantic

from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, LabelMapInput, MethodParams, Number
from medseg.preprocessing.intensity import check_limits
from medseg.segmentation.classical import histogram_rules
from medseg.segmentation.classical.intensities import Bins, around, count, greatest_at_most, looked_at, refuse_too_few, seen
from medseg.segmentation.classical.result import label_map_on


class HistogramThresholdParams(MethodParams):
    """Parameters of every method that finds one threshold in the histogram."""

    side: Literal["above", "below"] = Field("above", description="Keep what is brighter or what is darker than the threshold")
    bins: int | None = Field(
        None, description="Equal bins for the intensities; empty: one for each whole number, 256 for fractions", ge=8, le=65536
    )
    lower: Number | None = Field(None, description="Look only at voxels of at least this intensity; empty: all", unit="image")
    upper: Number | None = Field(None, description="Look only at voxels of at most this intensity; empty: all", unit="image")
    mask: LabelMapInput | None = Field(None, description="Look only inside the segments of this label map; empty: everywhere")
    label: str = Field("threshold", description="Name of the segment", min_length=1)

    @pydantic.model_validator(mode="after")
    def _limits(self) -> HistogramThresholdParams:
        if self.lower is not None or self.upper is not None:
            check_limits(self.lower, self.upper)
        return self


class LiParams(HistogramThresholdParams):
    """Parameters of `li`."""


@method("li", stage=Stage.SEGMENT, reference="doi:10.1016/0031-3203(93)90115-D")
def li(volume: Volume, params: LiParams) -> LabelMap:
    """Split a scan at the threshold of least cross entropy (Li and Lee), and keep one side.

    Fit for a small bright structure in a dark scan. The lowest intensity looked at counts as 0, as in scikit-image; the best
    of all thresholds is taken, not the next one to a start value. Where it looks, ties and errors are those of `otsu`; the
    finding HISTOGRAM_THRESHOLD tells the threshold.

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[1, 2, 90, 99]]], np.int16), Geometry((1, 1, 4), np.eye(4)))
    >>> li(scan, LiParams()).array.ravel().tolist()
    [0, 0, 1, 1]
    """
    return _split(volume, params, "li", histogram_rules.li)


class YenParams(HistogramThresholdParams):
    """Parameters of `yen`."""


@method("yen", stage=Stage.SEGMENT, reference="doi:10.1109/83.366472")
def yen(volume: Volume, params: YenParams) -> LabelMap:
    """Split a scan at the threshold of largest entropic correlation (Yen), and keep one side.

    Finds a bright tail that few voxels make up. Depends on the width of the bins: give `bins` to compare scans of whole
    numbers with scans of fractions. Where it looks, ties and errors are those of `otsu`; the finding HISTOGRAM_THRESHOLD
    tells the threshold.

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[1, 1, 2, 90, 99, 99]]], np.int16), Geometry((1, 1, 6), np.eye(4)))
    >>> yen(scan, YenParams()).array.ravel().tolist()
    [0, 0, 0, 1, 1, 1]
    """
    return _split(volume, params, "yen", histogram_rules.yen)


class TriangleParams(HistogramThresholdParams):
    """Parameters of `triangle`."""


@method("triangle", stage=Stage.SEGMENT, reference="doi:10.1177/25.7.70454")
def triangle(volume: Volume, params: TriangleParams) -> LabelMap:
    """Split a scan where its histogram lies furthest below the line from its peak to its far end (Zack), and keep one side.

    Made for one high peak with a long tail, such as air or fat around brighter tissue. Where it looks and its errors are
    those of `otsu`; of equal distances the one nearest to the far end is taken. The finding HISTOGRAM_THRESHOLD tells the
    threshold.

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[1, 1, 1, 2, 2, 3, 9]]], np.int16), Geometry((1, 1, 7), np.eye(4)))
    >>> triangle(scan, TriangleParams()).array.ravel().tolist()
    [0, 0, 0, 0, 0, 0, 1]
    """
    return _split(volume, params, "triangle", histogram_rules.triangle)


class MaximumEntropyParams(HistogramThresholdParams):
    """Parameters of `maximum-entropy`."""


@method("maximum-entropy", stage=Stage.SEGMENT, reference="doi:10.1016/0734-189X(85)90125-2")
def maximum_entropy(volume: Volume, params: MaximumEntropyParams) -> LabelMap:
    """Split a scan at the threshold with the largest sum of the entropies of both sides (Kapur), and keep one side.

    Depends on the width of the bins: give `bins` to compare scans of whole numbers with scans of fractions. Where it looks,
    ties and errors are those of `otsu`; the finding HISTOGRAM_THRESHOLD tells the threshold.

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[1, 2, 3, 97, 98, 99]]], np.int16), Geometry((1, 1, 6), np.eye(4)))
    >>> maximum_entropy(scan, MaximumEntropyParams()).array.ravel().tolist()
    [0, 0, 0, 1, 1, 1]
    """
    return _split(volume, params, "maximum-entropy", histogram_rules.maximum_entropy)


class KittlerParams(HistogramThresholdParams):
    """Parameters of `kittler`."""


@method("kittler", stage=Stage.SEGMENT, reference="doi:10.1016/0031-3203(86)90030-0")
def kittler(volume: Volume, params: KittlerParams) -> LabelMap:
    """Split a scan at the threshold of least error between two normal distributions (Kittler and Illingworth), and keep one side.

    Parts two tissues of unlike size or spread better than Otsu. The best of all thresholds is taken, not the next one to a
    start value; to the variance of a side that of rounding to a bin is added, so a side may be of one intensity. Where it
    looks, ties and errors are those of `otsu`; the finding HISTOGRAM_THRESHOLD tells the threshold.

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[1, 2, 3, 97, 98, 99]]], np.int16), Geometry((1, 1, 6), np.eye(4)))
    >>> kittler(scan, KittlerParams()).array.ravel().tolist()
    [0, 0, 0, 1, 1, 1]
    """
    return _split(volume, params, "kittler", histogram_rules.kittler)


def _split(volume: Volume, params: HistogramThresholdParams, name: str, rule: Callable[[Bins], int]) -> LabelMap:
    from medseg.kernels import histogram

    image = volume.array.T
    inside = looked_at(volume, params.lower, params.upper, params.mask, name)
    looked = seen(image, inside)
    bins = count(looked, params.bins)
    refuse_too_few(bins.different, 2, name)
    cut = float(bins.upper[rule(bins)])
    # a bin counts as a whole, so the cut is its upper end; told is the greatest intensity of the scan up to there
    value = cut if bins.is_exact else greatest_at_most(looked, cut)
    below, above = around(image.dtype, value)
    kept = histogram.threshold(image, above, math.inf) if params.side == "above" else histogram.threshold(image, -math.inf, below)
    if inside is not None:
        kept &= inside
    message = f"the intensities part at {value:g} {volume.unit}".rstrip()
    found = Finding("HISTOGRAM_THRESHOLD", Severity.INFO, message, {"threshold": value, "bins": len(bins.values)})
    return label_map_on(volume, kept, [Segment(1, params.label, algorithm=name)], [found])
