"""Sums of overlapping patches for the rows of a volume that later patches can still touch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.core.errors import IncompatibleModelError
from medseg.kernels.blend import add_weighted, mean_of_sums
from medseg.segmentation.learned.dependencies import import_torch
from medseg.segmentation.learned.engine.windows import window_starts

if TYPE_CHECKING:
    import torch

    from medseg.segmentation.learned.engine.windows import Shape, Windows


def slab_axis(shape: Sequence[int], windows: Windows, *, free: bool = False) -> int:
    """Return the axis along which sums are kept for one patch depth only: the one with the smallest slab.

    Sums in half precision depend on the order of the patches, in nnU-Net that of their starts: there it is the first axis
    along which there are several, unless `free`.
    """
    if windows.accumulators == "half-per-fold" and not free:
        several = [axis for axis, starts in enumerate(window_starts(shape, windows)) if len(starts) > 1]
        return several[0] if several else 0
    volume = math.prod(shape)
    sizes = [windows.patch_size[axis] * (volume // shape[axis]) for axis in range(3)]
    return sizes.index(min(sizes))


class Slab:
    """Weighted sums of one run: (C, K, J, I) with one patch depth along `axis`; `folds` sums side by side.

    `half` stores sums in half precision after each patch, one per fold, and rounds each step of the mean as nnU-Net does.
    """

    def __init__(
        self, channels: int, shape: Shape, axis: int, weights: torch.Tensor, *, folds: int = 1, half: bool = False, device: torch.device
    ) -> None:
        torch = import_torch()
        self.axis, self.first, self.channels = axis, 0, channels
        self._half, self._native = half, half and device.type == "cpu"
        extents = [weights.shape[axis] if n == axis else length for n, length in enumerate(shape)]
        dtype = torch.float16 if half else torch.float32
        self._totals = [torch.zeros((channels, *extents), dtype=dtype, device=device) for _ in range(folds)]
        self._count = torch.zeros(extents, dtype=dtype, device=device)
        self._weights = weights.to(device)

    def add(self, fold: int, outputs: torch.Tensor, start: Sequence[int], first: int = 0) -> None:
        """Add outputs (C,n,j,i) of one patch that begins at `start` of the volume: its rows from `first` along axis 0."""
        k, j, i = self._place(start)
        place = (k + first, j, i)
        weights = self._weights[first : first + outputs.shape[1]]
        total = self._totals[fold if self._half else 0]
        if self._native:
            add_weighted(_bits(total), outputs.numpy(), weights.numpy(), place)
            return
        box = _box(place, weights.shape)
        if self._half:
            total[(slice(None), *box)] += outputs.to(total.device) * weights
        else:
            total[(slice(None), *box)].addcmul_(outputs.to(total.device), weights)

    def count(self, start: Sequence[int], times: int = 1) -> None:
        """Count the weights of one patch; `times` that many outputs were added to one sum."""
        box = _box(self._place(start), self._weights.shape)
        self._count[box] += (self._weights * times).to(self._count.dtype)

    def mean(self, first: int, stop: int) -> torch.Tensor:
        """Return the weighted mean of the rows `first` to `stop` of the volume, float32."""
        torch = import_torch()
        limits = [(first - self.first, stop - self.first) if axis == self.axis else (0, n) for axis, n in enumerate(self._count.shape)]
        if self._native:
            place, extents = [begin for begin, _ in limits], [end - begin for begin, end in limits]
            values, overflowed = mean_of_sums([_bits(total) for total in self._totals], _bits(self._count), place, extents)
            if overflowed:
                raise _overflow()
            return torch.from_numpy(values)
        box = tuple(slice(begin, end) for begin, end in limits)
        mean = self._totals[0][(slice(None), *box)] / self._count[box]
        for total in self._totals[1:]:
            mean += total[(slice(None), *box)] / self._count[box]
        if len(self._totals) > 1:
            mean /= len(self._totals)
        if self._half and not bool(torch.isfinite(mean.sum(dtype=torch.float32))):
            raise _overflow()
        return mean.float()

    def advance(self, first: int) -> None:
        """Forget the rows before `first` of the volume: it becomes the first row held."""
        by = first - self.first
        for tensor in (*self._totals, self._count):
            axis = tensor.dim() - 3 + self.axis
            kept = tensor.shape[axis] - by
            for row in range(0, kept, by):
                count = min(by, kept - row)
                tensor.narrow(axis, row, count).copy_(tensor.narrow(axis, row + by, count))
            tensor.narrow(axis, kept, by).zero_()
        self.first = first

    def _place(self, start: Sequence[int]) -> Shape:
        k, j, i = (begin - self.first if axis == self.axis else begin for axis, begin in enumerate(start))
        return k, j, i


def _box(place: Sequence[int], extents: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(begin, begin + size) for begin, size in zip(place, extents, strict=True))


def _bits(tensor: torch.Tensor) -> Any:
    return tensor.view(import_torch().int16).numpy().view(np.uint16)


def _overflow() -> IncompatibleModelError:
    return IncompatibleModelError(
        "the outputs of the network are too large for half precision, in which nnU-Net adds them up: its weights are broken"
    )
