from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from medseg.core.errors import IncompatibleModelError
from medseg.segmentation.learned.network import ALLOWED_NETWORKS, build_network, load_network
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


def test_every_allowed_network_is_tried_here() -> None:
    assert set(ARGUMENTS) == set(ALLOWED_NETWORKS)


@pytest.mark.parametrize("name", ALLOWED_NETWORKS)
def test_each_allowed_network_computes_what_monai_computes(name: str, make_model: MakeModel) -> None:
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
        ({"name": "SwinUNETR", "arguments": COMMON}, "allowed are"),
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


def test_a_network_of_absurd_size_costs_no_memory_before_its_weights_are_checked(description_entries: Entries) -> None:
    huge = {"name": "BasicUNet", "arguments": {**ARGUMENTS["BasicUNet"], "features": [4096] * 6}}
    network = build_network(parse_description(description_entries(network=huge)))
    assert sum(parameter.numel() for parameter in network.parameters()) > 5e9


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
