"""VISTA3D (MONAI's classes): built without memory, its class branch as a network of features, its point branch.

Only imported where torch and MONAI are known to be there (`medseg.segmentation.learned.dependencies`).
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn

from medseg.core.errors import IncompatibleModelError
from medseg.segmentation.learned.dependencies import import_networks
from medseg.segmentation.learned.prompt.description import VistaArguments

_CHUNK_VOXELS = 1 << 18  # voxels whose class outputs exist at once


def build_vista(arguments: VistaArguments) -> Any:
    """Return a VISTA3D network on torch's meta device; with the default arguments that of `vista3d132`."""
    nets = import_networks()
    vista = importlib.import_module("monai.networks.nets.vista3d")
    width = arguments.encoder_embed_dim
    with torch.device("meta"):
        encoder = nets.SegResNetDS2(
            in_channels=arguments.in_channels,
            blocks_down=arguments.blocks_down,
            norm="instance",
            out_channels=width,
            init_filters=width,
            dsdepth=1,
        )
        points = vista.PointMappingSAM(feature_size=width, n_classes=arguments.n_classes, last_supported=arguments.last_supported)
        classes = vista.ClassMappingClassify(n_classes=arguments.n_classes, feature_size=width, use_mlp=True)
        network = vista.VISTA3D(image_encoder=encoder, class_head=classes, point_head=points)
    network.eval()
    return network


class ClassFeatures(nn.Module):
    """The class branch up to its last product: (B, 1, k, j, i) in, one feature vector a voxel out.

    What a class scores is the product of these features with its embedding. Both that and the blending of windows are
    linear, so features may be blended instead of the scores of every class.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.image_encoder = network.image_encoder
        self.mapping = network.class_head.image_post_mapping

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features."""
        _, features = self.image_encoder(x, with_point=False, with_label=True)
        result: torch.Tensor = self.mapping(features)
        return result


def class_embeddings(network: Any, numbers: list[int]) -> torch.Tensor:
    """Return the embeddings (classes, features) of class numbers as the class head maps them."""
    head = network.class_head
    with torch.inference_mode():
        chosen = torch.tensor(numbers, device=head.class_embeddings.weight.device)[:, None]
        found: torch.Tensor = head.class_embeddings(chosen)
        if head.use_mlp:
            found = head.mlp(found)
    return found[:, 0]


class ClassSink:
    """Turns finished rows of features into labels: the class of the largest score, the first of equals, 0 where none is positive."""

    def __init__(self, embeddings: torch.Tensor, numbers: list[int], labels: Any) -> None:
        self._embeddings, self._numbers, self._labels = embeddings, torch.tensor([0, *numbers]), labels
        self._axis, self._done = 0, 0

    def begin(self, channels: int, shape: tuple[int, int, int], axis: int, device: torch.device) -> None:
        """Get ready for rows along an axis."""
        if channels != self._embeddings.shape[1]:
            raise IncompatibleModelError(f"the network gives {channels} features, its classes have {self._embeddings.shape[1]}")
        self._axis, self._done = axis, 0

    def push(self, rows: torch.Tensor) -> None:
        """Label the next rows."""
        flat = rows.reshape(rows.shape[0], -1).float()
        embeddings, found = self._embeddings.to(flat.device), torch.empty(flat.shape[1], dtype=torch.long, device=flat.device)
        for first in range(0, flat.shape[1], _CHUNK_VOXELS):
            scores = embeddings @ flat[:, first : first + _CHUNK_VOXELS]
            best, place = scores.max(0)
            found[first : first + _CHUNK_VOXELS] = torch.where(best > 0, place + 1, 0)
        count = rows.shape[self._axis + 1]
        where = [slice(None)] * 3
        where[self._axis] = slice(self._done, self._done + count)
        self._labels[tuple(where)] = self._numbers[found.cpu()].reshape(rows.shape[1:]).numpy()
        self._done += count

    def finish(self) -> Any:
        """Return the labels."""
        return self._labels
