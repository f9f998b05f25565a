"""Labels from rows of network outputs on the device itself: what `medseg.kernels.logits` does on a CPU."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medseg.segmentation.learned.dependencies import import_torch

if TYPE_CHECKING:
    import torch

_VALUES = 1 << 26  # interpolated values held at once
_POINTS = 1 << 21  # voxels of another grid worked on at once


def labels_by_lines(
    rows: torch.Tensor, taps: Sequence[Any], numbers: npt.NDArray[Any], *, half: bool = False, regions: bool = False
) -> npt.NDArray[Any]:
    """Return the labels of a grid along the axes of `rows` (C,R,J,I); arguments as in `medseg.kernels.logits.labels_by_lines`."""
    torch = import_torch()
    counts = [len(tap[0]) for tap in taps]
    (k0, k1, wk), (j0, j1, wj), (i0, i1, wi) = (
        [torch.as_tensor(np.ascontiguousarray(part), device=rows.device) for part in tap] for tap in taps
    )
    table = torch.as_tensor(numbers.astype(np.int32), device=rows.device)
    labels = torch.empty(counts, dtype=torch.int32, device=rows.device)
    step = max(1, _VALUES // (rows.shape[0] * max(counts[1] * counts[2], rows.shape[2] * rows.shape[3])))
    for first in range(0, counts[0], step):
        part = slice(first, min(first + step, counts[0]))
        values = torch.lerp(rows[:, k0[part]], rows[:, k1[part]], wk[part, None, None])
        values = torch.lerp(values[:, :, j0], values[:, :, j1], wj[:, None])
        values = torch.lerp(values[..., i0], values[..., i1], wi)
        labels[part] = _labels_of(values.half().float() if half else values, table, regions)
    return np.asarray(labels.cpu().numpy(), np.uint16)


def label_points(
    rows: torch.Tensor,
    first_row: int,
    shape: Sequence[int],
    cells: tuple[int, int],
    matrix: npt.NDArray[np.float64],
    numbers: npt.NDArray[Any],
    out: npt.NDArray[Any],
    *,
    regions: bool = False,
) -> None:
    """Write labels of any grid into `out`; arguments as in `medseg.kernels.logit_points.label_points`."""
    torch = import_torch()
    table = torch.as_tensor(numbers.astype(np.int32), device=rows.device)
    step = torch.as_tensor(matrix, dtype=torch.float64, device=rows.device)
    flat = rows.reshape(rows.shape[0], -1)
    count = max(1, _POINTS // max(1, out.shape[1] * out.shape[2]))
    for first in range(0, out.shape[0], count):
        part = (first, min(first + count, out.shape[0]))
        if not _touches(matrix, part, out.shape, cells, shape[0]):
            continue
        base, place = _positions(part, out.shape, step, shape)
        here = ((base[0] >= cells[0]) & (base[0] < cells[1])).nonzero().squeeze(1)
        if not len(here):
            continue
        found = []
        for some in here.split(max(1, _VALUES // rows.shape[0])):
            corner = base[:, some].clone()
            corner[0] -= first_row
            found.append(_labels_of(_interpolated(flat, rows.shape[1:], corner, place[:, some]), table, regions))
        slab = out[part[0] : part[1]].reshape(-1)
        slab[here.cpu().numpy()] = torch.cat(found).cpu().numpy().astype(out.dtype)
        out[part[0] : part[1]] = slab.reshape(-1, *out.shape[1:])


def _labels_of(values: torch.Tensor, table: torch.Tensor, regions: bool) -> torch.Tensor:
    """The labels of values (C, ...)."""
    if not regions:
        return table[values.argmax(0)]
    torch = import_torch()
    labels = torch.zeros(values.shape[1:], dtype=table.dtype, device=values.device)
    for channel, number in zip(values, table, strict=True):
        labels = torch.where(torch.sigmoid(channel) > 0.5, number, labels)
    return labels


def _touches(matrix: npt.NDArray[np.float64], part: tuple[int, int], shape: Sequence[int], cells: tuple[int, int], length: int) -> bool:
    """Whether rows `part` of the output may hold points in some cells of the first axis."""
    ends = itertools.product((part[0], part[1] - 1), (0, shape[1] - 1), (0, shape[2] - 1))
    at = [min(max(float(matrix[0, :3] @ end + matrix[0, 3]), 0.0), length - 1.0) for end in ends]
    return min(at) <= cells[1] + 1e-6 and max(at) >= cells[0] - 1e-6


def _positions(part: tuple[int, int], shape: Sequence[int], step: torch.Tensor, extents: Sequence[int]) -> tuple[Any, Any]:
    """Cell (3, N) and place within it (3, N) of the voxels of some rows, in the order (k, j, i)."""
    torch = import_torch()
    k, j, i = (torch.arange(*ends, device=step.device, dtype=torch.float64) for ends in (part, (shape[1],), (shape[2],)))
    base, place = [], []
    for axis, n in enumerate(extents):
        at = (step[axis, 0] * k[:, None, None] + step[axis, 1] * j[:, None] + step[axis, 2] * i + step[axis, 3]).clamp(0, n - 1).reshape(-1)
        cell = at.floor().clamp(max=max(0, n - 2))
        base.append(cell.long())
        place.append((at - cell).float())
    return torch.stack(base), torch.stack(place)


def _interpolated(flat: torch.Tensor, extents: Sequence[int], base: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """The values (C, N) of all channels at points."""
    torch = import_torch()
    total = torch.zeros((flat.shape[0], base.shape[1]), dtype=torch.float32, device=flat.device)
    strides = [math.prod(extents[axis + 1 :]) if extents[axis] > 1 else 0 for axis in range(3)]
    origin = (base[0] * extents[1] + base[1]) * extents[2] + base[2]
    for corner in range(8):
        weight, index = torch.ones_like(place[0]), origin
        for axis in range(3):
            high = corner >> axis & 1
            weight = weight * (place[axis] if high else 1 - place[axis])
            index = index + strides[axis] if high else index
        total += flat[:, index] * weight
    return total
