"""The stages of a model: one, or for a cascade a coarse one whose labels the next gets as channels of its input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.core.errors import IncompatibleModelError
from medseg.segmentation.learned.engine.kept_networks import KeptNetworks
from medseg.segmentation.learned.nnunet.dataset import DatasetEntry, parse_dataset
from medseg.segmentation.learned.nnunet.folder import Fold, find_folds, previous_stage_folder
from medseg.segmentation.learned.nnunet.network import build_network
from medseg.segmentation.learned.nnunet.plans import Configuration, Plans, parse_plans, read_json

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Stage:
    """One configuration with its folds; `mirror_axes` (transposed axes) are those it was trained to be mirrored along.

    `networks` keeps those of its folds that were built for a run.
    """

    plans: Plans
    dataset: DatasetEntry
    configuration: Configuration
    folds: tuple[Fold, ...]
    mirror_axes: tuple[int, ...]
    networks: KeptNetworks = field(default_factory=KeptNetworks, init=False, repr=False, compare=False)

    @property
    def input_channels(self) -> int:
        """Channels of the network: the scans, and in the second stage of a cascade one per label."""
        previous = len(self.dataset.labels.foreground) if self.configuration.previous_stage else 0
        return len(self.dataset.channels) + previous

    def network(self, fold: Fold) -> torch.nn.Module:
        """Return a new network with the weights of a fold.

        Raises IncompatibleModelError where they do not fit, ChecksumError where the file changed since it was opened.
        """
        if fold.about.configuration != self.configuration.name:
            raise IncompatibleModelError(
                f"{fold.path} was trained as {fold.about.configuration!r}, the other folds as {self.configuration.name!r}: "
                "keep folds of one configuration in a folder"
            )
        heads = self.dataset.labels.heads
        weights = fold.checkpoint.weights
        network = build_network(self.configuration.architecture, self.input_channels, heads, weights, str(fold.path))
        fold.check_unchanged()
        return network


def read_stages(folder: Path) -> tuple[Stage, ...]:
    """Return the stages of the model in a folder, the one that gives the result last.

    Raises ModelNotFoundError, IncompatibleModelError, UnsafeModelError, ChecksumError.
    """
    stage = _read_stage(folder)
    previous = stage.configuration.previous_stage
    if previous is None:
        return (stage,)
    first = _read_stage(previous_stage_folder(folder, previous))
    if first.configuration.name != previous:
        raise IncompatibleModelError(f"{folder} needs the stage {previous!r} before it, its folder holds {first.configuration.name!r}")
    check_cascade(first, stage, str(folder))
    return first, stage


def check_cascade(first: Stage, second: Stage, where: str) -> None:
    """Raise IncompatibleModelError where two stages do not belong together."""
    if first.configuration.previous_stage is not None:
        raise IncompatibleModelError(f"{where}: the first stage of its cascade needs a stage itself; two stages are the most")
    if first.dataset.labels != second.dataset.labels or len(first.dataset.channels) != len(second.dataset.channels):
        raise IncompatibleModelError(f"{where}: the two stages of its cascade name other labels or channels")


def make_stage(
    plans_entries: Mapping[str, object], dataset_entries: Mapping[str, object], folds: tuple[Fold, ...], where: tuple[str, str]
) -> Stage:
    """Return a checked stage; the first fold's checkpoint says which configuration it is.

    Raises IncompatibleModelError where plans, data set and checkpoint do not fit together.
    """
    plans = parse_plans(plans_entries, where[0])
    dataset = parse_dataset(dataset_entries, where[1])
    about = folds[0].about
    configuration = plans.configuration(about.configuration)
    if len(configuration.normalisations) != len(dataset.channels):
        raise IncompatibleModelError(
            f"{where[0]} normalises {len(configuration.normalisations)} channels, dataset.json names {len(dataset.channels)}"
        )
    return Stage(plans, dataset, configuration, folds, about.mirror_axes or ())


def _read_stage(folder: Path) -> Stage:
    plans, dataset = folder / "plans.json", folder / "dataset.json"
    return make_stage(read_json(plans), read_json(dataset), find_folds(folder), (str(plans), str(dataset)))
