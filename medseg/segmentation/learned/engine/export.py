"""From finished rows of network outputs to labels, row by row: the outputs of a whole volume are never held."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import IncompatibleModelError
from medseg.core.label_map import smallest_unsigned
from medseg.kernels.logit_points import label_points
from medseg.kernels.logits import labels_by_lines
from medseg.method.settings import Progress, no_progress
from medseg.segmentation.learned.dependencies import import_torch
from medseg.segmentation.learned.engine import export_torch
from medseg.segmentation.learned.engine.taps import Taps, linear_taps, nearest_taps, taps_at

if TYPE_CHECKING:
    import torch

    from medseg.segmentation.learned.engine.windows import Shape

__all__ = ["AffineLabelSink", "LabelSink", "Taps", "linear_taps", "nearest_taps", "taps_at"]

# Finding out what need not be interpolated costs a pass over the rows: it stops where too little comes of it.
_OPEN_SHARE = 0.7


class LabelSink:
    """Labels of a grid whose axes are those of the outputs, scaled: separable interpolation, then the largest channel.

    `taps` per axis (0, 1, 2). Channel n becomes `numbers[n]` (default n), the first of equal channels wins. With
    `regions`, channels are not exclusive: where channel n has sigmoid > 0.5, `regions[n]` is painted, in order.
    `round_to_half` rounds each interpolated value to half precision first, as nnU-Net does. `out` (K,J,I) unsigned, of
    any memory order, is written where given, and returned by `finish`. With `keep` False no labels are kept: `finish`
    returns None, and `counts` says how often each label came.
    """

    def __init__(
        self,
        taps: tuple[Taps, Taps, Taps],
        *,
        numbers: Sequence[int] | None = None,
        regions: Sequence[int] | None = None,
        round_to_half: bool = False,
        out: npt.NDArray[Any] | None = None,
        keep: bool = True,
        progress: Progress = no_progress,
    ) -> None:
        self._taps, self._numbers, self._regions, self._half = taps, numbers, regions, round_to_half
        self._out, self._keep, self._progress = out, keep, progress
        self._axis, self._first, self._shortcut = 0, 0, True
        self._rows: torch.Tensor | None = None
        self._table = np.zeros(0, np.int64)
        self._open = np.zeros(0, bool)
        self.counts = np.zeros(0, np.int64)

    def begin(self, channels: int, shape: Shape, axis: int, device: torch.device) -> None:
        """Get ready for the rows of one volume."""
        self._table = _table(channels, self._numbers, self._regions)
        self._axis, self._first, self._rows = axis, 0, None
        self._order = [axis, *(n for n in range(3) if n != axis)]
        self._open = np.ones(len(self._taps[axis]), bool)
        self.counts = np.zeros(int(self._table.max()) + 1, np.int64)
        self._shortcut = math.prod(map(len, self._taps)) > _OPEN_SHARE * math.prod(shape)
        if self._out is None and self._keep:
            self._out = np.empty([len(tap) for tap in self._taps], smallest_unsigned(int(self._table.max())))

    def push(self, rows: torch.Tensor) -> None:
        """Take the next rows."""
        torch = import_torch()
        rows = rows.float().movedim(self._axis + 1, 1)
        held = rows if self._rows is None else torch.cat([self._rows, rows], 1)
        taps = self._taps[self._axis]
        end = self._first + held.shape[1]
        ready = np.flatnonzero(self._open & (taps.high < end))
        if len(ready):
            three = (taps.at(ready, self._first), *(self._taps[axis].whole() for axis in self._order[1:]))
            self._write(ready, self._labels(held, three))
            self._open[ready] = False
            self._progress("labelling", len(taps) - int(self._open.sum()), len(taps))
        left = taps.low[self._open]
        keep = min(int(left.min()), end) if len(left) else end
        self._rows = held[:, keep - self._first :].clone()
        self._first = keep

    def finish(self) -> Any:
        """Return the labels (K,J,I), or None where they are not kept."""
        return self._out

    def _labels(self, held: torch.Tensor, taps: Any) -> npt.NDArray[Any]:
        if held.device.type != "cpu":
            return export_torch.labels_by_lines(held, taps, self._table, half=self._half, regions=self._regions is not None)
        labels, share = labels_by_lines(
            np.ascontiguousarray(held.numpy()),
            taps,
            self._table,
            half=self._half,
            regions=self._regions is not None,
            shortcut=self._shortcut,
        )
        self._shortcut = self._shortcut and share < _OPEN_SHARE
        return labels

    def _write(self, ready: npt.NDArray[np.int64], labels: npt.NDArray[Any]) -> None:
        if self._keep and self._out is not None:
            self._out.transpose(self._order)[int(ready[0]) : int(ready[-1]) + 1] = labels
        else:
            self.counts += np.bincount(labels.ravel(), minlength=len(self.counts))


class AffineLabelSink:
    """Labels of a grid of `shape` (K,J,I) whose index x lies at `matrix` (3, 4) @ (x, 1) of the grid of the outputs.

    Any such map: turned, oblique, sheared, left-handed. Interpolation is linear, beyond their outer voxels the outputs
    stay as they are there; otherwise as `LabelSink`.
    """

    def __init__(
        self,
        matrix: npt.NDArray[np.float64],
        shape: Sequence[int],
        *,
        numbers: Sequence[int] | None = None,
        regions: Sequence[int] | None = None,
        out: npt.NDArray[Any] | None = None,
        keep: bool = True,
        progress: Progress = no_progress,
    ) -> None:
        self._matrix, self._shape = np.asarray(matrix, np.float64)[:3], tuple(int(n) for n in shape)
        self._numbers, self._regions, self._given, self._keep, self._progress = numbers, regions, out, keep, progress
        self.counts = np.zeros(0, np.int64)
        self._lines: LabelSink | None = None
        self._axis, self._first = 0, 0
        self._rows: torch.Tensor | None = None
        self._labels: npt.NDArray[Any] = np.zeros((0, 0, 0), np.uint8)

    def begin(self, channels: int, shape: Shape, axis: int, device: torch.device) -> None:
        """Get ready for the rows of one volume."""
        self._table = _table(channels, self._numbers, self._regions)
        follows = _follows(self._matrix)
        usable = self._given is not None and self._given.flags.c_contiguous and self._given.dtype in (np.uint8, np.uint16)
        if usable and self._given is not None:
            self._labels = self._given
        elif self._keep or follows is None:
            self._labels = np.zeros(self._shape, smallest_unsigned(int(self._table.max())))
        if follows is not None:
            taps = [taps_at(self._matrix[n, f] * np.arange(self._shape[f]) + self._matrix[n, 3], shape[n]) for n, f in enumerate(follows)]
            self._lines = LabelSink(
                (taps[0], taps[1], taps[2]),
                numbers=self._numbers,
                regions=self._regions,
                out=self._labels.transpose(follows) if self._keep else None,
                keep=self._keep,
                progress=self._progress,
            )
            self._lines.begin(channels, shape, axis, device)
            return
        self._axis, self._first, self._rows = axis, 0, None
        self._order = [axis, *(n for n in range(3) if n != axis)]
        self._extents = tuple(shape[n] for n in self._order)

    def push(self, rows: torch.Tensor) -> None:
        """Take the next rows."""
        if self._lines is not None:
            self._lines.push(rows)
            return
        torch = import_torch()
        rows = rows.float().movedim(self._axis + 1, 1)
        held = rows if self._rows is None else torch.cat([self._rows, rows], 1)
        end = self._first + held.shape[1]
        last = end if self._extents[0] == 1 else end - 1  # one past the last cell whose upper row is at hand
        if last > self._first:
            regions = self._regions is not None
            work = (self._first, self._extents, (self._first, last), self._matrix[self._order], self._table, self._labels)
            if held.device.type == "cpu":
                label_points(np.ascontiguousarray(held.numpy()), *work, regions=regions)
            else:
                export_torch.label_points(held.contiguous(), *work, regions=regions)
            self._progress("labelling", end, self._extents[0])
        self._rows = held[:, last - self._first :].clone()
        self._first = last

    def finish(self) -> Any:
        """Return the labels (K,J,I), or None where they are not kept."""
        if not self._keep:
            self.counts = self._lines.counts if self._lines is not None else np.bincount(self._labels.ravel())
            self._labels = np.zeros((0, 0, 0), np.uint8)
            return None
        if self._given is not None and self._labels is not self._given:
            self._given[...] = self._labels
            return self._given
        return self._labels


def _table(channels: int, numbers: Sequence[int] | None, regions: Sequence[int] | None) -> npt.NDArray[np.int64]:
    """The label of each channel."""
    chosen = regions if regions is not None else numbers if numbers is not None else range(channels)
    if len(chosen) != channels:
        raise IncompatibleModelError(
            f"the network gives {channels} channels, the model names {len(chosen)}: its labels do not fit its weights"
        )
    return np.asarray(list(chosen), np.int64)


def _follows(matrix: npt.NDArray[np.float64]) -> list[int] | None:
    """The output axis that each axis of the network's grid follows; None where axes are mixed."""
    held = np.abs(matrix[:, :3]) > 0
    if (held.sum(axis=0) != 1).any() or (held.sum(axis=1) != 1).any():
        return None
    return [int(row.argmax()) for row in held]
