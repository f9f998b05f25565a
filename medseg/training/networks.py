"""The network as it is trained: with an output at each lower level, and the names of what inference keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medseg.segmentation.learned.dependencies import import_torch
from medseg.segmentation.learned.networks.registry import build
from medseg.segmentation.learned.networks.table import rules_of
from medseg.training.plan import TrainingPlan
from medseg.training.sampling import generator

if TYPE_CHECKING:
    import torch

_LARGEST_SEED = 2**31 - 1


def inference_arguments(plan: TrainingPlan) -> dict[str, Any]:
    """Return the arguments of the network as inference builds it."""
    return {**plan.network.arguments, **channel_arguments(plan.network.name, len(plan.channels), len(plan.labels) + 1)}


def channel_arguments(name: str, inputs: int, outputs: int) -> dict[str, Any]:
    """Return the arguments of a network that follow from the data, under the names the network has for them."""
    rules = rules_of(name)
    return {rules.in_channels: inputs, rules.out_channels: outputs, **({"spatial_dims": 3} if rules.takes_spatial_dims else {})}


def build_training_network(plan: TrainingPlan, fold: int) -> torch.nn.Module:
    """Return a network with random weights that belong to the seed of the plan and the fold.

    Raises IncompatibleModelError for a name or arguments that make no network.
    """
    torch = import_torch()
    arguments = inference_arguments(plan)
    if plan.network.name == "DynUNet" and plan.deep_supervision:
        arguments |= {"deep_supervision": True, "deep_supr_num": plan.deep_supervision}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(plan.seed, fold, "network").integers(_LARGEST_SEED)))
        return build(plan.network.name, arguments, device="cpu")


def inference_weights(plan: TrainingPlan, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights inference needs, each once and without those of the lower outputs.

    A module that stands at two places of a network (DynUNet's blocks) has two names for one weight: one is enough, see
    `segmentation.learned.network.fill`.
    """
    network = build(plan.network.name, inference_arguments(plan))
    names: dict[int, list[str]] = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    sources = [next(name for name in aliases if name in weights) for aliases in names.values()]
    return {name: weights[name] for name in sources}


def outputs_of(network: Any, images: torch.Tensor, lower: int) -> list[torch.Tensor]:
    """Return the outputs (B, C, k, j, i) of a network in training mode, finest first, each on its own grid.

    `lower` is the number of outputs below the finest that are wanted of a network which has them without being built for it.
    """
    if getattr(network, "deep_supervision", False) and hasattr(network, "skip_layers"):
        # DynUNet itself would enlarge its lower outputs to the full grid, at many times the cost.
        finest = network.output_block(network.skip_layers(images))
        return [finest, *network.heads]
    if lower and hasattr(network, "encoder") and hasattr(getattr(network, "decoder", None), "seg_layers"):
        return _decoder_outputs(network, images)[: lower + 1]
    outputs = network(images)
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def _decoder_outputs(network: Any, images: torch.Tensor) -> list[torch.Tensor]:
    """The output of every stage of nnU-Net's decoder, finest first."""
    torch = import_torch()
    decoder = network.decoder
    skips = list(network.encoder(images))
    features = skips.pop()
    outputs = []
    for upsample, blocks, layer in zip(decoder.transpconvs, decoder.stages, decoder.seg_layers, strict=True):
        features = blocks(torch.cat((upsample(features), skips.pop()), 1))
        outputs.append(layer(features))
    return outputs[::-1]


def deep_module(network: torch.nn.Module, lower: int) -> torch.nn.Module:
    """Return a module around a network whose forward pass gives the list of `outputs_of`."""

    class DeepOutputs(import_torch().nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            return outputs_of(self.network, images, lower)

    return DeepOutputs()


def unique_tensors(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return weights and buffers by name, each once: modules that stand at two places of a network are named by the first."""
    seen: set[int] = set()
    unique: dict[str, torch.Tensor] = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            unique[name] = tensor.detach()
    return unique


def load_partly(network: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> list[str]:
    """Copy the weights whose name and shape fit into a network; return the names that were taken."""
    torch = import_torch()
    taken = []
    with torch.no_grad():
        for name, tensor in network.state_dict(keep_vars=True).items():
            if name in weights and weights[name].shape == tensor.shape:
                tensor.copy_(weights[name])
                taken.append(name)
    return taken
