"""Builds a network from its description and fills it with checked weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.core.errors import IncompatibleModelError
from medseg.segmentation.learned.dependencies import import_networks, import_safetensors, import_torch
from medseg.segmentation.learned.description import ModelDescription
from medseg.segmentation.learned.store import ModelFolder

if TYPE_CHECKING:
    import torch

# The classes of monai.networks.nets a model may name: each takes its arguments as plain data and returns one tensor.
ALLOWED_NETWORKS = ("UNet", "BasicUNet", "DynUNet", "SegResNet")
_NAMED_DIFFERENCES = 5


def build_network(description: ModelDescription) -> torch.nn.Module:
    """Return the network of a description on torch's meta device: shapes, but no memory and no weights yet.

    Raises IncompatibleModelError where its class is not allowed, its arguments are refused, or its channels do not fit.
    """
    torch = import_torch()
    name, arguments = description.network.name, dict(description.network.arguments)
    if name not in ALLOWED_NETWORKS:
        raise IncompatibleModelError(f"model {description.name!r} names network {name!r}; allowed are {', '.join(ALLOWED_NETWORKS)}")
    _check_channels(description, arguments)
    if arguments.get("deep_supervision"):
        raise IncompatibleModelError(f"model {description.name!r}: deep_supervision is for training only, leave it out of model.json")
    try:
        with torch.device("meta"):
            network = getattr(import_networks(), name)(**arguments)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, NotImplementedError, AssertionError, RuntimeError) as err:
        raise IncompatibleModelError(f"model {description.name!r}: {name} does not take these arguments: {err}") from err
    network.eval()
    return network


def load_weights(network: torch.nn.Module, folder: ModelFolder) -> torch.nn.Module:
    """Fill a network from `build_network` with the hash-checked weights of its folder, as float32; return it.

    Raises ChecksumError where the file is not what the description names, IncompatibleModelError where weights and
    network differ in any name or shape (the first five are named).
    """
    torch = import_torch()
    content = folder.read_weights()
    where = f"model {folder.description.name!r}: {folder.description.weights.file}"
    try:
        weights: dict[str, Any] = import_safetensors().load(content)
    except Exception as err:  # safetensors' own error class is not part of its stable interface
        raise IncompatibleModelError(f"{where} is no safetensors file: {err}") from err
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    differences = _differences(expected, {name: tensor.shape for name, tensor in weights.items()})
    if differences:
        more = f" and {len(differences) - _NAMED_DIFFERENCES} more" if len(differences) > _NAMED_DIFFERENCES else ""
        raise IncompatibleModelError(f"{where} does not fit the network: {'; '.join(differences[:_NAMED_DIFFERENCES])}{more}")
    values = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in values.values()):
        raise IncompatibleModelError(f"{where} holds weights that are not finite: train or install the model again")
    network.load_state_dict(values, strict=True, assign=True)
    return network


def load_network(folder: ModelFolder) -> torch.nn.Module:
    """Return the network of a model folder with its weights, ready to predict on the CPU."""
    network = load_weights(build_network(folder.description), folder)
    network.requires_grad_(False)
    return network


def _check_channels(description: ModelDescription, arguments: dict[str, Any]) -> None:
    expected = {"spatial_dims": 3, "in_channels": len(description.channels), "out_channels": len(description.segments) + 1}
    for name, value in expected.items():
        if arguments.get(name) != value:
            raise IncompatibleModelError(
                f"model {description.name!r}: network argument {name} is {arguments.get(name)!r}, expected {value} "
                f"({len(description.channels)} input channels, {len(description.segments)} segments and background, 3D)"
            )


def _differences(expected: dict[str, Any], got: dict[str, Any]) -> list[str]:
    missing = [f"{name} is missing" for name in expected if name not in got]
    unknown = [f"{name} is not part of the network" for name in got if name not in expected]
    shapes = [
        f"{name} has shape {tuple(got[name])} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in got and got[name] != shape
    ]
    return missing + unknown + shapes
