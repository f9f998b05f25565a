"""torch's own arithmetic in half precision is the reference: equal bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.kernels.blend import add_weighted, mean_of_sums

torch = pytest.importorskip("torch")


def test_sums_and_means_are_those_of_torch() -> None:
    torch.manual_seed(0)
    patch = (6, 9, 17)
    weights = (torch.rand(patch) * 10).half()
    sums = [torch.zeros((3, 10, 12, 20), dtype=torch.half) for _ in range(3)]
    count = torch.zeros(sums[0].shape[1:], dtype=torch.half)
    mine = [np.zeros(sums[0].shape, np.uint16) for _ in sums]
    my_count = np.zeros((1, *count.shape), np.uint16)
    for at in [(0, 0, 0), (4, 3, 3), (2, 1, 3), (0, 3, 0)]:
        box = tuple(slice(a, a + n) for a, n in zip(at, patch, strict=True))
        for total, own in zip(sums, mine, strict=True):
            outputs = torch.randn((3, *patch)) * 30
            add_weighted(own, outputs.numpy(), weights.float().numpy(), at)
            outputs *= weights
            total[(slice(None), *box)] += outputs
        count[box] += weights
        add_weighted(my_count, np.ones((1, *patch), np.float32), weights.float().numpy(), at)
    for total, own in zip(sums, mine, strict=True):
        np.testing.assert_array_equal(own.view(np.float16), total.numpy())
    np.testing.assert_array_equal(my_count[0].view(np.float16), count.numpy())

    box = (slice(2, 8), slice(3, 10), slice(3, 17))
    expected = sums[0][(slice(None), *box)] / count[box]
    for total in sums[1:]:
        expected += total[(slice(None), *box)] / count[box]
    expected /= 3
    got, overflowed = mean_of_sums(mine, my_count[0], (2, 3, 3), (6, 7, 14))
    np.testing.assert_array_equal(got, expected.float().numpy())
    assert not overflowed


def test_sums_beyond_half_are_told() -> None:
    total = np.zeros((1, 1, 1, 2), np.uint16)
    count = np.ones((1, 1, 2), np.float16).view(np.uint16)
    add_weighted(total, np.array([[[[7000.0, 1.0]]]], np.float32), np.full((1, 1, 2), 10, np.float32), (0, 0, 0))
    assert mean_of_sums([total], count, (0, 0, 0), (1, 1, 2))[1]
