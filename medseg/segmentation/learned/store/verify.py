"""Reads a model through and through without running it: what it is, whether its weights are whole, finite and fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.core.errors import IncompatibleModelError
from medseg.core.segment import Segment
from medseg.method.settings import Progress, no_progress
from medseg.segmentation.learned.dependencies import import_torch
from medseg.segmentation.learned.store.checkpoint import load_checkpoint
from medseg.segmentation.learned.trained import ModelIdentity

_WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt")
_BUNDLE = "monai-bundle"
_PROMPTED = ("click", "vista3d")
_NEVER_READ = (".pkl", ".pickle", ".joblib", ".dill", ".npy", ".npz", ".so", ".dll", ".dylib", ".pyd", ".pyc", ".exe")
_TRAINING_STATE = ("optimizer_state", "optimizer", "optimizer_state_dict", "grad_scaler_state", "scheduler", "logging")


@dataclass(frozen=True)
class Facts:
    """What a model says about itself."""

    identity: ModelIdentity
    segments: tuple[Segment, ...]


def drop_dangerous(folder: Path) -> list[str]:
    """Delete files that medseg never reads and that other programs might run (pickles, libraries); returns their names."""
    doomed = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix.lower() in _NEVER_READ]
    for path in doomed:
        path.unlink()
    return [path.relative_to(folder).as_posix() for path in doomed]


def verify_model(root: Path, progress: Progress = no_progress) -> Facts:
    """Open a model as for use, and read all of its weights.

    Raises UnsafeModelError, ChecksumError and IncompatibleModelError as the readers of its kind do, and
    IncompatibleModelError for weights that are not finite.
    """
    from medseg.segmentation.learned.loading import open_model  # imports the store itself

    model = open_model(root)
    if model.identity.kind != _BUNDLE:  # a bundle's own weights are read below; what else it holds is never read
        files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.suffix.lower() in _WEIGHTS]
        for done, path in enumerate(files):
            progress("checking weights", done, len(files))
            _check_finite(load_checkpoint(path), path.name)
    _fill_networks(model, root)
    progress("checking weights", 1, 1)
    return Facts(model.identity, tuple(model.segments))


def _fill_networks(model: Any, root: Path) -> None:
    """Put every weight into its network once, so that names and shapes are known to fit."""
    if model.identity.kind == "medseg":
        from medseg.segmentation.learned.network import load_network
        from medseg.segmentation.learned.store.find import read_folder

        load_network(read_folder(root))
    elif model.identity.kind == "nnunet":
        for stage in model.stages:
            for fold in stage.folds:
                stage.network(fold)
    elif model.identity.kind in _PROMPTED:
        model.network()
    elif model.identity.kind == _BUNDLE:
        _check_finite(model.load().state_dict(), "the bundle's network")


def _check_finite(weights: Mapping[Any, Any], where: str) -> None:
    torch = import_torch()
    for name, tensor in _tensors(weights):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise IncompatibleModelError(f"{where}: {name} holds weights that are not finite: its training failed, do not use it")


def _tensors(values: Mapping[Any, Any], depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the tensors of a checkpoint but those of its optimiser, with their names."""
    for name, value in values.items():
        if isinstance(value, Mapping) and depth < 4 and name not in _TRAINING_STATE:
            yield from _tensors(value, depth + 1)
        elif hasattr(value, "is_floating_point"):
            yield str(name), value
