"""Small model folders with random weights, made on the spot."""

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

# These networks are tiny: threads would wait for each other longer than they work, above all beside other tests.
torch.set_num_threads(1)

SMALL_NETWORK = {
    "name": "BasicUNet",
    "arguments": {
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 3,
        "features": [2, 2, 4, 4, 4, 2],
        "norm": ["batch", {"affine": True}],
    },
}


def _entries(**changes: Any) -> dict[str, Any]:
    entries: dict[str, Any] = {
        "schema": "medseg.model/1",
        "name": "tiny",
        "version": "1.0",
        "title": "Random weights for tests",
        "network": SMALL_NETWORK,
        "channels": ["CT"],
        "modality": "CT",
        "spacing_mm": [4.0, 4.0, 4.0],
        "orientation": "RAS",
        "normalisation": {"kind": "clip-and-scale", "lower": -1000, "upper": 1000},
        "background": -1000,
        "patch_size": [32, 32, 32],
        "overlap": 0.5,
        "segments": [{"number": 1, "label": "first"}, {"number": 7, "label": "second"}],
        "weights": {"file": "weights.safetensors", "sha256": "0" * 64, "bytes": 1},
        "licence": {"code": "Apache-2.0", "weights": "CC0-1.0", "data": "CC0-1.0"},
        "intended_use": "tests",
    }
    return {**entries, **changes}


def _write_model(folder: Path, weights: bytes, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.safetensors").write_bytes(weights)
    entry = {"file": "weights.safetensors", "sha256": hashlib.sha256(weights).hexdigest(), "bytes": len(weights)}
    entries = _entries(**{"weights": entry, **changes})
    (folder / "model.json").write_text(json.dumps(entries))
    return folder


def _random_weights(network: dict[str, Any]) -> bytes:
    from monai.networks import nets

    torch.manual_seed(1)
    built = getattr(nets, network["name"])(**network["arguments"])
    return safetensors.save({name: tensor.contiguous() for name, tensor in built.state_dict().items()})


@pytest.fixture(scope="session")
def tiny_weights() -> bytes:
    return _random_weights(SMALL_NETWORK)


@pytest.fixture(scope="session")
def description_entries() -> Callable[..., dict[str, Any]]:
    """Return the entries of a valid model.json with the given changes."""
    return _entries


@pytest.fixture(scope="session")
def random_weights() -> Callable[[dict[str, Any]], bytes]:
    """Return the safetensors bytes of a network entry with random weights."""
    return _random_weights


@pytest.fixture
def make_model(tmp_path: Path, tiny_weights: bytes) -> Callable[..., Path]:
    """Write a model folder with the given changes to its description; returns its path."""

    def make(name: str = "tiny", weights: bytes | None = None, **changes: Any) -> Path:
        return _write_model(tmp_path / name, tiny_weights if weights is None else weights, **changes)

    return make
