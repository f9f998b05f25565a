"""Small sound models of every kind with random weights, written by functions: what the malicious set is made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

NNUNET_FOLDER = "Dataset999_Test/nnUNetTrainer__nnUNetPlans__3d_fullres"
MEDSEG_NETWORK = {
    "name": "BasicUNet",
    "arguments": {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "features": [2, 2, 4, 4, 4, 2]},
}
NNUNET_ARGUMENTS = {
    "n_stages": 2,
    "features_per_stage": [2, 4],
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
}


def random_weights(name: str, arguments: dict[str, Any]) -> dict[str, torch.Tensor]:
    from medseg.segmentation.learned.networks.registry import build

    torch.manual_seed(3)
    shapes = {key: (tensor.shape, tensor.dtype) for key, tensor in build(name, arguments).state_dict().items()}
    return {
        key: torch.randn(shape) * 0.1 if dtype.is_floating_point else torch.zeros(shape, dtype=dtype)
        for key, (shape, dtype) in shapes.items()
    }


def write_description(folder: Path, **changes: Any) -> None:
    """Write the model.json of a folder whose weights are there."""
    content = (folder / "weights.safetensors").read_bytes()
    entries = {
        "schema": "medseg.model/1",
        "name": "sound",
        "version": "1.0",
        "title": "Random weights for tests",
        "network": MEDSEG_NETWORK,
        "channels": ["CT"],
        "modality": "CT",
        "spacing_mm": [4.0, 4.0, 4.0],
        "orientation": "RAS",
        "normalisation": {"kind": "clip-and-scale", "lower": -1000, "upper": 1000},
        "background": -1000,
        "patch_size": [32, 32, 32],
        "overlap": 0.5,
        "segments": [{"number": 1, "label": "first"}],
        "weights": {"file": "weights.safetensors", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)},
        "licence": {"code": "Apache-2.0", "weights": "CC0-1.0", "data": "CC0-1.0"},
        "intended_use": "tests",
    }
    (folder / "model.json").write_text(json.dumps({**entries, **changes}))


def make_medseg(folder: Path) -> Path:
    folder = folder / "sound"
    folder.mkdir(parents=True)
    weights = random_weights(MEDSEG_NETWORK["name"], MEDSEG_NETWORK["arguments"])  # type: ignore[arg-type]
    (folder / "weights.safetensors").write_bytes(safetensors.torch.save(weights))
    write_description(folder)
    return folder


def nnunet_checkpoint() -> dict[str, Any]:
    """What training with nnU-Net v2 saves, the numpy scalars of its log among it."""
    import numpy as np

    weights = random_weights("PlainConvUNet", {**NNUNET_ARGUMENTS, "input_channels": 1, "num_classes": 3})
    return {
        "network_weights": weights,
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.01, "params": [0]}]},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)], "epoch_start_timestamps": [1.0]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1000,
        "init_args": {"configuration": "3d_fullres", "fold": 0, "plans": {}, "dataset_json": {}, "device": torch.device("cuda:0")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }


def make_nnunet(folder: Path) -> Path:
    root = folder / NNUNET_FOLDER
    (root / "fold_0").mkdir(parents=True)
    torch.save(nnunet_checkpoint(), root / "fold_0" / "checkpoint_final.pth")
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1, "spleen": 2},
        "file_ending": ".nii.gz",
        "numTraining": 1,
    }
    intensities = {"mean": 0.0, "std": 100.0, "percentile_00_5": -900.0, "percentile_99_5": 900.0}
    configuration = {
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": [16, 16, 16],
        "spacing": [3.0, 3.0, 3.0],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": NNUNET_ARGUMENTS,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    plans = {
        "dataset_name": "Dataset999_Test",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensities},
    }
    (root / "plans.json").write_text(json.dumps(plans))
    (root / "dataset.json").write_text(json.dumps(dataset))
    return folder / "Dataset999_Test"


def bundle_configuration() -> dict[str, Any]:
    network = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [2, 4], "strides": [2]}
    image = {"keys": "image"}
    return {
        "imports": ["$import glob"],
        "bundle_root": ".",
        "device": "$torch.device('cpu')",
        "network_def": {"_target_": "UNet", **network},
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", **image},
                {"_target_": "EnsureChannelFirstd", **image},
                {"_target_": "Orientationd", **image, "axcodes": "RAS"},
                {"_target_": "Spacingd", **image, "pixdim": [3.0, 3.0, 3.0], "mode": "bilinear"},
                {"_target_": "ScaleIntensityRanged", **image, "a_min": -57, "a_max": 164, "b_min": 0, "b_max": 1, "clip": True},
            ],
        },
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [32, 32, 32], "sw_batch_size": 1, "overlap": 0.5},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image", "nearest_interp": False},
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            ],
        },
    }


def write_bundle(root: Path, configuration: dict[str, Any]) -> Path:
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    metadata = {
        "version": "0.1.0",
        "name": "Sound",
        "description": "Random weights for tests",
        "intended_use": "tests",
        "network_data_format": {
            "inputs": {
                "image": {"type": "image", "modality": "CT", "num_channels": 1, "spatial_shape": [32, 32, 32], "is_patch_data": True}
            },
            "outputs": {"pred": {"type": "image", "num_channels": 2, "channel_def": {"0": "background", "1": "spleen"}}},
        },
    }
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata))
    (root / "configs" / "inference.json").write_text(json.dumps(configuration))
    (root / "LICENSE").write_text("Apache License, Version 2.0")
    arguments = {key: value for key, value in bundle_configuration()["network_def"].items() if key != "_target_"}
    torch.save(random_weights("UNet", arguments), root / "models" / "model.pt")
    return root


def make_bundle(folder: Path) -> Path:
    return write_bundle(folder / "sound_bundle", bundle_configuration())


SOUND: dict[str, Callable[[Path], Path]] = {"medseg": make_medseg, "nnunet": make_nnunet, "bundle": make_bundle}
