"""A VISTA3D of MONAI's own classes, small, with random weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
safetensors = pytest.importorskip("safetensors.torch")

torch.set_num_threads(1)

SMALL = {"encoder_embed_dim": 8, "blocks_down": [1, 1, 1], "n_classes": 160, "last_supported": 132}


@pytest.fixture(scope="session")
def vista() -> Any:
    """The small network, on the CPU, built by MONAI's classes directly; its scores are shifted so that some are positive."""
    from monai.networks.nets import SegResNetDS2
    from monai.networks.nets.vista3d import VISTA3D, ClassMappingClassify, PointMappingSAM

    with torch.random.fork_rng():
        torch.manual_seed(5)
        encoder = SegResNetDS2(in_channels=1, blocks_down=(1, 1, 1), norm="instance", out_channels=8, init_filters=8, dsdepth=1)
        points = PointMappingSAM(feature_size=8, n_classes=160, last_supported=132)
        classes = ClassMappingClassify(n_classes=160, feature_size=8, use_mlp=True)
        network = VISTA3D(image_encoder=encoder, class_head=classes, point_head=points)
    network.eval()
    return network.requires_grad_(False)


@pytest.fixture
def vista_folder(vista: Any, tmp_path: Path) -> Callable[..., Path]:
    """Writes that network as a model folder."""

    def write(**changes: Any) -> Path:
        content = safetensors.save({name: tensor.contiguous() for name, tensor in vista.state_dict().items()})
        (tmp_path / "weights.safetensors").write_bytes(content)
        entries = {
            "schema": "medseg.prompt-model/1",
            "kind": "vista3d",
            "name": "tiny-vista",
            "version": "1",
            "title": "Random weights for tests",
            "network": {"name": "vista3d132", "arguments": SMALL},
            "classes": {"1": "liver", "3": "spleen", "23": "lung tumor", "140": "new"},
            "spacing_mm": 2.0,
            "patch_size": [16, 16, 16],
            "weights": {"file": "weights.safetensors", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)},
            "licence": {"code": "Apache-2.0", "weights": "CC0-1.0", "data": "CC0-1.0"},
            "intended_use": "tests",
        }
        (tmp_path / "vista3d.json").write_text(json.dumps({**entries, **changes}))
        return tmp_path

    return write
