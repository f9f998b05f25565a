"""Writes nnU-Net v2 model folders with random weights, the way training leaves them. Needs nnunetv2 (development only)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

NETWORK = "dynamic_network_architectures.architectures.unet."
CT_INTENSITIES = {
    "mean": -30.0,
    "std": 420.0,
    "percentile_00_5": -1004.0,
    "percentile_99_5": 1588.0,
    "median": 0.0,
    "min": -1024.0,
    "max": 3000.0,
}
MR_INTENSITIES = {
    "mean": 300.0,
    "std": 200.0,
    "percentile_00_5": 0.0,
    "percentile_99_5": 1500.0,
    "median": 250.0,
    "min": 0.0,
    "max": 3000.0,
}


@dataclass(frozen=True)
class ModelRecipe:
    """A model: what varies between nnU-Net's models, at the size of a test. Orders are those of plans.json."""

    classes: int = 5
    spacing: tuple[float, float, float] = (3.0, 3.0, 3.0)
    patch: tuple[int, int, int] = (12, 20, 20)
    channels: tuple[str, ...] = ("CT",)
    schemes: tuple[str, ...] = ("CTNormalization",)
    mask_for_norm: bool = False
    transpose: tuple[int, int, int] = (0, 1, 2)
    reader: str = "SimpleITKIO"
    folds: int = 1
    mirror: bool = False
    residual: bool = False
    old_plans: bool = False
    torch_resampling: bool = False
    separate_z: bool | None = None
    regions: bool = False
    ignore_label: bool = False
    features: int = 4
    most_features: int = 12
    stages: int = 3
    cascade: bool = False
    low_spacing: tuple[float, float, float] = (6.0, 6.0, 6.0)
    dataset_name: str = "Dataset999_Random"
    label_names: tuple[str, ...] = field(default=())
    seed: int = 0


def write_model(root: Path, recipe: ModelRecipe) -> Path:
    """Write a model below `root`; return its folder (that of the second stage for a cascade)."""
    if recipe.cascade:
        _write_stage(root, recipe, "3d_lowres", heads_of_input=0)
        return _write_stage(root, recipe, "3d_cascade_fullres", heads_of_input=recipe.classes - 1)
    return _write_stage(root, recipe, "3d_fullres", heads_of_input=0)


def dataset_of(recipe: ModelRecipe) -> dict[str, Any]:
    """Return the dataset.json of a recipe."""
    labels: dict[str, Any] = {"background": 0}
    dataset: dict[str, Any] = {
        "channel_names": {str(n): name for n, name in enumerate(recipe.channels)},
        "file_ending": ".nii.gz",
        "numTraining": 1,
    }
    if recipe.regions:  # nested, as in brain tumours: the largest first, painted over by what lies within it
        for number in range(1, recipe.classes):
            labels[f"region{number}"] = list(range(number, recipe.classes)) if number < recipe.classes - 1 else number
        dataset["regions_class_order"] = list(range(1, recipe.classes))
    else:
        names = recipe.label_names or tuple(f"class{number}" for number in range(1, recipe.classes))
        labels |= {name: number for number, name in enumerate(names, start=1)}
    if recipe.ignore_label:
        labels["ignore"] = recipe.classes
    return {**dataset, "labels": labels}


def plans_of(recipe: ModelRecipe) -> dict[str, Any]:
    """Return the plans.json of a recipe."""
    full = _configuration(recipe)
    configurations = {"3d_fullres": full}
    if recipe.cascade:
        configurations["3d_lowres"] = {**full, "spacing": list(recipe.low_spacing), "next_stage": "3d_cascade_fullres"}
        configurations["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    intensities = CT_INTENSITIES if recipe.channels[0] == "CT" else MR_INTENSITIES
    return {
        "dataset_name": recipe.dataset_name,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": list(recipe.spacing),
        "original_median_shape_after_transp": [100, 100, 100],
        "image_reader_writer": recipe.reader,
        "transpose_forward": list(recipe.transpose),
        "transpose_backward": [recipe.transpose.index(axis) for axis in range(3)],
        "configurations": configurations,
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(n): intensities for n in range(len(recipe.channels))},
    }


def _configuration(recipe: ModelRecipe) -> dict[str, Any]:
    stages = recipe.stages
    configuration: dict[str, Any] = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(recipe.patch),
        "median_image_size_in_voxels": [100.0, 100.0, 100.0],
        "spacing": list(recipe.spacing),
        "normalization_schemes": list(recipe.schemes),
        "use_mask_for_norm": [recipe.mask_for_norm] * len(recipe.channels),
        "batch_dice": False,
    }
    for what, order in (("data", 3), ("seg", 1), ("probabilities", 1)):
        if recipe.torch_resampling:
            configuration[f"resampling_fn_{what}"] = "resample_torch_fornnunet"
            arguments: dict[str, Any] = {
                "is_seg": what == "seg",
                "force_separate_z": recipe.separate_z,
                "memefficient_seg_resampling": False,
            }
        else:
            configuration[f"resampling_fn_{what}"] = "resample_data_or_seg_to_shape"
            arguments = {"is_seg": what == "seg", "order": order, "order_z": 0, "force_separate_z": recipe.separate_z}
        configuration[f"resampling_fn_{what}_kwargs"] = arguments
    if recipe.old_plans:
        return configuration | {
            "UNet_class_name": "ResidualEncoderUNet" if recipe.residual else "PlainConvUNet",
            "UNet_base_num_features": recipe.features,
            "unet_max_num_features": recipe.most_features,
            "n_conv_per_stage_encoder": _convolutions(recipe),
            "n_conv_per_stage_decoder": [1 if recipe.residual else 2] * (stages - 1),
            "num_pool_per_axis": [stages - 1] * 3,
            "pool_op_kernel_sizes": _strides(recipe),
            "conv_kernel_sizes": [[3, 3, 3]] * stages,
        }
    name, arguments = _architecture(recipe)
    layers = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    return configuration | {"architecture": {"network_class_name": name, "arch_kwargs": arguments, "_kw_requires_import": layers}}


def _architecture(recipe: ModelRecipe) -> tuple[str, dict[str, Any]]:
    stages = recipe.stages
    return NETWORK + ("ResidualEncoderUNet" if recipe.residual else "PlainConvUNet"), {
        "n_stages": stages,
        "features_per_stage": [min(recipe.features * 2**stage, recipe.most_features) for stage in range(stages)],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": _strides(recipe),
        "n_blocks_per_stage" if recipe.residual else "n_conv_per_stage": _convolutions(recipe),
        "n_conv_per_stage_decoder": [1 if recipe.residual else 2] * (stages - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def _convolutions(recipe: ModelRecipe) -> list[int]:
    return [1, 2, 2, 2, 2, 2][: recipe.stages] if recipe.residual else [2] * recipe.stages


def _strides(recipe: ModelRecipe) -> list[list[int]]:
    return [[1, 1, 1]] + [[2, 2, 2]] * (recipe.stages - 1)


def _write_stage(root: Path, recipe: ModelRecipe, configuration: str, *, heads_of_input: int) -> Path:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    plans, dataset = plans_of(recipe), dataset_of(recipe)
    folder = root / recipe.dataset_name / f"nnUNetTrainer__nnUNetPlans__{configuration}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans, indent=1))
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=1))
    name, arguments = _architecture(recipe)
    heads = recipe.classes - 1 if recipe.regions else recipe.classes
    for fold in range(recipe.folds):
        torch.manual_seed(1000 * recipe.seed + fold)
        network = get_network_from_plans(
            name,
            arguments,
            ["conv_op", "norm_op", "dropout_op", "nonlin"],
            len(recipe.channels) + heads_of_input,
            heads,
            deep_supervision=True,
        )
        with torch.no_grad():  # spread the layers that training spreads
            for module in network.modules():
                if isinstance(module, torch.nn.InstanceNorm3d):
                    module.weight.uniform_(0.5, 1.5)
                    module.bias.uniform_(-0.3, 0.3)
            output = network.decoder.seg_layers[-1]  # no structure may win everywhere: agreement would mean little
            output.weight -= output.weight.mean(1, keepdim=True)
            output.bias.zero_()
        (folder / f"fold_{fold}").mkdir(exist_ok=True)
        checkpoint = {
            "network_weights": network.state_dict(),
            "optimizer_state": {},
            "grad_scaler_state": None,
            "logging": {},
            "_best_ema": None,
            "current_epoch": 1,
            "init_args": {"plans": plans, "configuration": configuration, "fold": fold, "dataset_json": dataset},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1, 2) if recipe.mirror else None,
        }
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder
