"""What takes the finished rows of network outputs: the contract, and the sink that simply keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch

    from medseg.segmentation.learned.engine.windows import Shape


class Sink(Protocol):
    """Takes the outputs of a network over one volume, a few rows at a time, in order along one axis.

    `begin` is called before the first row, and again where a run starts anew (with less memory): what came before is
    void then.
    """

    def begin(self, channels: int, shape: Shape, axis: int, device: torch.device) -> None:
        """Get ready for rows along `axis` (0, 1, 2) of a volume of `shape`, with `channels` outputs a voxel."""
        ...

    def push(self, rows: torch.Tensor) -> None:
        """Take the next rows: (channels, K, J, I) with fewer voxels along `axis`, float32 or float16; valid until return."""
        ...

    def finish(self) -> Any:
        """Return the result after the last row."""
        ...


class ArraySink:
    """Keeps the outputs themselves, (C, K, J, I) float32: for small volumes only."""

    def __init__(self) -> None:
        self._axis, self._done = 0, 0
        self._outputs = np.zeros((0, 0, 0, 0), np.float32)

    def begin(self, channels: int, shape: Shape, axis: int, device: torch.device) -> None:
        """Get ready for the rows of one volume."""
        self._axis, self._done = axis, 0
        self._outputs = np.empty((channels, *shape), np.float32)

    def push(self, rows: torch.Tensor) -> None:
        """Take the next rows."""
        count = rows.shape[self._axis + 1]
        place = [slice(None)] * 4
        place[self._axis + 1] = slice(self._done, self._done + count)
        self._outputs[tuple(place)] = rows.float().cpu().numpy()
        self._done += count

    def finish(self) -> Any:
        """Return the outputs (C,K,J,I)."""
        return self._outputs
