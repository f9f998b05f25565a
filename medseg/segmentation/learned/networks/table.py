"""Which networks a model file may name, what each may be given, and how far numbers may go.

"Everything that may be built is in this file": names, arguments, and the limits that are checked before anything is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from medseg.core.errors import IncompatibleModelError

Triple = tuple[int, int, int]

MOST_PARAMETERS = 1_000_000_000
MOST_VALUES = 1024
MOST_ENTRIES = 128
MOST_NESTING = 5
LARGEST_NUMBER = 65536
LONGEST_TEXT = 200
# Arguments that count layers, heads or window sides: each one costs time or memory beyond the number of parameters.
_SMALL: Mapping[str, int] = MappingProxyType(
    {"depths": 64, "blocks_down": 64, "blocks_up": 64, "blocks_bottleneck": 64, "num_res_units": 64, "dsdepth": 16}
    | {"n_stages": 12, "n_conv_per_stage": 64, "n_blocks_per_stage": 64, "n_conv_per_stage_decoder": 64, "deep_supr_num": 16}
    | {"window_size": 12, "kernel_size": 31, "up_kernel_size": 31, "kernel_sizes": 31, "upsample_kernel_size": 31, "strides": 31}
    | {"patch_size": 64, "num_heads": 1024, "img_size": 1024, "in_channels": 4096, "input_channels": 4096}
)
_ARGUMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True)
class NetworkRules:
    """One network: its arguments, which of them count channels, and the sizes its patches must be a multiple of."""

    arguments: frozenset[str]
    multiple: Callable[[Mapping[str, Any]], Triple]
    in_channels: str = "in_channels"
    out_channels: str = "out_channels"
    fixed: Mapping[str, Any] = field(default_factory=dict)  # set whatever the file says
    fixed_patch: str = ""  # the argument that fixes the patch size

    @property
    def takes_spatial_dims(self) -> bool:
        """True where the network comes in 2D and 3D and has to be told."""
        return "spatial_dims" in self.arguments


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _same(size: int) -> Callable[[Mapping[str, Any]], Triple]:
    return lambda _: (size, size, size)


def _of_strides(arguments: Mapping[str, Any]) -> Triple:
    return _product(arguments["strides"])


def _of_channel_strides(arguments: Mapping[str, Any]) -> Triple:
    return _product(arguments["strides"][: len(arguments["channels"]) - 1])


def _product(strides: Sequence[Any]) -> Triple:
    rows = [tuple(stride) if isinstance(stride, Sequence) else (stride,) * 3 for stride in strides]
    i, j, k = (math.prod(axis) for axis in zip(*rows, strict=True))
    return (i, j, k)


def _of_levels(name: str, default: int, extra: int) -> Callable[[Mapping[str, Any]], Triple]:
    def multiple(arguments: Mapping[str, Any]) -> Triple:
        size = 2 ** (len(arguments[name]) - extra if name in arguments else default)
        return (size, size, size)

    return multiple


def _of_resolution(arguments: Mapping[str, Any]) -> Triple:
    """SegResNetDS halves the fine axes first, each floor(log2(coarsest / its spacing)) times, then all axes together."""
    levels = len(arguments.get("blocks_down", (1, 2, 2, 4))) - 1
    resolution = arguments.get("resolution")
    if resolution is None:
        return _same(2**levels)(arguments)
    ahead = [math.floor(math.log2(max(resolution) / value)) for value in resolution]
    i, j, k = (2 ** (min(first, levels) + max(levels - max(ahead), 0)) for first in ahead)
    return (i, j, k)


def _of_backbone(arguments: Mapping[str, Any]) -> Triple:
    """EfficientNet's stages round up and the decoder pads what is missing; ResNet's stages need every halving."""
    pads = arguments.get("is_pad", True) and str(arguments.get("backbone")).startswith("efficientnet")
    return _same(2 if pads else 32)(arguments)


def _of_image(arguments: Mapping[str, Any]) -> Triple:
    return _product([arguments["img_size"]])


def _of_patches(arguments: Mapping[str, Any]) -> Triple:
    return _product([arguments.get("patch_size", 2)] * 5)


_COMMON = "spatial_dims in_channels out_channels "
_PLANS = "input_channels num_classes n_stages features_per_stage conv_op kernel_sizes strides n_conv_per_stage_decoder conv_bias"
_PLANS += " norm_op norm_op_kwargs dropout_op dropout_op_kwargs nonlin nonlin_kwargs deep_supervision "

NETWORKS: Mapping[str, NetworkRules] = MappingProxyType(
    {
        "UNet": NetworkRules(
            _names(_COMMON + "channels strides kernel_size up_kernel_size num_res_units act norm dropout bias adn_ordering"),
            _of_channel_strides,
        ),
        "BasicUNet": NetworkRules(_names(_COMMON + "features act norm bias dropout upsample"), _same(1)),
        "DynUNet": NetworkRules(
            _names(_COMMON + "kernel_size strides upsample_kernel_size filters dropout norm_name act_name deep_supervision")
            | _names("deep_supr_num res_block trans_bias"),
            _of_strides,
        ),
        "SegResNet": NetworkRules(
            _names(_COMMON + "init_filters dropout_prob act norm norm_name num_groups use_conv_final blocks_down blocks_up upsample_mode"),
            _of_levels("blocks_down", 3, 1),
        ),
        "SegResNetDS": NetworkRules(
            _names(_COMMON + "init_filters act norm blocks_down blocks_up dsdepth upsample_mode resolution"), _of_resolution
        ),
        "AttentionUnet": NetworkRules(_names(_COMMON + "channels strides kernel_size up_kernel_size dropout"), _of_channel_strides),
        "VNet": NetworkRules(_names(_COMMON + "act dropout_prob dropout_prob_down dropout_prob_up dropout_dim bias"), _same(16)),
        "UNETR": NetworkRules(
            _names(_COMMON + "img_size feature_size hidden_size mlp_dim num_heads proj_type norm_name conv_block res_block")
            | _names("dropout_rate qkv_bias"),
            _of_image,
            fixed_patch="img_size",
        ),
        "SwinUNETR": NetworkRules(
            _names(_COMMON + "patch_size depths num_heads window_size qkv_bias mlp_ratio feature_size norm_name drop_rate")
            | _names("attn_drop_rate dropout_path_rate normalize patch_norm use_checkpoint downsample use_v2"),
            _of_patches,
            fixed={"use_checkpoint": False},
        ),
        "MedNeXt": NetworkRules(
            _names(_COMMON + "init_filters encoder_expansion_ratio decoder_expansion_ratio bottleneck_expansion_ratio kernel_size")
            | _names("deep_supervision use_residual_connection blocks_down blocks_bottleneck blocks_up norm_type global_resp_norm"),
            _of_levels("blocks_down", 4, 0),
        ),
        "FlexibleUNet": NetworkRules(
            _names(_COMMON + "backbone pretrained decoder_channels norm act dropout decoder_bias upsample pre_conv interp_mode is_pad"),
            _of_backbone,
            fixed={"pretrained": False, "spatial_dims": 3},
        ),
        "PlainConvUNet": NetworkRules(_names(_PLANS + "n_conv_per_stage nonlin_first"), _of_strides, "input_channels", "num_classes"),
        "ResidualEncoderUNet": NetworkRules(
            _names(_PLANS + "n_blocks_per_stage block bottleneck_channels stem_channels"),
            _of_strides,
            "input_channels",
            "num_classes",
        ),
    }
)


def rules_of(name: str) -> NetworkRules:
    """Return the rules of a network; raises IncompatibleModelError for a name that is not in the table."""
    if not isinstance(name, str) or name not in NETWORKS:
        raise IncompatibleModelError(f"network {str(name)[:80]!r} is not known; allowed are {', '.join(NETWORKS)}")
    return NETWORKS[name]


def check_arguments(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a network as they go to its constructor, checked as data from a stranger.

    Raises IncompatibleModelError where one is unknown, too large, too long, nested too deep or no plain data.
    """
    rules = rules_of(name)
    unknown = [str(argument)[:60] for argument in arguments if argument not in rules.arguments]
    if unknown:
        allowed = ", ".join(sorted(rules.arguments))
        raise IncompatibleModelError(f"{name} does not take these arguments: {', '.join(unknown[:5])}; it takes {allowed}")
    if sum(1 for _ in _leaves(name, arguments, 0)) > MOST_VALUES:
        raise IncompatibleModelError(f"{name} does not take these arguments: more than {MOST_VALUES} values")
    for argument, most in _SMALL.items():
        largest = max((leaf for leaf in _leaves(name, arguments.get(argument), 0) if isinstance(leaf, int | float)), default=0)
        if largest > most:
            raise IncompatibleModelError(f"{name} does not take these arguments: {argument} is {largest}, at most {most} is allowed")
    return {**arguments, **rules.fixed}


def _leaves(name: str, value: object, depth: int) -> Iterator[object]:
    """Yield the numbers, texts and None inside nested lists and dictionaries."""
    if depth > MOST_NESTING:
        raise IncompatibleModelError(f"{name} does not take these arguments: nested more than {MOST_NESTING} deep")
    if isinstance(value, Mapping | list | tuple):
        if len(value) > MOST_ENTRIES:
            raise IncompatibleModelError(f"{name} does not take these arguments: a list of {len(value)} entries")
        if isinstance(value, Mapping) and not all(isinstance(key, str) and _ARGUMENT_NAME.fullmatch(key) for key in value):
            raise IncompatibleModelError(f"{name} does not take these arguments: a name that is no word")
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(name, entry, depth + 1)
        return
    if isinstance(value, float | int) and (not math.isfinite(value) or abs(value) > LARGEST_NUMBER):
        raise IncompatibleModelError(f"{name} does not take these arguments: the number {value} (at most {LARGEST_NUMBER})")
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise IncompatibleModelError(f"{name} does not take these arguments: a text of {len(value)} characters")
    if value is not None and not isinstance(value, float | int | str):
        raise IncompatibleModelError(f"{name} does not take these arguments: a value of type {type(value).__name__}")
    yield value
