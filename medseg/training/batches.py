"""Batches of patches, made ahead of the network by threads of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medseg.segmentation.learned.dependencies import import_torch
from medseg.training.augment import PatchRecipe, draw_patch
from medseg.training.sampling import TrainingArrays, cases_of_step, foreground_places, generator

if TYPE_CHECKING:
    import torch

_AHEAD = 2  # batches that lie ready per thread


@dataclass(frozen=True)
class BatchSource:
    """Gives the batch of any step; with several processes each takes its share of it (`rank` of `world`)."""

    cases: tuple[TrainingArrays, ...]
    places: tuple[Mapping[int, npt.NDArray[np.int32]], ...]
    recipe: PatchRecipe
    batch_size: int
    seed: int
    fold: int
    rank: int = 0
    world: int = 1

    @classmethod
    def of_cases(
        cls, cases: Sequence[TrainingArrays], recipe: PatchRecipe, batch_size: int, seed: int, fold: int, place: tuple[int, int] = (0, 1)
    ) -> BatchSource:
        """Return the source over cases; `place` is (rank, world)."""
        places = tuple(foreground_places(case.labels, seed) for case in cases)
        return cls(tuple(cases), places, recipe, batch_size, seed, fold, *place)

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (B, C, K, J, I) float32 and labels (B, K, J, I) uint8 of a step: the same whenever it is asked for."""
        torch = import_torch()
        chosen = cases_of_step(len(self.cases), self.batch_size * self.world, step, self.seed, self.fold)
        first = self.rank * self.batch_size
        patches = []
        for number in range(first, first + self.batch_size):
            rng = generator(self.seed, self.fold, "patch", step, number)
            patches.append(draw_patch(self.cases[chosen[number]], self.places[chosen[number]], self.recipe, rng))
        return torch.stack([image for image, _ in patches]), torch.stack([labels for _, labels in patches])


def prefetched(
    source: BatchSource, steps: tuple[int, int], threads: int, *, pinned: bool = False
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the batches of the steps from the first of `steps` up to the second, in order, made by threads ahead of their use.

    `pinned` puts them into memory that CUDA copies from while it computes.
    """
    torch = import_torch()
    first, stop = steps

    def made(step: int) -> tuple[Any, Any]:
        images, labels = source.batch(step)
        return (images.pin_memory(), labels.pin_memory()) if pinned else (images, labels)

    of_caller = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, "medseg-patches", initializer=torch.set_num_threads, initargs=(1,))
    waiting: deque[Future[Any]] = deque()
    try:
        for step in range(first, stop):
            while len(waiting) < threads * _AHEAD and step + len(waiting) < stop:
                waiting.append(pool.submit(made, step + len(waiting)))
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(of_caller)  # torch hands the last number set to threads that start later
