"""From the surface of a lesion to its voxels: the half-way intensity near the surface, or a region grown level by level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medseg.preprocessing.crop import Box
from medseg.segmentation.classical.click_scan import ClickScan, box_around, factors_for, patch, steps_per_mm
from medseg.segmentation.classical.click_surface import Candidate, Rules
from medseg.segmentation.classical.watershed import gradient_magnitude_mm

BAND = 0.35  # share of the radius within which the border may move
REFINE_SMOOTHING_MM = 0.6
MASK_SMOOTHING_VOXELS = 0.7  # of the mask at least, ...
MASK_SMOOTHING = 0.07  # ... and this share of the radius: no threads of voxels that happen to look alike
CONTRAST_CAP = 1.5  # contrasts count up to this many times the median of all rays
GROWTH_MM = 45.0  # a region grown by levels stays within this distance of the click
GROWTH_VOXEL_MM = 1.2  # smaller voxels are taken together
GROWTH_SMOOTHING_MM = 0.7
GROWN_CONTRAST = 2.0  # deviations by which a grown region must differ from its surroundings
GROWN_BETTER = 1.3  # a grown region must stand out this many times more than the surface
GROWN_OFF = 0.5  # and its middle lie within this share of its radius from the click


@dataclass(frozen=True)
class Found:
    """Voxels of a lesion: a mask (k,j,i) of the box `slices` (k,j,i) of the scan; `grown`: not from the surface."""

    slices: tuple[slice, slice, slice]
    mask: npt.NDArray[np.uint8]
    grown: bool = False


def refined(scan: ClickScan, surface: Candidate, click: tuple[int, int, int], rules: Rules) -> Found:
    """Return the voxels within a surface, the border moved to where the intensity is half-way between inside and outside."""
    from medseg.kernels.star_surface import fill_star, sample_rays, smooth_over_rays, sphere

    ball, geometry = sphere(2), scan.volume.geometry
    box = box_around(geometry, surface.centre_mm, float(surface.radii_mm.max()) * (1 + BAND) + 2.0)
    near = patch(scan.volume, box, (1, 1, 1), scan.values, REFINE_SMOOTHING_MM)
    image = near.image
    centre = near.geometry.world_to_index(surface.centre_mm)[::-1].copy()
    steps = steps_per_mm(near.geometry, ball.directions)

    def at(first: float, last: float) -> npt.NDArray[np.float32]:
        shares = np.linspace(first, last, 6)
        values = np.empty((len(steps), shares.size), np.float32)
        sample_rays(image, centre, steps, surface.radii_mm[:, None] * shares, values, 0)
        return smooth_over_rays(values.mean(axis=1, keepdims=True), ball.neighbours)  # type: ignore[no-any-return]

    inner = smooth_over_rays(at(0.55, 0.88), ball.neighbours)[:, 0].astype(np.float64)
    change = at(1.1, 1.35)[:, 0] - inner
    cap = CONTRAST_CAP * float(np.median(np.abs(change)))
    change = np.clip(change, -cap, cap)
    seen = np.square(change / surface.deviation)
    trust = np.where(change * rules.polarity < 0, 0.0, seen / (1 + seen))
    rays = np.stack([surface.radii_mm, inner, inner + change, trust], axis=1)
    to_mm = np.ascontiguousarray(near.geometry.affine[:3, 2::-1])
    mask = fill_star(image, to_mm, centre, ball, rays, rules.pull, BAND)
    spread = np.maximum(MASK_SMOOTHING_VOXELS, MASK_SMOOTHING * surface.size_mm / np.array(geometry.spacing_mm[::-1]))
    return _finished(scan, box, mask, click, spread)


def _finished(
    scan: ClickScan, box: Box, mask: npt.NDArray[np.uint8], click: tuple[int, int, int], spread: npt.NDArray[np.float64] | None = None
) -> Found:
    """Smooth the mask (by `spread` voxels (k,j,i)), keep what is connected to the click, fill holes, leave out what is not finite."""
    from scipy import ndimage

    if min(mask.shape) > 2:
        mask = ndimage.gaussian_filter(mask.astype(np.float32), MASK_SMOOTHING_VOXELS if spread is None else spread, mode="nearest") > 0.5
    labels, _ = ndimage.label(mask)
    at = tuple(int(np.clip(c - s, 0, n - 1)) for c, s, n in zip(click[::-1], box.start[::-1], mask.shape, strict=True))
    if labels[at]:
        mask = labels == labels[at]
    mask = ndimage.binary_fill_holes(mask)
    slices = box.slices[::-1]
    part = scan.volume.array.T[slices]
    if part.dtype.kind == "f":
        mask &= np.isfinite(part)
    return Found(slices, mask.astype(np.uint8), grown=spread is None)


def grown_region(scan: ClickScan, surface: Found, click: tuple[int, int, int], polarity: int) -> Found:
    """Return the region around the click whose border is steepest, if it stands out more than the surface; else that."""
    from medseg.kernels.level_growth import LEVELS, grow_over_levels

    geometry = scan.volume.geometry
    box = box_around(geometry, geometry.index_to_world(click), min(GROWTH_MM, float(scan.grid[-1])))
    factors = factors_for(geometry, GROWTH_VOXEL_MM)
    near = patch(scan.volume, box, factors, scan.values, GROWTH_SMOOTHING_MM)
    start = tuple((c - s) // f for c, s, f in zip(click[::-1], box.start[::-1], factors[::-1], strict=True))
    gradient = gradient_magnitude_mm(near.image, near.geometry)
    level = float(np.median(near.image[tuple(slice(max(n - 1, 0), n + 2) for n in start)]))
    thinned = tuple(slice(0, None, factor) for factor in factors[::-1])
    best, best_value = surface, max(GROWN_CONTRAST, GROWN_BETTER * _contrast(near.image, _within(box, surface)[thinned]))
    for sign in (1, -1) if polarity == 0 else (-polarity,):
        far = float(np.percentile(near.image[::2, ::2, ::2], 10 if sign > 0 else 90))
        if (level - far) * sign <= 0:
            continue
        keys = np.clip((level - near.image) / (level - far) * LEVELS, 0, 255)
        grown = grow_over_levels(np.where(keys < LEVELS, keys, 255).astype(np.uint8), gradient, (start[0], start[1], start[2]))
        size_mm = np.cbrt(grown.voxels * near.geometry.voxel_volume_mm3 * 0.75 / np.pi)
        offset = (grown.centre - start)[:, ::-1] @ near.geometry.affine[:3, :3].T
        good = ~grown.at_edge & (grown.voxels >= 8) & (np.linalg.norm(offset, axis=1) <= GROWN_OFF * size_mm)
        if not good.any():
            continue
        chosen = int(np.where(good, grown.border, -1).argmax())
        region = (grown.joined <= chosen).astype(np.uint8)
        value = _contrast(near.image, region)
        if value > best_value:
            best, best_value = _finished(scan, box, _in_voxels(region, factors[::-1], box), click), value
    return best


def _in_voxels(region: npt.NDArray[np.uint8], factors: tuple[int, ...], box: Box) -> npt.NDArray[np.uint8]:
    """A mask in larger voxels on the voxels of the box."""
    for axis, factor in enumerate(factors):
        if factor > 1:
            region = region.repeat(factor, axis=axis)
    k, j, i = box.shape[::-1]
    return np.ascontiguousarray(region[:k, :j, :i])


def _within(box: Box, found: Found) -> npt.NDArray[np.uint8]:
    """The part of a mask that lies in a box, on that box."""
    out = np.zeros(box.shape[::-1], np.uint8)
    here, there = [], []
    for start, stop, part in zip(box.start[::-1], box.stop[::-1], found.slices, strict=True):
        first, last = max(start, part.start), min(stop, part.stop)
        here.append(slice(first - start, max(last, first) - start))
        there.append(slice(first - part.start, max(last, first) - part.start))
    out[tuple(here)] = found.mask[tuple(there)]
    return out


def _contrast(image: npt.NDArray[np.float32], mask: npt.NDArray[np.uint8]) -> float:
    """Difference of the means inside and in a shell of two voxels, in deviations of the inside."""
    from scipy import ndimage

    inside = mask.astype(bool)
    shell = ndimage.binary_dilation(inside, iterations=2) & ~inside
    if inside.sum() < 2 or not shell.any():
        return 0.0
    return float(abs(image[inside].mean() - image[shell].mean()) / max(float(image[inside].std()), 1e-9))
