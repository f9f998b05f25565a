"""Everything of a running training that must outlive a kill: kept in one value, saved to and restored from a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.core.errors import ParameterError
from medseg.segmentation.learned.dependencies import import_torch
from medseg.training.checkpoint import Checkpoint, load_checkpoint, optimiser_tensors, restore_optimiser, save_checkpoint
from medseg.training.networks import load_partly, unique_tensors
from medseg.training.plan import TrainingPlan
from medseg.training.schedule import average_decay

if TYPE_CHECKING:
    import torch

_MOMENTUM = 0.99


@dataclass
class Counters:
    """What a run counts: steps done, best validation and how many since, steps left out, seconds of work."""

    step: int = 0
    best_dice: float = -math.inf
    since_best: int = 0
    left_out: int = 0
    left_out_running: int = 0
    seconds: float = 0.0
    finished: str = ""


@dataclass
class TrainingState:
    """Network, the average of its weights, optimiser, scaler of float16 gradients, counters, and whose they are."""

    network: torch.nn.Module
    average: dict[str, torch.Tensor]
    optimiser: torch.optim.Optimizer
    scaler: Any
    owner: dict[str, Any]
    counters: Counters = field(default_factory=Counters)

    def update_average(self, decay: float) -> None:
        """Move the average of the weights towards the weights as they are after a step."""
        torch = import_torch()
        share = 1 - average_decay(self.counters.step, decay)
        current = unique_tensors(self.network)
        floats = [name for name, tensor in current.items() if tensor.is_floating_point()]
        with torch.no_grad():
            torch._foreach_lerp_([self.average[name] for name in floats], [current[name] for name in floats], share)
            for name in current.keys() - set(floats):
                self.average[name].copy_(current[name])

    def save(self, path: Path) -> None:
        """Write the checkpoint."""
        tensors = {"network": unique_tensors(self.network), "average": self.average, "optimiser": optimiser_tensors(self.optimiser)}
        document = {"owner": self.owner, "counters": vars(self.counters), "scaler": self.scaler.state_dict() if self.scaler else {}}
        save_checkpoint(path, Checkpoint(tensors, document))

    def restore(self, path: Path) -> None:
        """Go back to a checkpoint; raises ParameterError where it belongs to another plan, fold or split."""
        checkpoint = load_checkpoint(path)
        differs = [name for name, value in self.owner.items() if checkpoint.document["owner"].get(name) != value]
        if differs:
            raise ParameterError(
                f"{path} was begun with another {' and '.join(differs)}: train into a new folder, or delete this fold to train it anew"
            )
        load_partly(self.network, checkpoint.tensors["network"])
        for name, tensor in checkpoint.tensors["average"].items():
            self.average[name].copy_(tensor)
        restore_optimiser(self.optimiser, checkpoint.tensors.get("optimiser", {}))
        if self.scaler and checkpoint.document["scaler"]:
            self.scaler.load_state_dict(checkpoint.document["scaler"])
        self.counters = Counters(**checkpoint.document["counters"])


def new_state(
    network: torch.nn.Module, plan: TrainingPlan, owner: Mapping[str, Any], *, scaled: bool, device: torch.device
) -> TrainingState:
    """Return the state before the first step; the network is moved to the device, its convolutions channels-last."""
    torch = import_torch()
    network = network.to(device=device, memory_format=torch.channels_last_3d).train()
    entry = plan.optimiser
    optimiser: Any
    if entry.name == "adamw":
        optimiser = torch.optim.AdamW(network.parameters(), lr=entry.learning_rate, weight_decay=entry.weight_decay)
    else:
        optimiser = torch.optim.SGD(
            network.parameters(), lr=entry.learning_rate, momentum=_MOMENTUM, nesterov=True, weight_decay=entry.weight_decay
        )
    average = {name: tensor.clone() for name, tensor in unique_tensors(network).items()}
    return TrainingState(network, average, optimiser, torch.amp.GradScaler(device.type) if scaled else None, dict(owner))
