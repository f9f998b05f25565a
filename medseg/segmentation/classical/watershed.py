"""Marker watershed: each marker floods its surroundings until the floods meet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic

from medseg.core.errors import GeometryMismatchError, InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap, smallest_unsigned
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, LabelMapInput, MethodParams, Number, PointRAS
from medseg.preprocessing.denoise import gaussian_mm
from medseg.preprocessing.intensity import check_limits
from medseg.segmentation.classical.marks import everything_taken
from medseg.segmentation.classical.result import label_map_on
from medseg.segmentation.classical.seeds import seed_indices

if TYPE_CHECKING:
    from medseg.segmentation.classical.auto_watershed import AutoWatershedParams

BACKGROUND = "background"


class WatershedParams(MethodParams):
    """Parameters of `watershed`."""

    seeds: list[PointRAS] = Field([], description="Points inside structures: each floods a segment of its own", unit="mm RAS")
    background_seeds: list[PointRAS] = Field([], description="Points outside every structure: what they flood is background", unit="mm RAS")
    markers: LabelMapInput | None = Field(
        None, description="Label map whose segments are the markers; a segment called background floods background"
    )
    relief: Literal["gradient", "intensity"] = Field("gradient", description="What is flooded: the edges of the scan, or the scan itself")
    sigma_mm: Number = Field(
        1.0, description="Standard deviation of the Gaussian that smooths the scan before it is flooded; 0: none", unit="mm", ge=0, le=100
    )
    lower: Number | None = Field(None, description="Flood only voxels of at least this intensity; empty: no lower limit", unit="image")
    upper: Number | None = Field(None, description="Flood only voxels of at most this intensity; empty: no upper limit", unit="image")
    connectivity: Literal[6, 18, 26] = Field(6, description="Neighbours that count as touching: faces, also edges, also corners")
    lines: bool = Field(False, description="Leave a line of background, one voxel wide, where two basins meet")
    compactness: Number = Field(
        0,
        description="Height that each mm from the marker adds to a voxel: the larger, the rounder and more even the basins; 0: none",
        unit="image/mm",
        ge=0,
    )
    label: str = Field("region", description="Name of the segment of the seeds; with several seeds region_1, region_2, ...", min_length=1)

    @pydantic.model_validator(mode="after")
    def _enough(self) -> WatershedParams:
        if self.markers is None and not self.seeds:
            raise ValueError("give seeds, or markers as a label map")
        if self.lower is not None or self.upper is not None:
            check_limits(self.lower, self.upper)
        return self


@method("watershed", stage=Stage.SEGMENT, reference="doi:10.1016/0165-1684(94)90060-4")
def watershed(volume: Volume, params: WatershedParams) -> LabelMap:
    """Flood a scan from markers; each voxel goes to the marker that reaches it over the lowest pass.

    The relief is the gradient magnitude (intensity per mm) of the scan smoothed with a Gaussian, or the smoothed scan
    itself; unequal spacing and shear are honoured. With `lines` the voxels where two basins meet are background; markers
    that touch each other are not parted. With `compactness` (doi:10.1109/ICPR.2014.181) a voxel is flooded at its height
    plus its distance in mm to the marker voxel it is reached from, times the compactness. Where seeds and markers share a
    voxel the seed counts; a marker voxel that holds NaN or lies outside `lower` and `upper` does not count. Markers keep
    their segments (number, label, colour); a segment called "background" and the background seeds flood background. The
    finding EVERYTHING_TAKEN tells of one structure without background or limits. Raises ParameterError for a point outside
    the scan or seeds on one voxel, InputError where no marker is left, GeometryMismatchError where the markers lie on
    another grid.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[0, 1, 9, 1, 0]]], np.int16), Geometry((1, 1, 5), np.eye(4)))
    >>> chosen = WatershedParams(seeds=[(0, 0, 0), (0, 0, 4)], relief="intensity", sigma_mm=0)
    >>> watershed(scan, chosen).array.ravel().tolist()
    [1, 1, 1, 2, 2]
    """
    from medseg.kernels import histogram

    image = volume.array.T
    markers, segments, background = _markers(volume, params)
    relief, mask = relief_of(image, volume.geometry, params.relief, params.sigma_mm)
    if params.lower is not None or params.upper is not None:
        lower = -math.inf if params.lower is None else params.lower
        allowed = histogram.threshold(image, lower, math.inf if params.upper is None else params.upper)
        mask = allowed if mask is None else mask & allowed
    if mask is not None and not (markers.astype(bool) & mask.view(bool)).any():
        raise InputError("watershed: no marker lies on a voxel with a value between the limits; move the seeds or widen the limits")
    labels = flooded(relief, markers, volume.geometry, mask, params)
    if background:
        labels[labels == background] = 0
    is_limited = params.lower is not None or params.upper is not None
    return label_map_on(volume, labels, segments, everything_taken(segments, background, "watershed", is_limited=is_limited))


def flooded(
    relief: npt.NDArray[Any],
    markers: npt.NDArray[Any],
    geometry: Geometry,
    mask: npt.NDArray[Any] | None,
    params: WatershedParams | AutoWatershedParams,
) -> npt.NDArray[Any]:
    """Flood a relief (k,j,i) from markers, compactly where that is asked for."""
    if params.compactness > 0:
        from medseg.kernels.compact_watershed import compact_watershed

        world = geometry.affine[:3, 2::-1]  # mm for steps along k, j, i
        return compact_watershed(relief, markers, params.compactness, world, params.connectivity, mask, params.lines)
    from medseg.kernels import watershed as kernel

    return kernel.watershed(relief, markers, params.connectivity, mask, params.lines)


def relief_of(
    image: npt.NDArray[Any], geometry: Geometry, kind: Literal["gradient", "intensity"], sigma_mm: float
) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8] | None]:
    """What is flooded, (k,j,i), and where it can be flooded (None: everywhere)."""
    finite = None
    if image.dtype.kind == "f" and not (np.isfinite(image.min()) and np.isfinite(image.max())):
        finite = np.isfinite(image).view(np.uint8)
        # a filter would spread NaN to all neighbours: such voxels take the least intensity and are never flooded
        image = np.where(finite, image, image[finite.view(bool)].min() if finite.any() else 0)
    if sigma_mm > 0:
        image = gaussian_mm(image, geometry, sigma_mm)
    return (image if kind == "intensity" else gradient_magnitude_mm(image, geometry)), finite


def gradient_magnitude_mm(image: npt.NDArray[Any], geometry: Geometry) -> npt.NDArray[np.float32]:
    """Return the gradient magnitude (intensity per mm, float32) of an array (k,j,i).

    Central differences; at the border the difference to the voxel itself is taken over two steps, as in ITK.
    """
    from medseg.kernels import filters

    i, j, k = geometry.spacing_mm
    if not geometry.is_sheared:
        return filters.gradient_magnitude(image, (k, j, i))
    per_mm = np.linalg.inv(geometry.affine[:3, :3]).astype(np.float32) / 2
    wide = np.pad(image.astype(np.float32, copy=False), 1, mode="edge")
    inner = slice(1, -1)
    changes = (
        wide[inner, inner, 2:] - wide[inner, inner, :-2],
        wide[inner, 2:, inner] - wide[inner, :-2, inner],
        wide[2:, inner, inner] - wide[:-2, inner, inner],
    )
    along = (sum(change * per_mm[axis, world] for axis, change in enumerate(changes)) for world in range(3))
    return np.asarray(np.sqrt(sum(np.square(part) for part in along)), dtype=np.float32)


def _markers(volume: Volume, params: WatershedParams) -> tuple[npt.NDArray[Any], list[Segment], int]:
    """Markers (k,j,i), the segments that result, and the number that stands for background (0: none)."""
    segments = _checked_markers(volume, params.markers)
    known = [segment for segment in segments if segment.label.lower() == BACKGROUND]
    highest = max((segment.number for segment in segments), default=0)
    numbers = range(highest + 1, highest + 1 + len(params.seeds))
    background = known[0].number if known else (highest + len(params.seeds) + 1 if params.background_seeds else 0)
    dtype = smallest_unsigned(max(highest + len(params.seeds), background))
    shape = volume.array.T.shape
    markers = np.zeros(shape, dtype) if params.markers is None else params.markers.array.T.astype(dtype)
    points = [*params.seeds, *params.background_seeds]
    index = np.concatenate(
        [
            seed_indices(volume.geometry, params.seeds, "watershed"),
            seed_indices(volume.geometry, params.background_seeds, "watershed", "background_seeds"),
        ]
    )
    values = np.array([*numbers, *[background] * len(params.background_seeds)], dtype)
    _, first, place = np.unique(index, axis=0, return_index=True, return_inverse=True)
    clash = np.flatnonzero(values[first[place.ravel()]] != values)
    if len(clash):
        raise ParameterError(f"watershed: the seed {points[clash[0]]} mm RAS lies on the same voxel as a seed of another basin: move it")
    markers[tuple(index[:, ::-1].T)] = values
    names = [params.label] if len(params.seeds) == 1 else [f"{params.label}_{n + 1}" for n in range(len(params.seeds))]
    grown = [Segment(number, name, algorithm="watershed") for number, name in zip(numbers, names, strict=True)]
    return markers, [segment for segment in segments if segment not in known] + grown, background


def _checked_markers(volume: Volume, markers: LabelMap | None) -> tuple[Segment, ...]:
    if markers is None:
        return ()
    if not markers.geometry.matches(volume.geometry):
        raise GeometryMismatchError(
            "watershed: markers lie on another grid than the scan; "
            "bring them onto it with medseg convert LABELS OUT --label-map --like SCAN",
            volume.geometry,
            markers.geometry,
        )
    if not markers.array.any():
        raise InputError("watershed: the markers hold no voxel; mark at least one structure")
    return markers.segments
