"""Which segment a voxel goes to where several blurred masks compete, and weights that keep the volume of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.geometry import Geometry
from medseg.preprocessing.denoise import gaussian_mm

MOST_ROUNDS = 20  # neighbours take turns until every volume holds; a handful is enough in practice

_NOBODY = -16.0  # far below every blurred mask (0 to 1) with its weight, and finite, so that differences are too

FloatArray = npt.NDArray[np.float32]


@dataclass
class Contest:
    """The two greatest of the weighted fields in every voxel, and the numbers they belong to."""

    best: FloatArray
    second: FloatArray
    first: npt.NDArray[Any]
    runner: npt.NDArray[Any]

    def enter(self, number: int, place: tuple[slice, ...], field: FloatArray) -> None:
        """Let one more field take part inside a box."""
        best, second, first, runner = self.best[place], self.second[place], self.first[place], self.runner[place]
        wins = field > best
        next_ = (field > second) & ~wins
        np.copyto(second, best, where=wins)
        np.copyto(runner, first, where=wins)
        np.copyto(best, field, where=wins)
        np.copyto(second, field, where=next_)
        first[wins] = number
        runner[next_] = number

    def protect(self, labels: npt.NDArray[Any], fixed: npt.NDArray[np.bool_]) -> None:
        """Give some voxels for good to those who have them: what does not take part."""
        self.first[fixed] = labels[fixed]
        self.runner[fixed] = labels[fixed]

    def balance(self, number: int, place: tuple[slice, ...], voxels: int) -> bool:
        """Change the weight of one field until it holds as many voxels as asked; whether anything had to change."""
        best, second, first, runner = self.best[place], self.second[place], self.first[place], self.runner[place]
        holds, follows = first == number, runner == number
        if int(np.count_nonzero(holds)) == voxels:
            return False
        lead = best - second
        leads = np.concatenate([lead[holds], -lead[follows]])
        if len(leads) <= voxels:
            return False
        shift = _shift_for(leads, voxels)
        np.add(best, shift, out=best, where=holds)
        np.add(second, shift, out=second, where=follows)
        swap = second > best
        best[swap], second[swap] = second[swap], best[swap]
        first[swap], runner[swap] = runner[swap], first[swap]
        return bool(swap.any())

    def keep_volumes(self, numbers: Sequence[int], places: Sequence[tuple[slice, ...]], voxels: Sequence[int]) -> None:
        """Weigh all fields until each segment holds as many voxels as asked, as near as their values allow."""
        for _ in range(MOST_ROUNDS):
            moved = [self.balance(*entry) for entry in zip(numbers, places, voxels, strict=True)]
            if not any(moved):
                break


def _shift_for(leads: FloatArray, voxels: int) -> np.float32:
    """What to add to all leads so that as many as asked are positive, or as near to it as equal leads allow."""
    ordered = np.partition(leads, [len(leads) - voxels - 1, len(leads) - voxels])
    last_in, first_out = ordered[len(leads) - voxels], ordered[len(leads) - voxels - 1]
    if last_in > first_out:
        return np.float32(-(last_in / 2 + first_out / 2))
    above, equal = int(np.count_nonzero(leads > last_in)), int(np.count_nonzero(leads == last_in))
    if above + equal - voxels < voxels - above:  # nearer with the equal ones
        lower = leads[leads < last_in]
        return np.float32(-(last_in / 2 + lower.max() / 2)) if len(lower) else np.float32(1 - last_in)
    higher = leads[leads > last_in]
    return np.float32(-(last_in / 2 + higher.min() / 2)) if len(higher) else np.float32(-last_in)


def contest_with_background(labels: npt.NDArray[Any], grid: Geometry, sigma_mm: float) -> Contest:
    """Return a contest in which the background takes part, blurred as the segments will be."""
    background = np.asarray(labels == 0, dtype=np.float32, order="F")
    contest = contest_without_background(labels)
    contest.best[...] = gaussian_mm(background.T, grid, sigma_mm).T
    return contest


def contest_without_background(labels: npt.NDArray[Any]) -> Contest:
    """Return a contest that only the segments will take part in; number 0 holds what no segment reaches."""
    best, second = (np.full(labels.shape, _NOBODY, np.float32, order="F") for _ in range(2))
    first, runner = (np.zeros(labels.shape, labels.dtype, order="F") for _ in range(2))
    return Contest(best, second, first, runner)
