"""Borders of segments moved to the edges that the scan shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError, ParameterError, SegmentError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap, present_numbers
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number
from medseg.postprocessing.selection import nothing_to_change
from medseg.preprocessing.crop import Box, bounding_box, crop_to, plane_distance_mm
from medseg.preprocessing.denoise import gaussian_mm, refuse_non_finite
from medseg.preprocessing.distances import grown

LARGE_CHANGE = 0.05  # of a volume: more than two readers differ by
_GRAIN_MM = 2.0  # what a Gaussian of this width takes away is noise, not anatomy
_MEDIAN_OF_NORMAL = 0.6745  # median of |x| for a standard normal x
_MOST_PLACES = 4096  # every pair of neighbours is judged: memory grows with the square, time with the number


class SnapToEdgesParams(MethodParams):
    """Parameters of `snap-to-edges`."""

    reach_mm: Number = Field(4.0, description="Borders may move by up to this far", unit="mm", gt=0, le=30)
    sigma_mm: Number = Field(0.6, description="Smoothing of the scan before its edges are sought; 0: none", unit="mm", ge=0, le=10)
    least_contrast: Number = Field(
        5.0, description="A border whose contrast is less than this many standard deviations of the noise stays", ge=0, le=1000
    )


@method("snap-to-edges", stage=Stage.POSTPROCESS, reference="doi:10.1016/1047-3203(90)90014-M")
def snap_to_edges(label_map: LabelMap, params: SnapToEdgesParams, volume: Volume | None = None) -> LabelMap:
    """Move the borders of segments to the nearest edges of the scan.

    What lies deeper than `reach_mm` in a segment, or in the background, is kept and floods the rest as markers of a
    watershed on the morphological gradient (the range of intensities among a voxel and its six neighbours). A network that
    is right to within the reach thus gives borders as sharp as the scan's. A piece of a segment or of the background that
    is nowhere deeper than the reach stays as it is, and so does the border between two segments whose mean intensities
    differ by little beside the noise: there the edges are noise. A blurred scan shows the edge of a ball of radius r too far
    in, by sigma² / r (sigma: standard deviation of its blur and of ``sigma_mm`` together): small round segments come out
    small. The finding BOUNDARY_REFINED says what that did to the volumes, as a warning where one changed by more than 5 %.
    Needs the scan: raises ParameterError without it, InputError where it holds NaN or infinity.

    >>> from medseg.core.geometry import Geometry
    >>> from medseg.core.segment import Segment
    >>> grid = Geometry((20, 9, 9), np.eye(4))
    >>> scan, labels = np.zeros(grid.shape, np.int16), np.zeros(grid.shape, np.uint8)
    >>> scan[:10], labels[:12] = 100, 1
    >>> found = snap_to_edges(LabelMap(labels, grid, (Segment(1, "liver"),)), SnapToEdgesParams(), volume=Volume(scan, grid))
    >>> found.array[:, 4, 4].tolist()
    [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    """
    from medseg.kernels.watershed import watershed

    if volume is None:
        raise ParameterError("snap-to-edges needs the scan: give --image on the command line, volume= in Python")
    try:
        box = bounding_box(label_map)
    except SegmentError:
        return nothing_to_change(label_map)
    # twice the reach: the background beyond the band must be there to flood from
    box = band_box(box, label_map.geometry, params.reach_mm)
    labels = crop_to(label_map, box)
    scan = crop_to(volume, box)
    refuse_non_finite(scan.array, "snap-to-edges")
    numbers = np.array([0, *present_numbers(labels.array)], dtype=label_map.array.dtype)
    places, band = movable_band(scan, labels, numbers, params.reach_mm, params.least_contrast)
    image = scan.array.T if params.sigma_mm == 0 else gaussian_mm(scan.array.T, scan.geometry, params.sigma_mm)
    flooded = watershed(neighbour_range(image), np.where(band, 0, places).astype(np.uint16), 6)
    array = label_map.array.copy(order="F")
    array[box.slices] = numbers[flooded - 1].T
    told = boundary_refined(label_map, label_map.with_array(array), [segment.label for segment in label_map.segments])
    return label_map.with_array(array, findings=(*label_map.findings, told))


def boundary_refined(before: LabelMap, after: LabelMap, labels: Sequence[str]) -> Finding:
    """Return the finding on what moving the borders did to the volume of each named segment that had voxels: a warning above 5 %."""
    from medseg.kernels.statistics import label_statistics

    voxel_ml = before.geometry.voxel_volume_mm3 / 1000
    counted = [label_statistics(one.array.T) for one in (before, after)]
    ml = [dict(zip(found.numbers.tolist(), (found.voxels * voxel_ml).tolist(), strict=True)) for found in counted]
    numbers = {label: before[label].number for label in labels}
    volumes = {label: [ml[0][number], ml[1].get(number, 0.0)] for label, number in numbers.items() if number in ml[0]}
    worst = max(volumes, key=lambda label: abs(volumes[label][1] - volumes[label][0]) / volumes[label][0])
    first, second = volumes[worst]
    moved_ml = int(np.count_nonzero(before.array != after.array)) * voxel_ml
    share = second / first - 1
    message = (
        f"borders were decided anew: {moved_ml:.3g} ml changed hands; the volume of {worst} changed most, from {first:.4g} to "
        f"{second:.4g} ml ({100 * share:+.2g} %)"
    )
    severity = Severity.WARNING if abs(share) > LARGE_CHANGE else Severity.INFO
    return Finding("BOUNDARY_REFINED", severity, message, {"moved_ml": moved_ml, "volumes_ml": volumes})


def band_box(box: Box, geometry: Geometry, reach_mm: float) -> Box:
    """Return a box widened by twice the reach: the background beyond the band must be there to decide from."""
    return box.widened(geometry, 2 * reach_mm + 2 * float(plane_distance_mm(geometry).max()))


def neighbour_range(image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the range of intensities among each voxel and its six neighbours (k,j,i): the morphological gradient."""
    source = np.asarray(image, dtype=np.float32)
    highest, lowest = source.copy(), source.copy()
    for axis in range(3):
        here, there = _neighbours(axis)
        for one, other in ((here, there), (there, here)):
            np.maximum(highest[one], source[other], out=highest[one])
            np.minimum(lowest[one], source[other], out=lowest[one])
    highest -= lowest
    return highest


def movable_band(
    scan: Volume, label_map: LabelMap, numbers: npt.NDArray[Any], reach_mm: float, least_contrast: float
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_]]:
    """Return the place of each voxel (k,j,i) among the numbers, from 1, and where a border may move: near it, where it is no noise.

    `numbers` rise from 0, the background. What lies wholly in the band is left out of it: nothing would be left to decide from.
    Raises InputError for more than 4,096 of them.
    """
    if len(numbers) > _MOST_PLACES:
        raise InputError(
            f"the borders of {len(numbers) - 1} segments cannot be moved at once, at most {_MOST_PLACES - 1}: divide the label map"
        )
    grid = label_map.geometry
    places = (np.searchsorted(numbers, label_map.array.T) + 1).astype(np.uint16)
    every_pair = np.ones((len(numbers) + 1, len(numbers) + 1), dtype=bool)
    band = grown(_borders(places, every_pair), grid, reach_mm).astype(bool)
    faint = _faint_pairs(scan, np.where(band, 0, places).astype(np.uint16), len(numbers), least_contrast)
    band &= grown(_borders(places, faint), grid, reach_mm) == 0
    band &= ~_thin(places, band, len(numbers))
    return places, band


def _borders(places: npt.NDArray[np.uint16], pairs: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Return the voxels on both sides of the borders between the pairs of places that count."""
    border = np.zeros(places.shape, np.uint8)
    for axis in range(3):
        here, there = _neighbours(axis)
        differs = (places[here] != places[there]) & pairs[places[here], places[there]]
        border[here] |= differs
        border[there] |= differs
    return border


def _faint_pairs(scan: Volume, cores: npt.NDArray[np.uint16], count: int, least_contrast: float) -> npt.NDArray[np.bool_]:
    """Return which pairs of places (1 to count) differ by less than `least_contrast` times the noise, judged from their cores."""
    from medseg.kernels.statistics import label_statistics

    image = scan.array.T
    noise = noise_of(scan, cores > 0)
    means = np.full(count + 1, np.nan)
    found = label_statistics(cores, image)
    means[found.numbers.astype(int)] = found.mean
    # a place without a core has no mean: no comparison holds, and its pieces are thin anyway
    return np.asarray(np.abs(means[:, None] - means[None, :]) < least_contrast * noise)


def noise_of(scan: Volume, where: npt.NDArray[np.bool_]) -> float:
    """Return the standard deviation of the noise among some voxels (k,j,i), judged from what a Gaussian takes away."""
    image = scan.array.T
    grain = np.abs(image - gaussian_mm(image, scan.geometry, _GRAIN_MM))[where]
    return float(np.median(grain)) / _MEDIAN_OF_NORMAL if grain.size else 0.0


def _thin(places: npt.NDArray[np.uint16], band: npt.NDArray[np.bool_], count: int) -> npt.NDArray[np.bool_]:
    """Return the pieces that lie wholly in the band, of segments and of the background: nothing would be left to flood from."""
    from medseg.kernels.components import label_components

    thin = np.zeros(places.shape, dtype=bool)
    for place in range(1, count + 1):
        pieces, sizes = label_components(places == place, 26)
        is_kept = np.zeros(len(sizes), dtype=bool)
        is_kept[np.unique(pieces[~band])] = True
        is_kept[0] = True
        thin |= ~is_kept[pieces]
    return thin


def _neighbours(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The voxels that have a next one along an axis, and those next ones."""
    here, there = [slice(None)] * 3, [slice(None)] * 3
    here[axis], there[axis] = slice(0, -1), slice(1, None)
    return tuple(here), tuple(there)
