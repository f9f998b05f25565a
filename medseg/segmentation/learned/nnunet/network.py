"""nnU-Net's networks with the weights of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.core.errors import IncompatibleModelError
from medseg.segmentation.learned.dependencies import import_torch
from medseg.segmentation.learned.networks.registry import build
from medseg.segmentation.learned.nnunet.plans import Architecture
from medseg.segmentation.learned.store.checkpoint import load_checkpoint

if TYPE_CHECKING:
    import torch

_NAMED_DIFFERENCES = 5


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint of nnU-Net says beside its weights; `mirror_axes` None where mirroring was not trained."""

    configuration: str
    mirror_axes: tuple[int, ...] | None
    trainer: str
    weights: Mapping[str, Any]


def read_checkpoint(path: Path) -> Checkpoint:
    """Return a checkpoint, its weights mapped from the file, nothing in it run.

    Raises UnsafeModelError, ChecksumError, IncompatibleModelError, ModelNotFoundError.
    """
    entries = load_checkpoint(path)
    weights = entries.get("network_weights")
    arguments = entries.get("init_args")
    configuration = arguments.get("configuration") if isinstance(arguments, Mapping) else None
    if not isinstance(weights, Mapping) or not isinstance(configuration, str):
        raise IncompatibleModelError(f"{path} is no checkpoint of nnU-Net v2: it lacks network_weights or init_args")
    axes = entries.get("inference_allowed_mirroring_axes")
    if axes is not None and not (isinstance(axes, (tuple, list)) and all(axis in (0, 1, 2) for axis in axes)):
        raise IncompatibleModelError(f"{path} names mirroring axes that a 3D model does not have")
    mirror_axes = None if not axes else tuple(sorted({int(axis) for axis in axes}))
    return Checkpoint(configuration, mirror_axes, str(entries.get("trainer_name", "")), weights)


def build_network(architecture: Architecture, channels: int, heads: int, weights: Mapping[str, Any], where: str) -> torch.nn.Module:
    """Return the network of an architecture with a copy of `weights`, as float32 on the CPU, ready to predict.

    A copy, because weights that are mapped from a file change with it.
    Raises IncompatibleModelError where arguments or weights do not fit; the first five differences are named.
    """
    torch = import_torch()
    arguments = {name: value for name, value in architecture.arguments.items() if name != "deep_supervision"}
    network = build(architecture.name, {**arguments, "input_channels": channels, "num_classes": heads})
    values = plain_weights(weights, where)
    _check_heads(values, heads, where)
    differences = _differences({name: tensor.shape for name, tensor in network.state_dict().items()}, values)
    if differences:
        more = f" and {len(differences) - _NAMED_DIFFERENCES} more" if len(differences) > _NAMED_DIFFERENCES else ""
        raise IncompatibleModelError(f"{where} does not fit the network of its plans: {'; '.join(differences[:_NAMED_DIFFERENCES])}{more}")
    mapped = {id(tensor) for tensor in weights.values()}
    copies = {name: tensor.clone() if id(tensor) in mapped else tensor for name, tensor in values.items()}
    network.load_state_dict(copies, strict=True, assign=True)
    network.requires_grad_(False)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise IncompatibleModelError(f"{where} holds weights that are not finite ({name}): copy or train the model again")
    return network


def plain_weights(weights: Mapping[str, Any], where: str) -> dict[str, torch.Tensor]:
    """Return weights by one name each, as float32 where they are fractions; raises IncompatibleModelError for what is no tensor."""
    from medseg.segmentation.learned.networks.unet import without_duplicates

    torch = import_torch()
    if not all(isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in weights.items()):
        raise IncompatibleModelError(f"{where}: network_weights holds something that is no tensor")
    kept = without_duplicates(weights)
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in kept.items()}


def _check_heads(weights: Mapping[str, Any], heads: int, where: str) -> None:
    layers = [tensor for name, tensor in weights.items() if name.startswith("decoder.seg_layers.") and name.endswith(".weight")]
    found = {int(tensor.shape[0]) for tensor in layers if tensor.ndim > 0}
    if found and found != {heads}:
        raise IncompatibleModelError(
            f"{where} has {', '.join(map(str, sorted(found)))} output channels, its dataset.json asks for {heads} (labels with background, "
            "or regions): checkpoint and dataset.json are of different models"
        )


def _differences(expected: Mapping[str, Any], got: Mapping[str, Any]) -> list[str]:
    missing = [f"{name} is missing" for name in expected if name not in got]
    unknown = [f"{name[:200]} is not part of the network" for name in got if name not in expected]
    shapes = [
        f"{name} has shape {tuple(got[name].shape)} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in got and got[name].shape != shape
    ]
    return shapes + missing + unknown
