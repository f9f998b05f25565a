"""Patches to learn clicks from: a turned, scaled, recoloured piece of a case, and clicks as a user would set them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from click_cases import Case
from scipy import ndimage
from torch.nn import functional

from medseg.segmentation.learned.prompt.channels import RegionPrompts

FloatArray = npt.NDArray[np.float32]
FINEST_MM, COARSEST_MM = 0.5, 8.0
LEAST_TARGET_VOXELS = 60


@dataclass(frozen=True, eq=False)
class Patch:
    """A piece of a scan (K,J,I) and the mask of one structure in it."""

    image: FloatArray
    target: npt.NDArray[np.bool_]


def draw_patch(cases: list[Case], size: int, random: np.random.Generator) -> Patch:
    """Draw a case, a structure of it and a piece in which that structure fills a fifth of each side up to more than all."""
    weights = np.array([case.weight for case in cases])
    while True:
        case = cases[random.choice(len(cases), p=weights / weights.sum())]
        number = int(random.choice(list(case.structures)))
        patch = _cut(case, number, size, random)
        if LEAST_TARGET_VOXELS <= np.count_nonzero(patch.target) <= 0.7 * size**3:
            return Patch(recoloured(patch.image, random), patch.target)


def _cut(case: Case, number: int, size: int, random: np.random.Generator) -> Patch:
    mask = np.equal(case.labels.T, number)
    spacing = np.asarray(case.geometry.spacing_mm[::-1])
    low, high = _box(mask)
    extent_mm = float(((high - low) * spacing).max())
    share = float(random.uniform(0.2, 0.9)) if random.random() < 0.75 else float(random.uniform(0.9, 1.8))
    finest = max(FINEST_MM, 0.5 * float(spacing.min()))
    spacing_mm = float(np.clip(extent_mm / (size * share), finest, COARSEST_MM))
    inside = np.argwhere(mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])
    anywhere = low + inside[random.integers(len(inside))]
    middle = anywhere if random.random() < 0.5 else (low + high - 1) / 2
    centre = middle + random.uniform(-0.1, 0.1, 3) * size * spacing_mm / spacing
    turn = _rotation(random) if random.random() < 0.5 else np.diag(random.choice([-1.0, 1.0], 3))[random.permutation(3)]
    # how far one voxel of the patch goes, in voxels of the scan
    step = turn * spacing_mm / spacing[:, None]
    reach = np.abs(step).sum(axis=1) * size / 2 + 2
    first = np.clip(np.floor(centre - reach).astype(int), 0, np.asarray(mask.shape) - 1)
    last = np.clip(np.ceil(centre + reach).astype(int), first + 1, mask.shape)
    box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    image = case.scan.array.T[box].astype(np.float32)
    filling = float(np.percentile(image[::2, ::2, ::2], 0.5)) if image.size else 0.0
    pool = tuple(max(1, int(spacing_mm / s)) for s in spacing)
    values = _sample(image - filling, step, centre - first, size, pool) + filling
    target = _sample(mask[box].astype(np.float32), step, centre - first, size, pool)
    return Patch(values, target > 0.5)


def _sample(image: FloatArray, step: Any, centre: Any, size: int, pool: tuple[int, ...]) -> FloatArray:
    """Read a cube linearly at `centre` + `step` @ (voxel - middle); what is coarser than the scan is averaged first."""
    tensor = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    if max(pool) > 1:
        tensor = functional.avg_pool3d(tensor, [min(p, n) for p, n in zip(pool, image.shape, strict=True)])
    factor = np.array([min(p, n) for p, n in zip(pool, image.shape, strict=True)], dtype=float)
    moved = (np.asarray(centre) - (factor - 1) / 2) / factor
    extents = np.array(tensor.shape[2:], dtype=float)
    # grid_sample wants (i,j,k) positions from -1 to 1 over the outer faces of the voxels
    scale = 2 / extents
    matrix = (np.asarray(step) / factor[:, None]) * scale[:, None] * (size / 2)
    offset = (moved + 0.5) * scale - 1
    theta = np.concatenate([matrix[::-1, ::-1], offset[::-1, None]], axis=1)
    grid = functional.affine_grid(torch.from_numpy(theta.astype(np.float32))[None], [1, 1, size, size, size], align_corners=False)
    return np.asarray(functional.grid_sample(tensor, grid, align_corners=False)[0, 0].numpy())


def _rotation(random: np.random.Generator) -> npt.NDArray[np.float64]:
    q, r = np.linalg.qr(random.normal(size=(3, 3)))
    return np.asarray(q * np.sign(np.diag(r)))


def _box(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    spans = []
    for axis in range(3):
        held = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        spans.append((held[0], held[-1] + 1))
    return np.array([a for a, _ in spans]), np.array([b for _, b in spans])


def recoloured(image: FloatArray, random: np.random.Generator) -> FloatArray:
    """Return the image as another scanner, sequence or contrast might show it."""
    low, high = np.percentile(image, (0.5, 99.5))
    if not high > low:
        return image
    x = np.clip((image - low) / (high - low), -0.2, 1.2).astype(np.float32)
    if random.random() < 0.35:  # another contrast: intensities mapped by a curve through chance points
        knots = np.sort(random.uniform(0, 1, 5))
        x = np.interp(x, [-0.2, *knots, 1.2], random.uniform(0, 1, 7)).astype(np.float32) + 0.15 * x
    elif random.random() < 0.3:
        x = 1 - x
    if random.random() < 0.3:
        x = np.sign(x) * np.abs(x) ** np.float32(math.exp(random.uniform(-0.5, 0.5)))
    if random.random() < 0.3:
        x = x * np.exp(_smooth_field(x.shape[0], random) * np.float32(random.uniform(0, 0.5)))
    if random.random() < 0.2:
        x = ndimage.gaussian_filter(x, float(random.uniform(0.4, 1.2)))
    if random.random() < 0.2:  # thick slices
        axis, factor = int(random.integers(3)), int(random.integers(2, 5))
        x = np.take(x, np.arange(x.shape[axis]) // factor * factor, axis=axis)
    if random.random() < 0.6:
        x = x + np.float32(random.exponential(0.03)) * random.standard_normal(x.shape, dtype=np.float32)
    return np.ascontiguousarray(x, dtype=np.float32)


def _smooth_field(size: int, random: np.random.Generator) -> FloatArray:
    coarse = torch.from_numpy(random.standard_normal((1, 1, 3, 3, 3)).astype(np.float32))
    return np.asarray(functional.interpolate(coarse, size=(size,) * 3, mode="trilinear", align_corners=True)[0, 0].numpy())


def interior_point(mask: npt.NDArray[np.bool_], random: np.random.Generator, depth: float = 1.0) -> npt.NDArray[np.float64]:
    """Return a voxel of the mask; the deeper inside, the likelier (`depth` 0: all alike)."""
    inside = np.argwhere(mask)
    if depth == 0:
        return np.asarray(inside[random.integers(len(inside))], np.float64)
    distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1, 1:-1][mask]
    odds = distance**depth
    return np.asarray(inside[random.choice(len(inside), p=odds / odds.sum())], np.float64)


def first_prompts(target: npt.NDArray[np.bool_], random: np.random.Generator) -> RegionPrompts:
    """Return what a user begins with: mostly one click inside, at times a box, clicks outside or a mask to refine."""
    inside, outside, boxes, previous = np.empty((0, 3)), np.empty((0, 3)), np.empty((0, 2, 3)), None
    kind = random.random()
    if kind < 0.15:
        low, high = _box(target)
        slack = 0.08 * (high - low) + 1
        boxes = np.stack([low - random.uniform(-0.3, 1, 3) * slack, high - 1 + random.uniform(-0.3, 1, 3) * slack])[None]
    elif kind < 0.25:
        previous = distorted(target, random)
    if kind >= 0.25 or (len(boxes) and random.random() < 0.4):
        inside = interior_point(target, random, float(random.choice([0.0, 1.0, 2.0])))[None]
    if random.random() < 0.15:
        rim = ndimage.binary_dilation(target, iterations=6) & ~ndimage.binary_dilation(target, iterations=1)
        if rim.any():
            outside = interior_point(rim, random, 0.0)[None]
    return RegionPrompts(inside, outside, boxes, previous)


def distorted(target: npt.NDArray[np.bool_], random: np.random.Generator) -> FloatArray:
    """Return a worse version of a mask: shifted, grown or shrunk, with a piece missing or added, soft at the edge."""
    mask = np.roll(target, random.integers(-3, 4, 3), axis=(0, 1, 2)).astype(np.float32)
    field = _smooth_field(mask.shape[0], random)
    soft = ndimage.gaussian_filter(mask, float(random.uniform(0.5, 3)))
    return np.asarray(1 / (1 + np.exp(-8 * (soft - 0.5 + 0.25 * field))), np.float32)


def next_prompts(
    prompts: RegionPrompts, probability: FloatArray, target: npt.NDArray[np.bool_], random: np.random.Generator
) -> RegionPrompts | None:
    """Return the prompts with a further click in the largest error, and the mask found so far; None where there is no error."""
    found = probability > 0.5
    wrong = found != target
    pieces, count = ndimage.label(wrong)
    if not count:
        return None
    largest = pieces == np.argmax(np.bincount(pieces.ravel())[1:]) + 1
    point = interior_point(largest, random, 2.0)
    missed = bool(target[tuple(point.astype(int))])
    inside = np.concatenate([prompts.inside, point[None]]) if missed else prompts.inside
    outside = prompts.outside if missed else np.concatenate([prompts.outside, point[None]])
    return RegionPrompts(inside, outside, prompts.boxes, probability)
