from __future__ import annotations

import copy
from typing import Any

import pytest

from medseg.core.errors import IncompatibleModelError
from medseg.segmentation.learned.nnunet.plans import parse_plans, read_json


def test_defaults_are_those_of_nnunet(plans: dict[str, Any]) -> None:
    plans["configurations"]["3d_fullres"]["resampling_fn_seg"] = "resample_data_or_seg_to_shape"
    configuration = parse_plans(plans).configuration("3d_fullres")
    assert (configuration.image_resampling.order, configuration.image_resampling.separate) == (3, None)  # the planner's
    assert (configuration.logit_resampling.order, configuration.logit_resampling.separate) == (1, None)
    assert (configuration.label_resampling.order, configuration.label_resampling.separate) == (3, False)  # the function's
    assert configuration.architecture.name == "PlainConvUNet"
    assert configuration.previous_stage is None


def test_what_is_inherited_is_replaced_by_what_is_named(plans: dict[str, Any]) -> None:
    plans["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres", "patch_size": [16, 8, 8]}
    configuration = parse_plans(plans).configuration("3d_cascade_fullres")
    assert configuration.patch_size == (16, 8, 8)
    assert configuration.spacing_mm == (2.0, 2.0, 2.0)
    assert configuration.previous_stage == "3d_lowres"


def test_plans_from_before_architecture(plans: dict[str, Any]) -> None:
    old = plans["configurations"]["3d_fullres"]
    del old["architecture"]
    old |= {
        "UNet_class_name": "ResidualEncoderUNet",
        "UNet_base_num_features": 32,
        "unet_max_num_features": 100,
        "n_conv_per_stage_encoder": [1, 3, 4],
        "n_conv_per_stage_decoder": [1, 1],
        "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    }
    arguments = parse_plans(plans).configuration("3d_fullres").architecture.arguments
    assert arguments["features_per_stage"] == [32, 64, 100]
    assert arguments["n_blocks_per_stage"] == [1, 3, 4]
    assert arguments["strides"][1] == [1, 2, 2]
    assert arguments["kernel_sizes"][0] == [1, 3, 3]


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "2D": ({"patch_size": [8, 8]}, "2D"),
    "preprocessor": ({"preprocessor_name": "Mine"}, "preprocessor 'Mine'"),
    "resampling": ({"resampling_fn_data": "os.system"}, "resampling function"),
    "scheme": ({"normalization_schemes": ["Evil"]}, "normalisations"),
    "masks": ({"use_mask_for_norm": []}, "differ in length"),
    "zero spacing": ({"spacing": [0, 1, 1]}, "spacing_mm"),
    "NaN spacing": ({"spacing": [float("nan"), 1, 1]}, "spacing_mm"),
    "giant patch": ({"patch_size": [2048, 2048, 2048]}, "no memory"),
    "network": ({"architecture": {"network_class_name": "os.system", "arch_kwargs": {}}}, "network 'system'"),
    "no arguments": ({"architecture": {"network_class_name": "PlainConvUNet"}}, "arch_kwargs"),
    "itself": ({"inherits_from": "3d_fullres"}, "inherits from itself"),
    "torch mode": ({"resampling_fn_data": "resample_torch_fornnunet", "resampling_fn_data_kwargs": {"mode": "area"}}, "default modes"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(fault: str, plans: dict[str, Any]) -> None:
    entries, words = FAULTS[fault]
    plans["configurations"]["3d_fullres"] |= entries
    with pytest.raises(IncompatibleModelError, match=words):
        parse_plans(plans).configuration("3d_fullres")


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"image_reader_writer": "Tiff3DIO"}, "reader 'Tiff3DIO'"),
        ({"transpose_forward": [0, 0, 1]}, "do not undo"),
        ({"transpose_forward": [1, 2, 0], "transpose_backward": [1, 2, 0]}, "do not undo"),
        ({"label_manager": "Mine"}, "label manager"),
        ({"configurations": 7}, "configurations"),
    ],
)
def test_faults_of_the_whole(entries: dict[str, Any], words: str, plans: dict[str, Any]) -> None:
    with pytest.raises(IncompatibleModelError, match=words):
        parse_plans(plans | entries)


def test_models_of_version_1_are_told_apart(plans: dict[str, Any]) -> None:
    older = copy.deepcopy(plans)
    del older["configurations"]
    with pytest.raises(IncompatibleModelError, match="v1"):
        parse_plans(older)


def test_an_unknown_configuration_names_the_known(plans: dict[str, Any]) -> None:
    with pytest.raises(IncompatibleModelError, match="3d_fullres"):
        parse_plans(plans).configuration("3d_lowres")


def test_broken_json(tmp_path) -> None:
    (tmp_path / "plans.json").write_text('{"a": ')
    with pytest.raises(IncompatibleModelError, match="not valid JSON"):
        read_json(tmp_path / "plans.json")
