"""The loss is MONAI's where MONAI has one, and leaves out what nobody judged."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
losses = pytest.importorskip("monai.losses")

from medseg.training.loss import deep_loss, deep_supervision_weights, dice_and_cross_entropy, hard_dice_counts  # noqa: E402
from medseg.training.sampling import IGNORE  # noqa: E402


def pair(classes: int = 3):
    made = torch.Generator().manual_seed(0)
    logits = torch.randn((2, classes, 6, 5, 4), generator=made, requires_grad=True)
    labels = torch.randint(0, classes, (2, 6, 5, 4), generator=made).to(torch.uint8)
    return logits, labels


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_value_and_gradient_are_those_of_monais_dice_ce(classes):
    logits, labels = pair(classes)
    ours = dice_and_cross_entropy(logits, labels)
    (gradient,) = torch.autograd.grad(ours, logits)
    reference = losses.DiceCELoss(to_onehot_y=True, softmax=True, batch=True, include_background=False)
    theirs = reference(logits, labels[:, None].long())
    (expected,) = torch.autograd.grad(theirs, logits)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradient, expected)


def test_ignored_voxels_change_neither_value_nor_gradient_elsewhere():
    logits, labels = pair()
    half = labels.clone()
    half[:, :, :, 2:] = IGNORE
    ours = dice_and_cross_entropy(logits, half)
    cropped = dice_and_cross_entropy(logits[..., :2], labels[..., :2])
    torch.testing.assert_close(ours, cropped)
    (gradient,) = torch.autograd.grad(ours, logits)
    assert not gradient[..., 2:].any()
    everything = torch.full_like(labels, IGNORE)
    assert float(dice_and_cross_entropy(logits, everything).detach()) == 0.0


def test_lower_outputs_count_half_of_the_one_above():
    assert deep_supervision_weights(3) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    logits, labels = pair()
    coarse = logits[:, :, ::2, :, ::2]
    expected = 2 / 3 * dice_and_cross_entropy(logits, labels) + 1 / 3 * dice_and_cross_entropy(coarse, labels[:, ::2, :, ::2])
    torch.testing.assert_close(deep_loss([logits, coarse], labels), expected)


def test_dice_counts():
    logits = torch.zeros((1, 3, 1, 1, 4))
    logits[0, [1, 1, 2, 0], 0, 0, [0, 1, 2, 3]] = 5.0
    labels = torch.tensor([1, 2, 2, IGNORE], dtype=torch.uint8).view(1, 1, 1, 4)
    assert hard_dice_counts(logits, labels).tolist() == [[1, 2, 1], [1, 1, 2]]
