"""What is marked before a method divides a scan: structures by seeds or markers, background by hand or by rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic

from medseg.core.errors import GeometryMismatchError, InputError, ParameterError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap, smallest_unsigned
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.param import Field, LabelMapInput, MethodParams, Number, PointRAS
from medseg.preprocessing.denoise import gaussian_mm
from medseg.segmentation.classical.seeds import seed_indices

BACKGROUND = "background"
_LEAST_STEP = 1e-12  # of the range of a scan: a smaller difference is none in its 32-bit floats
_ROOM = 1e-6  # a voxel at the radius of a ball belongs to it although its distance was rounded


class MarkParams(MethodParams):
    """Parameters that say what is marked; base of the methods that divide a scan between marks."""

    seeds: list[PointRAS] = Field([], description="Points inside structures: each is a segment of its own", unit="mm RAS")
    background_seeds: list[PointRAS] = Field([], description="Points outside every structure: what they win is background", unit="mm RAS")
    markers: LabelMapInput | None = Field(
        None, description="Label map whose segments are the marks (scribbles); a segment called background wins background"
    )
    seed_radius_mm: Number = Field(
        0.0, description="Radius of the ball around each seed that is marked; 0: one voxel", unit="mm", ge=0, le=100
    )
    background_beyond: Number | None = Field(
        None,
        description="Mark as background what differs from the marks of every structure by more standard deviations; empty: nothing",
        gt=0,
        le=1000,
    )
    reach_mm: Number | None = Field(
        None, description="Mark as background what lies farther than this from the marks of structures; empty: nothing", unit="mm", gt=0
    )
    sigma_mm: Number = Field(
        1.0, description="Standard deviation of the Gaussian that smooths the scan before it is compared; 0: none", unit="mm", ge=0, le=100
    )
    label: str = Field("region", description="Name of the segment of the seeds; with several seeds region_1, region_2, ...", min_length=1)

    @pydantic.model_validator(mode="after")
    def _enough(self) -> MarkParams:
        if self.markers is None and not self.seeds:
            raise ValueError("give seeds, or markers as a label map")
        return self


@dataclass(frozen=True)
class Marks:
    """A scan ready to be divided, all arrays (k,j,i).

    `image` is the smoothed scan scaled to 0..1 (float32, 0 where there is no finite value), `finite` tells where it has one
    (None: everywhere), `array` holds the marks, `background` the number that stands for background (0: nothing is marked as
    background), `contrast` the mean absolute difference of face neighbours in `image`, `scale` the range of the scan, `far` what
    was marked as background by `reach_mm` alone (None: it was not given).
    """

    image: npt.NDArray[np.float32]
    finite: npt.NDArray[np.uint8] | None
    array: npt.NDArray[Any]
    segments: tuple[Segment, ...]
    background: int
    contrast: float
    scale: float
    far: npt.NDArray[np.bool_] | None = None

    def step(self, contrast: float | None) -> float:
        """Return a difference of intensity as one in `image`; that of neighbours where none is given, 0 in a constant scan."""
        if contrast is None:
            return self.contrast
        return max(contrast / self.scale, _LEAST_STEP) if self.scale else 0.0

    def box(self) -> tuple[slice, slice, slice]:
        """Return the smallest box (k,j,i) that holds every voxel not marked as background, and one voxel more on each side."""
        if not self.background:
            return slice(None), slice(None), slice(None)
        inside = self.array != self.background
        limits = []
        for axis in range(3):
            held = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
            limits.append(slice(max(0, int(held[0]) - 1), int(held[-1]) + 2))
        return limits[0], limits[1], limits[2]


def mark(volume: Volume, params: MarkParams, method_name: str, *, one_structure: bool = False) -> Marks:
    """Return the smoothed scan and everything that is marked on it.

    With `one_structure` all seeds are marks of one segment. Where seeds and markers share a voxel the seed counts; marks on
    NaN or infinity do not count. Raises ParameterError for a point outside the scan or seeds of different structures on one
    voxel, InputError where no mark is left, GeometryMismatchError where the markers lie on another grid.
    """
    image, finite, scale = unit_image(volume.array.T)
    if params.sigma_mm > 0:
        image = gaussian_mm(image, volume.geometry, params.sigma_mm)
    array, segments, background = _marked(volume.geometry, params, method_name, one_structure)
    if finite is not None:
        array[finite == 0] = 0
    if not (array[array > 0] != background).any():
        raise InputError(f"{method_name}: no mark lies on a voxel with a value; move the seeds or marks onto the structure")
    contrast = mean_difference(image, finite)
    far = None if params.reach_mm is None else _far((array > 0) & (array != background), volume.geometry, params.reach_mm) & (array == 0)
    free = far
    if params.background_beyond is not None:
        unlike = _unlike(image, array, background, params.background_beyond, contrast) & (array == 0)
        free = unlike if far is None else unlike | far
        far = None if far is None else far & ~unlike
    if free is not None:
        background = background or int(max(segment.number for segment in segments)) + 1
        array = array.astype(np.promote_types(array.dtype, smallest_unsigned(background)), copy=False)
        array[free if finite is None else free & finite.view(bool)] = background
    return Marks(image, finite, array, segments, background, contrast, scale, far)


def everything_taken(segments: Sequence[Segment], background: int, method_name: str, *, is_limited: bool = False) -> list[Finding]:
    """Return the finding EVERYTHING_TAKEN where one structure has neither background (0) nor limits against it, else nothing."""
    if len(segments) != 1 or background or is_limited:
        return []
    message = (
        f"{method_name}: one structure is marked and nothing as background, so it took every voxel that can be reached, air included; "
        "mark background (background_seeds, or a segment called background in markers) or limit the region"
    )
    return [Finding("EVERYTHING_TAKEN", Severity.WARNING, message, {"segment": segments[0].label})]


def unit_image(image: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8] | None, float]:
    """Return an image scaled to 0..1 (float32), where it is finite (uint8; None: everywhere), and its range."""
    finite = None
    if image.dtype.kind == "f" and not (np.isfinite(image.min()) and np.isfinite(image.max())):
        finite = np.isfinite(image).view(np.uint8)
        if not finite.any():
            return np.zeros(image.shape, np.float32), finite, 0.0
        image = np.where(finite, image, image[finite.view(bool)].min())
    low, high = float(image.min()) / 2, float(image.max()) / 2  # halves: their difference never overflows
    if not high > low:
        return np.zeros(image.shape, np.float32), finite, 0.0
    out = np.empty(image.shape, np.float32)
    for source, target in zip(image, out, strict=True):  # a plane at a time spares a copy in double precision
        target[:] = (source.astype(np.float64) / 2 - low) / (high - low)
    return out, finite, min(2 * (high - low), float(np.finfo(np.float64).max))


def mean_difference(image: npt.NDArray[np.float32], finite: npt.NDArray[np.uint8] | None) -> float:
    """Return the mean absolute difference of voxels that share a face; 0 where there are no two of them."""
    total, count = 0.0, 0
    for axis in range(3):
        one, other = _pair(image, axis)
        difference = np.abs(one - other)
        if finite is None:
            total, count = total + float(difference.sum(dtype=np.float64)), count + difference.size
        else:
            both = np.logical_and(*_pair(finite, axis))
            total, count = total + float(difference[both].sum(dtype=np.float64)), count + int(both.sum())
    return total / count if count else 0.0


def _pair(array: npt.NDArray[Any], axis: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    before, after = [slice(None)] * 3, [slice(None)] * 3
    before[axis], after[axis] = slice(None, -1), slice(1, None)
    return array[tuple(before)], array[tuple(after)]


def ball(geometry: Geometry, centre: Sequence[int], radius_mm: float) -> npt.NDArray[np.int64]:
    """Return the voxels (i,j,k), N x 3, whose centres lie within a radius of the centre of a voxel, itself included."""
    matrix = geometry.affine[:3, :3]
    reach = np.floor(radius_mm * np.linalg.norm(np.linalg.inv(matrix), axis=1) + _ROOM).astype(np.int64)
    low = np.maximum(-reach, -np.asarray(centre))
    high = np.minimum(reach, np.asarray(geometry.shape) - 1 - np.asarray(centre))
    axes = [np.arange(first, last + 1) for first, last in zip(low, high, strict=True)]
    steps = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    inside = np.linalg.norm(steps @ matrix.T, axis=1) <= radius_mm * (1 + _ROOM)
    return np.asarray(steps[inside] + np.asarray(centre), np.int64)


def touching(mask: npt.NDArray[np.uint8], start: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Return the components (faces) of a mask (k,j,i) that share a voxel with the start."""
    from medseg.kernels.components import label_components

    labels, _ = label_components(np.ascontiguousarray(mask), 6)
    kept = np.unique(labels[start & (mask > 0)])
    return np.isin(labels, kept[kept > 0]).view(np.uint8)


def _marked(
    geometry: Geometry, params: MarkParams, method_name: str, one_structure: bool
) -> tuple[npt.NDArray[Any], tuple[Segment, ...], int]:
    """Marks (k,j,i), the segments that result, and the number that stands for background (0: none)."""
    known = _checked_markers(geometry, params.markers, method_name)
    behind = [segment for segment in known if segment.label.lower() == BACKGROUND]
    highest = max((segment.number for segment in known), default=0)
    count = min(1, len(params.seeds)) if one_structure else len(params.seeds)
    background = behind[0].number if behind else (highest + count + 1 if params.background_seeds else 0)
    numbers = [highest + 1 + (0 if one_structure else n) for n in range(len(params.seeds))]
    names = [params.label] if count == 1 else [f"{params.label}_{n + 1}" for n in range(count)]
    grown = [Segment(highest + 1 + n, name, algorithm=method_name) for n, name in enumerate(names)]
    array = np.zeros(geometry.shape[::-1], smallest_unsigned(max(highest + count, background)))
    if params.markers is not None:
        array[...] = params.markers.array.T
    index = np.concatenate(
        [
            seed_indices(geometry, params.background_seeds, method_name, "background_seeds"),
            seed_indices(geometry, params.seeds, method_name),
        ]
    )
    values = [background] * len(params.background_seeds) + numbers
    _refuse_shared_voxels([*params.background_seeds, *params.seeds], index, values, method_name)
    for centre, number in zip(index, values, strict=True):
        array[tuple(ball(geometry, centre, params.seed_radius_mm)[:, ::-1].T)] = number
    array[tuple(index[:, ::-1].T)] = values  # the voxel of a point belongs to it, whatever ball of a neighbour holds it
    return array, tuple(segment for segment in known if segment not in behind) + tuple(grown), background


def _refuse_shared_voxels(points: list[PointRAS], index: npt.NDArray[np.int64], numbers: list[int], method_name: str) -> None:
    taken: dict[tuple[int, ...], int] = {}
    for point, voxel, number in zip(points, index, numbers, strict=True):
        if taken.setdefault(tuple(voxel.tolist()), number) != number:
            place = ", ".join(f"{value:.1f}" for value in point)
            raise ParameterError(f"{method_name}: the seed ({place}) mm RAS lies on the same voxel as a seed of another structure: move it")


def _checked_markers(geometry: Geometry, markers: LabelMap | None, method_name: str) -> tuple[Segment, ...]:
    if markers is None:
        return ()
    if not markers.geometry.matches(geometry):
        raise GeometryMismatchError(
            f"{method_name}: the markers lie on another grid than the scan; "
            "bring them onto it with medseg convert LABELS OUT --label-map --like SCAN",
            geometry,
            markers.geometry,
        )
    if not markers.array.any():
        raise InputError(f"{method_name}: the markers hold no voxel; mark at least one structure")
    return markers.segments


def _unlike(
    image: npt.NDArray[np.float32], array: npt.NDArray[Any], background: int, beyond: float, contrast: float
) -> npt.NDArray[np.bool_]:
    """Voxels unlike every structure, where most of the 27 around them are: a single noisy voxel marks nothing."""
    from scipy.ndimage import uniform_filter

    lows, highs = _likes(image, array, background, beyond, contrast)
    unlike = np.empty(image.shape, bool)
    for source, target in zip(image, unlike, strict=True):  # a plane at a time: the places in the table are 64-bit
        target[:] = np.searchsorted(lows, source, "right") == np.searchsorted(highs, source, "left")
    return np.asarray(unlike & (uniform_filter(unlike.astype(np.float32), 3, mode="nearest") > 0.5))


def _likes(
    image: npt.NDArray[np.float32], array: npt.NDArray[Any], background: int, beyond: float, contrast: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Intensities like a structure: where each range of them begins and ends, ranges that overlap joined, in order."""
    marked = (array > 0) & (array != background)
    _, place, count = np.unique(array[marked], return_inverse=True, return_counts=True)
    values = image[marked].astype(np.float64)
    mean = np.bincount(place, values) / count
    std = np.sqrt(np.bincount(place, np.square(values - mean[place])) / count)
    # one voxel has no spread: the differences between neighbours tell how much to expect
    limit = beyond * np.maximum(std, contrast)
    order = np.argsort(mean - limit, kind="stable")
    lows, highs = (mean - limit)[order], np.maximum.accumulate((mean + limit)[order])
    starts = np.concatenate([[True], lows[1:] > highs[:-1]])
    ends = np.concatenate([starts[1:], [True]])
    return lows[starts].astype(np.float32), highs[ends].astype(np.float32)


def _far(structure: npt.NDArray[np.bool_], geometry: Geometry, reach_mm: float) -> npt.NDArray[np.bool_]:
    """Voxels farther than `reach_mm` from every voxel of the structures."""
    from medseg.kernels import distance, nearest

    if not geometry.is_sheared:
        i, j, k = geometry.spacing_mm
        return distance.dilate(structure.view(np.uint8), reach_mm, (k, j, i)) == 0
    everywhere = np.indices(structure.shape, np.int32).reshape(3, -1).T
    distances = nearest.nearest_distances_mm(everywhere, np.argwhere(structure), geometry.affine)
    return np.asarray(distances > reach_mm).reshape(structure.shape)
