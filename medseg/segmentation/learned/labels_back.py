"""From network outputs on the prepared grid to labels on the grid of the scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medseg.core.label_map import smallest_unsigned
from medseg.method.settings import Progress, no_progress
from medseg.segmentation.learned.dependencies import import_torch

if TYPE_CHECKING:
    import torch

_SLAB_VOXELS = 1 << 21  # voxels worked on at once: bounds the memory beside the logits and the labels
_UNRESOLVED = -1


def labels_on_grid(
    logits: torch.Tensor,
    matrix: npt.NDArray[np.float64],
    shape: Sequence[int],
    numbers: Sequence[int],
    progress: Progress = no_progress,
) -> npt.NDArray[Any]:
    """Return labels (K,J,I) of a grid of `shape` (K,J,I), whose index x lies at `matrix` @ (x, 1) of the logits' grid.

    The logits (C, K', J', I') are interpolated linearly, beyond their outer voxels they stay as they are there; the
    largest channel wins, the first of equals; channel n becomes `numbers[n]`. Linear interpolation never exceeds its
    corners: where one channel wins at all eight corners of a cell, it wins inside, and only the other voxels (the
    borders of structures) are interpolated.
    """
    torch = import_torch()
    with torch.inference_mode():
        winners = _cell_winners(logits)
        flat = logits.reshape(logits.shape[0], -1)
        table = torch.tensor(list(numbers), dtype=torch.int32, device=logits.device)
        step = torch.tensor(np.asarray(matrix), dtype=torch.float64, device=logits.device)
        labels = np.empty(tuple(shape), dtype=smallest_unsigned(max(numbers)))
        rows = max(1, _SLAB_VOXELS // max(1, shape[1] * shape[2]))
        for first in range(0, shape[0], rows):
            last = min(shape[0], first + rows)
            base, part = _positions((first, last), shape, step, logits.shape[1:])
            found = winners.reshape(-1)[_flat_index(base, winners.shape)]
            open_voxels = (found == _UNRESOLVED).nonzero().squeeze(1)
            if len(open_voxels):
                found[open_voxels] = _interpolated_winner(flat, logits.shape[1:], base[:, open_voxels], part[:, open_voxels])
            slab = table[found.long()].cpu().numpy().reshape(last - first, shape[1], shape[2])
            labels[first:last] = slab.astype(labels.dtype)
            progress("labelling", last, shape[0])
    return labels


def _cell_winners(logits: torch.Tensor) -> torch.Tensor:
    """The channel that wins at all corners of a cell, or `_UNRESOLVED`; an axis of one voxel has one cell."""
    torch = import_torch()
    least = most = logits.argmax(0).to(torch.int16)
    for axis in range(3):
        n = least.shape[axis]
        if n > 1:
            least = torch.minimum(least.narrow(axis, 0, n - 1), least.narrow(axis, 1, n - 1))
            most = torch.maximum(most.narrow(axis, 0, n - 1), most.narrow(axis, 1, n - 1))
    return torch.where(least == most, least, torch.full_like(least, _UNRESOLVED))


def _positions(rows: tuple[int, int], shape: Sequence[int], step: Any, extents: Sequence[int]) -> tuple[Any, Any]:
    """Cell (3, N) and place within it (3, N) of the voxels of a slab, in the order (k, j, i)."""
    torch = import_torch()
    device = step.device
    k = torch.arange(rows[0], rows[1], device=device, dtype=torch.float64)[:, None, None]
    j = torch.arange(shape[1], device=device, dtype=torch.float64)[None, :, None]
    i = torch.arange(shape[2], device=device, dtype=torch.float64)[None, None, :]
    base, part = [], []
    for axis, n in enumerate(extents):
        place = (step[axis, 0] * k + step[axis, 1] * j + (step[axis, 2] * i + step[axis, 3])).clamp(0, n - 1).reshape(-1)
        cell = place.floor().clamp(max=max(0, n - 2))
        base.append(cell.long())
        part.append((place - cell).float())
    return torch.stack(base), torch.stack(part)


def _flat_index(base: Any, extents: Sequence[int]) -> Any:
    return (base[0] * extents[1] + base[1]) * extents[2] + base[2]


def _interpolated_winner(flat: Any, extents: Sequence[int], base: Any, part: Any) -> Any:
    torch = import_torch()
    total = torch.zeros((flat.shape[0], base.shape[1]), dtype=torch.float32, device=flat.device)
    origin = _flat_index(base, extents)
    strides = (extents[1] * extents[2], extents[2], 1)
    for corner in range(8):
        weight = torch.ones_like(part[0])
        index = origin
        for axis in range(3):
            high = corner >> axis & 1
            weight = weight * (part[axis] if high else 1 - part[axis])
            if high and extents[axis] > 1:
                index = index + strides[axis]
        total += flat[:, index] * weight
    return total.argmax(0).to(torch.int16)
