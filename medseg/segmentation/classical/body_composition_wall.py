"""Where the wall of the trunk ends and its cavity begins, on the coarse grid (z,y,x).

Muscles and organs have the same Hounsfield units; only the place tells them apart. Wherever fat, gas, lung or the inside
of a rib shows the inner surface of the wall, its depth below the outer surface is the thickness of the wall there. Where
an organ lies against the wall nothing shows, and the thickness is that of the surroundings. Behind the front of the
spine the same is done column by column from back to front, for the muscles of the back are thicker than any wall.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.segmentation.classical.body_composition_grid import CoarseGrid, FloatImage, Mask
from medseg.segmentation.classical.body_composition_regions import Skeleton
from medseg.segmentation.classical.body_composition_rules import Rules

NOTHING = np.float32(1e9)
LUNG_UPPER_HU = -500.0  # aerated lung lies below
LUNG_LOWER_HU = -960.0  # the median of a lung, even an emphysematous one, lies above; bowel gas has −1000 HU
LEAST_LUNG_ML = 50.0
SCALES = 5  # each twice as coarse as the one before: from a rib to the whole trunk
ENOUGH = 0.25  # share of the surface that must show its thickness before a scale is used
ROUNDS = 3  # of weighing down what is thicker than its surroundings
UNKNOWN_MM = 20.0  # thickness where nothing shows it anywhere: the flank of a healthy adult (doi:10.1016/j.pmrj.2013.03.003)
AWAY_MM = 30.0  # slices farther than this from any sign of the cavity show limbs or neck: all of them is wall
SPINE_BOX_MM = (40.0, 30.0)  # half the depth and width of a vertebra without its transverse processes
PSOAS_TOUCH_MM = 6.0  # psoas springs from the vertebrae; kidney and bowel mostly keep more fat between
PSOAS_INNER_MM = 15.0  # nearer to the midline lies the vertebra itself
PSOAS_FRONT_MM = 10.0  # it bulges as far in front of the lower lumbar vertebrae
PSOAS_SHARE = 0.75  # of a piece that must lie where psoas is
FRONT_MM = 12.0  # half the width over which the front of the vertebral bodies is looked for


def wall_mask(grid: CoarseGrid, tissue: dict[str, Mask], bones: Skeleton, rules: Rules) -> tuple[Mask, Mask]:
    """Return the wall (muscles, ribs and spine within the envelope) and what shows the cavity.

    `tissue` holds the masks envelope, fat, gas and soft (of the density of muscle).
    """
    from scipy import ndimage

    from medseg.kernels.distance import distance_mm

    envelope = tissue["envelope"]
    if not envelope.any() or envelope.all():
        return envelope.copy(), np.zeros_like(envelope)
    depth = distance_mm(envelope, grid.spacing_mm)
    beside = _beside_spine(grid, bones, rules)
    shown = _cavity_signs(grid, tissue, depth, beside, rules)
    if not shown.any():
        return envelope.copy(), shown
    thickness = _thickness(grid, (envelope, shown, tissue["gas"]), bones, depth, rules)
    wall = envelope & (depth <= thickness)
    if beside is not None and bones.spine_y is not None and bones.spine_x is not None:
        front = _front_of_spine(grid, bones)
        wall = (wall & ~beside) | _back_wall(grid, envelope, shown, bones, front, rules)
        wall |= envelope & _psoas(grid, tissue, wall, bones, front, rules)
    reach = grid.voxels(AWAY_MM, 0)
    near = ndimage.binary_dilation(shown.any(axis=(1, 2)), iterations=reach) if reach else shown.any(axis=(1, 2))
    wall[~near] = envelope[~near]
    return wall, shown


def _offset_y(grid: CoarseGrid, bones: Skeleton) -> npt.NDArray[np.float64]:
    """How far in front of the spine each (z,y) lies, in mm."""
    assert bones.spine_y is not None
    return (np.arange(grid.hu.shape[1])[None, :] - bones.spine_y[:, None]) * grid.spacing_mm[1]


def _offset_x(grid: CoarseGrid, bones: Skeleton) -> npt.NDArray[np.float64]:
    """How far to the right of the spine each (z,x) lies, in mm."""
    assert bones.spine_x is not None
    return (np.arange(grid.hu.shape[2])[None, :] - bones.spine_x[:, None]) * grid.spacing_mm[2]


def _beside_spine(grid: CoarseGrid, bones: Skeleton, rules: Rules) -> Mask | None:
    """The compartment of the back muscles: behind the middle of the vertebrae and near the midline."""
    if bones.spine_y is None:
        return None
    behind = _offset_y(grid, bones) < 0
    near = np.abs(_offset_x(grid, bones)) < rules.back_mm
    return np.asarray(behind[:, :, None] & near[:, None, :])


def _cavity_signs(grid: CoarseGrid, tissue: dict[str, Mask], depth: npt.NDArray[Any], beside: Mask | None, rules: Rules) -> Mask:
    """Fat and gas of the cavity: connected with what lies deep, by more than a seam between muscles."""
    from medseg.kernels.components import label_components
    from medseg.kernels.distance import dilate, open_

    loose = tissue["envelope"] & (tissue["fat"] | tissue["gas"])
    opened = open_(loose, rules.seam_mm, grid.spacing_mm).view(np.bool_) & loose
    deep = opened & (depth > rules.deep_mm)
    if beside is not None:
        deep &= ~beside
    labels, sizes = label_components(opened, 26)
    is_cavity = np.zeros(len(sizes), np.bool_)
    is_cavity[np.unique(labels[deep])] = True
    is_cavity[0] = False
    return np.asarray(loose & dilate(is_cavity[labels], rules.seam_mm, grid.spacing_mm).view(np.bool_))


def _surface_cells(grid: CoarseGrid, envelope: Mask, rules: Rules) -> tuple[npt.NDArray[np.int32], tuple[int, ...], list[float]]:
    """The cell of the outer surface nearest to each voxel, the shape of the grid of cells, and `smooth_mm` in cells."""
    from scipy import ndimage

    steps = [max(1, round(rules.smooth_mm / step)) for step in grid.spacing_mm]
    shape = tuple(-(-length // step) for length, step in zip(envelope.shape, steps, strict=True))
    # distances are not asked for here: scipy would need 50 bytes a voxel for them
    foot = ndimage.distance_transform_edt(envelope, sampling=grid.spacing_mm, return_distances=False, return_indices=True)
    cell = np.zeros(envelope.shape, np.int32)
    for index, step, length in zip(foot, steps, shape, strict=True):
        cell *= length
        cell += np.floor_divide(index, step, out=index)
    return cell, shape, [rules.smooth_mm / (step * count) for step, count in zip(grid.spacing_mm, steps, strict=True)]


def _thickness(grid: CoarseGrid, masks: tuple[Mask, Mask, Mask], bones: Skeleton, depth: FloatImage, rules: Rules) -> npt.NDArray[Any]:
    """The thickness of the wall, in mm, at the point of the outer surface that is nearest to each voxel.

    The surface is cut into cells of about `smooth_mm`; each keeps the least depth at which the cavity shows.
    """
    envelope, shown, gas = masks
    cell, shape, scale = _surface_cells(grid, envelope, rules)
    half = float(np.mean(grid.spacing_mm[1:])) / 2

    first = _least(cell, shown, depth, shape)
    lung = _least(cell, shown & _lung(grid, gas), depth, shape)
    rib = -_least(cell, _ribs(grid, bones) & envelope & (depth < rules.bony_wall_mm), -depth, shape)
    shows = (first < rules.wall_mm) | ((lung <= first) & (lung < rules.bony_wall_mm))
    by_rib = (rib > -NOTHING) & ~(shows & (first <= rib + 2 * half))
    value = np.where(by_rib, rib + half, np.where(shows, first - half, 0)).astype(np.float32)
    on_surface = np.zeros(shape, np.float32)
    on_surface.flat[np.unique(cell[envelope])] = 1
    known = np.where(shows | by_rib, on_surface, 0).astype(np.float32)
    smooth = _robust_mean(value, known, on_surface, scale, rules.outlier_mm)
    return np.asarray(smooth.reshape(-1)[cell])


def _least(cell: npt.NDArray[np.int32], mask: Mask, value: npt.NDArray[Any], shape: tuple[int, ...]) -> FloatImage:
    """The least value of the voxels of a mask in each cell."""
    out = np.full(int(np.prod(shape)), NOTHING, np.float32)
    np.minimum.at(out, cell[mask], value[mask].astype(np.float32))
    return out.reshape(shape)


def _lung(grid: CoarseGrid, gas: Mask) -> Mask:
    """Large pieces of gas that are not as dark as bowel gas."""
    from scipy import ndimage

    from medseg.kernels.components import label_components

    labels, sizes = label_components(gas & (grid.hu < LUNG_UPPER_HU), 6)
    large = np.flatnonzero(sizes[1:] * grid.voxel_ml >= LEAST_LUNG_ML) + 1
    if len(large) == 0:
        return np.zeros_like(gas)
    middle = np.atleast_1d(ndimage.median(grid.hu, labels, large))
    return np.isin(labels, large[middle > LUNG_LOWER_HU])


def _ribs(grid: CoarseGrid, bones: Skeleton) -> Mask:
    """All bones but the spine."""
    if bones.spine_y is None:
        return bones.solid
    in_y = np.abs(_offset_y(grid, bones)) < SPINE_BOX_MM[0]
    in_x = np.abs(_offset_x(grid, bones)) < SPINE_BOX_MM[1]
    return np.asarray(bones.solid & ~(in_y[:, :, None] & in_x[:, None, :]))


def _robust_mean(value: FloatImage, known: FloatImage, domain: FloatImage, scale: Sequence[float], tolerance: float) -> FloatImage:
    """Smooth what is known and spread it where nothing is; what exceeds its surroundings by more than `tolerance` counts less."""
    weight = known
    for _ in range(ROUNDS):
        mean = _spread(value, weight, domain, scale)
        excess = np.maximum(value - mean, 0) / np.float32(tolerance)
        weight = known / (1 + excess * excess)
    return _spread(value, weight, domain, scale)


def _spread(value: FloatImage, weight: FloatImage, domain: FloatImage, scale: Sequence[float]) -> FloatImage:
    """Normalised convolution at the finest scale at which enough of the domain is known."""
    from medseg.kernels.filters import gaussian

    out = np.full(value.shape, np.nan, np.float32)
    for n in range(SCALES):
        sigma = [step * 2**n for step in scale]
        total, support, extent = (gaussian(image, sigma, 3.0) for image in (value * weight, weight, domain))
        ready = np.isnan(out) & (support > ENOUGH * extent) & (support > 1e-6)
        out[ready] = total[ready] / support[ready]
    rest = np.isnan(out)
    out[rest] = np.average(value, weights=weight) if weight.sum() > 0 else UNKNOWN_MM
    return out


def _back_wall(grid: CoarseGrid, envelope: Mask, shown: Mask, bones: Skeleton, front: npt.NDArray[np.float64], rules: Rules) -> Mask:
    """The back muscles: in each column from back to front, what lies before the first sign of the cavity."""
    offset_y = _offset_y(grid, bones)
    beside = np.abs(_offset_x(grid, bones)) < rules.back_mm
    signs = shown & ~bones.solid
    first = np.take_along_axis(offset_y, signs.argmax(axis=1), axis=1) - grid.spacing_mm[1] / 2
    shows = beside & signs.any(axis=1) & (first < front[:, None])
    ribs = _ribs(grid, bones) & (offset_y < 0)[:, :, None]
    last = offset_y.shape[1] - 1 - ribs[:, ::-1].argmax(axis=1)
    inside = np.take_along_axis(offset_y, last, axis=1) + grid.spacing_mm[1] / 2
    by_rib = beside & ribs.any(axis=1) & ~(shows & (first <= inside + grid.spacing_mm[1]))
    value = np.where(by_rib, inside, np.where(shows, first, 0)).astype(np.float32)
    scale = [rules.smooth_mm / grid.spacing_mm[0], 0.0, rules.smooth_mm / grid.spacing_mm[2]]
    known = (shows | by_rib).astype(np.float32)
    surface = _spread(value[:, None], known[:, None], beside[:, None].astype(np.float32), scale)[:, 0]
    if not known.any():
        surface[:] = 0
    return np.asarray(envelope & beside[:, None, :] & (offset_y[:, :, None] <= surface[:, None, :]))


def _front_of_spine(grid: CoarseGrid, bones: Skeleton) -> npt.NDArray[np.float64]:
    """How far the vertebral bodies reach in front of the middle of the spine, in mm per slice."""
    from scipy import ndimage

    offset_y = _offset_y(grid, bones)
    middle = np.abs(_offset_x(grid, bones)) < FRONT_MM
    held = (bones.solid & middle[:, None, :]).any(axis=2) & (np.abs(offset_y) < SPINE_BOX_MM[0])
    last = held.shape[1] - 1 - held[:, ::-1].argmax(axis=1)
    front = np.take_along_axis(offset_y, last[:, None], axis=1)[:, 0]
    known = np.flatnonzero(held.any(axis=1))
    if len(known) == 0:
        return np.zeros(len(held))
    window = 2 * (grid.voxels(AWAY_MM, 0) // 2) + 1
    return np.interp(np.arange(len(held)), known, ndimage.median_filter(front[known], window, mode="nearest"))


def _psoas(grid: CoarseGrid, tissue: dict[str, Mask], wall: Mask, bones: Skeleton, front: npt.NDArray[np.float64], rules: Rules) -> Mask:
    """The psoas: soft tissue inside the wall and beside the lumbar vertebrae that touches them, slice by slice.

    A piece that reaches far beyond that place is an organ (liver, aorta, a kidney that lies against the psoas).
    """
    from scipy import ndimage

    from medseg.kernels.distance import dilate, open_

    offset_y, offset_x = _offset_y(grid, bones), np.abs(_offset_x(grid, bones))
    below_lungs = np.cumsum(_lung(grid, tissue["gas"]).any(axis=(1, 2))) == 0
    level = (offset_y > -SPINE_BOX_MM[0]) & (offset_y < front[:, None] + PSOAS_FRONT_MM) & below_lungs[:, None]
    column = level[:, :, None] & (offset_x < SPINE_BOX_MM[1])[:, None, :]
    zone = level[:, :, None] & ((offset_x < rules.psoas_mm) & (offset_x > PSOAS_INNER_MM))[:, None, :]
    soft = tissue["soft"] & tissue["envelope"] & ~wall & ~bones.solid
    opened = open_(soft, rules.seam_mm, grid.slice_spacing_mm).view(np.bool_) & soft
    near = dilate(bones.solid & column, PSOAS_TOUCH_MM, grid.slice_spacing_mm).view(np.bool_)
    kept = np.zeros_like(soft)
    for z in np.flatnonzero((opened & near & zone).any(axis=(1, 2))):
        labels, count = ndimage.label(opened[z])
        size, inside = (np.bincount(labels[part], minlength=count + 1) for part in (opened[z], opened[z] & zone[z]))
        touches = np.unique(labels[near[z] & zone[z] & opened[z]])
        kept[z] = zone[z] & np.isin(labels, touches[inside[touches] >= PSOAS_SHARE * size[touches]])
    return np.asarray(soft & zone & dilate(kept, rules.seam_mm, grid.slice_spacing_mm).view(np.bool_))
