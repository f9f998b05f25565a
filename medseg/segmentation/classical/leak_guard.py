"""Where a region leaks: through a passage that is narrow and behind which it widens again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_LISTED = 20  # leaks that are told; smaller ones are cut too

Mask = npt.NDArray[np.uint8]


class Leak(NamedTuple):
    """A part that was cut off: the widest voxel (k,j,i) of the cut, the width of the passage there, and its voxels."""

    voxel: tuple[int, ...]
    width_mm: float
    voxels: int


def cut_leaks(
    mask: Mask, seeds: npt.NDArray[np.int64], spacing_mm: Sequence[float], neck_mm: float, widening: float
) -> tuple[Mask, list[Leak]]:
    """Return the mask (k,j,i) without what lies behind necks as seen from the seeds (k,j,i; N x 3), and the leaks.

    The depth of a voxel is its distance to the outside. On its widest path from the seeds the least depth is the half-width
    of the passage it is reached through (a minimax path over depths). It lies behind a neck where that passage is at most
    `neck_mm` wide while both the region before it and the voxel itself are at least `widening` times as deep. Seeds and the
    voxels behind necks then flood the rest from the greatest depth down, so the cut runs through the narrowest place.
    """
    from medseg.kernels import distance, levels, watershed

    depth = distance.distance_mm(mask, spacing_mm)
    if not np.isfinite(depth).all():  # the mask fills the array: nothing can be narrow
        return mask, []
    home = np.concatenate([seeds[mask[tuple(seeds.T)] != 0], _uphill(depth, seeds)])
    passage = -levels.join_levels(np.where(mask, -depth, np.float32(np.nan)).astype(np.float32), home, 26)
    step = min(spacing_mm)
    behind = _behind(depth, passage, (neck_mm + step) / 2, widening)
    if not behind.any():
        return mask, []
    markers = behind.view(np.uint8) * np.uint8(2)
    markers[passage > passage[behind].max()] = 1
    markers[tuple(home.T)] = 1
    labels = watershed.watershed(-depth, markers, 26, mask)
    return (labels == 1).view(np.uint8), _leaks(labels, depth, step)


def _uphill(depth: npt.NDArray[np.float32], seeds: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The voxels where a walk from each seed to ever greater depths ends: a seed near the border starts well inside."""
    ends = []
    for seed in seeds[:64]:  # of a whole mask as seeds the rest starts where it is
        at = tuple(int(n) for n in seed)
        while depth[at] > 0:
            around = tuple(slice(max(n - 1, 0), n + 2) for n in at)
            block = depth[around]
            top = np.unravel_index(int(block.argmax()), block.shape)
            if block[top] <= depth[at]:
                ends.append(at)
                break
            at = tuple(int(n) + part.start for n, part in zip(top, around, strict=True))
    return np.array(ends, np.int64).reshape(-1, 3)


def _behind(depth: npt.NDArray[np.float32], passage: npt.NDArray[np.float32], half_neck: float, widening: float) -> npt.NDArray[np.bool_]:
    """Where a voxel lies behind a neck that widens on both sides."""
    with np.errstate(invalid="ignore"):
        behind = np.asarray((passage <= half_neck) & (depth >= widening * passage))
    if not behind.any():
        return behind
    reached = np.isfinite(passage)
    order = np.argsort(-passage[reached], kind="stable")
    sorted_passage = -passage[reached][order]
    deepest = np.maximum.accumulate(depth[reached][order])
    place = np.searchsorted(sorted_passage, -passage[behind], "left") - 1  # reached through a wider passage
    before = np.where(place >= 0, deepest[np.maximum(place, 0)], 0)
    behind[behind] = before >= widening * passage[behind]
    return behind


def _leaks(labels: npt.NDArray[Any], depth: npt.NDArray[np.float32], step: float) -> list[Leak]:
    """The parts that were cut off, the largest first."""
    from medseg.kernels import components

    parts, sizes = components.label_components((labels == 2).view(np.uint8), 26)
    touches = np.zeros(labels.shape, bool)
    kept = labels == 1
    for axis in range(3):
        ahead, behind = [slice(None)] * 3, [slice(None)] * 3
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        touches[tuple(ahead)] |= kept[tuple(behind)]
        touches[tuple(behind)] |= kept[tuple(ahead)]
    touches &= labels == 2
    leaks = []
    for number in range(1, len(sizes)):
        at = np.argwhere(touches & (parts == number)) if number <= _LISTED else np.empty((0, 3), np.int64)
        if len(at):
            widest = at[int(depth[tuple(at.T)].argmax())]
            leaks.append(Leak(tuple(int(n) for n in widest), 2 * float(depth[tuple(widest)]) - step, int(sizes[number])))
    return leaks
