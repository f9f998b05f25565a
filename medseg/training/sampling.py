"""Which cases and which places a training step sees: a function of the seed, the fold and the step, and of nothing else.

No generator lives from one step to the next. A run that was killed and resumed therefore sees the same patches as one
that went through, and patches can be made in any order, by any number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

IGNORE = 255
"""The label of voxels nobody has judged: they enter no loss and no score."""

_MOST_KEPT, _LEAST_KEPT = 10_000, 500  # places kept per label and case: enough to choose from, little to hold
_PURPOSES = {"order": 0, "patch": 1, "network": 2, "places": 3, "validation": 4}


class TrainingArrays(Protocol):
    """One prepared case (`medseg.training.cache.CachedCase`, or anything like it); the arrays may be memory maps."""

    @property
    def id(self) -> str:
        """Name of the case."""
        ...

    @property
    def image(self) -> npt.NDArray[Any]:
        """Normalised intensities (C, K, J, I)."""
        ...

    @property
    def labels(self) -> npt.NDArray[np.uint8]:
        """Output channels (K, J, I), or `IGNORE`."""
        ...

    @property
    def background(self) -> npt.NDArray[np.float32]:
        """Normalised intensity outside the scan, one per channel."""
        ...


def generator(seed: int, fold: int, purpose: str, *numbers: int) -> np.random.Generator:
    """Return the generator that belongs to a seed, a fold, a purpose ("order", "patch", ...) and numbers such as the step.

    >>> bool(generator(0, 1, "patch", 7).random() == generator(0, 1, "patch", 7).random())
    True
    """
    return np.random.default_rng([seed, fold, _PURPOSES[purpose], *numbers])


def cases_of_step(count: int, batch_size: int, step: int, seed: int, fold: int) -> list[int]:
    """Return which of `count` cases the batch of a step holds; every case comes once before any comes again.

    >>> sorted(n for step in range(3) for n in cases_of_step(6, 2, step, seed=0, fold=0))
    [0, 1, 2, 3, 4, 5]
    """
    places = range(step * batch_size, (step + 1) * batch_size)
    rounds = {place // count for place in places}
    order = {n: generator(seed, fold, "order", n).permutation(count) for n in rounds}
    return [int(order[place // count][place % count]) for place in places]


def foreground_places(labels: npt.NDArray[np.uint8], seed: int = 0) -> dict[int, npt.NDArray[np.int32]]:
    """Return places (N, 3) as (k,j,i) of each label that occurs, background and `IGNORE` left out.

    Of a large structure 10 000 are kept, fewer where there are more than ten labels.
    """
    flat = np.flatnonzero((labels != 0) & (labels != IGNORE))
    values = labels.reshape(-1)[flat]
    order = np.argsort(values, kind="stable")
    numbers, first = np.unique(values[order], return_index=True)
    parts = np.split(flat[order], first[1:]) if len(numbers) else []
    most = min(_MOST_KEPT, max(_LEAST_KEPT, 10 * _MOST_KEPT // max(1, len(numbers))))
    found: dict[int, npt.NDArray[np.int32]] = {}
    for number, part in zip(numbers, parts, strict=True):
        kept = part
        if len(part) > most:
            kept = np.sort(generator(seed, 0, "places", int(number)).choice(part, most, replace=False))
        found[int(number)] = np.stack(np.unravel_index(kept, labels.shape), axis=1).astype(np.int32)
    return found


def patch_centre(
    shape: Sequence[int],
    patch_size: Sequence[int],
    places: Mapping[int, npt.NDArray[np.int32]],
    foreground_share: float,
    rng: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """Return the centre (k,j,i) of a patch in index units, on or half between voxels so that the patch fits the grid.

    With probability `foreground_share` it holds a voxel of a structure drawn at random, each equally often however small.
    Along an axis shorter than the patch the scan lies anywhere inside the patch.
    """
    start = []
    target = None
    if places and rng.random() < foreground_share:
        numbers = sorted(places)
        of_label = places[numbers[int(rng.integers(len(numbers)))]]
        target = of_label[int(rng.integers(len(of_label)))]
    for axis, (length, size) in enumerate(zip(shape, patch_size, strict=True)):
        low, high = min(0, length - size), max(0, length - size)
        if target is not None and length > size:
            first = int(target[axis]) - size // 2
            start.append(min(max(first, low), high))
        else:
            start.append(int(rng.integers(low, high + 1)))
    return np.asarray(start, dtype=np.float64) + (np.asarray(patch_size) - 1) / 2
