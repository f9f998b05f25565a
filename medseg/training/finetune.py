"""Training on from a model: its network and grid, its weights where they fit, an output layer for the labels of the dataset."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.core.errors import IncompatibleModelError, ParameterError
from medseg.io.atomic import write_text
from medseg.segmentation.learned.dependencies import import_torch
from medseg.segmentation.learned.networks.registry import build, fixed_patch, patch_multiple
from medseg.segmentation.learned.networks.table import rules_of
from medseg.training.export import FINETUNE_FILE
from medseg.training.finetune_source import SourceNetwork, without_channels
from medseg.training.networks import build_training_network, channel_arguments, inference_arguments
from medseg.training.plan import TrainingPlan, parse_plan

if TYPE_CHECKING:
    import torch

LEARNING_RATE_SHARE = 0.1  # of the rate for a network that begins at random
_LEAST_TAKEN = 0.5  # share of the weights below which a start is no start
# How the modules on the way down are named in the networks of MONAI and nnU-Net.
_ENCODERS = ("input_block", "downsamples", "bottleneck", "encoder", "convInit", "down_layers", "conv_0", "down_", "swinViT", "vit", "in_tr")


@dataclass(frozen=True)
class Start:
    """Weights to start from, by name; which of them are the model's own (`taken`), partly so (`adapted`) or random (`fresh`).

    `kept_labels` are the labels whose output channel was taken over; `encoder` the weights on the way down, which
    `LoopSettings.frozen` can hold still.
    """

    weights: dict[str, torch.Tensor]
    taken: tuple[str, ...]
    adapted: tuple[str, ...]
    fresh: tuple[str, ...]
    kept_labels: tuple[str, ...]
    encoder: tuple[str, ...] = field(default=())


def finetuning_plan(source: SourceNetwork, plan: TrainingPlan, learning_rate: float | None = None) -> TrainingPlan:
    """Return a plan made for a dataset with network, grid and normalisation of `source` and a lower learning rate.

    The patch is the source's, rounded up to what the network takes; the batch is smaller where the patch is larger. Raises
    IncompatibleModelError where the numbers of channels differ.
    """
    rules = rules_of(source.name)
    channels = source.arguments.get(rules.in_channels, len(source.identity.channels) or len(plan.channels))
    if channels != len(plan.channels):
        raise IncompatibleModelError(
            f"model {source.identity.name!r} takes {channels} channel(s), the dataset has {len(plan.channels)} "
            f"({', '.join(plan.channels)}): choose another model to start from"
        )
    entries = plan.to_dict()
    patch_before = math.prod(plan.patch_size)
    entries |= {key: value for key, value in source.plan_entries.items() if key != "patch_size"}
    arguments = {
        **without_channels(source.name, source.arguments),
        **channel_arguments(source.name, len(plan.channels), len(plan.labels) + 1),
    }
    entries["network"] = {"name": source.name, "arguments": arguments}
    entries["deep_supervision"] = _lower_outputs(source)
    multiple = max(patch_multiple(source.name, arguments))
    only = fixed_patch(source.name, arguments)
    wanted = source.plan_entries.get("patch_size", plan.patch_size)
    patch = list(only[::-1]) if only else [math.ceil(size / multiple) * multiple for size in wanted]
    entries["patch_size"] = patch
    entries["batch_size"] = max(1, min(plan.batch_size, plan.batch_size * patch_before // math.prod(patch)))
    rate = learning_rate or plan.optimiser.learning_rate * LEARNING_RATE_SHARE
    entries["optimiser"] = {**entries["optimiser"], "learning_rate": rate}
    return parse_plan(entries, f"the plan from model {source.identity.name!r}")


def starting_weights(source: SourceNetwork, plan: TrainingPlan) -> Start:
    """Return the weights to start from: those of `source`, and an output layer for the labels of the plan.

    Output channels of labels with the same name (and of the background) are taken over, others begin at random. Raises
    IncompatibleModelError where less than half of the weights fit: the network of the plan is not the model's then.
    """
    network = build_training_network(plan, fold=0)
    outputs = _output_layer(plan)
    before = {label.lower(): channel for channel, label in enumerate(source.outputs, 1)}
    after = {plan.labels[number].lower(): channel for channel, number in enumerate(sorted(plan.labels), 1)}
    pairs = [(0, 0), *((channel, before[label]) for label, channel in after.items() if label in before)]
    weights: dict[str, Any] = {}
    kinds: dict[str, list[str]] = {"taken": [], "adapted": [], "fresh": []}
    for name, tensor in network.state_dict().items():
        theirs = source.weights.get(name)
        value, kind = tensor.detach().clone(), "fresh"
        if theirs is not None and name in outputs and _differs_only_in(outputs[name], theirs, tensor, len(source.outputs) + 1):
            kind = "adapted"
            _copy_channels(value, theirs, outputs[name], pairs)
        elif theirs is not None and name not in outputs and theirs.shape == tensor.shape:
            value, kind = theirs.to(tensor.dtype), "taken"
        weights[name] = value
        kinds[kind].append(name)
    known = sum(weights[name].numel() for name in (*kinds["taken"], *kinds["adapted"]))
    if known < _LEAST_TAKEN * sum(tensor.numel() for tensor in weights.values()):
        raise IncompatibleModelError(
            f"only {known} weights of model {source.identity.name!r} fit the network of the plan: "
            "leave `network` in plan.yaml as the model has it"
        )
    kept = tuple(label for label in (plan.labels[number] for number in sorted(plan.labels)) if label.lower() in before)
    names = tuple(name for name, _ in network.named_parameters() if name.startswith(_ENCODERS))
    return Start(
        weights,
        tuple(kinds["taken"]),
        tuple(kinds["adapted"]),
        tuple(kinds["fresh"]),
        kept,
        names,
    )


def write_start(folder: Path, source: SourceNetwork, start: Start, frozen_steps: int) -> None:
    """Write finetune.json: from which model the run began, and which weights were taken."""
    identity = source.identity
    document = {
        "schema": "medseg.finetune/1",
        "source": {
            "name": identity.name,
            "version": identity.version,
            "kind": identity.kind,
            "sha256": identity.sha256,
            "licence": dict(identity.licence),
        },
        "kept_labels": list(start.kept_labels),
        "frozen_steps": frozen_steps,
        "notes": list(source.notes),
        "taken": list(start.taken),
        "adapted": list(start.adapted),
        "fresh": list(start.fresh),
    }
    text = json.dumps(document, indent=1) + "\n"
    path = folder / FINETUNE_FILE
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("source") != document["source"]:
        raise ParameterError(f"{folder} was begun from another model: train into a new folder")
    write_text(path, text, overwrite=True)


def _lower_outputs(source: SourceNetwork) -> int:
    strides = source.arguments.get("strides")
    levels = len(strides) if isinstance(strides, list | tuple) else 0
    return max(0, levels - 2) if source.name in ("DynUNet", "PlainConvUNet", "ResidualEncoderUNet") else 0


def _output_layer(plan: TrainingPlan) -> dict[str, tuple[int, ...]]:
    """Weights whose shape depends on the number of labels, and along which of their axes."""
    arguments = inference_arguments(plan)
    counted = rules_of(plan.network.name).out_channels
    if plan.network.name == "DynUNet" and plan.deep_supervision:
        arguments |= {"deep_supervision": True, "deep_supr_num": plan.deep_supervision}
    now, more = (
        {name: tuple(tensor.shape) for name, tensor in build(plan.network.name, {**arguments, counted: count}).state_dict().items()}
        for count in (arguments[counted], arguments[counted] + 1)
    )
    return {
        name: tuple(axis for axis, (first, second) in enumerate(zip(shape, more[name], strict=True)) if first != second)
        for name, shape in now.items()
        if more[name] != shape
    }


def _differs_only_in(axes: tuple[int, ...], theirs: torch.Tensor, ours: torch.Tensor, count: int) -> bool:
    """Whether two weights agree but for the axes that count labels, of which `theirs` has `count`."""
    expected = tuple(count if axis in axes else size for axis, size in enumerate(ours.shape))
    return tuple(theirs.shape) == expected


def _copy_channels(ours: torch.Tensor, theirs: torch.Tensor, axes: tuple[int, ...], pairs: Sequence[tuple[int, int]]) -> None:
    """Copy the channels that both sides have, as pairs (ours, theirs), along every axis that counts them."""
    torch = import_torch()
    new, old = (torch.tensor(numbers) for numbers in zip(*pairs, strict=True))
    whole = [torch.arange(size) for size in ours.shape]
    target = torch.meshgrid(*[new if axis in axes else whole[axis] for axis in range(ours.ndim)], indexing="ij")
    source = torch.meshgrid(*[old if axis in axes else whole[axis] for axis in range(ours.ndim)], indexing="ij")
    ours[target] = theirs[source].to(ours.dtype)
