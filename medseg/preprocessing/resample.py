"""Other grids: another spacing, an explicit grid, and the way back to the grid a scan was read on."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic
from pydantic import BeforeValidator

from medseg.core.errors import GeometryError, GeometryMismatchError, ParameterError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number
from medseg.preprocessing.crop import bounding_box
from medseg.preprocessing.orientation import Turn

SAME_GRID_TOLERANCE_VOXELS = 0.01  # grids whose voxels lie closer than this to each other share their voxels
OVERHANG_TOLERANCE_VOXELS = 0.01  # a new voxel that would reach into the scan by less than this is not added
MOST_VOXELS = 1 << 31
_ROUNDING_VOXELS = 1e-9  # a step along another axis that moves no voxel of the grid by more is a rounding error


def _one_or_three(value: Any) -> list[float] | None:
    if value is None:
        return None
    if isinstance(value, str):
        value = value.replace(",", " ").split()
    try:
        numbers = [float(v) for v in (value if isinstance(value, (list, tuple)) else [value])]
    except TypeError as err:
        raise ValueError(f"{value!r} is no number") from err
    if len(numbers) not in (1, 3) or not all(number > 0 for number in numbers):
        raise ValueError("give one spacing above 0 for all axes, or three for i, j, k")
    return numbers


class ResampleParams(MethodParams):
    """Parameters of `resample`."""

    spacing_mm: Annotated[list[Number] | None, BeforeValidator(_one_or_three)] = Field(
        None,
        description="Distance between voxel centres of the new grid: one number above 0 for all axes, or three for i, j, k; "
        "empty: as isotropic says",
        unit="mm",
    )
    isotropic: Literal["finest", "same-volume", "coarsest"] | None = Field(
        None,
        description="Instead of spacing_mm: the same spacing on all axes, the smallest of the scan's, the one that keeps the volume "
        "of a voxel, or the largest",
    )
    interpolation: Literal["linear", "nearest"] = Field(
        "linear", description="Value between voxel centres: linear, or that of the nearest voxel"
    )
    antialias: bool = Field(
        False, description="Smooth axes that become coarser, so that noise and texture finer than the new voxels are averaged, not picked"
    )

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> ResampleParams:
        if (self.spacing_mm is None) == (self.isotropic is None):
            raise ValueError("give spacing_mm or isotropic, one of the two")
        if self.antialias and self.interpolation == "nearest":
            raise ValueError("antialias smooths, interpolation nearest takes voxels as they are: choose one of the two")
        return self


@method("resample", stage=Stage.PREPROCESS, reference="doi:10.1148/radiol.2020191145")
def resample(volume: Volume, params: ResampleParams) -> Volume:
    """Resample a scan to another spacing.

    The new grid has the axes and the centre of the old one and covers it: the outer faces coincide where the extent is a
    whole number of new voxels, else they overhang equally on both sides. Oblique and sheared grids keep their axes, so on a sheared grid
    the same spacing on all axes is no cube. With `antialias` axes that become coarser are smoothed by a Gaussian of variance
    (new² - old²) / 12 first, the difference of the two boxes; integers are rounded once, at the end. Raises
    ParameterError where the new grid would have 2**31 voxels or more.

    >>> scan = Volume(np.zeros((4, 4, 2)), Geometry((4, 4, 2), np.diag([1.0, 1.0, 3.0, 1.0])))
    >>> resample(scan, ResampleParams(spacing_mm=2)).array.shape
    (2, 2, 3)
    """
    spacing_mm = params.spacing_mm if params.spacing_mm is not None else [isotropic_mm(volume.geometry, params.isotropic or "same-volume")]
    target = with_spacing(volume.geometry, spacing_mm)
    return resample_antialiased(volume, target) if params.antialias else resample_volume(volume, target, params.interpolation)


def isotropic_mm(geometry: Geometry, rule: Literal["finest", "same-volume", "coarsest"]) -> float:
    """Return the spacing for all axes: the least of a grid, the edge of a cube as large as its voxel, or the greatest.

    >>> isotropic_mm(Geometry((4, 4, 4), np.diag([1.0, 1.0, 8.0, 1.0])), "same-volume")
    2.0
    """
    if rule == "same-volume":
        return float(np.cbrt(geometry.voxel_volume_mm3))
    return min(geometry.spacing_mm) if rule == "finest" else max(geometry.spacing_mm)


def resample_antialiased(volume: Volume, geometry: Geometry) -> Volume:
    """Return a scan on a grid with the same axes, smoothed along those that become coarser; outside it gets its lowest intensity.

    As `resample_volume` otherwise. Raises GeometryError where the axes are others (use `plan_preparation` for those).
    """
    from medseg.kernels.resample_smooth import resample_smooth

    _same_frame(volume.geometry, geometry)
    matrix, offset = _kji_step(geometry, volume.geometry)
    if (np.count_nonzero(matrix, axis=0) != 1).any():
        raise GeometryError("the axes of the new grid are not those of the scan: smoothing on the way needs the same axes")
    # in voxels of the scan a new voxel is as long as the step along each axis; its box has the variance length² / 12
    sigma = np.sqrt(np.maximum(0, np.abs(matrix).max(axis=1) ** 2 - 1) / 12).tolist()
    if not any(sigma):
        return resample_volume(volume, geometry)
    image = volume.array.T
    array = resample_smooth(image, matrix, offset, geometry.shape[::-1], sigma, _lowest(image))
    return volume.with_array(array.T, geometry)


def with_spacing(geometry: Geometry, spacing_mm: list[float]) -> Geometry:
    """Return the grid of another spacing (one number or three) with the same axes and centre that covers the same extent.

    >>> with_spacing(Geometry((4, 4, 4), np.diag([2.0, 2.0, 2.0, 1.0])), [1.0]).origin_mm
    (-0.5, -0.5, -0.5)
    """
    wanted = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), 3)
    scale = wanted / geometry.spacing_mm
    extent = np.asarray(geometry.shape) / scale
    shape = [max(1, math.ceil(voxels - OVERHANG_TOLERANCE_VOXELS)) for voxels in extent.tolist()]
    if math.prod(shape) >= MOST_VOXELS:
        raise ParameterError(f"resample: spacing_mm {spacing_mm} makes a grid of {shape} voxels, too many: choose a coarser spacing")
    start = (np.asarray(geometry.shape) - 1) / 2 - scale * (np.asarray(shape) - 1) / 2
    return geometry.transformed(np.diag(scale), start, shape)


def resample_volume(
    volume: Volume, geometry: Geometry, interpolation: Literal["linear", "nearest"] = "linear", fill: float | None = None
) -> Volume:
    """Return a scan on another grid; voxels outside the scan get `fill`, by default its lowest finite intensity.

    Within half a voxel outside the border centres the border value counts; the dtype stays, integers are rounded. Raises
    GeometryMismatchError where the grids name different frames of reference, ParameterError where the dtype cannot hold `fill`.
    """
    from medseg.kernels import resample as kernel

    _same_frame(volume.geometry, geometry)
    if geometry == volume.geometry:
        return volume
    image = volume.array.T
    matrix, offset = _kji_step(geometry, volume.geometry)
    outside = _lowest(image) if fill is None else fill
    if image.dtype.kind != "f" and not (np.iinfo(image.dtype).min <= outside <= np.iinfo(image.dtype).max and outside == int(outside)):
        raise ParameterError(f"resample: fill {outside:g} cannot be held by {image.dtype}: give a whole number in its range")
    work = kernel.resample_linear if interpolation == "linear" else kernel.resample_nearest
    return volume.with_array(work(image, matrix, offset, geometry.shape[::-1], outside).T, geometry)


def resample_label_map(label_map: LabelMap, geometry: Geometry) -> LabelMap:
    """Return a label map on another grid; no label appears that was not there, and outside is background.

    Each voxel gets the label with the greatest linear weight among the eight voxels around it. Raises
    GeometryMismatchError where the grids name different frames of reference.
    """
    from medseg.kernels import resample as kernel

    _same_frame(label_map.geometry, geometry)
    if geometry == label_map.geometry:
        return label_map
    matrix, offset = _kji_step(geometry, label_map.geometry)
    labels = kernel.resample_labels(label_map.array.T, matrix, offset, geometry.shape[::-1])
    return label_map.with_array(labels.T, geometry)


def restore(label_map: LabelMap, geometry: Geometry) -> LabelMap:
    """Put a label map made on a prepared grid back onto the source grid.

    Exact, voxel for voxel, where the grids differ by the order and direction of axes, cropping and padding; else as
    `resample_label_map`. Labels that have no place on the source grid give the finding LABELS_OUTSIDE_GRID. Raises
    GeometryMismatchError where the grids name different frames of reference.

    >>> from medseg.core.segment import Segment
    >>> from medseg.preprocessing.orientation import reoriented
    >>> organs = LabelMap(np.array([[[1, 0, 0]]], np.uint8), Geometry((1, 1, 3), np.eye(4)), (Segment(1, "liver"),))
    >>> restore(reoriented(organs, "ILP"), organs.geometry).array.ravel().tolist()
    [1, 0, 0]
    """
    _same_frame(label_map.geometry, geometry)
    placed = _on_shared_voxels(label_map, geometry)
    if placed is not None:
        return placed
    restored = resample_label_map(label_map, geometry)
    return _with_loss(restored) if _reaches_outside(label_map, geometry) else restored


def fit_to(label_map: LabelMap, geometry: Geometry) -> LabelMap:
    """Put a label map onto another grid that shares its voxels (other order or direction of axes, crop or pad), never interpolating.

    Labels that have no place there give the finding LABELS_OUTSIDE_GRID. Raises GeometryMismatchError where the voxels are
    not shared or the frames of reference differ.

    >>> from medseg.core.segment import Segment
    >>> organs = LabelMap(np.array([[[1, 0, 0]]], np.uint8), Geometry((1, 1, 3), np.eye(4)), (Segment(1, "liver"),))
    >>> fit_to(organs, organs.geometry.cropped((0, 0, -2), (1, 1, 4))).array.ravel().tolist()
    [0, 0, 1, 0]
    """
    _same_frame(label_map.geometry, geometry)
    placed = _on_shared_voxels(label_map, geometry)
    if placed is None:
        raise GeometryMismatchError(
            "the label map and the scan do not share their voxels: put the label map onto the scan's grid first "
            "(medseg convert --like, or resample_label_map), or use the scan it was made on",
            geometry,
            label_map.geometry,
        )
    return placed


def _on_shared_voxels(label_map: LabelMap, geometry: Geometry) -> LabelMap | None:
    """The label map on a grid that shares its voxels, None where it does not."""
    if geometry == label_map.geometry:
        return label_map
    step = shared_voxels(label_map.geometry, geometry)
    if step is None:
        return None
    array = _placed(step[0].array(label_map.array), step[1], geometry.shape)
    placed = label_map.with_array(array, geometry)
    return _with_loss(placed) if np.count_nonzero(array) < np.count_nonzero(label_map.array) else placed


def _with_loss(label_map: LabelMap) -> LabelMap:
    message = "the labels reach beyond the grid they were put on: what lies outside is not part of their volume any more"
    return replace(label_map, findings=(*label_map.findings, Finding("LABELS_OUTSIDE_GRID", Severity.WARNING, message)))


def shared_voxels(source: Geometry, target: Geometry) -> tuple[Turn, tuple[int, int, int]] | None:
    """Return how `source` is turned, and at which index of `target` it then begins, where both share their voxels; else None."""
    step = np.linalg.inv(target.affine) @ source.affine
    matrix, start = np.rint(step[:3, :3]), np.rint(step[:3, 3])
    if not (np.abs(matrix).sum(axis=0) == 1).all() or not (np.abs(matrix).sum(axis=1) == 1).all():
        return None
    last = np.asarray(source.shape) - 1
    corners = np.array(list(itertools.product((0, 1), repeat=3))) * last
    apart = corners @ (step[:3, :3] - matrix).T + (step[:3, 3] - start)
    if np.abs(apart).max() > SAME_GRID_TOLERANCE_VOXELS:
        return None
    i, j, k = (int(n) for n in np.abs(matrix).argmax(axis=1))
    flips = [bool(matrix[new, old] < 0) for new, old in enumerate((i, j, k))]
    begins = [int(start[new]) - (int(last[old]) if flips[new] else 0) for new, old in enumerate((i, j, k))]
    return Turn((i, j, k), (flips[0], flips[1], flips[2])), (begins[0], begins[1], begins[2])


def _placed(array: npt.NDArray[Any], begins: tuple[int, int, int], shape: tuple[int, int, int]) -> npt.NDArray[Any]:
    """The array at an index of a grid of zeros; what does not fit is left out."""
    out = np.zeros(shape, array.dtype, order="F")
    to = tuple(slice(max(0, begin), max(0, min(length, begin + n))) for begin, n, length in zip(begins, array.shape, shape, strict=True))
    out[to] = array[tuple(slice(part.start - begin, max(part.start, part.stop) - begin) for part, begin in zip(to, begins, strict=True))]
    return out


def _kji_step(target: Geometry, source: Geometry) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Matrix and offset from indices (k,j,i) of the target to those of the source."""
    step = np.linalg.inv(source.affine) @ target.affine
    # without the rounding errors of an oblique grid its axes are seen to be the same, which spares most of the work
    step[:3, :3][np.abs(step[:3, :3]) * max(target.shape) < _ROUNDING_VOXELS] = 0
    return np.ascontiguousarray(step[:3, :3][::-1, ::-1]), np.ascontiguousarray(step[:3, 3][::-1])


def _lowest(image: npt.NDArray[Any]) -> float:
    if image.dtype.kind == "f":
        finite = image[np.isfinite(image)] if not np.isfinite(image.min()) else image
        return float(finite.min()) if finite.size else float("nan")
    return float(image.min())


def _reaches_outside(label_map: LabelMap, geometry: Geometry) -> bool:
    if not label_map.array.any():
        return False
    box = bounding_box(label_map)
    ends = list(itertools.product(*((start, stop - 1) for start, stop in zip(box.start, box.stop, strict=True))))
    return not bool(geometry.contains(geometry.world_to_index(label_map.geometry.index_to_world(ends))).all())


def _same_frame(one: Geometry, other: Geometry) -> None:
    frames = {one.frame_of_reference_uid, other.frame_of_reference_uid} - {None}
    if len(frames) > 1:
        raise GeometryMismatchError("the grids name different frames of reference: register the scans first, then resample", one, other)
