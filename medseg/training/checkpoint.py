"""Training states on disk: one safetensors file, replaced in one move, so that a kill at any moment leaves a whole one.

The file holds tensors (weights, their average, state of the optimiser) and, in its header, a JSON document (step, curve,
scaler, ...). There is no pickle in it: loading one runs no code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.core.errors import IncompatibleModelError
from medseg.io.atomic import TEMPORARY_PREFIX, write_bytes
from medseg.segmentation.learned.dependencies import import_safetensors, import_torch

if TYPE_CHECKING:
    import torch

SCHEMA = "medseg.training-state/1"
CHECKPOINT_FILE = "checkpoint.safetensors"
_HEADER = 8  # bytes that hold the length of the header


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by group ("network", "average", "optimiser") and name, and a JSON-like document."""

    tensors: dict[str, dict[str, torch.Tensor]]
    document: dict[str, Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in one move."""
    flat = {
        f"{group}/{name}": tensor.detach().to("cpu").contiguous().clone()
        for group, tensors in checkpoint.tensors.items()
        for name, tensor in tensors.items()
    }
    document = json.dumps({"schema": SCHEMA, **checkpoint.document}, allow_nan=True)
    write_bytes(path, import_safetensors().save(flat, metadata={"state": document}), overwrite=True)


def load_checkpoint(path: Path) -> Checkpoint:
    """Return what `save_checkpoint` wrote; raises IncompatibleModelError for a file that is no such thing."""
    content = path.read_bytes()
    try:
        flat = import_safetensors().load(content)
        length = int.from_bytes(content[:_HEADER], "little")
        document = json.loads(json.loads(content[_HEADER : _HEADER + length])["__metadata__"]["state"])
    except Exception as err:  # safetensors' own error class is not part of its stable interface
        raise IncompatibleModelError(f"{path} is no training state of medseg: delete the folder of this fold to train it anew") from err
    if document.pop("schema", None) != SCHEMA:
        raise IncompatibleModelError(f"{path} was written by another version of medseg: delete the folder of this fold to train it anew")
    tensors: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in flat.items():
        group, name = key.split("/", 1)
        tensors.setdefault(group, {})[name] = tensor
    return Checkpoint(tensors, document)


def remove_leftovers(folder: Path) -> None:
    """Remove what a kill in the middle of a write left in a folder."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        path.unlink(missing_ok=True)


def digest_of(weights: Mapping[str, torch.Tensor]) -> str:
    """Return a SHA-256 of weights and their names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the state of an optimiser as tensors named `parameter/quantity`."""
    torch = import_torch()
    state = optimiser.state_dict()["state"]
    return {
        f"{number}/{name}": torch.as_tensor(value)
        for number, entries in state.items()
        for name, value in entries.items()
        if value is not None
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put back what `optimiser_tensors` gave."""
    torch = import_torch()
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        number, name = key.split("/", 1)
        like = parameters[int(number)]
        # the same order in memory as the weights, or every step would convert it
        value = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
        state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
