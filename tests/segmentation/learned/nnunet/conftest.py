"""Small nnU-Net model folders with random weights, written without nnunetv2."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.volume import Volume

PLANS: dict[str, Any] = {
    "dataset_name": "Dataset900_Made",
    "plans_name": "nnUNetPlans",
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "foreground_intensity_properties_per_channel": {
        "0": {"mean": 0.0, "std": 300.0, "percentile_00_5": -1000.0, "percentile_99_5": 1000.0}
    },
    "configurations": {
        "3d_fullres": {
            "patch_size": [8, 8, 8],
            "spacing": [2.0, 2.0, 2.0],
            "normalization_schemes": ["CTNormalization"],
            "use_mask_for_norm": [False],
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": {
                    "n_stages": 2,
                    "features_per_stage": [3, 5],
                    "conv_op": "torch.nn.modules.conv.Conv3d",
                    "kernel_sizes": [[3, 3, 3]] * 2,
                    "strides": [[1, 1, 1], [2, 2, 2]],
                    "n_conv_per_stage": [1, 1],
                    "n_conv_per_stage_decoder": [1],
                    "conv_bias": True,
                    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                    "dropout_op": None,
                    "dropout_op_kwargs": None,
                    "nonlin": "torch.nn.LeakyReLU",
                    "nonlin_kwargs": {"inplace": True},
                },
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
        }
    },
}
DATASET: dict[str, Any] = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "thing": 2}, "file_ending": ".nii.gz"}

WriteModel = Callable[..., Path]


@pytest.fixture
def plans() -> dict[str, Any]:
    """The entries of a plans.json, free to change."""
    return copy.deepcopy(PLANS)


@pytest.fixture
def dataset() -> dict[str, Any]:
    """The entries of a dataset.json, free to change."""
    return copy.deepcopy(DATASET)


@pytest.fixture
def write_model(tmp_path: Path, plans: dict[str, Any], dataset: dict[str, Any]) -> WriteModel:
    """Write a model folder: `write_model(folds=1, mirror=None, heads=3, channels=1, edit=…)` returns it."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    from medseg.segmentation.learned.networks.registry import build

    def write(
        *,
        folds: int = 1,
        mirror: tuple[int, ...] | None = None,
        heads: int = 3,
        channels: int = 1,
        configuration: str = "3d_fullres",
        name: str = "Dataset900_Made",
        edit: Callable[[dict[str, Any]], None] | None = None,
    ) -> Path:
        folder = tmp_path / name / f"nnUNetTrainer__nnUNetPlans__{configuration}"
        folder.mkdir(parents=True)
        plans["dataset_name"] = name
        (folder / "plans.json").write_text(json.dumps(plans))
        (folder / "dataset.json").write_text(json.dumps(dataset))
        arguments = PLANS["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
        for fold in range(folds):
            torch.manual_seed(fold)
            network = build("PlainConvUNet", {**arguments, "input_channels": channels, "num_classes": heads}, device="cpu")
            checkpoint = {
                "network_weights": dict(network.state_dict()),
                "init_args": {"configuration": configuration},
                "trainer_name": "nnUNetTrainer",
                "inference_allowed_mirroring_axes": mirror,
            }
            if edit is not None:
                edit(checkpoint)
            (folder / f"fold_{fold}").mkdir()
            torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
        return folder

    return write


@pytest.fixture
def scan() -> Volume:
    """A small CT of noise with a bright ball, 2 × 2.5 × 3 mm, stored RAS."""
    generator = np.random.default_rng(7)
    array = generator.normal(-400, 300, (18, 15, 12))
    i, j, k = np.indices(array.shape)
    array[(i - 8) ** 2 + (j - 7) ** 2 + (k - 6) ** 2 < 20] += 900
    return Volume(array.astype(np.int16), Geometry(array.shape, np.diag([2.0, 2.5, 3.0, 1.0])), "CT", "HU")
