"""Each network MONAI has is built as MONAI builds it; what a stranger may write is bounded before anything is built."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
nets = pytest.importorskip("monai.networks.nets")

from medseg.core.errors import IncompatibleModelError  # noqa: E402
from medseg.segmentation.learned.networks import registry  # noqa: E402

COMMON = {"spatial_dims": 3, "in_channels": 2, "out_channels": 3}
PLANS: dict[str, Any] = {
    "input_channels": 2,
    "num_classes": 3,
    "n_stages": 3,
    "features_per_stage": [4, 8, 8],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "n_conv_per_stage_decoder": [1, 1],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
# name, arguments, and a patch of the smallest sizes the network takes beside its normalisation
CASES: list[tuple[str, dict[str, Any], tuple[int, int, int]]] = [
    ("UNet", {**COMMON, "channels": [2, 4, 8], "strides": [2, [1, 2, 2]], "num_res_units": 1, "norm": "batch"}, (6, 12, 20)),
    ("BasicUNet", {**COMMON, "features": [2, 2, 4, 4, 4, 2]}, (33, 34, 47)),
    (
        "DynUNet",
        {**COMMON, "kernel_size": [3, [1, 3, 3], 3], "strides": [1, [1, 2, 2], 2], "upsample_kernel_size": [[1, 2, 2], 2]}
        | {"filters": [2, 4, 8], "res_block": True, "deep_supervision": True},
        (6, 12, 20),
    ),
    ("SegResNet", {**COMMON, "init_filters": 8, "blocks_down": [1, 1, 2], "blocks_up": [1, 1]}, (8, 12, 20)),
    ("SegResNetDS", {**COMMON, "init_filters": 4, "blocks_down": [1, 1, 1], "dsdepth": 2, "resolution": [5.0, 1.0, 1.0]}, (3, 12, 20)),
    ("AttentionUnet", {**COMMON, "channels": [2, 4, 8], "strides": [2, 2]}, (8, 12, 20)),
    ("VNet", {**COMMON, "act": "relu"}, (16, 32, 16)),
    (
        "UNETR",
        {
            "in_channels": 2,
            "out_channels": 3,
            "img_size": [16, 32, 32],
            "feature_size": 4,
            "hidden_size": 24,
            "mlp_dim": 48,
            "num_heads": 2,
        },
        (16, 32, 32),
    ),
    (
        "SwinUNETR",
        {"in_channels": 2, "out_channels": 3, "feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4},
        (32, 64, 32),
    ),
    (
        "MedNeXt",
        {**COMMON, "init_filters": 4, "kernel_size": 3, "blocks_down": [1, 1], "blocks_up": [1, 1], "deep_supervision": True},
        (4, 8, 12),
    ),
    ("FlexibleUNet", {**COMMON, "backbone": "resnet10", "pretrained": True}, (32, 64, 32)),
    ("FlexibleUNet", {**COMMON, "backbone": "efficientnet-b0"}, (34, 66, 38)),
    ("PlainConvUNet", {**PLANS, "n_conv_per_stage": 1}, (6, 12, 20)),
    ("ResidualEncoderUNet", {**PLANS, "n_blocks_per_stage": [1, 2, 1]}, (6, 12, 20)),
]
MONAI_CASES = [case for case in CASES if hasattr(nets, case[0])]
ARGUMENTS = {name: arguments for name, arguments, _ in CASES}
IDS = [f"{name}-{arguments.get('backbone', '')}".strip("-") for name, arguments, _ in CASES]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_every_known_network_is_tried_here() -> None:
    assert set(ARGUMENTS) == set(registry.network_names())


@pytest.mark.parametrize(("name", "arguments", "patch"), MONAI_CASES, ids=IDS[: len(MONAI_CASES)])
def test_weights_of_monais_own_network_give_its_own_output(name: str, arguments: dict[str, Any], patch: tuple[int, ...]) -> None:
    """Built on the meta device, filled by a strict load, run: the numbers are MONAI's to the bit."""
    torch.manual_seed(3)
    original = getattr(nets, name)(**{**arguments, **({"pretrained": False} if "pretrained" in arguments else {})}).eval()
    network = registry.build(name, arguments)
    assert all(parameter.is_meta for parameter in network.parameters())
    network.load_state_dict(original.state_dict(), strict=True, assign=True)
    image = torch.randn(1, 2, *patch)
    with torch.inference_mode():
        got = network(image)
        assert torch.equal(got, original(image))
    assert got.shape == (1, 3, *patch)


def _output_shape_or_none(network: Any, patch: tuple[int, ...]) -> tuple[int, ...] | None:
    try:
        return registry.output_shape(network, 2, (patch[0], patch[1], patch[2]))
    except IncompatibleModelError:
        return None


@pytest.mark.parametrize(("name", "arguments", "patch"), CASES, ids=IDS)
def test_shapes_are_known_before_there_are_weights(name: str, arguments: dict[str, Any], patch: tuple[int, int, int]) -> None:
    """The patch is a multiple of what the network needs; half a multiple more along an axis with a need does not fit."""
    network = registry.build(name, arguments)
    multiple = registry.patch_multiple(name, arguments)
    assert all(side % need == 0 for side, need in zip(patch, multiple, strict=True))
    assert registry.output_shape(network, 2, patch) == (1, 3, *patch)
    assert registry.channels_of(name, arguments) == (2, 3)
    for axis, need in enumerate(multiple):
        if need > 1:
            odd = tuple(side + (need // 2 if axis == at else 0) for at, side in enumerate(patch))
            assert _output_shape_or_none(network, odd) != (1, 3, *odd)


@pytest.mark.parametrize("name", ["SwinUNETR", "PlainConvUNet", "UNETR"])
def test_a_network_for_training_has_finite_random_weights(name: str) -> None:
    network = registry.build(name, ARGUMENTS[name], device="cpu")
    assert not any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers()))
    assert all(bool(torch.isfinite(parameter).all()) for parameter in network.parameters())


def test_deep_supervision_gives_all_outputs_in_training_and_one_afterwards() -> None:
    network = registry.build("SegResNetDS", ARGUMENTS["SegResNetDS"], device="cpu")
    image = torch.randn(1, 2, 4, 12, 20)
    assert [tuple(output.shape) for output in network.train()(image)] == [(1, 3, 4, 12, 20), (1, 3, 4, 6, 10)]
    assert tuple(network.eval()(image).shape) == (1, 3, 4, 12, 20)


def test_a_network_with_a_fixed_patch_says_so() -> None:
    assert registry.fixed_patch("UNETR", ARGUMENTS["UNETR"]) == (16, 32, 32)
    assert registry.fixed_patch("DynUNet", ARGUMENTS["DynUNet"]) is None


UNET = ARGUMENTS["UNet"]
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("os.system", {}, "allowed are"),
    ("UNet", {**UNET, "colour": "red"}, "does not take these arguments: colour"),
    ("UNet", {**UNET, "norm": "nonsense"}, "does not take"),
    ("UNet", {**UNET, "channels": []}, "does not take"),
    ("UNet", {**UNET, "channels": [2] * 1000}, "1000 entries"),
    ("UNet", {**UNET, "channels": [[[[[[[2]]]]]]]}, "nested"),
    ("UNet", {**UNET, "channels": [2**40, 4]}, "at most"),
    ("UNet", {**UNET, "num_res_units": 100000}, "at most"),
    ("UNet", {**UNET, "dropout": float("nan")}, "nan"),
    ("UNet", {**UNET, "act": "x" * 1000}, "1000 characters"),
    ("UNet", {**UNET, "norm": torch.nn.BatchNorm3d}, "value of type"),
    ("BasicUNet", {**COMMON, "features": [16384] * 6}, "parameters, more than"),
    ("SegResNetDS", {**ARGUMENTS["SegResNetDS"], "preprocess": "print"}, "preprocess"),
    ("SwinUNETR", {**ARGUMENTS["SwinUNETR"], "window_size": 64}, "window_size"),
    ("SwinUNETR", {**ARGUMENTS["SwinUNETR"], "norm_layer": "os.system"}, "norm_layer"),
    ("PlainConvUNet", {**PLANS, "n_conv_per_stage": 1, "norm_op": "os.system"}, "norm_op"),
    ("PlainConvUNet", {**PLANS, "n_conv_per_stage": 1, "norm_op": "evil.InstanceNorm3d"}, "norm_op"),
    ("PlainConvUNet", {**PLANS, "n_conv_per_stage": 1, "conv_op": "torch.nn.modules.conv.Conv2d"}, "conv_op"),
    ("PlainConvUNet", {**PLANS, "n_conv_per_stage": 1, "norm_op_kwargs": {"device": "cpu"}}, "norm_op_kwargs"),
    ("PlainConvUNet", {**PLANS, "n_conv_per_stage": 1, "strides": [2, 2, 2]}, "size of the input"),
    ("PlainConvUNet", {**PLANS, "n_conv_per_stage": 1, "strides": [1, 2]}, "has 2 entries, expected 3"),
    ("PlainConvUNet", {**PLANS, "n_conv_per_stage": 1, "kernel_sizes": [[3, 3]] * 3}, "three whole numbers"),
    ("PlainConvUNet", {**PLANS, "n_conv_per_stage": 1, "n_stages": 1}, "n_stages"),
    ("PlainConvUNet", {**PLANS}, "n_conv_per_stage"),
    ("ResidualEncoderUNet", {**PLANS, "n_blocks_per_stage": 1, "block": "BottleneckD"}, "bottleneck"),
]


@pytest.mark.parametrize(("name", "arguments", "word"), REFUSED)
def test_what_is_not_allowed_is_refused_with_a_sentence(name: str, arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(IncompatibleModelError, match=word):
        registry.build(name, arguments)


def test_an_impossible_patch_multiple_is_refused() -> None:
    with pytest.raises(IncompatibleModelError, match="do not fit"):
        registry.patch_multiple("UNet", {"channels": [2, 4]})
    with pytest.raises(IncompatibleModelError, match="needs in_channels"):
        registry.channels_of("UNet", {"in_channels": 0, "out_channels": 2})
