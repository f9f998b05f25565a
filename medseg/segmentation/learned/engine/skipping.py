"""Patches of one constant intensity: the network is asked once for each intensity, not once for each patch.

A constant patch is the same patch wherever it lies, and mirroring does not change it, so the outputs are those the
network would have given, bit for bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Key = tuple[float, ...]


def constant_value(patch: torch.Tensor) -> Key | None:
    """Return the intensities (one per channel) of a patch (C,k,j,i) that has one value only in each channel, else None."""
    corner = patch[:, :1, :1, :1]
    if not bool((patch[:, -1:, -1:, -1:] == corner).all()) or not bool((patch[:, :1] == corner).all()):
        return None  # most patches differ here already
    return tuple(corner.flatten().tolist()) if bool((patch == corner).all()) else None


class ConstantPatches:
    """Which patches of a volume are constant, and the outputs kept for those that come again."""

    def __init__(self, image: torch.Tensor, starts: Iterable[Sequence[int]], patch_size: Sequence[int]) -> None:
        self._values: dict[tuple[int, ...], Key] = {}
        for start in starts:
            box = tuple(slice(begin, begin + size) for begin, size in zip(start, patch_size, strict=True))
            value = constant_value(image[(slice(None), *box)])
            if value is not None:
                self._values[tuple(start)] = value
        self._left = Counter(self._values.values())
        self._first = {key for key, count in self._left.items() if count > 1}
        self._kept: dict[tuple[int, Key], torch.Tensor] = {}
        self.skipped = 0

    def value(self, start: Sequence[int]) -> Key | None:
        """Return the intensities of a constant patch that occurs more than once, else None."""
        value = self._values.get(tuple(start))
        return value if value in self._first else None

    def get(self, fold: int, value: Key) -> torch.Tensor | None:
        """Return the outputs kept for a constant patch."""
        return self._kept.get((fold, value))

    def keep(self, fold: int, value: Key, outputs: torch.Tensor, limit_bytes: int) -> None:
        """Keep outputs for the next patch of this intensity, where all that is kept stays within a limit."""
        held = sum(kept.numel() for kept in self._kept.values()) + outputs.numel()
        if held * outputs.element_size() <= limit_bytes:
            self._kept[fold, value] = outputs

    def passed(self, start: Sequence[int]) -> None:
        """Note that all folds have seen a patch: outputs that no later patch needs are let go."""
        value = self._values.get(tuple(start))
        if value is None:
            return
        self._left[value] -= 1
        if not self._left[value]:
            for key in [key for key in self._kept if key[1] == value]:
                del self._kept[key]
