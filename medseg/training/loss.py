"""Dice and cross-entropy with deep supervision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medseg.segmentation.learned.dependencies import import_torch
from medseg.training.sampling import IGNORE

if TYPE_CHECKING:
    import torch

_SMOOTHING = 1e-5  # as in MONAI: a label that neither side has counts as a perfect Dice


def deep_supervision_weights(count: int) -> list[float]:
    """Return the weights of `count` outputs, finest first: each half of the one before, their sum 1.

    >>> deep_supervision_weights(2)
    [0.6666666666666666, 0.3333333333333333]
    """
    weights = [0.5**n for n in range(count)]
    return [weight / sum(weights) for weight in weights]


def deep_loss(outputs: Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Return the weighted loss of outputs (B, C, k, j, i), finest first, against labels (B, K, J, I) of the full grid.

    Coarser outputs are compared with every n-th label along each axis.
    """
    total = None
    for output, weight in zip(outputs, deep_supervision_weights(len(outputs)), strict=True):
        steps = [full // small for full, small in zip(labels.shape[1:], output.shape[2:], strict=True)]
        part = weight * dice_and_cross_entropy(output, labels[:, :: steps[0], :: steps[1], :: steps[2]])
        total = part if total is None else total + part
    assert total is not None
    return total


def dice_and_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return (1 - mean Dice of the foreground over the whole batch) + mean cross-entropy, in float32.

    Equals MONAI's DiceCELoss(softmax, to_onehot_y, batch, without background); beyond it, voxels labelled `IGNORE` count in
    neither part. `logits` (B, C, K, J, I), `labels` (B, K, J, I).
    """
    torch = import_torch()
    logits = logits.float()
    target = labels.long()
    ignored = target == IGNORE
    if bool(ignored.any()):
        target = target.masked_fill(ignored, -1)
    logarithms = torch.log_softmax(logits, dim=1)
    counted = (~ignored).sum().clamp(min=1)
    entropy = torch.nn.functional.nll_loss(logarithms, target, ignore_index=-1, reduction="sum") / counted
    present = [(target == number) for number in range(1, logits.shape[1])]
    reference = torch.stack(present, dim=1).float()
    shares = logarithms[:, 1:].exp() * (~ignored).unsqueeze(1)
    axes = (0, 2, 3, 4)
    common = (shares * reference).sum(axes)
    dice = (2 * common + _SMOOTHING) / (shares.sum(axes) + reference.sum(axes) + _SMOOTHING)
    return entropy + 1 - dice.mean()


def hard_dice_counts(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return (C-1, 3) voxels of each foreground label: in both, in the prediction, in the reference; `IGNORE` left out."""
    torch = import_torch()
    winner = logits.argmax(1)
    judged = labels != IGNORE
    rows = []
    for number in range(1, logits.shape[1]):
        ours, theirs = (winner == number) & judged, labels == number
        rows.append(torch.stack([(ours & theirs).sum(), ours.sum(), theirs.sum()]))
    return torch.stack(rows).double().cpu()
