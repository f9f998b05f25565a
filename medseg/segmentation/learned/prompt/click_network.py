"""The network behind a click: a small U-Net that works at half size and sees its input again at full size.

Only imported where torch is known to be there (`medseg.segmentation.learned.dependencies`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

PATCH_MULTIPLE = 8  # what each extent of the input must be a multiple of


class _Block(nn.Module):
    """Two convolutions, each with instance norm and leaky ReLU; the first may halve the extents."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(before, after, 3, stride, 1, bias=False),
            nn.InstanceNorm3d(after, affine=True),
            nn.LeakyReLU(0.01),
            nn.Conv3d(after, after, 3, 1, 1, bias=False),
            nn.InstanceNorm3d(after, affine=True),
            nn.LeakyReLU(0.01),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layers."""
        result: torch.Tensor = self.layers(x)
        return result


class ClickNetwork(nn.Module):
    """Channels (N, C, K, J, I) in, one logit a voxel (N, 1, K, J, I) out; extents are multiples of 8.

    `features` are the widths at 1/2, 1/4, 1/8 of the size, `top_features` at full size. A weighted sum of the channels
    goes straight to the output: what is easily reached from the clicks is a first guess that the rest improves.
    """

    def __init__(self, in_channels: int, features: Sequence[int], top_features: int) -> None:
        super().__init__()
        first, second, third = features
        self.stem = nn.Sequential(nn.Conv3d(in_channels, first, 4, 2, 1), nn.InstanceNorm3d(first, affine=True), nn.LeakyReLU(0.01))
        self.encode_half = _Block(first, first)
        self.encode_quarter = _Block(first, second, 2)
        self.encode_eighth = _Block(second, third, 2)
        self.to_quarter = nn.ConvTranspose3d(third, second, 2, 2)
        self.decode_quarter = _Block(2 * second, second)
        self.to_half = nn.ConvTranspose3d(second, first, 2, 2)
        self.decode_half = _Block(2 * first, first)
        self.to_full = nn.ConvTranspose3d(first, top_features, 2, 2)
        self.decode_full = nn.Sequential(nn.Conv3d(top_features + in_channels, top_features, 3, 1, 1), nn.LeakyReLU(0.01))
        self.output = nn.Conv3d(top_features, 1, 1)
        self.direct = nn.Conv3d(in_channels, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        half = self.encode_half(self.stem(x))
        quarter = self.encode_quarter(half)
        eighth = self.encode_eighth(quarter)
        quarter = self.decode_quarter(torch.cat([self.to_quarter(eighth), quarter], 1))
        half = self.decode_half(torch.cat([self.to_half(quarter), half], 1))
        result: torch.Tensor = self.output(self.decode_full(torch.cat([self.to_full(half), x], 1))) + self.direct(x)
        return result
