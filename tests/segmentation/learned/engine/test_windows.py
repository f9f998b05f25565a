"""Patches and weights are those of MONAI and of nnU-Net, computed by MONAI and nnU-Net themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data.utils import compute_importance_map

from medseg.segmentation.learned.engine.windows import Windows, padding, window_starts, window_weights


@pytest.mark.parametrize("patch", [(8, 8, 8), (9, 16, 5)])
def test_weights_are_monais(patch: tuple[int, int, int]) -> None:
    expected = compute_importance_map(patch, mode="gaussian", sigma_scale=0.125).numpy()
    np.testing.assert_allclose(window_weights(Windows(patch)), expected, rtol=1e-5, atol=1e-7)
    assert (window_weights(Windows.monai(patch)) == 1).all(), "MONAI's default is constant"


@pytest.mark.parametrize("patch", [(16, 16, 16), (20, 33, 64), (28, 96, 80)])
def test_weights_are_nnunets_bit_for_bit(patch: tuple[int, int, int]) -> None:
    prediction = pytest.importorskip("nnunetv2.inference.sliding_window_prediction")
    expected = prediction.compute_gaussian(patch, 1 / 8, 10, device=torch.device("cpu")).float().numpy()
    np.testing.assert_array_equal(window_weights(Windows.nnunet(patch)), expected)


@pytest.mark.parametrize("step", [0.3, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("shape", [(64, 65, 100), (110, 47, 40), (40, 41, 333)])
def test_starts_are_nnunets(shape: tuple[int, int, int], step: float) -> None:
    prediction = pytest.importorskip("nnunetv2.inference.sliding_window_prediction")
    patch = (40, 41, 40)
    expected = prediction.compute_steps_for_sliding_window(shape, patch, step)
    assert [list(axis) for axis in window_starts(shape, Windows.nnunet(patch, step=step))] == expected


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_windows_cover_everything_and_stay_inside(overlap: float) -> None:
    shape, patch = (37, 16, 20), (16, 16, 8)
    covered = np.zeros(shape, int)
    starts = window_starts(shape, Windows.monai(patch, overlap=overlap))
    for k in starts[0]:
        for j in starts[1]:
            for i in starts[2]:
                assert (k + 16, j + 16, i + 8) <= shape
                covered[k : k + 16, j : j + 16, i : i + 8] += 1
    assert covered.min() >= 1


def test_the_low_side_gets_the_smaller_half_of_the_padding() -> None:
    assert padding((3, 9, 7), (6, 4, 7)) == ((1, 2), (0, 0), (0, 0))


def test_a_patch_shrinks_only_where_the_model_allows_it() -> None:
    assert Windows((64, 64, 64), multiple=16).for_shape((10, 40, 100)).patch_size == (32, 48, 64)
    assert Windows.nnunet((64, 64, 64)).for_shape((10, 40, 100)).patch_size == (64, 64, 64)
    assert Windows.nnunet((64, 64, 64)).smaller() is None
    smaller = Windows((64, 64, 64), multiple=16).smaller()
    assert smaller is not None
    assert smaller.patch_size == (48, 48, 48)


def test_mirrors_come_in_the_order_nnunet_adds_them() -> None:
    assert Windows((8, 8, 8), mirror_axes=(0, 1, 2)).mirrors() == [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
