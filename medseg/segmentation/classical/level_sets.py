"""Surfaces that move over a scan until edges or limits of intensity stop them: level sets of ITK."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic

from medseg.core.errors import GeometryError
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, Number
from medseg.preprocessing.intensity import check_limits
from medseg.segmentation.classical.start_region import Start, StartParams, region_on, start_of
from medseg.segmentation.classical.watershed import gradient_magnitude_mm

_REST = 1e-4  # root mean square of the last step: the surface has come to rest (ITK's own 0.02 stops while it still creeps)
_PAD = 4  # voxels around the box: the solver of ITK wants its layers inside the image


class GeodesicActiveContourParams(StartParams):
    """Parameters of `geodesic-active-contour`."""

    edge: Number | None = Field(
        None,
        description="Gradient at which the surface has a third of its speed; empty: twice the mean in the start",
        unit="image/mm",
        gt=0,
    )
    propagation: Number = Field(1.0, description="Push outwards; negative shrinks, as from a start that is too large", ge=-100, le=100)
    curvature: Number = Field(0.3, description="Weight of smoothness; where it is large small starts shrink to nothing", ge=0, le=100)
    advection: Number = Field(1.0, description="Pull towards edges nearby", ge=0, le=100)
    iterations: int = Field(500, description="Steps of the surface at most; it stops before if it rests", ge=1, le=100000)


@method("geodesic-active-contour", stage=Stage.SEGMENT, reference="doi:10.1023/A:1007979827043 (ITK: GeodesicActiveContourLevelSet)")
def geodesic_active_contour(volume: Volume, params: GeodesicActiveContourParams) -> LabelMap:
    """Move a surface outwards from the start until edges hold it, smooth all the while.

    Its speed is exp(-(gradient / edge)²), the gradient (intensity per mm) that of the smoothed scan. It works in the box
    `reach_mm` around the start, and the finding CONTOUR_AT_REACH tells where it fills that; without `start_radius_mm` the
    ball is at least 2.5 coarsest voxels in radius. Spacing is honoured. NaN and infinity are never inside. Raises
    GeometryError for a sheared grid, ParameterError for a point outside the scan, InputError where the start holds no
    value, GeometryMismatchError where the start lies on another grid.

    >>> from medseg.core.geometry import Geometry
    >>> array = np.zeros((17, 17, 17), np.int16)
    >>> array[4:13, 4:13, 4:13] = 100
    >>> chosen = GeodesicActiveContourParams(seeds=[(8, 8, 8)], start_radius_mm=2, sigma_mm=0.7)
    >>> int(geodesic_active_contour(Volume(array, Geometry((17, 17, 17), np.eye(4))), chosen).array.sum()) in range(500, 760)
    True
    """
    import SimpleITK as sitk

    start = _upright_start(volume, params, "geodesic-active-contour")
    gradient = gradient_magnitude_mm(start.image, start.geometry).astype(np.float64)
    edge = _edge(gradient, start) if params.edge is None else params.edge
    speed = np.exp(-np.square(gradient / edge)) if edge > 0 else np.ones_like(gradient)
    surface = sitk.GeodesicActiveContourLevelSet(
        _distance(start),
        _itk(speed.astype(np.float32), start),
        maximumRMSError=_REST,
        propagationScaling=params.propagation,
        curvatureScaling=params.curvature,
        advectionScaling=params.advection,
        numberOfIterations=params.iterations,
    )
    return region_on(volume, start, _inside(surface, start), params.label, "geodesic-active-contour")


class ThresholdLevelSetParams(StartParams):
    """Parameters of `threshold-level-set`."""

    lower: Number | None = Field(None, description="The surface grows over intensities from this on; empty: no lower limit", unit="image")
    upper: Number | None = Field(None, description="The surface grows over intensities up to this; empty: no upper limit", unit="image")
    propagation: Number = Field(1.0, description="Push outwards between the limits and inwards beyond them", gt=0, le=100)
    curvature: Number = Field(0.3, description="Weight of smoothness: larger closes leaks through narrow bridges", ge=0, le=100)
    iterations: int = Field(500, description="Steps of the surface at most; it stops before if it rests", ge=1, le=100000)

    @pydantic.model_validator(mode="after")
    def _limits(self) -> ThresholdLevelSetParams:
        check_limits(self.lower, self.upper)
        return self


@method("threshold-level-set", stage=Stage.SEGMENT, reference="doi:10.1109/34.368173 (ITK: ThresholdSegmentationLevelSet)")
def threshold_level_set(volume: Volume, params: ThresholdLevelSetParams) -> LabelMap:
    """Move a smooth surface outwards over intensities between two limits and back over others.

    Its speed is 1 in the middle between the limits and 0 on them. Unlike region growing it does not pass bridges that are
    narrow for its smoothness. It works in the box `reach_mm` around the start, and the finding CONTOUR_AT_REACH tells where
    it fills that; without `start_radius_mm` the ball is at least 2.5 coarsest voxels in radius. Spacing is honoured. NaN
    and infinity are never inside. Raises GeometryError for a sheared grid, ParameterError for limits the wrong way round or
    a point outside the scan, InputError where the start holds no value, GeometryMismatchError where the start lies on
    another grid.

    >>> from medseg.core.geometry import Geometry
    >>> array = np.zeros((17, 17, 17), np.int16)
    >>> array[4:13, 4:13, 4:13] = 100
    >>> chosen = ThresholdLevelSetParams(seeds=[(8, 8, 8)], start_radius_mm=2, sigma_mm=0, lower=50, upper=150)
    >>> int(threshold_level_set(Volume(array, Geometry((17, 17, 17), np.eye(4))), chosen).array.sum()) in range(500, 760)
    True
    """
    import SimpleITK as sitk

    start = _upright_start(volume, params, "threshold-level-set")
    surface = sitk.ThresholdSegmentationLevelSet(
        _distance(start),
        _itk(_speed(start.image.astype(np.float64), params.lower, params.upper), start),
        lowerThreshold=0.0,  # ITK takes the distance from the nearer limit as speed: from 0 it is the speed itself
        upperThreshold=4.0,
        maximumRMSError=_REST,
        propagationScaling=params.propagation,
        curvatureScaling=params.curvature,
        numberOfIterations=params.iterations,
    )
    return region_on(volume, start, _inside(surface, start), params.label, "threshold-level-set")


def _speed(image: npt.NDArray[np.float64], lower: float | None, upper: float | None) -> npt.NDArray[np.float32]:
    """Speed of the surface, 1 in the middle between the limits, 0 on them, -1 as far outside, whatever the unit of the scan.

    Where one limit is missing, 1 lies a standard deviation of the box inside the other.
    """
    low, high = -np.inf if lower is None else lower, np.inf if upper is None else upper
    half = (high - low) / 2 if np.isfinite(high - low) else float(image.std())
    inside = np.minimum(image - low, high - image)
    return np.clip(inside / half if half > 0 else np.sign(inside), -1, 1).astype(np.float32)


def _edge(gradient: npt.NDArray[np.float64], start: Start) -> float:
    """Twice the mean gradient in the start, which noise and texture of the structure make, but at least a quarter of that of the box."""
    return max(2 * float(gradient[start.inside].mean()), float(gradient.mean()) / 4)


def _upright_start(volume: Volume, params: StartParams, method_name: str) -> Start:
    if volume.geometry.is_sheared:
        degrees = volume.geometry.shear_degrees
        raise GeometryError(
            f"{method_name}: the axes of the scan are {degrees:.1f} degrees off right angles (gantry tilt), which this method cannot "
            "honour; use graph-cut, random-walker or chan-vese, which can"
        )
    return start_of(volume, params, method_name)


def _itk(array: npt.NDArray[Any], start: Start) -> Any:
    """An array (k,j,i) of the box as an ITK image with its spacing, wider by a few voxels that repeat the border."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.pad(array, _PAD, mode="edge"))
    image.SetSpacing(start.geometry.spacing_mm)
    return image


def _distance(start: Start) -> Any:
    """The signed distance in mm from the surface of the start, negative inside."""
    import SimpleITK as sitk

    return sitk.SignedMaurerDistanceMap(
        _itk(start.inside.astype(np.uint8), start), insideIsPositive=False, squaredDistance=False, useImageSpacing=True
    )


def _inside(surface: Any, start: Start) -> npt.NDArray[np.bool_]:
    import SimpleITK as sitk

    inner = slice(_PAD, -_PAD)
    return np.asarray(sitk.GetArrayViewFromImage(surface)[inner, inner, inner] < 0)
