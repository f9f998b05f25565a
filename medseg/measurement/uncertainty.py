"""The 95 % interval of a volume, from the voxels of its mask alone: what the grid, the border and the model leave open.

Grid. A body laid at random on a grid covers a varying number of voxels. For a smooth border that runs in all directions
the variance of the counted volume is S / (8 π³) · Σ 1/|ξ|⁴ over the dual lattice of the voxels without 0 (S the area of
the border; Kendall 1948, doi:10.1093/qmath/os-19.1.1; Matheron's transitive theory, see Gundersen & Jensen 1987,
doi:10.1111/j.1365-2818.1987.tb02837.x). How far the body reaches across the layers of voxels tells whether the errors of its
two ends add up or cancel out. Ends that are flat along an axis add the unknown share of their last layer.

Border. The two usual rules for a border voxel (its centre inside, or more than half of it inside) differ for curved borders
by about 1.1 grid standard deviations; the interval is centred between them and covers either. Where the border is rough,
flips of border voxels add their variance; class probabilities, where given, tell how far the border may move.

Model. The standard deviation of the volumes of folds, test-time augmentations or ensemble members.

The constants were fitted to simulated bodies and are checked by scripts/calibrate_uncertainty.py (docs/uncertainty.md). The
interval does not cover a border that was drawn systematically too far in or out: `half_voxel_shell_mm3` says what that costs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from medseg.kernels.statistics import LabelStatistics

FloatArray = npt.NDArray[np.float64]

Z_95 = 1.959964
_LATTICE_REACH = 6  # in cycles per shortest step: nearer dual vectors are summed, the others integrated
_RULES_CENTRE = 0.55  # grid standard deviations from the counted volume to the middle between the two rules for border voxels
_RULES_SD = 0.58  # and from there to either rule
_FLIP_VARIANCE = 0.466  # variance of flipped border voxels per border face, at roughness 1
_FLIP_POWER = 0.556
_ROUNDING = 1e-9  # more than rounding may move a volume, on the log scale
_FLIP_BLUR = 25.0  # noise blurs the steps of the grid: its standard deviation is divided by 1 + this times the roughness
_FLIP_SHIFT = 9.5  # noise adds more voxels outside a convex border than it takes inside: grid standard deviations at roughness 1
_FLIP_SHIFT_POWER = 0.7
_UNSEEN_FLIPS = 0.15  # rough cells that a smooth border of few cells may hide
_FEW_LAYERS = (0.18, 0.082)  # of the difference between the two rules, in thick slices: at none, and more for each layer
_EVEN_SHARE = 0.131  # of the lattice sum that one axis has on a cubic grid
_IN_STEP = 0.8  # how much of the two ends' errors goes together: all in balls and ellipsoids, less in lobulated bodies
_PAIR_KNOWN = 0.75  # of the reach of a body of two layers, taken for a ball
_FURTHEST_END = 1.5  # layers beyond the last one: an end that seems further away is not round
_LEAST_SHARE = 0.05  # of the mean grid variance: what always remains
_FLAT_LAYERS = 6  # fewer layers do not tell a flat end from a round one
_FLAT_GROWTH = 2.0  # a round end's last layer is at most this many times the step to the next one
_ONE_LAYER_SHIFT = -0.3
_ONE_LAYER_SD = 0.93
_ONE_LAYER_WIDE = 0.36
_SHORT_REACH, _SHORT_SHIFT = 1.4, 0.6
_PAIR_THINNER = 0.04
_WIDTH = (1.02, 0.06)  # of the interval over the sum of its parts, and how much narrower in thick slices


@dataclass(frozen=True, eq=False)
class Border:
    """What the masks of n labels say of their borders.

    `faces_mm2` (n,3) areas of the exposed voxel faces across k, j, i; `face_count` (n,) their number; `roughness` (n,) share of
    border cells that no plane cuts; `layers` (n,) of the box along its shortest axis; `reach_layers` (n,3) how many layers the
    body itself reaches across, and `in_step` (n,3) from 0 to 1 how far that is known; `flat_ends` (n,) variance in voxels² of
    ends that are flat along an axis.
    """

    faces_mm2: FloatArray
    face_count: npt.NDArray[np.int64]
    roughness: FloatArray
    layers: npt.NDArray[np.int64]
    reach_layers: FloatArray
    in_step: FloatArray
    flat_ends: FloatArray


@dataclass(frozen=True, eq=False)
class VolumeSpread:
    """Standard deviations in mm³ of n volumes by their source, and the 95 % interval (n,2) in mm³."""

    grid_mm3: FloatArray
    boundary_mm3: FloatArray
    model_mm3: FloatArray
    interval_mm3: FloatArray


def border_of(labels: npt.NDArray[Any], found: LabelStatistics, configurations: npt.NDArray[np.int64], affine: FloatArray) -> Border:
    """Return the borders of all labels (k,j,i) of a label map; `configurations` come from `label_configurations`."""
    from medseg.kernels.end_layers import end_layers
    from medseg.kernels.marching_cubes import face_counts

    faces = face_counts(configurations)
    areas = _face_areas_mm2(affine)
    cells = configurations[:, 1:255].sum(axis=1)
    rough = configurations[:, ~_cut_by_a_plane()].sum(axis=1)
    ends = end_layers(labels, found.numbers, found.first, found.last)
    extent = found.last - found.first + 1
    reach, in_step = _reach(ends, extent, areas, _layer_distances_mm(affine))
    return Border(
        faces_mm2=faces * areas,
        face_count=faces.sum(axis=1),
        roughness=(rough + _UNSEEN_FLIPS) / np.maximum(cells, 1),
        layers=extent.min(axis=1),
        reach_layers=reach,
        in_step=in_step,
        flat_ends=_flat_ends(ends, extent, found.border.reshape(-1, 3, 2) > 0),
    )


def volume_spread(
    voxels: npt.NDArray[np.int64],
    border: Border,
    affine: FloatArray,
    *,
    boundary_mm3: FloatArray | None = None,
    model_mm3: FloatArray | None = None,
) -> VolumeSpread:
    """Return the spread of the volumes of n labels of `voxels` (n,) voxels each.

    `boundary_mm3` (n,) is what class probabilities say of the border; the larger of it and the roughness counts. `model_mm3`
    (n,) is the spread between models. Both may hold NaN for "not known".
    """
    voxel_mm3 = abs(float(np.linalg.det(np.asarray(affine)[:3, :3])))
    volume = voxels * voxel_mm3
    area = border.faces_mm2.sum(axis=1) * (2 / 3)  # mean over directions: a face is 1.5 times as large as what it covers
    per_sum = area / (8 * math.pi**3)
    inner = 1 - 1 / np.maximum(border.layers, 1)  # a body of one layer has no steps that noise could blur
    stepped = per_sum * _lattice_sums(border, affine) / (1 + _FLIP_BLUR * border.roughness * inner**2) ** 2
    stepped = np.where(border.layers == 1, _ONE_LAYER_SD**2, 1.0) * stepped
    grid = np.sqrt(stepped + border.flat_ends * voxel_mm3**2)
    smooth = per_sum * lattice_sum(affine)
    flips = _FLIP_VARIANCE * border.roughness**_FLIP_POWER * border.face_count * voxel_mm3**2
    moved = np.zeros_like(volume) if boundary_mm3 is None else np.nan_to_num(boundary_mm3)
    rules = _rules_differ(border, affine)
    boundary = np.sqrt((_RULES_SD * rules) ** 2 * smooth + np.maximum(flips, moved**2))
    model = np.zeros_like(volume) if model_mm3 is None else np.nan_to_num(model_mm3)
    noise = _FLIP_SHIFT * border.roughness**_FLIP_SHIFT_POWER * inner**1.5
    centre = (_RULES_CENTRE * rules - noise) * np.sqrt(smooth) / volume + _few_layers_centre(border, np.sqrt(smooth) / volume)
    width, thinner = _WIDTH
    fitted = width - thinner * _thick_slices(affine) - _PAIR_THINNER * (border.layers == 2)
    half = fitted * Z_95 * np.sqrt(grid**2 + boundary**2 + model**2) / volume
    # on the log scale: no interval reaches 0, and a mask of few voxels may be far too small but not far too large
    # and none leaves out the counted volume: on thin and ragged bodies, unlike those it was fitted on, the shift may go too far
    low, high = np.minimum(centre - half, -_ROUNDING), np.maximum(centre + half, _ROUNDING)
    interval = volume[:, None] * np.exp(np.stack([low, high], axis=1))
    return VolumeSpread(grid, boundary, model, interval)


def _few_layers_centre(border: Border, smooth: FloatArray) -> FloatArray:
    """Return where the middle of the interval lies for bodies of one or two layers, on the log scale beside the counted volume.

    One layer that is wider than it is thick belongs to a body that reaches beyond it; two layers of a body that hardly reaches
    from one to the other each hold little of it.
    """
    reach = np.where(border.reach_layers > 0, border.reach_layers, np.inf).min(axis=1)
    one = _ONE_LAYER_SHIFT * smooth + _ONE_LAYER_WIDE * np.log(np.clip(reach, 1.0, 3.0))
    two = np.where(reach < _SHORT_REACH, _SHORT_SHIFT * smooth, 0.0)
    return np.where(border.layers == 1, one, np.where(border.layers == 2, two, 0.0))


def _lattice_sums(border: Border, affine: FloatArray) -> FloatArray:
    """Return the lattice sum for each label: the vectors across layers count by whether the errors of the two ends add up.

    Two ends at a distance of E layers have the covariance Σ cos(2πnE)/n⁴, which is a Bernoulli polynomial.
    """
    mean = lattice_sum(affine)
    part = border.reach_layers % 1.0
    together = -(math.pi**4) / 3 * (part**4 - 2 * part**3 + part**2 - 1 / 30)
    sums = mean + 2 * _IN_STEP * (border.in_step * together * _layer_distances_mm(affine) ** 4).sum(axis=1)
    return np.asarray(np.maximum(sums, _LEAST_SHARE * mean))


def _rules_differ(border: Border, affine: FloatArray) -> FloatArray:
    """Return how much of their usual difference the two rules for border voxels have: less in few thick slices.

    Along a column that is longer than a voxel both rules say the same.
    """
    at_none, per_layer = _FEW_LAYERS
    return np.asarray(1 - _thick_slices(affine) * (1 - np.minimum(1.0, at_none + per_layer * border.layers)))


def _thick_slices(affine: FloatArray) -> float:
    """Return 0 for cubic voxels and up to 1 for slices so thick that they alone decide the error."""
    one_axis = math.pi**4 / 45 * float(_layer_distances_mm(affine).max()) ** 4 / lattice_sum(affine)
    return min(1.0, max(0.0, (one_axis - _EVEN_SHARE) / (1 - _EVEN_SHARE)))


def _face_areas_mm2(affine: FloatArray) -> FloatArray:
    """Return the areas of the voxel faces across k, j and i."""
    steps = np.asarray(affine, np.float64)[:3, :3].T[::-1]
    return np.array([float(np.linalg.norm(np.cross(steps[a], steps[b]))) for a, b in ((1, 2), (2, 0), (0, 1))], np.float64)


def _layer_distances_mm(affine: FloatArray) -> FloatArray:
    """Return the distances of neighbouring layers of voxels along k, j and i."""
    return np.asarray(abs(np.linalg.det(np.asarray(affine, np.float64)[:3, :3])) / _face_areas_mm2(affine))


def half_voxel_shell_mm3(border: Border, voxel_mm3: float) -> FloatArray:
    """Return by how much each volume changes where the whole border moves by half a voxel (n,), the mean over directions."""
    return np.asarray(border.face_count * (voxel_mm3 / 3), np.float64)


def replicate_sd_mm3(volumes_mm3: Sequence[Sequence[float]]) -> FloatArray:
    """Return the standard deviation (n - 1) of each segment's volumes [replicate][segment]; NaN for fewer than two.

    >>> replicate_sd_mm3([[1000.0], [1100.0], [900.0]]).tolist()
    [100.0]
    """
    values = np.asarray(volumes_mm3, np.float64)
    return values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan)


def lattice_sum(affine: npt.ArrayLike) -> float:
    """Return Σ 1/|ξ|⁴ over the dual lattice (cycles per mm) of a voxel grid, in mm⁴, the origin left out.

    >>> round(lattice_sum(np.eye(3)), 1)
    16.5
    """
    return _lattice_sum(tuple(float(x) for x in np.asarray(affine, np.float64)[:3, :3].ravel()))


@lru_cache(maxsize=64)
def _lattice_sum(steps: tuple[float, ...]) -> float:
    """Sum the dual vectors up to a radius, and take those further out as spread evenly."""
    voxel = np.array(steps).reshape(3, 3)
    lengths = np.linalg.norm(voxel, axis=0)
    radius = _LATTICE_REACH / lengths.min()
    ranges = [np.arange(-n, n + 1) for n in np.ceil(radius * lengths).astype(int)]
    indices = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    squares = np.square(indices @ np.linalg.inv(voxel)).sum(axis=1)
    near = squares[(squares > 0) & (squares <= radius**2)]
    return float((1 / near**2).sum() + 4 * math.pi * abs(np.linalg.det(voxel)) / radius)


@lru_cache(maxsize=1)
def _cut_by_a_plane() -> npt.NDArray[np.bool_]:
    """Which of the 256 configurations of 2×2×2 voxels a plane makes: 104, all and nothing among them."""
    corners = np.array([[n >> 2, n >> 1 & 1, n & 1] for n in range(8)]) - 0.5
    one = np.arange(-3, 4)
    normals = np.stack(np.meshgrid(one, one, one, indexing="ij"), axis=-1).reshape(-1, 3)
    made = np.zeros(256, np.bool_)
    for heights in (normals @ corners.T).astype(np.float64):
        for limit in np.unique(heights):
            made[int(((heights >= limit) << np.arange(8)).sum())] = True
            made[int(((heights > limit) << np.arange(8)).sum())] = True
    return made


def _reach(
    ends: npt.NDArray[np.int64], extent: npt.NDArray[np.int64], areas_mm2: FloatArray, distances_mm: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return how many layers each body reaches across along k, j, i (n,3), and how far its two ends are alike (0: not known).

    Near its ends the area of a round body's layers is s·z - c·z² at a depth z. Two layers do not tell s and c: they are taken
    for those of a ball; a single one reaches at least as far as it is wide.
    """
    first, second = _end_depth(ends[:, :, 0], extent), _end_depth(ends[:, :, 1], extent)
    reach = extent - 1 + first[0] + second[0]
    alike = 2 * first[1] * second[1] / np.maximum(first[1] ** 2 + second[1] ** 2, 1e-12)
    is_round = (extent > 2) & (first[1] > 0) & (second[1] > 0) & (first[0] <= _FURTHEST_END) & (second[0] <= _FURTHEST_END)
    upper, lower = ends[:, :, 0, 0] * areas_mm2, ends[:, :, 1, 0] * areas_mm2
    height = (distances_mm**2 - (upper - lower) / math.pi) / (2 * distances_mm)  # of the ball's middle over the first layer
    ball = 2 * np.sqrt(np.maximum(upper / math.pi + height**2, 0)) / distances_mm
    disc = 2 * np.sqrt(upper / math.pi) / distances_mm
    guessed = np.where(extent == 1, disc, np.where(extent == 2, ball, 0.0))
    return np.where(is_round, reach, guessed), np.where(is_round, alike, np.where(extent == 2, _PAIR_KNOWN, 0.0))


def _end_depth(areas: npt.NDArray[np.int64], extent: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Return the depth of the last layer in layers (n,3) and the slope s there, from the areas of three layers (n,3,3)."""
    last, second, third = (areas[..., n].astype(np.float64) for n in range(3))
    curve = np.where(extent > 2, np.maximum(second - (third + last) / 2, 0.0), 0.0)
    step = second - last + curve
    depth = 2 * last / np.maximum(step + np.sqrt(step**2 + 4 * curve * last), 1e-12)
    return depth, second - last + curve * (2 * depth + 1)


def _flat_ends(ends: npt.NDArray[np.int64], extent: npt.NDArray[np.int64], is_cut: npt.NDArray[np.bool_]) -> FloatArray:
    """Variance in voxels² of ends that are flat along an axis: a flat end lies anywhere within its last layer.

    What the field of view cuts ends there exactly.
    """
    last, before = ends[..., 0], ends[..., 1]
    flat = np.maximum(0.0, last - _FLAT_GROWTH * (before - last))
    counts = (extent[:, :, None] >= _FLAT_LAYERS) & ~is_cut
    return np.asarray((flat**2 / 12 * counts).sum(axis=(1, 2)))
