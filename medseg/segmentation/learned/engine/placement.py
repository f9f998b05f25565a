"""On which device the weights of networks lie, and how they get there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from medseg.segmentation.learned.dependencies import import_torch

if TYPE_CHECKING:
    import torch


def placed(network: Any, device: torch.device) -> Any:
    """Return a network whose weights lie on a device, in the order in memory that is fastest there.

    What comes back from CUDA to the CPU lies there as it did before, so that it computes to the bit what it would have.
    """
    if not hasattr(network, "to"):
        return network
    torch = import_torch()
    with torch.inference_mode(False):  # a network outlives the run that moves it
        if device.type == "cuda":
            return network.to(device=device, memory_format=torch.channels_last_3d)
        if is_on_cuda(network):
            return network.to(device=device, memory_format=torch.contiguous_format)
        return network.to(device=device)


def is_on_cuda(network: Any) -> bool:
    """Return whether any of the weights of a network lie on a CUDA device."""
    return any(tensor.device.type == "cuda" for tensor in _parameters(network))


def weight_bytes(networks: Iterable[Any]) -> int:
    """Return what the weights of networks take, each counted once where networks share it."""
    unique = {id(tensor): tensor for network in networks for tensor in _parameters(network)}
    return sum(tensor.numel() * tensor.element_size() for tensor in unique.values())


def bytes_on(networks: Iterable[Any], device: torch.device) -> int:
    """Return what the weights of networks that lie on a device take there."""
    unique = {id(tensor): tensor for network in networks for tensor in _parameters(network) if tensor.device == device}
    return sum(tensor.numel() * tensor.element_size() for tensor in unique.values())


def _parameters(network: Any) -> list[Any]:
    return list(network.parameters()) if hasattr(network, "parameters") else []
