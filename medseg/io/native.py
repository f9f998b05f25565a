"""A segmentation on the slices of a DICOM stack as they were scanned, whatever spacing the tool that stacked it wrote."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryMismatchError
from medseg.core.geometry import Geometry
from medseg.core.segment import Segment
from medseg.io.read import find_reader, read_layers
from medseg.measurement.pricing import SegmentPrice, SliceStack, count_slices, price_complete, price_native

if TYPE_CHECKING:
    from medseg.io.dicom.volume import NativeStack

FloatArray = npt.NDArray[np.float64]

SAME_PIXEL_SHARE = 0.01  # pixels of a segmentation that differ by more than this from the scan's are other pixels
BESIDE_PIXELS = 1.0  # a segmentation shifted sideways by more pixels than this was drawn on other images
BEYOND_STEPS = 1.5  # and so was one whose slices lie further than this many steps outside the scan


@dataclass(frozen=True, eq=False)
class NativeLabels:
    """One layer of labels (n,j,i) on the slices of a stack, rows and columns as scanned.

    `header_voxel_mm3` is the voxel volume that the segmentation's own header claims, None where it claims none.
    """

    labels: npt.NDArray[Any]
    segments: tuple[Segment, ...]
    header_voxel_mm3: float | None = None


def slice_stack(stack: NativeStack) -> SliceStack:
    """Return what pricing needs of a stack of DICOM slices."""
    positions = np.asarray(stack.positions_mm)
    holes = [hole for finding in stack.findings for hole in finding.details.get("gaps", ()) if finding.code in _HOLES]
    missing = sorted((int(np.abs(positions - hole["after_mm"]).argmin()), int(hole["missing"])) for hole in holes)
    way = stack.origins_mm[-1] - stack.origins_mm[0]
    length = float(positions[-1] - positions[0])
    return SliceStack(
        positions_mm=stack.positions_mm,
        pixel_area_mm2=stack.pixel_area_mm2,
        tilt_degrees=math.degrees(math.acos(min(1.0, length / float(np.linalg.norm(way))))),
        missing=tuple(missing),
        slice_thickness_mm=_shared(stack, "slice_thickness"),
        spacing_between_slices_mm=_shared(stack, "spacing_between_slices"),
    )


_HOLES = ("MISSING_SLICES", "GAPS_INTERPOLATED")


def native_labels(path: Path, stack: NativeStack) -> tuple[NativeLabels, ...] | None:
    """Read a segmentation as layers on the stack's own slices; None where it lies on the complete, even grid instead.

    A NIfTI, NRRD or MetaImage file with one plane for each scanned slice was drawn on these slices, in either direction; of a
    DICOM SEG the positions of the frames decide. Raises what `read_layers` raises, GeometryMismatchError where it was drawn
    on other images.
    """
    if find_reader(path) is None:
        return _native_seg(path, stack)
    layers = read_layers(path)
    grid = layers[0].geometry
    axes = _axes(grid, stack, path)
    if grid.shape[axes[0]] != len(stack.positions_mm) or (not stack.is_even and grid.matches(stack.geometry)):
        return None
    _check_plane(grid, axes, stack, path)
    flips = _directions(grid, stack)[axes, (2, 1, 0)] < 0
    turned = [np.flip(layer.array.transpose(axes), tuple(np.flatnonzero(flips))) for layer in layers]
    return tuple(NativeLabels(array, layer.segments, grid.voxel_volume_mm3) for array, layer in zip(turned, layers, strict=True))


def price_segmentation(path: Path, stack: NativeStack) -> tuple[SegmentPrice, ...]:
    """Return what the geometry of a stack costs each segment of a segmentation, in the order of their numbers.

    Raises what `native_labels` raises.
    """
    slices = slice_stack(stack)
    prices: list[SegmentPrice] = []
    native = native_labels(path, stack)
    if native is not None:
        for part in native:
            prices += price_native(count_slices(part.labels, part.segments), part.segments, slices, part.header_voxel_mm3)
    else:
        for layer in read_layers(path, geometry=stack.geometry if find_reader(path) is None else None):
            grid = layer.geometry
            axes = _axes(grid, stack, path)
            _check_plane(grid, axes, stack, path)
            counts = count_slices(np.moveaxis(layer.array, axes[0], 0), layer.segments)
            places = _places(grid, axes[0], stack)
            _check_reach(places, stack, path)
            prices += price_complete(counts, layer.segments, slices, places, grid.voxel_volume_mm3)
    return tuple(sorted(prices, key=lambda price: price.number))


def _shared(stack: NativeStack, name: str) -> float | None:
    """Return a nominal length of the header where all slices that name one agree."""
    found = {header.numbers[name] for header in stack.slices} - {None}
    return next(iter(found)) if len(found) == 1 else None


def _native_seg(path: Path, stack: NativeStack) -> tuple[NativeLabels, ...] | None:
    from medseg.io.dicom.rtstruct_read import is_rtstruct
    from medseg.io.dicom.seg_read import read_native_slices

    if is_rtstruct(path):
        return None  # contours are filled on the even grid
    try:
        native = read_native_slices(path, stack.positions_mm)
    except GeometryMismatchError:
        return None  # frames between the slices: drawn on the even grid
    return (NativeLabels(native.labels, native.segments),)


def _directions(grid: Geometry, stack: NativeStack) -> FloatArray:
    """Return the cosines between the axes of a segmentation (rows) and the scan's rows, columns and normal."""
    row, column = (stack.plane[:3, n] / np.linalg.norm(stack.plane[:3, n]) for n in (0, 1))
    return np.asarray(grid.direction.T @ np.stack([row, column, np.cross(row, column)], axis=1))


def _axes(grid: Geometry, stack: NativeStack, path: Path) -> tuple[int, int, int]:
    """Return which axes of a segmentation run along the stack, down its columns and along its rows."""
    nearest = np.abs(_directions(grid, stack)).argmax(axis=0)
    if len(set(nearest.tolist())) != 3:
        raise _elsewhere(path, "it is turned against it")
    return int(nearest[2]), int(nearest[1]), int(nearest[0])


def _check_plane(grid: Geometry, axes: tuple[int, int, int], stack: NativeStack, path: Path) -> None:
    first = stack.slices[0]
    _, column, row = axes
    if (grid.shape[row], grid.shape[column]) != (first.columns, first.rows):
        raise _elsewhere(
            path, f"its slices have {grid.shape[row]} × {grid.shape[column]} pixels, the scan's {first.columns} × {first.rows}"
        )
    own = np.array([grid.spacing_mm[row], grid.spacing_mm[column]])
    pixel = np.linalg.norm(stack.plane[:3, :2], axis=0)
    if (np.abs(own - pixel) > SAME_PIXEL_SHARE * pixel).any():
        sizes = [f"{a:.4g} × {b:.4g} mm" for a, b in (own, pixel)]
        raise _elsewhere(path, f"its pixels are {sizes[0]}, the scan's {sizes[1]}")
    cosines = _directions(grid, stack)
    corner = np.zeros(3)  # the index of the pixel that the scan counts as the first
    for axis, of in ((row, 0), (column, 1)):
        corner[axis] = grid.shape[axis] - 1 if cosines[axis, of] < 0 else 0
    # a stack that leans has its first pixel elsewhere on every slice; one of them must be there
    beside = (grid.index_to_world(corner) - stack.origins_mm) @ (stack.plane[:3, :2] / pixel)
    if np.abs(beside / pixel).max(axis=1).min() > BESIDE_PIXELS:
        raise _elsewhere(path, f"it lies {np.linalg.norm(beside, axis=1).min():.3g} mm beside it")


def _places(grid: Geometry, axis: int, stack: NativeStack) -> FloatArray:
    """Return the positions of a segmentation's slices along the scan's normal."""
    index = np.zeros((grid.shape[axis], 3))
    index[:, axis] = np.arange(grid.shape[axis])
    row, column = stack.plane[:3, 0], stack.plane[:3, 1]
    normal = np.cross(row, column)
    return np.asarray(grid.index_to_world(index) @ (normal / np.linalg.norm(normal)))


def _check_reach(places: FloatArray, stack: NativeStack, path: Path) -> None:
    step = stack.usual_gap_mm * BEYOND_STEPS
    low, high = stack.positions_mm[0], stack.positions_mm[-1]
    if places.max() < low or places.min() > high or places.min() < low - step or places.max() > high + step:
        reach = f"from {places.min():.4g} to {places.max():.4g} mm along the normal, the scan from {low:.4g} to {high:.4g}"
        raise _elsewhere(path, f"its {len(places)} slices reach {reach}; the scan has {len(stack.positions_mm)} slices")


def _elsewhere(path: Path, what: str) -> GeometryMismatchError:
    return GeometryMismatchError(
        f"{path.name} was not drawn on this scan: {what}. Give the segmentation that belongs to it, or choose the scan with --series"
    )
