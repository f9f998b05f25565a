"""A surface between two regions that are each as even as possible (Chan and Vese), moved by threshold dynamics."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, Number
from medseg.preprocessing.denoise import gaussian_mm
from medseg.segmentation.classical.marks import touching
from medseg.segmentation.classical.start_region import Start, StartParams, region_on, start_of


class ChanVeseParams(StartParams):
    """Parameters of `chan-vese`."""

    smoothness_mm: Number = Field(
        0.5,
        description="Cost of a mm² of surface, where a mm³ of the mean outside would cost 1 inside; larger gives smoother surfaces",
        unit="mm",
        gt=0,
        le=1e4,
    )
    outside_weight: Number = Field(
        1.0, description="Weight of unevenness outside against that inside; smaller lets the region be picky", gt=0, le=1e3
    )
    connected: bool = Field(True, description="Keep only what is connected to the start; else every like region in the box")
    iterations: int = Field(100, description="Steps of the surface at most; it stops before if nothing changes", ge=1, le=10000)


@method("chan-vese", stage=Stage.SEGMENT, reference="doi:10.1109/83.902291; threshold dynamics: doi:10.1002/cpa.21527")
def chan_vese(volume: Volume, params: ChanVeseParams) -> LabelMap:
    """Move a surface until the intensities inside and those outside are each as even as possible, and the surface is small.

    The two means are taken anew in every step, the outer one from the rest of the box (`reach_mm` around the start). No edge
    is needed between the two. The area is in mm² on any grid (unequal spacing, oblique, sheared). NaN and infinity are never
    inside. Findings: CONTOUR_NOT_AT_REST where the steps were used up, CONTOUR_AT_REACH where the region touches the border of
    the box, CONTOUR_VANISHED where nothing is left. Raises ParameterError for a point outside the
    scan, InputError where the start holds no value, GeometryMismatchError where the start lies on another grid.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[8, 9, 8, 0, 1, 0, 1]]], np.int16), Geometry((1, 1, 7), np.eye(4)))
    >>> chosen = ChanVeseParams(seeds=[(0, 0, 0)], start_radius_mm=1, sigma_mm=0, smoothness_mm=0.1)
    >>> chan_vese(scan, chosen).array.ravel().tolist()
    [1, 1, 1, 0, 0, 0, 0]
    """
    start = start_of(volume, params, "chan-vese")
    mask, at_rest = _settled(start, params)
    if params.connected:
        mask = touching(mask.view(np.uint8), start.inside).view(bool)
    result = region_on(volume, start, mask, params.label, "chan-vese")
    if at_rest:
        return result
    message = f"the surface still moved after {params.iterations} steps: raise iterations, or smooth more"
    found = Finding("CONTOUR_NOT_AT_REST", Severity.WARNING, message, {"iterations": params.iterations})
    return replace(result, findings=(*result.findings, found))


def _settled(start: Start, params: ChanVeseParams) -> tuple[npt.NDArray[np.bool_], bool]:
    """The region after the last step, and whether nothing changed any more (two states in turn count as rest)."""
    # A surface moves only where the blur reaches the next voxel: its width follows the coarsest axis.
    sigma_mm = max(start.geometry.spacing_mm)
    weight = sigma_mm / (2 * math.sqrt(2 * math.pi) * params.smoothness_mm)
    valid = np.ones(start.image.shape, bool) if start.finite is None else start.finite
    image = start.image.astype(np.float64)
    inside, before = start.inside & valid, None
    for _ in range(params.iterations):
        outside = valid & ~inside
        if not inside.any() or not outside.any():
            return inside, True
        own, other = float(image[inside].mean()), float(image[outside].mean())
        if own == other:
            return inside, True
        # how much worse a voxel is inside than outside, 1 for a voxel of the outer mean at equal weights
        worse = (np.square(image - own) - params.outside_weight * np.square(image - other)) / (own - other) ** 2
        blurred = gaussian_mm(inside.astype(np.float32), start.geometry, sigma_mm)
        after = (blurred > 0.5 + weight * worse) & valid
        if np.array_equal(after, inside) or (before is not None and np.array_equal(after, before)):
            return after, True
        before, inside = inside, after
    return inside, False
