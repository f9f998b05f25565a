"""What nnU-Net's two U-Nets share: stages read from its arguments, the decoder, and the names of its weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from medseg.core.errors import IncompatibleModelError
from medseg.segmentation.learned.networks.layers import BlockLayers, ConvStack, Triple, per_axis

_ALL_MODULES = re.compile(r"\.all_modules\.(\d+)\.")
MOST_STAGES = 12
MOST_BLOCKS = 64


@dataclass(frozen=True)
class Stages:
    """A U-Net by the stages of its encoder, from the finest to the bottleneck; all tuples have one entry per stage."""

    in_channels: int
    out_channels: int
    features: tuple[int, ...]
    kernels: tuple[Triple, ...]
    strides: tuple[Triple, ...]
    blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]
    layers: BlockLayers

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any], blocks: str) -> Stages:
        """Read nnU-Net's arguments; `blocks` is the name of the one that counts the blocks per stage.

        Raises IncompatibleModelError where one is missing, has another number of entries or an impossible value.
        """
        count = _whole(arguments, "n_stages", 2, MOST_STAGES)
        strides = tuple(per_axis(value, "strides") for value in _listed(arguments, "strides", count))
        if strides[0] != (1, 1, 1):
            raise IncompatibleModelError(f"the first of the strides is {strides[0]}: the output would not have the size of the input")
        return cls(
            in_channels=_whole(arguments, "input_channels", 1, 4096),
            out_channels=_whole(arguments, "num_classes", 1, 65536),
            features=_counts(arguments, "features_per_stage", count, 65536),
            kernels=tuple(per_axis(value, "kernel_sizes") for value in _listed(arguments, "kernel_sizes", count)),
            strides=strides,
            blocks=_counts(arguments, blocks, count, MOST_BLOCKS),
            decoder_blocks=_counts(arguments, "n_conv_per_stage_decoder", count - 1, MOST_BLOCKS),
            layers=BlockLayers.from_arguments(arguments),
        )

    def encoder(self, stack: Callable[..., nn.Module], in_channels: int) -> list[nn.Module]:
        """Return one `stack` per stage."""
        channels = zip((in_channels, *self.features), self.features, strict=False)
        stages = zip(self.blocks, channels, self.kernels, self.strides, strict=True)
        return [stack(count, pair, kernel, stride, self.layers) for count, pair, kernel, stride in stages]


class Decoder(nn.Module):
    """Transposed convolution, joined with the skip, convolution blocks: from the bottleneck up to the finest stage.

    Each stage has its own output layer, as training with deep supervision leaves them; only the last one is used.
    """

    def __init__(self, stages: Stages) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        self.transpconvs = nn.ModuleList()
        self.seg_layers = nn.ModuleList()
        for step, blocks in enumerate(stages.decoder_blocks, start=1):
            below, here = stages.features[-step], stages.features[-step - 1]
            stride, kernel = stages.strides[-step], stages.kernels[-step - 1]
            self.transpconvs.append(nn.ConvTranspose3d(below, here, stride, stride, bias=stages.layers.bias))
            self.stages.append(ConvStack(blocks, (2 * here, here), kernel, (1, 1, 1), stages.layers))
            self.seg_layers.append(nn.Conv3d(here, stages.out_channels, 1))

    def forward(self, skips: list[torch.Tensor]) -> torch.Tensor:
        """Return the logits of the finest stage; `skips` (finest first, bottleneck last) is emptied on the way."""
        features = skips.pop()
        for upsample, blocks in zip(self.transpconvs, self.stages, strict=True):
            features = blocks(torch.cat((upsample(features), skips.pop()), 1))
        logits: torch.Tensor = self.seg_layers[-1](features)
        return logits


class EncoderDecoder(nn.Module):
    """An encoder and a decoder whose weights carry nnU-Net's names, and take nnU-Net's files with `strict=True`."""

    encoder: nn.Module
    decoder: Decoder

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_pre_hook(_drop_duplicates)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, classes, K, J, I) of `image` (N, channels, K, J, I)."""
        logits: torch.Tensor = self.decoder(self.encoder(image))
        return logits


def without_duplicates(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return nnU-Net's weights by one name each.

    nnU-Net registers its encoder twice (`encoder.*`, `decoder.encoder.*`) and each layer of a block twice (`conv.*`,
    `all_modules.0.*`). A second name is dropped only where the first one is there with the same shape.
    """
    return {name: tensor for name, tensor in weights.items() if not _is_duplicate(name, weights)}


def _is_duplicate(name: str, weights: Mapping[str, Any]) -> bool:
    first = name.removeprefix("decoder.") if name.startswith("decoder.encoder.") else name
    candidates = [_ALL_MODULES.sub(f".{layer}.", first) for layer in ("conv", "norm")] if ".all_modules." in first else [first]
    return any(other != name and other in weights and weights[other].shape == weights[name].shape for other in candidates)


def _drop_duplicates(_module: nn.Module, weights: dict[str, Any], *_rest: object) -> None:
    kept = without_duplicates(weights)
    for name in [name for name in weights if name not in kept]:
        del weights[name]


def _whole(arguments: Mapping[str, Any], name: str, least: int, most: int) -> int:
    value = arguments.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise IncompatibleModelError(f"{name} must be a whole number from {least} to {most}, got {str(value)[:80]}")
    return value


def _listed(arguments: Mapping[str, Any], name: str, count: int) -> list[Any]:
    value = arguments.get(name)
    values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * count
    if len(values) != count:
        raise IncompatibleModelError(f"{name} has {len(values)} entries, expected {count} (one per stage)")
    return values


def _counts(arguments: Mapping[str, Any], name: str, count: int, most: int) -> tuple[int, ...]:
    return tuple(_whole({name: value}, name, 1, most) for value in _listed(arguments, name, count))
