"""Where an nnU-Net model lies on the disk: its folder, its folds, and the folder of the stage before it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from medseg.core.errors import IncompatibleModelError, ModelNotFoundError
from medseg.segmentation.learned.nnunet.network import Checkpoint, read_checkpoint
from medseg.segmentation.learned.store.durable import sha256_of
from medseg.segmentation.learned.store.file_state import FileState

_FOLD = re.compile(r"fold_(\d{1,3}|all)")
_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")  # the first one there is used
_PREFERRED = ("3d_fullres", "3d_cascade_fullres", "3d_lowres")
_SEPARATOR = "__"


@dataclass(frozen=True)
class Fold:
    """The weights of one training run: its number (None for `fold_all`) and its file, read when first asked for."""

    number: int | None
    path: Path

    @property
    def name(self) -> str:
        """The name of its folder's number, "all" where it was trained on every case."""
        return "all" if self.number is None else str(self.number)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """What its file holds; weights are mapped from it, so look whether it is unchanged after copying them."""
        _ = self._state  # before it is read
        return read_checkpoint(self.path)

    @property
    def about(self) -> Checkpoint:
        """What its file says beside the weights."""
        return self.checkpoint

    @property
    def sha256(self) -> str:
        """SHA-256 of its file."""
        return self._sha256

    def check_unchanged(self) -> None:
        """Raise ChecksumError where its file is no longer the one that was read or hashed first."""
        self._state.check()

    @cached_property
    def _state(self) -> FileState:
        return FileState.of(self.path)

    @cached_property
    def _sha256(self) -> str:
        try:
            state = self._state
            digest = sha256_of(self.path)
            state.check()
            return digest
        except OSError as err:
            raise ModelNotFoundError(f"{self.path} cannot be read ({err.strerror}): copy the model folder again") from err


def is_model_folder(path: Path) -> bool:
    """Whether a folder is one that training with nnU-Net v2 leaves."""
    return (path / "plans.json").is_file() and (path / "dataset.json").is_file()


def find_model_folder(path: Path) -> Path:
    """Return the model folder at or below a path: `TRAINER__PLANS__CONFIGURATION`, or the `DatasetNNN_…` around it.

    Of several configurations of one trainer the full resolution is taken. Raises ModelNotFoundError where there is
    none, IncompatibleModelError where several trainers leave a choice.
    """
    if is_model_folder(path):
        return path
    found = [child for child in sorted(path.glob(f"*{_SEPARATOR}*{_SEPARATOR}*")) if is_model_folder(child)] if path.is_dir() else []
    if not found:
        raise ModelNotFoundError(f"{path} is no nnU-Net v2 model: it needs plans.json and dataset.json beside its fold_ folders")
    for configuration in _PREFERRED:
        matching = [child for child in found if child.name.endswith(f"{_SEPARATOR}{configuration}")]
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise IncompatibleModelError(
                f"{path} holds several models ({', '.join(child.name for child in matching)}): give the folder of one"
            )
    raise IncompatibleModelError(f"{path} holds no 3D model, only {', '.join(child.name for child in found)}")


def find_folds(path: Path) -> tuple[Fold, ...]:
    """Return the trained folds of a model folder by number; `fold_all` only where there is no other.

    Raises ModelNotFoundError where no fold has a checkpoint.
    """
    folds: list[Fold] = []
    for child in path.iterdir() if path.is_dir() else ():
        match = _FOLD.fullmatch(child.name)
        file = next((child / name for name in _CHECKPOINTS if (child / name).is_file()), None)
        if match and file is not None:
            folds.append(Fold(None if match[1] == "all" else int(match[1]), file))
    numbered = sorted((fold for fold in folds if fold.number is not None), key=lambda fold: fold.number or 0)
    if not folds:
        raise ModelNotFoundError(f"{path} has no fold with {_CHECKPOINTS[0]}: copy its fold_ folders too, or train it")
    return tuple(numbered or folds)


def chosen_folds(folds: Sequence[Fold], numbers: Sequence[int] | None, name: str) -> tuple[Fold, ...]:
    """Return the folds asked for (None: all); raises ModelNotFoundError for a number that was not trained."""
    if numbers is None:
        return tuple(folds)
    by_number = {fold.number: fold for fold in folds}
    missing = [number for number in numbers if number not in by_number]
    if missing or not numbers:
        raise ModelNotFoundError(f"model {name!r} has no fold {missing[:5]}; it has {', '.join(fold.name for fold in folds)}")
    return tuple(by_number[number] for number in dict.fromkeys(numbers))


def previous_stage_folder(path: Path, configuration: str) -> Path:
    """Return the folder of a cascade's first stage, beside its own; raises ModelNotFoundError where it is missing."""
    parts = path.name.split(_SEPARATOR)
    candidate = path.parent / _SEPARATOR.join([*parts[:-1], configuration])
    if len(parts) == 3 and is_model_folder(candidate):
        return candidate
    found = [child for child in sorted(path.parent.glob(f"*{_SEPARATOR}{configuration}")) if is_model_folder(child)]
    if len(found) == 1:
        return found[0]
    raise ModelNotFoundError(
        f"{path} is the second stage of a cascade; its first stage ({configuration}) is missing: copy {candidate.name} beside it"
    )
