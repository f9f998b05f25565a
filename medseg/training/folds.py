"""The folds of a cross-validation: who is in which, each trained, exported as a model of its own, and scored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.core.errors import ParameterError
from medseg.io.atomic import write_text
from medseg.method.settings import Progress, no_progress
from medseg.segmentation.learned.dependencies import versions
from medseg.training.cache import CachedCase
from medseg.training.dataset import Dataset, some
from medseg.training.export import WEIGHTS_FILE, sha256_of_weights, write_fold_model
from medseg.training.loop import FoldResult, LoopSettings, train_fold
from medseg.training.plan import TrainingPlan
from medseg.training.validate import score_cases, summary_of

if TYPE_CHECKING:
    import torch

SCORES_FILE = "scores.json"
SPLIT_FILE = "split.json"
_SCHEMA = "medseg.fold-scores/1"

Split = list[tuple[list[str], list[str]]]
"""For each fold the ids of its training and of its validation cases."""


@dataclass(frozen=True)
class FoldSettings:
    """How folds are run: which (None: all), the loop's settings, where whole-scan validation reports, how it was called."""

    folds: tuple[int, ...] | None = None
    loop: LoopSettings = field(default_factory=LoopSettings)
    progress: Progress = no_progress
    command: str = ""


def split(ids: Sequence[str], folds: int, seed: int) -> Split:
    """Return the folds: every case validates once, the sizes differ by one at most, the same for the same ids and seed.

    One fold trains on every case and validates on none. Raises ParameterError for more folds than cases.

    >>> sorted(validation for _, validation in split(["a", "b", "c"], 3, seed=0))
    [['a'], ['b'], ['c']]
    """
    names = sorted(ids)
    if folds > len(names):
        raise ParameterError(f"{folds} folds need as many cases, there are {len(names)}: use fewer folds")
    if folds == 1:
        return [(names, [])]
    order = [names[n] for n in np.random.default_rng(seed).permutation(len(names))]
    parts = [sorted(order[fold::folds]) for fold in range(folds)]
    return [([name for name in names if name not in set(part)], part) for part in parts]


def read_split(path: Path, ids: Sequence[str]) -> Split:
    """Read a split: a list of {"train": [...], "val": [...]} as nnU-Net writes it, or what medseg wrote.

    Raises ParameterError where a case is unknown, in both parts of a fold, or a fold trains on nothing.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        pairs = [(list(entry["train"]), list(entry.get("val", entry.get("validation", [])))) for entry in entries]
    except OSError as err:
        raise ParameterError(f"{path} cannot be read: {err.strerror}") from err
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise ParameterError(f'{path} is no split: it must be a list of {{"train": [ids], "val": [ids]}}, one for each fold') from err
    for fold, (train, validation) in enumerate(pairs):
        unknown = sorted({*train, *validation} - set(ids))
        if unknown:
            raise ParameterError(f"{path}, fold {fold}: the dataset has no case {some(unknown)}")
        if set(train) & set(validation):
            raise ParameterError(f"{path}, fold {fold}: in training and validation at once: {some(sorted(set(train) & set(validation)))}")
        if not train:
            raise ParameterError(f"{path}, fold {fold}: no training case")
    return pairs


def write_split(path: Path, folds: Split) -> None:
    """Write a split as nnU-Net does."""
    text = json.dumps([{"train": train, "val": validation} for train, validation in folds], indent=1) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text, overwrite=True)


def train_folds(
    dataset: Dataset,
    plan: TrainingPlan,
    cases: Sequence[CachedCase],
    folder: Path,
    *,
    folds: Split,
    settings: FoldSettings,
    device: str = "auto",
    start_weights: Mapping[str, torch.Tensor] | None = None,
) -> list[dict[str, Any]]:
    """Train and score the folds asked for; return their scores.json, in order. Finished folds are read, not trained again.

    Each leaves `fold_N/` with checkpoint, log, weights as a model of its own (`medseg segment --model .../fold_N`) and scores.
    Raises ParameterError for a fold that the split does not have, or a split other than the one the folder was begun with.
    """
    chosen = tuple(range(len(folds))) if settings.folds is None else settings.folds
    wrong = [fold for fold in chosen if not 0 <= fold < len(folds)]
    if wrong:
        raise ParameterError(f"there is no fold {wrong[0]}: the split has {len(folds)}, numbered from 0")
    _check_same_split(folder / SPLIT_FILE, folds)
    by_id = {case.id: case for case in cases}
    results = []
    for fold in chosen:
        train, validation = folds[fold]
        place = folder / f"fold_{fold}"
        loop = replace(settings.loop, fold=fold)
        result = train_fold(
            [by_id[name] for name in train],
            [by_id[name] for name in validation],
            plan,
            place,
            settings=loop,
            device=device,
            start_weights=start_weights,
        )
        if loop.group.is_first:
            write_fold_model(place, plan, result.weights)
            results.append(_scored(place, dataset, plan, validation, result, settings, fold, device))
        loop.group.wait()
    return results


def _check_same_split(path: Path, folds: Split) -> None:
    if path.is_file():
        known = [(list(entry["train"]), list(entry["val"])) for entry in json.loads(path.read_text(encoding="utf-8"))]
        if known != [(list(train), list(validation)) for train, validation in folds]:
            raise ParameterError(f"{path.parent} was begun with another split of the cases: train into a new folder")
    else:
        write_split(path, folds)


def _scored(
    place: Path,
    dataset: Dataset,
    plan: TrainingPlan,
    validation: Sequence[str],
    result: FoldResult,
    settings: FoldSettings,
    fold: int,
    device: str,
) -> dict[str, Any]:
    """The fold's scores.json; made where it is missing or speaks of other weights."""
    path = place / SCORES_FILE
    weights = sha256_of_weights(place / WEIGHTS_FILE)
    if path.is_file():
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if known.get("weights_sha256") == weights and known.get("schema") == _SCHEMA:
            return known
    chosen = [case for case in dataset.cases if case.id in set(validation)]
    rows = [score.to_dict() for score in score_cases(place, dataset, chosen, plan, device=device, progress=settings.progress)]
    document = {
        "schema": _SCHEMA,
        "fold": fold,
        "weights_sha256": weights,
        "plan": plan.digest(),
        "steps": result.steps,
        "finished": result.finished,
        "seconds": round(result.seconds, 1),
        "device": result.device,
        "precision": result.precision,
        "processes": settings.loop.group.world,
        "versions": versions(),
        "command": settings.command,
        "mirrored": bool(plan.mirror_axes),
        "summary": summary_of(rows),
        "cases": rows,
    }
    write_text(path, json.dumps(document, indent=1) + "\n", overwrite=True)
    return document
