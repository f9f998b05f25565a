"""nnU-Net's PlainConvUNet: convolution blocks with strides, transposed convolutions on the way up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from medseg.segmentation.learned.networks.layers import ConvStack
from medseg.segmentation.learned.networks.unet import Decoder, EncoderDecoder, Stages


class PlainConvUNet(EncoderDecoder):
    """The standard 3D U-Net of nnU-Net v2; takes its weights unchanged (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z)."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        """`arguments` are nnU-Net's own names, layers as dotted names; raises IncompatibleModelError where they do not fit."""
        super().__init__()
        stages = Stages.from_arguments(arguments, "n_conv_per_stage")
        self.encoder = _Encoder(stages)
        self.decoder = Decoder(stages)


class _Encoder(nn.Module):
    def __init__(self, stages: Stages) -> None:
        super().__init__()
        # each stage stands alone in a Sequential: nnU-Net has room for a pooling layer there
        self.stages = nn.Sequential(*(nn.Sequential(stack) for stack in stages.encoder(ConvStack, stages.in_channels)))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        skips = [image]
        for stage in self.stages:
            skips.append(stage(skips[-1]))
        return skips[1:]
