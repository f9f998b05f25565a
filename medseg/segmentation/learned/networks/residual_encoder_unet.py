"""nnU-Net's ResidualEncoderUNet: residual blocks on the way down, convolution blocks on the way up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from medseg.core.errors import IncompatibleModelError
from medseg.segmentation.learned.networks.layers import ConvStack, ResidualStack
from medseg.segmentation.learned.networks.unet import Decoder, EncoderDecoder, Stages

_BLOCKS = (None, "BasicBlockD", "dynamic_network_architectures.building_blocks.residual.BasicBlockD")


class ResidualEncoderUNet(EncoderDecoder):
    """The residual encoder U-Net of nnU-Net v2; takes its weights unchanged (Isensee et al. 2024, doi:10.1007/978-3-031-72114-4_47)."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        """`arguments` are nnU-Net's own names, layers as dotted names; raises IncompatibleModelError where they do not fit."""
        super().__init__()
        if arguments.get("block") not in _BLOCKS or arguments.get("bottleneck_channels") is not None:
            raise IncompatibleModelError("residual blocks with a bottleneck are not supported; only BasicBlockD is")
        stages = Stages.from_arguments(arguments, "n_blocks_per_stage")
        stem_channels = arguments.get("stem_channels")
        if stem_channels is None:
            stem_channels = stages.features[0]
        if isinstance(stem_channels, bool) or not isinstance(stem_channels, int) or not 1 <= stem_channels <= 65536:
            raise IncompatibleModelError(f"stem_channels must be a whole number from 1 to 65536, got {str(stem_channels)[:80]}")
        self.encoder = _Encoder(stages, stem_channels)
        self.decoder = Decoder(stages)


class _Encoder(nn.Module):
    def __init__(self, stages: Stages, stem_channels: int) -> None:
        super().__init__()
        self.stem = ConvStack(1, (stages.in_channels, stem_channels), stages.kernels[0], (1, 1, 1), stages.layers)
        self.stages = nn.Sequential(*stages.encoder(ResidualStack, stem_channels))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        skips = [self.stem(image)]
        for stage in self.stages:
            skips.append(stage(skips[-1]))
        return skips[1:]
