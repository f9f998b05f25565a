"""nnU-Net's weights load strictly and give nnU-Net's numbers to the bit (oracle: dynamic_network_architectures)."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from medseg.segmentation.learned.networks import registry  # noqa: E402

INSTANCE = {"norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d", "norm_op_kwargs": {"eps": 1e-5, "affine": True}}
BATCH = {"norm_op": "torch.nn.modules.batchnorm.BatchNorm3d", "norm_op_kwargs": {"eps": 1e-3, "momentum": 0.2}}
LEAKY = {"nonlin": "torch.nn.modules.activation.LeakyReLU", "nonlin_kwargs": {"inplace": True, "negative_slope": 0.02}}
DROPOUT = {"dropout_op": "torch.nn.modules.dropout.Dropout3d", "dropout_op_kwargs": {"p": 0.3}}
BASE = {"input_channels": 1, "num_classes": 4, "conv_op": "torch.nn.modules.conv.Conv3d", "dropout_op": None, "dropout_op_kwargs": None}
PLAIN: dict[str, dict[str, Any]] = {
    "plain": {"n_stages": 4, "features_per_stage": [4, 8, 16, 20], "kernel_sizes": 3, "strides": [1, 2, 2, 2]}
    | {"n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2, "conv_bias": True, **INSTANCE, **LEAKY},
    "anisotropic": {"n_stages": 3, "features_per_stage": [4, 8, 8], "kernel_sizes": [[1, 3, 3], [1, 3, 3], [3, 3, 3]]}
    | {"strides": [[1, 1, 1], [1, 2, 2], [2, 2, 1]], "n_conv_per_stage": [1, 2, 3], "n_conv_per_stage_decoder": [2, 1]}
    | {"input_channels": 3, "conv_bias": False, **INSTANCE, **LEAKY},
    "two stages": {"n_stages": 2, "features_per_stage": 6, "kernel_sizes": [3, 5], "strides": [1, 2], "n_conv_per_stage": 1}
    | {"n_conv_per_stage_decoder": 1, **INSTANCE, "nonlin": "torch.nn.ReLU", "nonlin_kwargs": {"inplace": True}},
    "batch norm": {"n_stages": 3, "features_per_stage": [4, 8, 8], "kernel_sizes": 3, "strides": [1, 2, 2], "n_conv_per_stage": 2}
    | {"n_conv_per_stage_decoder": 2, **BATCH, **LEAKY},
    "dropout, nonlinearity first": {"n_stages": 3, "features_per_stage": [4, 8, 8], "kernel_sizes": 3, "strides": [1, 2, 2]}
    | {"n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2, "conv_bias": True, "nonlin_first": True, **INSTANCE, **LEAKY, **DROPOUT},
    "bare": {"n_stages": 2, "features_per_stage": 4, "kernel_sizes": 3, "strides": [1, 2], "n_conv_per_stage": 1}
    | {"n_conv_per_stage_decoder": 1, "norm_op": None, "norm_op_kwargs": None, "nonlin": None, "nonlin_kwargs": None},
}
RESIDUAL = {
    name: {("n_blocks_per_stage" if key == "n_conv_per_stage" else key): value for key, value in entry.items() if key != "nonlin_first"}
    for name, entry in PLAIN.items()
}
RESIDUAL["own stem"] = {**RESIDUAL["plain"], "stem_channels": 6}
CASES = [("PlainConvUNet", name) for name in PLAIN] + [("ResidualEncoderUNet", name) for name in RESIDUAL]


def _oracle(network: str, arguments: dict[str, Any]) -> Any:
    unet = pytest.importorskip("dynamic_network_architectures.architectures.unet")
    classes = {"conv_op": torch.nn, "norm_op": torch.nn, "dropout_op": torch.nn, "nonlin": torch.nn}
    imported = {
        name: getattr(classes[name], value.rsplit(".", 1)[-1]) if name in classes and value else value for name, value in arguments.items()
    }
    torch.manual_seed(5)
    built = getattr(unet, network)(**imported, deep_supervision=False).eval()
    with torch.no_grad():
        for name, tensor in built.state_dict().items():
            if name.endswith(("norm.weight", "running_var")):
                tensor.uniform_(0.5, 2.0)
            elif name.endswith(("norm.bias", "running_mean")):
                tensor.normal_()
    return built


@pytest.mark.parametrize(("network", "case"), CASES)
def test_weights_load_strictly_and_give_the_same_bits(network: str, case: str) -> None:
    torch.set_num_threads(1)
    arguments = {**BASE, **(PLAIN if network == "PlainConvUNet" else RESIDUAL)[case]}
    original = _oracle(network, arguments)
    ours = registry.build(network, arguments)
    weights = original.state_dict()
    assert any(name.startswith("decoder.encoder.") for name in weights)
    ours.load_state_dict(weights, strict=True, assign=True)
    assert not any(".all_modules." in name or name.startswith("decoder.encoder.") for name in ours.state_dict())
    image = torch.randn(2, arguments["input_channels"], 8, 16, 24)
    with torch.inference_mode():
        expected, got = original(image), ours(image)
    assert expected.std() > 0
    assert torch.equal(got, expected)
    assert tuple(got.shape) == (2, 4, 8, 16, 24)


def test_a_strange_weight_is_not_hidden_among_the_duplicates() -> None:
    """A second name without a first one, or of another shape, is an unknown weight like any other."""
    arguments = {**BASE, **PLAIN["two stages"]}
    weights = _oracle("PlainConvUNet", arguments).state_dict()
    weights["decoder.encoder.stranger"] = torch.zeros(3)
    with pytest.raises(RuntimeError, match="stranger"):
        registry.build("PlainConvUNet", arguments).load_state_dict(weights, strict=True, assign=True)
    del weights["decoder.encoder.stranger"]
    weights["encoder.stages.0.0.convs.0.all_modules.0.bias"] = torch.zeros(1)
    with pytest.raises(RuntimeError, match=r"all_modules\.0\.bias"):
        registry.build("PlainConvUNet", arguments).load_state_dict(weights, strict=True, assign=True)


def test_weights_saved_from_ours_load_again_without_duplicates() -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    arguments = {**BASE, **PLAIN["plain"]}
    first = registry.build("PlainConvUNet", arguments, device="cpu")
    second = registry.build("PlainConvUNet", arguments)
    second.load_state_dict(safetensors.load(safetensors.save(first.state_dict())), strict=True, assign=True)
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        assert torch.equal(first(image), second(image))
