"""Borders of a network's segments decided anew from the scan: the network says what and where, classical rules say how far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap, present_numbers
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number
from medseg.postprocessing.contest import Contest, contest_without_background
from medseg.postprocessing.edges import band_box, boundary_refined, movable_band, neighbour_range, noise_of
from medseg.postprocessing.selection import hull_of, nothing_to_change, selected
from medseg.preprocessing.crop import crop_to, plane_distance_mm
from medseg.preprocessing.denoise import gaussian_mm, gaussian_reach_voxels, refuse_non_finite
from medseg.preprocessing.distances import away_mm, depth_mm

_WINDOW = 1.5  # standard deviation of the window of local statistics, in widths of the band
_LEAST_WEIGHT = 1e-3  # share of that window which a segment's core must fill to be a candidate
_TAILS = 3.0  # degrees of freedom of Student's t: a voxel half-way across a border fits neither side, and says little
_CERTAIN = 30.0  # what speaks for a segment where it is kept
_WALK = 1.5  # differences of this many standard deviations of the noise hold the walker back

FloatArray = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


class RefineBoundaryParams(MethodParams):
    """Parameters of `refine-boundary`."""

    segments: list[str] | None = Field(None, description="Labels of the segments whose borders are decided anew; empty: all")
    band_mm: Number = Field(3.0, description="Borders may move by up to this far", unit="mm", gt=0, le=30)
    rule: Literal["statistics", "random-walker", "watershed"] = Field(
        "statistics",
        description="What decides: intensities inside and outside nearby, a random walker that shuns edges, or the edges alone",
    )
    sigma_mm: Number = Field(0.6, description="Smoothing of the scan before its voxels are judged; 0: none", unit="mm", ge=0, le=10)
    stiffness: Number = Field(
        1.0, description="How strongly the given border holds against the intensities (not for watershed); 0: not at all", ge=0, le=100
    )
    smooth_mm: Number = Field(1.0, description="Smoothing of the new border (statistics); 0: none", unit="mm", ge=0, le=10)
    least_contrast: Number = Field(
        3.0, description="A border whose contrast is less than this many standard deviations of the noise stays", ge=0, le=1000
    )


@method("refine-boundary", stage=Stage.POSTPROCESS, reference="doi:10.1109/TPAMI.2006.233; doi:10.1109/TIP.2008.2004611")
def refine_boundary(label_map: LabelMap, params: RefineBoundaryParams, volume: Volume | None = None) -> LabelMap:
    """Decide the borders of segments anew from the scan, within a band around where they are: network first, classical after.

    What lies deeper than the band in a segment or in the background is kept. Each voxel of the band goes to one of the
    segments (or the background) within `band_mm` of it. With `statistics` to the one whose intensities nearby it fits
    best (mean and deviation in a Gaussian window over what lies deeper than the band); with `random-walker` to the one that
    a walker who shuns edges most likely meets first (slower by far); in both the given border counts by `stiffness`. With
    `watershed` as in `snap-to-edges`. Pieces that are nowhere deeper than the band, borders fainter than `least_contrast`, and borders
    between segments that are not selected stay. The finding BOUNDARY_REFINED says what that did to the volumes. Needs the
    scan: raises ParameterError without it, InputError where it holds NaN or infinity. Sheared grids: distances, windows and
    walks are those of the patient.

    >>> from medseg.core.segment import Segment
    >>> grid = Geometry((24, 9, 9), np.eye(4))
    >>> scan, labels = np.zeros(grid.shape, np.int16), np.zeros(grid.shape, np.uint8)
    >>> scan[:12], labels[:14] = 100, 1
    >>> found = refine_boundary(LabelMap(labels, grid, (Segment(1, "liver"),)), RefineBoundaryParams(), volume=Volume(scan, grid))
    >>> int(found.array[:, 4, 4].sum())
    12
    """
    if volume is None:
        raise ParameterError("refine-boundary needs the scan: give --image on the command line, volume= in Python")
    chosen = selected(label_map, params.segments)
    if not chosen:
        return nothing_to_change(label_map)
    box = band_box(hull_of([box for _, box in chosen]), label_map.geometry, params.band_mm)
    scan, labels = crop_to(volume, box), crop_to(label_map, box)
    refuse_non_finite(scan.array, "refine-boundary")
    numbers = np.array([0, *present_numbers(labels.array)], dtype=label_map.array.dtype)
    places, band = movable_band(scan, labels, numbers, params.band_mm, params.least_contrast)
    movable = np.isin(numbers, [0, *(segment.number for segment, _ in chosen)])
    band &= movable[places - 1]
    if not band.any():
        return label_map
    image = np.asarray(scan.array.T, np.float32) if params.sigma_mm == 0 else gaussian_mm(scan.array.T, scan.geometry, params.sigma_mm)
    scene = _Scene(image, places, band, scan.geometry, noise_of(scan.with_array(image.T), ~band), movable)
    decide = {"statistics": _by_statistics, "random-walker": _by_walking, "watershed": _by_flooding}[params.rule]
    decided = _attached(scene, decide(scene, params))
    array: npt.NDArray[Any] = label_map.array.copy(order="F")
    array[box.slices] = numbers[decided - 1].T
    refined = label_map.with_array(array)
    return label_map.with_array(
        array, findings=(*label_map.findings, boundary_refined(label_map, refined, [segment.label for segment, _ in chosen]))
    )


@dataclass(frozen=True)
class _Scene:
    """What is decided, arrays (k,j,i): the smoothed scan, the place of each voxel (1: background), the band, the noise.

    `movable` says by place - 1 which may gain or lose voxels.
    """

    image: FloatArray
    places: npt.NDArray[np.uint16]
    band: Bools
    grid: Geometry
    noise: float
    movable: npt.NDArray[np.bool_]

    @property
    def cores(self) -> npt.NDArray[np.uint16]:
        """The places of what is kept, 0 in the band."""
        return np.where(self.band, 0, self.places).astype(np.uint16)

    def candidates(self) -> list[int]:
        """The places that occur in the band."""
        found = np.unique(self.places[self.band]).tolist()
        return [int(place) for place in found if self.movable[int(place) - 1]]


def _by_flooding(scene: _Scene, params: RefineBoundaryParams) -> npt.NDArray[np.uint16]:
    from medseg.kernels.watershed import watershed

    flooded = np.asarray(watershed(neighbour_range(scene.image), scene.cores, 6), np.uint16)
    return np.where(scene.movable[flooded - 1], flooded, scene.places).astype(np.uint16)


def _by_walking(scene: _Scene, params: RefineBoundaryParams) -> npt.NDArray[np.uint16]:
    """Where a random walker from each voxel of the band meets a core first; edges hold it back."""
    from medseg.kernels.distance import dilate
    from medseg.kernels.random_walk import probabilities

    # the cores next to the band are all that a walker can meet
    near = dilate(scene.band, float(np.linalg.norm(scene.grid.spacing_mm)), plane_distance_mm(scene.grid)[::-1].tolist())
    near[(scene.cores != 0) & ~scene.movable[scene.places - 1]] = 0
    spread = _WALK * scene.noise if scene.noise > 0 else 1e-3 * float(np.ptp(scene.image)) or 1.0
    axes_mm = scene.grid.affine[:3, :3][:, ::-1].T
    best, winner = np.zeros(scene.places.shape), scene.places.copy()
    for place, chance in probabilities(scene.image, scene.cores, axes_mm, 0.5 / spread**2, near):
        # in double precision: exp(stiffness) leaves float32 from 89 on
        fits = chance * np.exp(-_prior(scene, place, tuple(slice(None) for _ in range(3)), params).astype(np.float64))
        better = scene.band & (fits > best)
        best[better], winner[better] = fits[better], place
    return winner


def _by_statistics(scene: _Scene, params: RefineBoundaryParams) -> npt.NDArray[np.uint16]:
    """The candidate whose intensities nearby fit best, with the given border as a prior and a smoothing of the chances."""
    costs: list[tuple[int, tuple[slice, ...], FloatArray]] = []
    least = np.full(scene.places.shape, np.inf, np.float32)
    for place in scene.candidates():
        around = _around(scene, place, params.band_mm)
        cost = _cost(scene, place, around, params)
        costs.append((place, around, cost))
        np.minimum(least[around], cost, out=least[around])
    total = np.zeros(scene.places.shape, np.float32)
    for _, around, cost in costs:
        some = np.isfinite(cost)
        cost[some] = np.exp(least[around][some] - cost[some])
        cost[~some] = 0
        total[around] += cost
    contest: Contest = contest_without_background(scene.places)
    for place, around, chance in costs:
        share = chance / np.maximum(total[around], np.finfo(np.float32).tiny)
        field = share if params.smooth_mm == 0 else gaussian_mm(share, scene.grid, params.smooth_mm)
        contest.enter(place, around, np.where(share > 0, field, -1))
    undecided = ~scene.band | (contest.first == 0)
    return np.where(undecided, scene.places, contest.first).astype(np.uint16)


def _around(scene: _Scene, place: int, band_mm: float) -> tuple[slice, ...]:
    """The box of a place, wide enough for the window of its statistics."""
    reach = gaussian_reach_voxels(scene.grid, _WINDOW * band_mm)[::-1]
    held = scene.places == place
    slices = []
    for axis in range(3):
        along = np.flatnonzero(held.any(axis=tuple(other for other in range(3) if other != axis)))
        slices.append(slice(max(int(along[0]) - reach[axis], 0), int(along[-1]) + 1 + reach[axis]))
    return tuple(slices)


def _cost(scene: _Scene, place: int, around: tuple[slice, ...], params: RefineBoundaryParams) -> FloatArray:
    """What speaks against a place in each voxel of its box: minus the logarithm of its chance, infinite where it is no candidate."""
    band, image = scene.band[around], scene.image[around]
    core = (scene.places[around] == place) & ~band
    window_mm = _WINDOW * params.band_mm
    weight = gaussian_mm(core.astype(np.float32), scene.grid, window_mm)
    known = weight > _LEAST_WEIGHT
    share = np.where(known, weight, 1)
    centre = np.float32(image[core].mean()) if core.any() else np.float32(0)  # sums about it keep their digits
    values = np.where(core, image - centre, np.float32(0))
    mean = gaussian_mm(values, scene.grid, window_mm) / share
    spread = gaussian_mm(values * values, scene.grid, window_mm) / share - mean * mean
    floor = np.float32(max(scene.noise, 1e-4 * float(np.ptp(scene.image)), 1e-6) ** 2)
    spread = np.maximum(spread, floor)
    away = np.square(image - centre - mean) / spread
    cost = np.float32(0.5 * (_TAILS + 1)) * np.log1p(away / np.float32(_TAILS)) + 0.5 * np.log(spread / floor)
    cost += _prior(scene, place, around, params)
    cost[~known] = np.inf
    # outside the band nothing is asked: what is kept is certain
    cost[~band] = np.where(core[~band], -_CERTAIN, np.inf)
    return np.asarray(cost, np.float32)


def _prior(scene: _Scene, place: int, around: tuple[slice, ...], params: RefineBoundaryParams) -> FloatArray:
    """What the given border says against a place, from -stiffness inside to stiffness; infinite beyond the band around it."""
    mask = np.ascontiguousarray(scene.places[around] == place)
    border = away_mm(mask, scene.grid, params.band_mm) - depth_mm(mask, scene.grid, params.band_mm)
    against = np.float32(params.stiffness) * np.clip(border / np.float32(params.band_mm), -1, 1)
    return np.asarray(np.where(border == np.inf, np.float32(np.inf), against), np.float32)


def _attached(scene: _Scene, decided: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """Give pieces that the band made, and that hang on nothing kept, back to whom they belonged."""
    from medseg.kernels.components import label_components

    out = decided.copy()
    for place in scene.candidates():
        pieces, sizes = label_components(np.ascontiguousarray(decided == place), 6)
        hangs = np.zeros(len(sizes), bool)
        hangs[np.unique(pieces[~scene.band])] = True
        hangs[0] = True
        loose = ~hangs[pieces]
        out[loose] = scene.places[loose]
    return out
