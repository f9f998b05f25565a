"""The score shown while a fold is trained: Dice over one patch of each validation case, with the averaged weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.segmentation.learned.dependencies import import_torch
from medseg.training.augment import PatchRecipe, draw_patch
from medseg.training.logs import TrainingLog
from medseg.training.loss import hard_dice_counts
from medseg.training.networks import unique_tensors
from medseg.training.pictures import patch_pictures
from medseg.training.plan import TrainingPlan
from medseg.training.precision import autocast
from medseg.training.sampling import TrainingArrays, foreground_places, generator
from medseg.training.state import TrainingState

if TYPE_CHECKING:
    import torch

_MOST_PATCHES = 50


@dataclass(frozen=True)
class ValidationPatches:
    """Patches about the structures of the validation cases, the same at every validation."""

    images: tuple[torch.Tensor, ...]
    labels: tuple[torch.Tensor, ...]
    spacing_mm: tuple[float, float, float]
    names: tuple[str, ...]

    @classmethod
    def of_cases(cls, cases: Sequence[TrainingArrays], plan: TrainingPlan, fold: int) -> ValidationPatches:
        """Draw one patch from each case, of 50 cases at most."""
        recipe = PatchRecipe.of_plan(plan, augmented=False)
        drawn = [
            draw_patch(case, foreground_places(case.labels, plan.seed), recipe, generator(plan.seed, fold, "validation", number))
            for number, case in enumerate(cases[:_MOST_PATCHES])
        ]
        names = tuple(plan.labels[number] for number in sorted(plan.labels))
        return cls(tuple(image for image, _ in drawn), tuple(labels for _, labels in drawn), recipe.spacing_mm, names)

    def dice(self, state: TrainingState, device: torch.device, precision: str, log: TrainingLog) -> float:
        """Return the mean over labels of the Dice of all patches together; labels that occur nowhere are left out.

        NaN without validation cases. Shows the middle patch as a picture.
        """
        torch = import_torch()
        if not self.images:
            return float("nan")
        counts = None
        with averaged(state), torch.inference_mode():
            for number, (image, labels) in enumerate(zip(self.images, self.labels, strict=True)):
                batch = image[None].to(device).contiguous(memory_format=torch.channels_last_3d)
                with autocast(precision, device):
                    outputs = state.network(batch)
                logits = outputs[0] if isinstance(outputs, list | tuple) else outputs
                found = hard_dice_counts(logits, labels[None].to(device))
                counts = found if counts is None else counts + found
                if number == len(self.images) // 2:
                    self._show(log, image, labels, logits[0].argmax(0).cpu(), state.counters.step)
        assert counts is not None
        occur = counts[:, 1:].sum(1) > 0
        scores = 2 * counts[occur, 0] / counts[occur, 1:].sum(1)
        return float(scores.mean()) if len(scores) else float("nan")

    def _show(self, log: TrainingLog, image: torch.Tensor, labels: torch.Tensor, found: torch.Tensor, step: int) -> None:
        drawn = patch_pictures(image[0].numpy(), labels.numpy(), found.numpy(), self.spacing_mm, self.names)
        log.pictures(drawn, ("reference", f"prediction, step {step}"), step)


@contextlib.contextmanager
def averaged(state: TrainingState) -> Iterator[None]:
    """Give the network its averaged weights for a while, in evaluation mode."""
    torch = import_torch()
    current = unique_tensors(state.network)
    kept = {name: tensor.clone() for name, tensor in current.items()}
    try:
        with torch.no_grad():
            for name, tensor in current.items():
                tensor.copy_(state.average[name])
        state.network.eval()
        yield
    finally:
        with torch.no_grad():
            for name, tensor in current.items():
                tensor.copy_(kept[name])
        state.network.train()
