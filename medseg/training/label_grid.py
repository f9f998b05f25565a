"""Labels on the grid that a network is trained on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.preprocessing.plan import PreparationPlan, antialias_sigma_voxels

_MARGIN = 2  # voxels around a structure that take part in its interpolation


def labels_on_target(labels: npt.NDArray[np.uint8], geometry: Geometry, plan: PreparationPlan) -> npt.NDArray[np.uint8]:
    """Return labels (K,J,I) on the target grid of a plan: in each voxel the label that fills the most of it.

    Each label's mask goes the way of the scan (blurred where voxels become larger, interpolated linearly) and the largest share
    wins, the background being what is left; of equal shares the smaller number. On the same grid nothing changes.
    """
    step = plan.target_to_source()
    if plan.target.shape == geometry.shape and np.allclose(step, np.eye(3, 4), atol=1e-6):
        return np.ascontiguousarray(labels)
    shape = plan.target.shape[::-1]
    winner = np.zeros(shape, np.uint8)
    best = np.zeros(shape, np.float32)
    total = np.zeros(shape, np.float32)
    for number in np.flatnonzero(np.bincount(labels.reshape(-1), minlength=256)):
        if number == 0:
            continue
        box, share = _share(labels == number, geometry, plan)
        wins = share > best[box] + 1e-6
        winner[box][wins] = number
        best[box][wins] = share[wins]
        total[box] += share
    winner[best < 1 - total] = 0
    return winner


def _share(mask: npt.NDArray[np.bool_], geometry: Geometry, plan: PreparationPlan) -> tuple[tuple[slice, ...], npt.NDArray[np.float32]]:
    """The share (K,J,I) of target voxels that a mask fills, within the box of target indices (k,j,i) where it may be above 0."""
    reach = [_MARGIN + int(np.ceil(4 * sigma)) for sigma in antialias_sigma_voxels(plan.source, plan.target)]
    low, high = [], []
    for axis, margin in zip((2, 1, 0), reach, strict=True):  # i, j, k are the axes 2, 1, 0 of the array
        places = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        low.append(max(0, int(places[0]) - margin))
        high.append(min(mask.shape[axis], int(places[-1]) + margin + 1))
    source = geometry.cropped(low, [b - a for a, b in zip(low, high, strict=True)])
    cut = mask[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
    corners = plan.target.world_to_index(source.corners_mm())
    first = np.clip(np.floor(corners.min(axis=0)).astype(int) - 1, 0, np.array(plan.target.shape) - 1)
    last = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 2, first + 1, plan.target.shape)
    target = plan.target.cropped(first.tolist(), (last - first).tolist())
    volume = Volume(np.ascontiguousarray(cut, dtype=np.float32).T, source)
    share = PreparationPlan(source, target).prepare(volume, 0.0).array.T
    i, j, k = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return (k, j, i), np.asarray(share)
