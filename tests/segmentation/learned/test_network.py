from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from medseg.core.errors import IncompatibleModelError
from medseg.segmentation.learned.network import build_network, fill, load_network
from medseg.segmentation.learned.store import parse_description, read_folder

MakeModel = Callable[..., Path]
Entries = Callable[..., dict[str, Any]]
Weights = Callable[[dict[str, Any]], bytes]

COMMON = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "UNet": {**COMMON, "channels": [2, 4, 8], "strides": [2, 2], "num_res_units": 1, "norm": "batch"},
    "BasicUNet": {**COMMON, "features": [2, 2, 4, 4, 4, 2], "norm": ["batch", {"affine": True}]},
    "DynUNet": {**COMMON, "kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [2, 4, 8]},
    "SegResNet": {**COMMON, "init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]},
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_network_of_a_model_folder_computes_what_monai_computes(name: str, make_model: MakeModel) -> None:
    """The weights of a network built by MONAI give MONAI's own output after a round trip through a model folder."""
    from monai.networks import nets

    entry = {"name": name, "arguments": ARGUMENTS[name]}
    torch.manual_seed(3)
    original = getattr(nets, name)(**ARGUMENTS[name]).eval()
    weights = safetensors.torch.save({key: value.clone() for key, value in original.state_dict().items()})
    network = load_network(read_folder(make_model(weights=weights, network=entry)))
    patch = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, 16, 16, 16)).astype(np.float32))
    with torch.inference_mode():
        assert torch.equal(network(patch), original(patch))


def test_half_precision_weights_become_float32(make_model: MakeModel, tiny_weights: bytes) -> None:
    half = {key: value.half() if value.is_floating_point() else value for key, value in safetensors.torch.load(tiny_weights).items()}
    network = load_network(read_folder(make_model(weights=safetensors.torch.save(half))))
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("network", "word"),
    [
        ({"name": "os.system", "arguments": COMMON}, "allowed are"),
        ({"name": "Discriminator", "arguments": COMMON}, "allowed are"),
        ({"name": "PlainConvUNet", "arguments": {"input_channels": 1, "num_classes": 4}}, "num_classes"),
        ({"name": "VNet", "arguments": {**COMMON, "act": [[[[[[["relu"]]]]]]]}}, "nested"),
        ({"name": "UNet", "arguments": {**ARGUMENTS["UNet"], "colour": "red"}}, "does not take"),
        ({"name": "UNet", "arguments": {**ARGUMENTS["UNet"], "norm": "nonsense"}}, "does not take"),
        ({"name": "UNet", "arguments": {**ARGUMENTS["UNet"], "channels": []}}, "does not take"),
        ({"name": "BasicUNet", "arguments": {**ARGUMENTS["BasicUNet"], "out_channels": 4}}, "out_channels"),
        ({"name": "BasicUNet", "arguments": {**ARGUMENTS["BasicUNet"], "in_channels": 2}}, "in_channels"),
        ({"name": "BasicUNet", "arguments": {**ARGUMENTS["BasicUNet"], "spatial_dims": 2}}, "spatial_dims"),
        ({"name": "DynUNet", "arguments": {**ARGUMENTS["DynUNet"], "deep_supervision": True}}, "deep_supervision"),
    ],
)
def test_a_network_that_is_not_allowed_or_does_not_fit_is_refused(network: dict[str, Any], word: str, description_entries: Entries) -> None:
    with pytest.raises(IncompatibleModelError, match=word):
        build_network(parse_description(description_entries(network=network)))


def test_a_network_of_absurd_size_is_refused_before_it_costs_memory(description_entries: Entries) -> None:
    huge = {"name": "BasicUNet", "arguments": {**ARGUMENTS["BasicUNet"], "features": [4096] * 6}}
    with pytest.raises(IncompatibleModelError, match=r"model 'tiny': BasicUNet .* parameters, more than"):
        build_network(parse_description(description_entries(network=huge)))


def test_a_patch_the_network_cannot_take_is_refused_before_the_weights_are_read(description_entries: Entries) -> None:
    sizes = {"img_size": 32, "feature_size": 4, "hidden_size": 24, "mlp_dim": 48, "num_heads": 2}
    network = {"name": "UNETR", "arguments": {"in_channels": 1, "out_channels": 3, **sizes}}
    with pytest.raises(IncompatibleModelError, match="UNETR takes patches of 32×32×32 voxels only"):
        build_network(parse_description(description_entries(network=network, patch_size=[48, 32, 32])))


def test_a_patch_that_cannot_be_halved_often_enough_is_refused(description_entries: Entries) -> None:
    six = {**COMMON, "kernel_size": [3] * 6, "strides": [1, 2, 2, 2, 2, 2], "upsample_kernel_size": [2] * 5, "filters": [2] * 6}
    with pytest.raises(IncompatibleModelError, match="multiples of 32×32×32 voxels, not 32×32×48"):
        build_network(parse_description(description_entries(network={"name": "DynUNet", "arguments": six}, patch_size=[48, 32, 32])))


def test_weights_with_nnunets_second_names_fill_a_network() -> None:
    from medseg.segmentation.learned.networks.registry import build

    arguments = {"input_channels": 1, "num_classes": 2, "n_stages": 2, "features_per_stage": 2, "kernel_sizes": 3, "strides": [1, 2]}
    arguments |= {"n_conv_per_stage": 1, "n_conv_per_stage_decoder": 1}
    weights = build("PlainConvUNet", arguments, device="cpu").state_dict()
    twice = {**weights, **{f"decoder.{name}": weight for name, weight in weights.items() if name.startswith("encoder.")}}
    filled = fill(build("PlainConvUNet", arguments), twice, "nnU-Net's file")
    assert all(torch.equal(filled.state_dict()[name], weight) for name, weight in weights.items())


def test_weights_of_another_network_are_refused_with_five_names(make_model: MakeModel, random_weights: Weights) -> None:
    other = {"name": "BasicUNet", "arguments": {**ARGUMENTS["BasicUNet"], "features": [2, 2, 4, 4, 8, 2]}}
    with pytest.raises(IncompatibleModelError, match=r"has shape \(8, 4, 3, 3, 3\) instead of \(4, 4, 3, 3, 3\)") as caught:
        load_network(read_folder(make_model(weights=random_weights(other))))
    assert str(caught.value).count(" has shape ") == 5
    assert " more" in str(caught.value)


def test_missing_and_unknown_weights_are_named(make_model: MakeModel, tiny_weights: bytes) -> None:
    weights = safetensors.torch.load(tiny_weights)
    name = next(iter(weights))
    weights["stranger"] = weights.pop(name)
    with pytest.raises(IncompatibleModelError, match=f"{name} is missing; stranger is not part of the network"):
        load_network(read_folder(make_model(weights=safetensors.torch.save(weights))))


def test_weights_that_are_no_safetensors_or_not_finite_are_refused(make_model: MakeModel, tiny_weights: bytes) -> None:
    with pytest.raises(IncompatibleModelError, match="no safetensors"):
        load_network(read_folder(make_model(weights=b"not safetensors at all")))
    weights = safetensors.torch.load(tiny_weights)
    # the order of the weights is not fixed, and counters are integers, which hold no NaN
    next(weight for weight in weights.values() if weight.is_floating_point()).view(-1)[0] = float("nan")
    with pytest.raises(IncompatibleModelError, match="not finite"):
        load_network(read_folder(make_model(weights=safetensors.torch.save(weights))))
