"""Slow changes of brightness across an MR scan, as coils make them, found and divided out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryMismatchError, InputError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, LabelMapInput, MethodParams, Number
from medseg.preprocessing.foreground import intensity_above_air, refuse_hounsfield

LEAST_MASK_VOXELS = 100  # fewer say nothing about a field
LEAST_SIDE = 4  # voxels along an axis below which the scan is not shrunk any further
SPLINE_ORDER = 3


class BiasFieldParams(MethodParams):
    """Parameters of `bias-field`."""

    mask: LabelMapInput | None = Field(
        None, description="Look for the field only inside the segments of this label map; empty: wherever there is signal"
    )
    working_spacing_mm: Number = Field(
        6.0, description="Spacing that the scan is shrunk to while the field is looked for; larger is faster", unit="mm", gt=0
    )
    knot_spacing_mm: Number = Field(
        200.0, description="Distance between the knots of the field at the coarsest level; it halves at each further level", unit="mm", gt=0
    )
    levels: int = Field(4, description="Levels of the field, each with knots twice as dense as the one before", ge=1, le=6)
    iterations: int = Field(50, description="Most iterations at each level", ge=1, le=1000)
    convergence: Number = Field(0.001, description="Change of the field below which a level is finished", ge=0, lt=1)


@method("bias-field", stage=Stage.PREPROCESS, reference="doi:10.1109/TMI.2010.2046908")
def bias_field(volume: Volume, params: BiasFieldParams) -> Volume:
    """Correct the slow change of brightness across an MR scan (N4).

    The field is a smooth factor; it is found on a shrunk copy, where there is signal, and the scan is divided by it. Its
    geometric mean where it was looked for is 1, so the scan keeps its level. The field follows the axes of the grid: on a sheared
    grid it is as smooth along them. Voxels of 0 and below do not count but are divided too; NaN stays. The result is float32. The finding
    BIAS_FIELD tells how far the field reached. A CT has no such field. Raises InputError for a CT and where
    fewer than 100 voxels of the shrunk scan hold signal, GeometryMismatchError where the mask lies on another grid.

    >>> from medseg.core.geometry import Geometry
    >>> ramp = np.linspace(80, 120, 24)[:, None, None] * np.ones((24, 24, 24))
    >>> scan = Volume(ramp, Geometry((24, 24, 24), np.diag([4.0, 4.0, 4.0, 1.0])))
    >>> even = bias_field(scan, BiasFieldParams()).array
    >>> bool(even.std() < 0.1 * ramp.std())
    True
    """
    field, low, high = find_bias_field(volume, params)
    array = np.asarray(volume.array, np.float32) / field.T
    text = f"brightness changed from {low:.2f} to {high:.2f} times its mean across the scan; this was divided out"
    found = Finding("BIAS_FIELD", Severity.INFO, text, {"lowest": low, "highest": high})
    return volume.with_array(array, findings=(*volume.findings, found))


def find_bias_field(volume: Volume, params: BiasFieldParams) -> tuple[npt.NDArray[np.float32], float, float]:
    """Return the field (k,j,i) that a scan is multiplied with, and its least and greatest value where it was looked for."""
    import SimpleITK as sitk

    refuse_hounsfield(volume, "bias-field")
    finite = np.isfinite(volume.array.T)
    if np.abs(volume.array.T, where=finite, out=np.zeros(finite.shape)).max() > np.finfo(np.float32).max:
        raise InputError("bias-field: intensities go beyond the range of float32 (3.4e38); clip the scan first")
    image = np.where(finite, volume.array.T, 0).astype(np.float32)
    mask = _signal(volume, params) & finite & (image > 0)
    full = _in_itk(image, volume.geometry)
    factors = _shrinking(volume.geometry, params.working_spacing_mm)
    shrunk = sitk.BinShrink(full, factors)
    inside = sitk.BinShrink(_in_itk(mask.astype(np.float32), volume.geometry), factors) > 0.5
    inside = sitk.And(inside, shrunk > 0)
    held = sitk.GetArrayViewFromImage(inside).astype(bool)
    if int(held.sum()) < LEAST_MASK_VOXELS:
        raise InputError(
            f"bias-field: only {int(held.sum())} voxels hold signal at {params.working_spacing_mm:g} mm, too few to find a field; "
            "give a larger mask or a smaller working_spacing_mm, or leave this step out"
        )
    search = sitk.N4BiasFieldCorrectionImageFilter()
    search.SetMaximumNumberOfIterations([params.iterations] * params.levels)
    search.SetConvergenceThreshold(params.convergence)
    search.SetSplineOrder(SPLINE_ORDER)
    extent_mm = np.asarray(volume.geometry.shape) * volume.geometry.spacing_mm
    search.SetNumberOfControlPoints([max(1, math.ceil(float(length) / params.knot_spacing_mm)) + SPLINE_ORDER for length in extent_mm])
    try:
        search.Execute(shrunk, inside)
        coarse = sitk.GetArrayFromImage(search.GetLogBiasFieldAsImage(shrunk))[held]
        log_field = sitk.GetArrayFromImage(search.GetLogBiasFieldAsImage(full))
    except RuntimeError as err:
        raise InputError(
            f"bias-field: no field could be found on a grid of {shrunk.GetSize()} voxels; give a smaller working_spacing_mm, "
            "or leave this step out"
        ) from err
    log_field -= np.float32(coarse.mean())
    low, high = (float(np.exp(value - coarse.mean())) for value in (coarse.min(), coarse.max()))
    return np.exp(log_field, out=log_field), low, high


def _signal(volume: Volume, params: BiasFieldParams) -> npt.NDArray[np.bool_]:
    """Where to look for the field (k,j,i)."""
    if params.mask is None:
        image = volume.array.T
        return np.asarray(image > intensity_above_air(volume, "bias-field"))
    if not params.mask.geometry.matches(volume.geometry):
        raise GeometryMismatchError(
            "bias-field: mask lies on another grid than the scan; restore it onto the scan's grid first",
            volume.geometry,
            params.mask.geometry,
        )
    return np.asarray(params.mask.array.T != 0)


def _shrinking(geometry: Geometry, spacing_mm: float) -> list[int]:
    """How many voxels become one along i, j, k."""
    factors = [max(1, int(spacing_mm / own + 1e-6)) for own in geometry.spacing_mm]
    return [max(1, min(factor, length // LEAST_SIDE)) for factor, length in zip(factors, geometry.shape, strict=True)]


def _in_itk(array: npt.NDArray[np.float32], geometry: Geometry) -> Any:
    """The array (k,j,i) with its spacing alone: a field does not care where the patient lies."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing_mm)
    return image
