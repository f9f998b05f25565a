"""Checkpoints that do not fit, are damaged, or want to run code (rows B35 to B39 of the bad inputs)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from medseg.core.errors import ChecksumError, IncompatibleModelError, UnsafeModelError
from medseg.segmentation.learned.nnunet.model import NnunetModel


def load(folder: Path) -> None:
    (stage,) = NnunetModel.open(folder).stages
    for fold in stage.folds:
        stage.network(fold)


def test_weights_that_fit(write_model: Callable[..., Path]) -> None:
    load(write_model(folds=2))


def test_the_first_five_differences_are_named(write_model: Callable[..., Path]) -> None:
    def edit(checkpoint: dict[str, Any]) -> None:
        weights = checkpoint["network_weights"]
        for name in list(weights)[:7]:
            weights[f"other.{name}"] = weights.pop(name)

    with pytest.raises(IncompatibleModelError) as caught:
        load(write_model(edit=edit))
    assert str(caught.value).count("is missing") == 5
    assert "and 9 more" in str(caught.value)


def test_a_wrong_shape_is_named(write_model: Callable[..., Path]) -> None:
    def edit(checkpoint: dict[str, Any]) -> None:
        weights = checkpoint["network_weights"]
        name = next(name for name in weights if name.endswith("conv.weight"))
        weights[name] = weights[name][:, :, :1]

    with pytest.raises(IncompatibleModelError, match=r"has shape \(3, 1, 1, 3, 3\) instead of \(3, 1, 3, 3, 3\)"):
        load(write_model(edit=edit))


def test_label_count_and_output_channels_differ(write_model: Callable[..., Path]) -> None:
    with pytest.raises(IncompatibleModelError, match=r"has 5 output channels, its dataset\.json asks for 3"):
        load(write_model(heads=5))


def test_weights_that_are_not_finite(write_model: Callable[..., Path]) -> None:
    def edit(checkpoint: dict[str, Any]) -> None:
        next(iter(checkpoint["network_weights"].values()))[0] = torch.nan

    with pytest.raises(IncompatibleModelError, match="not finite"):
        load(write_model(edit=edit))


@pytest.mark.parametrize("part", ["network_weights", "init_args"])
def test_no_checkpoint_of_nnunet(part: str, write_model: Callable[..., Path]) -> None:
    with pytest.raises(IncompatibleModelError, match="no checkpoint of nnU-Net v2"):
        load(write_model(edit=lambda checkpoint: checkpoint.pop(part)))


def test_folds_of_another_configuration(write_model: Callable[..., Path], plans: dict[str, Any]) -> None:
    plans["configurations"]["3d_lowres"] = plans["configurations"]["3d_fullres"]
    folder = write_model(folds=2)
    checkpoint = torch.load(folder / "fold_1" / "checkpoint_final.pth", weights_only=True)
    checkpoint["init_args"]["configuration"] = "3d_lowres"
    torch.save(checkpoint, folder / "fold_1" / "checkpoint_final.pth")
    with pytest.raises(IncompatibleModelError, match="'3d_lowres', the other folds as '3d_fullres'"):
        load(folder)


def test_scalars_of_numpy_are_data(write_model: Callable[..., Path]) -> None:
    """nnU-Net's own checkpoints hold them: the exponential mean of its scores, its log."""
    load(write_model(edit=lambda checkpoint: checkpoint.update(_best_ema=np.float64(0.7), logging={"mean_fg_dice": [np.float32(0.5)]})))


def test_a_cut_file(write_model: Callable[..., Path]) -> None:
    folder = write_model()
    file = folder / "fold_0" / "checkpoint_final.pth"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(ChecksumError, match="damaged or cut short"):
        load(folder)


class _Command:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


def test_code_in_a_checkpoint_never_runs(write_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_model(edit=lambda checkpoint: checkpoint.update(logging=_Command(tmp_path / "ran")))
    with pytest.raises(UnsafeModelError, match=r"posix\.system"):
        load(folder)
    assert not (tmp_path / "ran").exists()
