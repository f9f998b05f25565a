"""Builds a network from its description and fills it with checked weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medseg.core.errors import IncompatibleModelError
from medseg.segmentation.learned.dependencies import import_safetensors, import_torch
from medseg.segmentation.learned.description import ModelDescription
from medseg.segmentation.learned.networks.registry import build, fixed_patch, network_names, patch_multiple
from medseg.segmentation.learned.networks.table import rules_of
from medseg.segmentation.learned.store import ModelFolder

if TYPE_CHECKING:
    import torch

_NAMED_DIFFERENCES = 5


def build_network(description: ModelDescription) -> torch.nn.Module:
    """Return the network of a description on torch's meta device: shapes, but no memory and no weights yet.

    Raises IncompatibleModelError where its class is not allowed, its arguments are refused, its channels do not fit, or
    it cannot take the patches the description asks for.
    """
    name, arguments = description.network.name, dict(description.network.arguments)
    if name not in network_names():
        raise IncompatibleModelError(f"model {description.name!r} names network {name!r}; allowed are {', '.join(network_names())}")
    _check_channels(description, arguments)
    if arguments.get("deep_supervision"):
        raise IncompatibleModelError(f"model {description.name!r}: deep_supervision is for training only, leave it out of model.json")
    try:
        _check_patch(description, arguments)
        return build(name, arguments)
    except IncompatibleModelError as err:
        raise IncompatibleModelError(f"model {description.name!r}: {err}") from err


def load_weights(network: torch.nn.Module, folder: ModelFolder, fold: int = 0) -> torch.nn.Module:
    """Fill a network from `build_network` with the hash-checked weights of its folder (of one fold), as float32; return it.

    Raises ChecksumError where the file is not what the description names, IncompatibleModelError where weights and
    network differ in any name or shape (the first five are named).
    """
    content = folder.read_weights(fold)
    return fill_from_bytes(network, content, f"model {folder.description.name!r}: {folder.description.fold_weights[fold].file}")


def fill_from_bytes(network: torch.nn.Module, content: bytes, where: str) -> torch.nn.Module:
    """Fill a network with the content of a safetensors file and return it; `where` begins the error messages.

    Raises IncompatibleModelError where the content is no safetensors file, and as `fill` does.
    """
    try:
        weights: dict[str, Any] = import_safetensors().load(content)
    except Exception as err:  # safetensors' own error class is not part of its stable interface
        raise IncompatibleModelError(f"{where} is no safetensors file: {err}") from err
    return fill(network, weights, where)


def fill(network: torch.nn.Module, weights: Mapping[str, torch.Tensor], where: str) -> torch.nn.Module:
    """Give a network its weights, as float32, without copying what already is; return it.

    Second names for the same weights (nnU-Net's, DynUNet's) may be there or not. Raises IncompatibleModelError where a name
    or shape differs (the first five are named), or a weight is not finite; `where` begins the message.
    """
    torch = import_torch()
    unique = _by_one_name(network, weights)
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    differences = _differences(expected, {name: tensor.shape for name, tensor in unique.items()})
    if differences:
        more = f" and {len(differences) - _NAMED_DIFFERENCES} more" if len(differences) > _NAMED_DIFFERENCES else ""
        raise IncompatibleModelError(f"{where} does not fit the network: {'; '.join(differences[:_NAMED_DIFFERENCES])}{more}")
    values = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in unique.items()}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in values.values()):
        raise IncompatibleModelError(f"{where} holds weights that are not finite: train or install the model again")
    network.load_state_dict(values, strict=True, assign=True)
    return network


def load_network(folder: ModelFolder, fold: int = 0) -> torch.nn.Module:
    """Return the network of a model folder with its weights (of one fold), ready to predict on the CPU."""
    network = load_weights(build_network(folder.description), folder, fold)
    network.requires_grad_(False)
    return network


def _check_channels(description: ModelDescription, arguments: dict[str, Any]) -> None:
    rules = rules_of(description.network.name)
    expected = {rules.in_channels: len(description.channels), rules.out_channels: len(description.segments) + 1}
    given = dict(arguments)
    if rules.takes_spatial_dims:
        expected = {"spatial_dims": 3, **expected}
        given.setdefault("spatial_dims", 3)
    for name, value in expected.items():
        if given.get(name) != value:
            raise IncompatibleModelError(
                f"model {description.name!r}: network argument {name} is {arguments.get(name)!r}, expected {value} "
                f"({len(description.channels)} input channels, {len(description.segments)} segments and background, 3D)"
            )


def _check_patch(description: ModelDescription, arguments: dict[str, Any]) -> None:
    name = description.network.name
    i, j, k = description.patch_size
    only, multiple = fixed_patch(name, arguments), patch_multiple(name, arguments)
    if only is not None and only != (k, j, i):
        raise IncompatibleModelError(f"{name} takes patches of {_sides(only)} voxels only, model.json asks for {_sides((k, j, i))}")
    if any(side % need for side, need in zip((k, j, i), multiple, strict=True)):
        raise IncompatibleModelError(f"{name} takes patches that are multiples of {_sides(multiple)} voxels, not {_sides((k, j, i))}")


def _sides(shape: tuple[int, int, int]) -> str:
    return "×".join(str(side) for side in shape)


def _by_one_name(network: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    from medseg.segmentation.learned.networks.unet import EncoderDecoder, without_duplicates

    given = without_duplicates(weights) if isinstance(network, EncoderDecoder) else dict(weights)
    # Modules that stand at two places of a network (MONAI's DynUNet) may be stored once, under either name.
    places: dict[int, list[str]] = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        places.setdefault(id(tensor), []).append(name)
    for names in places.values():
        known = next((name for name in names if name in given), None)
        if known is not None:
            given |= {name: given[known] for name in names if name not in given}
    return given


def _differences(expected: dict[str, Any], got: dict[str, Any]) -> list[str]:
    missing = [f"{name} is missing" for name in expected if name not in got]
    unknown = [f"{name} is not part of the network" for name in got if name not in expected]
    shapes = [
        f"{name} has shape {tuple(got[name])} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in got and got[name] != shape
    ]
    return missing + unknown + shapes
