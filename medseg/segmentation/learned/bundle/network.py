"""The network of a bundle: built by medseg's registry from its definition, filled with weights read as data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.core.errors import IncompatibleModelError, ModelNotFoundError
from medseg.segmentation.learned.bundle.config import Component, Configuration, inside
from medseg.segmentation.learned.bundle.expression import DataType, Device, RefusedError
from medseg.segmentation.learned.dependencies import import_torch
from medseg.segmentation.learned.networks.registry import build, channels_of
from medseg.segmentation.learned.networks.table import check_arguments
from medseg.segmentation.learned.store.checkpoint import load_checkpoint

if TYPE_CHECKING:
    import torch

SECTIONS = ("network_def", "network", "net_def", "net")
WEIGHTS = ("models/model.safetensors", "models/model.pt", "models/model.pth", "models/model.ckpt", "model/model.pt")
TORCHSCRIPT = "models/model.ts"
# Where MONAI's own savers put the state dict within a checkpoint.
_NESTED = ("model", "state_dict", "network", "net", "model_state_dict", "network_weights")
_ALIASES = {"Unet": "UNet", "unet": "UNet", "BasicUnet": "BasicUNet", "Basicunet": "BasicUNet", "basicunet": "BasicUNet"}
_ALIASES |= {"DynUnet": "DynUNet", "Dynunet": "DynUNet", "AttentionUNet": "AttentionUnet", "UNetR": "UNETR"}
# Arguments that newer versions of MONAI dropped or renamed, without effect on the weights.
_DROPPED: Mapping[str, tuple[str, ...]] = {
    "SwinUNETR": ("img_size", "use_checkpoint"),
    "UNet": ("dimensions",),
    "BasicUNet": ("dimensions",),
    "FlexibleUNet": ("pretrained",),
}
_RENAMED: Mapping[str, Mapping[str, str]] = {"UNETR": {"pos_embed": "proj_type"}}
_DIFFERENCES = 5


@dataclass(frozen=True)
class NetworkDefinition:
    """A network's name in the registry, its arguments, and its channels."""

    name: str
    arguments: Mapping[str, Any]
    in_channels: int
    out_channels: int


def short_network_name(name: str) -> str:
    """Return the registry's name of a MONAI network, whose spellings vary."""
    return _ALIASES.get(name, name)


def define_network(component: Any) -> NetworkDefinition:
    """Return the network of a component; raises RefusedError where it is none, IncompatibleModelError for wrong arguments."""
    if not isinstance(component, Component):
        raise RefusedError("network_def: not a network")
    name = component.target
    arguments = {key: _plain(value, component) for key, value in component.arguments.items()}
    if "spatial_dims" not in arguments and isinstance(arguments.get("dimensions"), int):
        arguments["spatial_dims"] = arguments["dimensions"]
    for old, new in _RENAMED.get(name, {}).items():
        if old in arguments:
            arguments.setdefault(new, arguments.pop(old))
    for old in _DROPPED.get(name, ()):
        arguments.pop(old, None)
    in_channels, out_channels = channels_of(name, {**_defaults(name), **arguments})
    check_arguments(name, arguments)
    return NetworkDefinition(name, arguments, in_channels, out_channels)


def _defaults(name: str) -> dict[str, int]:
    """The channels MONAI assumes where a definition leaves them out."""
    return {"SegResNet": {"in_channels": 1, "out_channels": 2}, "BasicUNet": {"in_channels": 1, "out_channels": 2}}.get(
        name, {"in_channels": 1, "out_channels": 1} if name == "VNet" else {}
    )


def _plain(value: Any, component: Component) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry, component) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry, component) for entry in value]
    if isinstance(value, (Component, DataType, Device)) or not (value is None or isinstance(value, (bool, int, float, str))):
        raise RefusedError(f"{component.where}: {component.target} with an argument that is no plain value ({type(value).__name__})")
    return value


def find_weights(folder: Path, configuration: Configuration) -> Path:
    """Return the file of weights: the one the configuration's CheckpointLoader names, else `models/model.pt` and the like.

    Raises ModelNotFoundError where there is none, RefusedError for one outside of the bundle.
    """
    for name in (*_named_in(configuration), *WEIGHTS):
        relative = name[2:] if name.startswith("./") else name
        safer = Path(relative).with_suffix(".safetensors").as_posix()
        for candidate in dict.fromkeys((safer, relative)):
            if (folder / candidate).is_file():
                return inside(folder, candidate)
    raise ModelNotFoundError(f"bundle {folder.name!r} has no weights ({', '.join(WEIGHTS)}): download them, they often lie apart")


def _named_in(configuration: Configuration) -> list[str]:
    """File names in the checkpoint loaders of the configuration, as far as they can be read."""
    places = ["checkpointloader::load_path"]
    handlers = configuration.raw("handlers")
    places += [f"handlers::{number}::load_path" for number in range(len(handlers))] if isinstance(handlers, list) else []
    values = [configuration.quietly(place) for place in (*places, "ckpt_path", "checkpoint", "infer::ckpt_name") if place in configuration]
    return [value for value in values if isinstance(value, str) and not value.startswith("/") and not value.endswith(".ts")]


def load_network(definition: NetworkDefinition, path: Path) -> torch.nn.Module:
    """Return the network with its weights on the CPU, ready for inference.

    Raises UnsafeModelError for weights that are a program, IncompatibleModelError with the first differences where names
    or shapes do not fit.
    """
    network = build(definition.name, definition.arguments)
    weights = state_dict_of(load_checkpoint(path), path)
    _check(network, weights, path)
    # copies: weights that are mapped from a file change with it
    network.load_state_dict({name: value.clone() for name, value in weights.items()}, strict=True, assign=True)
    return network.eval()


def state_dict_of(checkpoint: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the named tensors within a checkpoint, where MONAI's savers put them; float32, without a `module.` prefix."""
    torch = import_torch()
    found: Any = checkpoint
    for _ in range(3):
        if found and all(isinstance(value, torch.Tensor) for value in found.values()):
            break
        nested = next((found[name] for name in _NESTED if isinstance(found.get(name), Mapping)), None)
        if nested is None:
            raise IncompatibleModelError(f"{path.name} holds no state dict (looked for {', '.join(_NESTED)}): it is no file of weights")
        found = nested
    weights = {str(name): value for name, value in found.items() if isinstance(value, torch.Tensor)}
    if weights and all(name.startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): value for name, value in weights.items()}
    return {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}


def _check(network: torch.nn.Module, weights: Mapping[str, Any], path: Path) -> None:
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    got = {name: tuple(value.shape) for name, value in weights.items()}
    wrong = [f"{name} is missing" for name in expected if name not in got]
    wrong += [f"{name} is not in the network" for name in got if name not in expected]
    wrong += [f"{name} is {got[name]}, the network has {shape}" for name, shape in expected.items() if name in got and got[name] != shape]
    if wrong:
        raise IncompatibleModelError(
            f"{path.name} does not fit the bundle's network ({len(wrong)} differences): {'; '.join(wrong[:_DIFFERENCES])}. "
            "The weights belong to another version of the bundle: install both from one source"
        )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
