"""What runs the networks: torch, or OpenVINO on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from medseg.core.errors import DeviceError, IncompatibleModelError
from medseg.segmentation.learned.engine.kept_networks import Forms
from medseg.segmentation.learned.engine.placement import placed

if TYPE_CHECKING:
    import torch

    from medseg.segmentation.learned.engine.forward import Network

Backend = Literal["torch", "openvino"]


def with_backend(
    networks: Sequence[Network], backend: Backend, device: torch.device, precision: str, forms: Forms | None = None
) -> list[Network]:
    """Return networks that run on the backend asked for; each is prepared at its first patch, and once for all where `forms` are kept.

    Raises MissingDependencyError where OpenVINO is not installed, DeviceError for a device other than the CPU,
    IncompatibleModelError for networks with dropout switched on, which OpenVINO would switch off.
    """
    if backend == "torch":
        return list(networks)
    if device.type != "cpu":
        raise DeviceError(f"OpenVINO runs networks on the CPU here, not on {device}: add --device cpu, or leave --backend out")
    if any(_is_training(network) for network in networks):
        raise IncompatibleModelError("OpenVINO leaves dropout out: take --backend torch for passes with dropout")
    from medseg.segmentation.learned.networks.openvino_backend import OpenVinoNetwork

    kept: Literal["float32", "bfloat16"] = "bfloat16" if precision == "bfloat16" else "float32"
    forms = forms or Forms()

    def form(network: Any) -> Network:
        placed(network, device)  # where a scan before this one had it run on CUDA
        return forms.get(network, ("openvino", kept), lambda: OpenVinoNetwork(network, kept))

    return [form(network) for network in networks]


def _is_training(network: Any) -> bool:
    modules = getattr(network, "modules", None)
    return modules is not None and any(module.training for module in modules())
