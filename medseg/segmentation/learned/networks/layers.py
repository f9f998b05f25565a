"""The layers nnU-Net's plans name, as data: which convolution blocks a network is made of.

Plans give classes as dotted names (`torch.nn.modules.conv.Conv3d`) and import them. Here each name is looked up in a
short table; nothing is imported by name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from medseg.core.errors import IncompatibleModelError

Triple = tuple[int, int, int]
Options = Mapping[str, Any]

CONVOLUTIONS: Mapping[str, type[nn.Module]] = MappingProxyType({"Conv3d": nn.Conv3d})
NORMS: Mapping[str, type[nn.Module]] = MappingProxyType({"InstanceNorm3d": nn.InstanceNorm3d, "BatchNorm3d": nn.BatchNorm3d})
DROPOUTS: Mapping[str, type[nn.Module]] = MappingProxyType({"Dropout3d": nn.Dropout3d, "Dropout": nn.Dropout})
NONLINEARITIES: Mapping[str, type[nn.Module]] = MappingProxyType(
    {"LeakyReLU": nn.LeakyReLU, "ReLU": nn.ReLU, "ELU": nn.ELU, "GELU": nn.GELU, "SiLU": nn.SiLU}
)
_TORCH_PREFIXES = frozenset({"", "torch.nn."}) | {
    f"torch.nn.modules.{module}." for module in ("conv", "instancenorm", "batchnorm", "dropout", "activation")
}
_OPTIONS = frozenset({"eps", "affine", "momentum", "track_running_stats", "p", "inplace", "negative_slope", "alpha", "approximate"})


def layer_class(name: object, table: Mapping[str, type[nn.Module]], what: str) -> type[nn.Module] | None:
    """Return the class of a dotted name in plans, or None where plans name none.

    Raises IncompatibleModelError for every name that is not in the table.
    """
    if name is None:
        return None
    prefix, _, short = str(name).rpartition(".")
    if short not in table or (prefix and prefix + "." not in _TORCH_PREFIXES):
        raise IncompatibleModelError(f"{what} {str(name)[:80]!r} is not supported; supported are {', '.join(table)} of torch.nn")
    return table[short]


@dataclass(frozen=True)
class BlockLayers:
    """What every convolution block of a network shares: bias, normalisation, dropout, nonlinearity and their order."""

    bias: bool = False
    norm: type[nn.Module] | None = None
    norm_options: Options = field(default_factory=dict)
    dropout: type[nn.Module] | None = None
    dropout_options: Options = field(default_factory=dict)
    nonlinearity: type[nn.Module] | None = None
    nonlinearity_options: Options = field(default_factory=dict)
    nonlinearity_first: bool = False

    @classmethod
    def from_arguments(cls, arguments: Options) -> BlockLayers:
        """Read `conv_op`, `conv_bias`, `norm_op`, `dropout_op`, `nonlin` and their `_kwargs` from nnU-Net's arguments."""
        layer_class(arguments.get("conv_op", "Conv3d"), CONVOLUTIONS, "conv_op")
        return cls(
            bias=bool(arguments.get("conv_bias", False)),
            norm=layer_class(arguments.get("norm_op"), NORMS, "norm_op"),
            norm_options=_options(arguments, "norm_op_kwargs"),
            dropout=layer_class(arguments.get("dropout_op"), DROPOUTS, "dropout_op"),
            dropout_options=_options(arguments, "dropout_op_kwargs"),
            nonlinearity=layer_class(arguments.get("nonlin"), NONLINEARITIES, "nonlin"),
            nonlinearity_options=_options(arguments, "nonlin_kwargs"),
            nonlinearity_first=bool(arguments.get("nonlin_first", False)),
        )


def _options(arguments: Options, name: str) -> Options:
    options = arguments.get(name) or {}
    if not isinstance(options, Mapping) or not _OPTIONS.issuperset(options):
        raise IncompatibleModelError(f"{name} may hold {', '.join(sorted(_OPTIONS))}, not {str(options)[:80]}")
    return options


class ConvBlock(nn.Module):
    """Convolution, then dropout, normalisation and nonlinearity where the network has them.

    The sub-modules carry nnU-Net's names (`conv`, `norm`): they are the keys of its weights.
    """

    def __init__(self, channels: tuple[int, int], kernel: Triple, stride: Triple, layers: BlockLayers, *, plain: bool = False) -> None:
        """`plain` leaves out dropout and nonlinearity (the second half of a residual block, the projection of its skip)."""
        super().__init__()
        steps: OrderedDict[str, nn.Module] = OrderedDict()
        padding = tuple((size - 1) // 2 for size in kernel)
        steps["conv"] = nn.Conv3d(channels[0], channels[1], kernel, stride, padding, bias=layers.bias)
        if layers.dropout is not None and not plain:
            steps["dropout"] = layers.dropout(**layers.dropout_options)
        if layers.norm is not None:
            steps["norm"] = layers.norm(channels[1], **layers.norm_options)
        if layers.nonlinearity is not None and not plain:
            steps["nonlin"] = layers.nonlinearity(**layers.nonlinearity_options)
        order = list(steps)
        if layers.nonlinearity_first and order[-2:] == ["norm", "nonlin"]:
            order[-2:] = ["nonlin", "norm"]
        for name in order:
            self.add_module(name, steps[name])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the features of `image`, (N, C, ...)."""
        for step in self.children():
            image = step(image)
        return image


class ConvStack(nn.Module):
    """Several blocks one after the other; the first one may change the channels and stride."""

    def __init__(self, count: int, channels: tuple[int, int], kernel: Triple, stride: Triple, layers: BlockLayers) -> None:
        super().__init__()
        first = ConvBlock(channels, kernel, stride, layers)
        more = [ConvBlock((channels[1], channels[1]), kernel, (1, 1, 1), layers) for _ in range(count - 1)]
        self.convs = nn.Sequential(first, *more)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the features of `image`, (N, C, ...)."""
        features: torch.Tensor = self.convs(image)
        return features


class ResidualBlock(nn.Module):
    """Two convolution blocks beside a skip (ResNet-D): average pooling and a 1×1×1 projection where shapes differ."""

    def __init__(self, channels: tuple[int, int], kernel: Triple, stride: Triple, layers: BlockLayers) -> None:
        super().__init__()
        self.conv1 = ConvBlock(channels, kernel, stride, layers)
        self.conv2 = ConvBlock((channels[1], channels[1]), kernel, (1, 1, 1), layers, plain=True)
        identity: Callable[..., nn.Module] = nn.Identity
        self.nonlin2 = (layers.nonlinearity or identity)(**layers.nonlinearity_options)
        skip: list[nn.Module] = [nn.AvgPool3d(stride, stride)] if stride != (1, 1, 1) else []
        if channels[0] != channels[1]:
            projection = BlockLayers(norm=layers.norm, norm_options=layers.norm_options)
            skip.append(ConvBlock(channels, (1, 1, 1), (1, 1, 1), projection))
        self.skip = nn.Sequential(*skip)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the features of `image`, (N, C, ...)."""
        features = self.conv2(self.conv1(image))
        features += self.skip(image)
        output: torch.Tensor = self.nonlin2(features)
        return output


class ResidualStack(nn.Module):
    """Several residual blocks one after the other; the first one may change the channels and stride."""

    def __init__(self, count: int, channels: tuple[int, int], kernel: Triple, stride: Triple, layers: BlockLayers) -> None:
        super().__init__()
        first = ResidualBlock(channels, kernel, stride, layers)
        more = [ResidualBlock((channels[1], channels[1]), kernel, (1, 1, 1), layers) for _ in range(count - 1)]
        self.blocks = nn.Sequential(first, *more)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the features of `image`, (N, C, ...)."""
        features: torch.Tensor = self.blocks(image)
        return features


def per_axis(value: object, what: str) -> Triple:
    """Return one number, or one per axis, as three; raises IncompatibleModelError for anything else."""
    values: Sequence[object] = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * 3
    if len(values) != 3 or not all(isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= 31 for number in values):
        raise IncompatibleModelError(f"{what} must be three whole numbers from 1 to 31 (the network is 3D), got {str(value)[:80]}")
    return tuple(int(number) for number in values)  # type: ignore[return-value, call-overload]
