"""Body, muscle envelope, skeleton and spine on the coarse grid (z,y,x)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.segmentation.classical.body_composition_grid import CoarseGrid, Mask
from medseg.segmentation.classical.body_composition_rules import Rules

OUTSIDE_AIR_HU = -940.0  # the air around a body has −1000 HU, a lung at full inspiration −880
OPEN_LUNG_RIM = 1.2  # a cut lung is walled in over more than the length of the cut
BLOCK_REACH = 1.01  # to the blocks that share a face
LIMB_BONE_HU = 200.0  # a breast or a fold of skin holds nothing as dense
LIMB_SHARE = 0.35  # of the largest part in its slice: an arm has a tenth of the trunk's section, two thighs are alike
LEAST_BONE_ML = 1.0  # a smaller piece is a calcification
LEAST_BONE_CM2 = 0.3  # in stacks so thin that no piece is large
LEAST_CORE_SHARE = 0.02  # of the largest piece: a muscle apart from the others in a thin stack counts, a lymph node does not
SPINE_BLUR_MM = (15.0, 10.0, 10.0)  # half a vertebra
SPINE_DENSITY = 0.3  # share of bone in such a neighbourhood; ribs and shoulder blades stay below
SPINE_OFFSET_MM = 50.0  # sideways from the middle of the body: scoliosis
CONTRAST_BLUR_MM = 3.0  # noise and the pattern of trabeculae are averaged over
CONTRAST_STEEPNESS = 8.0  # HU per mm: enhanced blood and kidneys stay below inside, marrow near its cortex does not
CONTRAST_RADIUS_MM = 6.0  # the rim around such an even core
CONTRAST_RIM = 0.1  # share of the rim that is clearly brighter: cortex around marrow, nothing around blood
CONTRAST_BRIGHTER_HU = 60.0


@dataclass(frozen=True)
class Skeleton:
    """Bone with its marrow as one solid, the dense voxels themselves, and the course of the spine (y and x per slice)."""

    solid: Mask
    dense: Mask
    spine_y: npt.NDArray[np.float64] | None
    spine_x: npt.NDArray[np.float64] | None


def fill_slices(mask: npt.NDArray[Any]) -> Mask:
    """Return the mask with the holes of each slice filled."""
    from medseg.kernels.components import fill_holes

    return fill_holes(mask, connectivity=6, axis=0).view(np.bool_)


def body_mask(grid: CoarseGrid, air_upper: float, rules: Rules) -> tuple[Mask, float]:
    """Return the body without couch and arms, gas inside it included, and the volume of the arms left out in ml."""
    from medseg.kernels.components import keep_largest
    from medseg.kernels.distance import dilate, open_

    tissue = grid.lowest >= air_upper  # blocks with a gap of air between skin and couch or arm do not connect them
    if not tissue.any():
        return np.zeros_like(tissue), 0.0
    body = fill_slices(_with_open_lungs(grid, keep_largest(tissue, connectivity=6).view(np.bool_)))
    body = open_(body, rules.couch_mm, grid.slice_spacing_mm).view(np.bool_) & body
    if not body.any():
        return body, 0.0
    body, arms = _without_arms(grid, keep_largest(body, connectivity=6).view(np.bool_), rules)
    skin = dilate(body, BLOCK_REACH * max(grid.spacing_mm[1:]), grid.slice_spacing_mm).view(np.bool_)
    return body | (skin & (grid.hu >= air_upper) & ~arms), float(arms.sum()) * grid.voxel_ml


def _with_open_lungs(grid: CoarseGrid, body: Mask) -> Mask:
    """Add lungs that the field of view cuts open on one side: not as dark as the air around a body, and mostly walled in."""
    from scipy import ndimage

    out = body.copy()
    for z in np.flatnonzero((body[:, [0, -1]].any(axis=(1, 2))) | body[:, :, [0, -1]].any(axis=(1, 2))):
        labels, count = ndimage.label(~body[z])
        sides = [np.bincount(side, minlength=count + 1) for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1])]
        for n in np.flatnonzero(np.sum(sides, axis=0)):
            if n == 0 or np.count_nonzero([side[n] for side in sides]) > 1:
                continue
            part = labels == n
            opening = max(side[n] for side in sides)
            rim = np.count_nonzero(ndimage.binary_dilation(part) & body[z])
            if rim > OPEN_LUNG_RIM * opening and float(np.median(grid.hu[z][part])) > OUTSIDE_AIR_HU:
                out[z] |= part
    return out


def _without_arms(grid: CoarseGrid, body: Mask, rules: Rules) -> tuple[Mask, Mask]:
    """Split off the arms: parts of a slice with bone, much smaller than the trunk, that touch it at most by the skin."""
    from scipy import ndimage

    from medseg.kernels.distance import distance_mm, erode

    apart = erode(body, rules.contact_mm, grid.slice_spacing_mm)
    arms = np.zeros_like(body)
    for z, plane in enumerate(apart):
        labels, count = ndimage.label(plane)
        if count < 2:
            continue
        size = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        has_bone = np.asarray(ndimage.maximum(grid.hu[z], labels, np.arange(1, count + 1))) > LIMB_BONE_HU
        arms[z] = np.isin(labels, np.flatnonzero(has_bone & (size < LIMB_SHARE * size.max())) + 1)
    if not arms.any():
        return body, arms
    trunk = apart.view(np.bool_) & ~arms
    to_arm, to_trunk = (distance_mm(~part, grid.slice_spacing_mm) for part in (arms, trunk))
    dropped = body & (to_arm < to_trunk)
    return body & ~dropped, dropped


def muscle_envelope(grid: CoarseGrid, body: Mask, soft_lower: float, air_upper: float, rules: Rules) -> Mask:
    """Return all that lies within the outer surface of the muscles: the body without skin and subcutaneous fat."""
    from medseg.kernels.components import label_components
    from medseg.kernels.distance import close, distance_mm

    deep = distance_mm(body, grid.spacing_mm, rules.core_depth_mm) > rules.core_depth_mm
    core = deep & ((grid.hu >= soft_lower) | (grid.hu < air_upper))
    labels, sizes = label_components(core, 6)
    if len(sizes) < 2:
        return np.zeros_like(body)
    core = (labels > 0) & (sizes[labels] >= LEAST_CORE_SHARE * sizes[1])
    return fill_slices(close(core, rules.envelope_mm, grid.slice_spacing_mm)) & body


def skeleton(grid: CoarseGrid, body: Mask, envelope: Mask, bone_lower: float, rules: Rules) -> Skeleton:
    """Return bones with their marrow, without vessels and organs filled with contrast medium."""
    from medseg.kernels.components import remove_small
    from medseg.kernels.distance import close

    dense = body & (grid.hu > bone_lower)
    dense &= ~_contrast_filled(grid, dense, bone_lower)
    least_ml = min(LEAST_BONE_ML, LEAST_BONE_CM2 * len(body) * grid.spacing_mm[0] / 10)
    dense = remove_small(dense, max(1, round(least_ml / grid.voxel_ml))).view(np.bool_)
    solid = fill_slices(close(dense, rules.bone_mm, grid.slice_spacing_mm))
    spine_y, spine_x = _spine(grid, fill_slices(close(dense, 2 * rules.bone_mm, grid.slice_spacing_mm)), envelope)
    if spine_y is not None and spine_x is not None:
        y, x = _offsets_mm(grid, spine_y, spine_x)
        column = close(dense, rules.spine_mm, grid.spacing_mm).view(np.bool_) & (y**2 + x**2 < rules.spine_reach_mm**2)
        solid |= fill_slices(column)
    return Skeleton(solid & body, dense, spine_y, spine_x)


def _offsets_mm(grid: CoarseGrid, spine_y: npt.NDArray[Any], spine_x: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """How far each voxel lies in front of the spine and beside it, broadcastable to (z,y,x)."""
    _, height, width = grid.hu.shape
    y = (np.arange(height)[None, :, None] - spine_y[:, None, None]) * grid.spacing_mm[1]
    x = (np.arange(width)[None, None, :] - spine_x[:, None, None]) * grid.spacing_mm[2]
    return y, x


def _contrast_filled(grid: CoarseGrid, dense: Mask, bone_lower: float) -> Mask:
    """Find blood, kidneys and bowel brightened by contrast medium: even inside and without a brighter rim."""
    from medseg.kernels.components import label_components
    from medseg.kernels.distance import dilate
    from medseg.kernels.filters import gaussian, gradient_magnitude

    blurred = gaussian(grid.hu, [CONTRAST_BLUR_MM / step for step in grid.spacing_mm])
    even = (blurred > bone_lower) & (gradient_magnitude(blurred, grid.spacing_mm) < CONTRAST_STEEPNESS) & dense
    labels, sizes = label_components(even, 6)
    out = np.zeros_like(dense)
    for n in range(1, len(sizes)):
        if sizes[n] * grid.voxel_ml < LEAST_BONE_ML:
            break
        core = labels == n
        inner, middle, outer = (dilate(core, CONTRAST_RADIUS_MM * n, grid.spacing_mm).view(np.bool_) for n in (0.5, 1, 2))
        rim = middle & ~inner
        is_bright = grid.hu > float(blurred[core].mean()) + CONTRAST_BRIGHTER_HU
        if (rim & is_bright).sum() < CONTRAST_RIM * rim.sum():
            near, _ = label_components(outer & dense & ~is_bright, 6)
            out |= (near > 0) & np.isin(near, near[core])
    return out


def _spine(grid: CoarseGrid, solid: Mask, envelope: Mask) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.float64] | None]:
    """Follow the greatest mass of bone near the middle of the body, in its back half; None where there is none."""
    from scipy import ndimage

    from medseg.kernels.filters import gaussian

    depth = len(solid)
    mass = gaussian(solid.view(np.uint8), [blur / step for blur, step in zip(SPINE_BLUR_MM, grid.spacing_mm, strict=True)])
    found_y, found_x = np.full(depth, np.nan), np.full(depth, np.nan)
    for z in np.flatnonzero(envelope.any(axis=(1, 2))):
        ys, xs = np.flatnonzero(envelope[z].any(axis=1)), np.flatnonzero(envelope[z].any(axis=0))
        middle, reach = (xs[0] + xs[-1]) / 2, SPINE_OFFSET_MM / grid.spacing_mm[2]
        first, last = max(0, int(middle - reach)), int(middle + reach) + 1
        part = mass[z, : int((ys[0] + ys[-1]) / 2 + 20 / grid.spacing_mm[1]) + 1, first:last]
        y, x = np.unravel_index(int(part.argmax()), part.shape)
        if part[y, x] > SPINE_DENSITY:
            found_y[z], found_x[z] = y, x + first
    known = np.flatnonzero(np.isfinite(found_y))
    if len(known) == 0:
        return None, None
    window = 2 * (grid.voxels(SPINE_BLUR_MM[0], 0) // 2) + 1
    course = [ndimage.median_filter(found[known], window, mode="nearest") for found in (found_y, found_x)]
    y, x = (np.interp(np.arange(depth), known, values) for values in course)
    return y, x
