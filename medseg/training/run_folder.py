"""The folder of a training run: its plan and fingerprint, and whether a call goes on with the run it holds or contradicts it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.core.errors import InputError, OutputExistsError
from medseg.io.atomic import write_text
from medseg.method.settings import Progress, no_progress
from medseg.training.cache import CachedCase, check_fit
from medseg.training.dataset import Dataset, read_dataset
from medseg.training.fingerprint import Fingerprint, take_fingerprint
from medseg.training.plan import TrainingPlan, model_name, read_plan
from medseg.training.plan_text import write_plan
from medseg.training.planning import make_plan, steps_within, with_steps

PLAN_FILE = "plan.yaml"
FINGERPRINT_FILE = "fingerprint.json"
RUN_FILE = "run.json"
CACHE_FOLDER = "cache"
_RESULTS = (PLAN_FILE, FINGERPRINT_FILE, RUN_FILE, "split.json", "finetune.json", "model.json", "MODEL_CARD.md")
_FOLD = re.compile(r"fold_\d+(\.safetensors)?")

Measure = Callable[[TrainingPlan], float]
"""Seconds of a training step of a plan."""


@dataclass(frozen=True)
class Wishes:
    """What the user asked of a plan; None where nothing was said. `plan_file` is a plan to take instead of making one."""

    plan_file: Path | None = None
    steps: int | None = None
    minutes_per_fold: float | None = None
    folds: int | None = None
    seed: int | None = None
    name: str | None = None


@dataclass(frozen=True)
class Machine:
    """Where training will run: "cpu" or "cuda", its memory, and how long a step of a plan takes there."""

    device: str
    memory_mb: int
    seconds_per_step: Measure


@dataclass(frozen=True)
class Run:
    """A folder ready to train in; `fingerprint` is the JSON form. `resumed` says that the plan was there already."""

    folder: Path
    dataset: Dataset
    plan: TrainingPlan
    fingerprint: dict[str, Any]
    resumed: bool


def open_run(
    dataset_folder: Path,
    folder: Path,
    wishes: Wishes,
    machine: Machine,
    progress: Progress = no_progress,
    *,
    skip_bad: bool = False,
    overwrite: bool = False,
    adapt: Callable[[TrainingPlan], TrainingPlan] | None = None,
) -> Run:
    """Read the dataset, take its fingerprint and make the plan; or go on with those a folder holds already.

    `adapt` changes the plan that the rules make (finetuning: to the network of a model). With `overwrite` an older run is
    removed first (prepared cases are kept: they are checked by content). Raises what `read_dataset`, `take_fingerprint` and
    `read_plan` raise, OutputExistsError where the folder holds a run that the wishes contradict, or a model from elsewhere.
    """
    dataset = read_dataset(dataset_folder)
    if overwrite:
        remove_run(folder)
    if (folder / PLAN_FILE).is_file() and (folder / FINGERPRINT_FILE).is_file():
        return _resumed(dataset, folder, wishes)
    if (folder / "model.json").exists():
        raise OutputExistsError(f"{folder} holds a model that was not trained here: choose another folder")
    fingerprint = take_fingerprint(dataset, progress, skip_bad=skip_bad)
    if fingerprint.problems:
        dataset = dataset.without(fingerprint.problems)
    plan = _planned(dataset, fingerprint, wishes, machine, adapt)
    check_fit(dataset, plan)
    entries = fingerprint.to_dict()
    write_text(folder / FINGERPRINT_FILE, json.dumps(entries, indent=1) + "\n", overwrite=True)
    write_plan(plan, folder / PLAN_FILE, overwrite=True)
    return Run(folder, dataset, plan, entries, resumed=False)


def begin(run: Run, cases: Sequence[CachedCase]) -> None:
    """Note which plan and which content of the cases the folds are trained with; raises OutputExistsError where others were."""
    content = hashlib.sha256("".join(f"{case.id}:{case.key};" for case in cases).encode()).hexdigest()
    entry = {"schema": "medseg.training-run/1", "plan": run.plan.digest(), "cases": content}
    path = run.folder / RUN_FILE
    if not path.is_file():
        write_text(path, json.dumps(entry, indent=1) + "\n")
        return
    held = _json(path)
    if held.get("plan") != entry["plan"]:
        what = f"{PLAN_FILE} was changed after training began"
    elif held.get("cases") != entry["cases"]:
        what = "scans or label maps of the dataset were changed after training began"
    else:
        return
    raise OutputExistsError(f"{run.folder}: {what}: undo the change, train into another folder, or begin anew with --overwrite")


def remove_run(folder: Path) -> None:
    """Remove what a run wrote into a folder, and nothing else; prepared cases stay."""
    if not (folder / PLAN_FILE).is_file():
        return
    found = [folder / name for name in _RESULTS]
    found += [path for path in folder.iterdir() if _FOLD.fullmatch(path.name)]
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _resumed(dataset: Dataset, folder: Path, wishes: Wishes) -> Run:
    plan = read_plan(folder / PLAN_FILE)
    fingerprint = _json(folder / FINGERPRINT_FILE)
    left_out = {str(case): tuple(reasons) for case, reasons in fingerprint.get("left_out", {}).items()}
    known = {str(entry["id"]) for entry in fingerprint.get("cases", ())} | set(left_out)
    if known != {case.id for case in dataset.cases}:
        raise OutputExistsError(
            f"{folder} holds a run on {len(known)} other cases than the {len(dataset.cases)} of {dataset.folder}: "
            "choose another folder, or begin anew with --overwrite"
        )
    differences = _differences(plan, wishes, len(known) - len(left_out))
    if differences:
        raise OutputExistsError(
            f"{folder} holds a run whose plan differs from what you ask ({'; '.join(differences)}): leave the option out to go on with "
            f"it, choose another folder, or begin anew with --overwrite"
        )
    dataset = dataset.without(left_out) if left_out else dataset
    check_fit(dataset, plan)
    return Run(folder, dataset, plan, fingerprint, resumed=True)


def _differences(plan: TrainingPlan, wishes: Wishes, cases: int) -> list[str]:
    """In words, where the wishes and a plan that is there differ."""
    if wishes.plan_file is not None and _from_file(wishes.plan_file, wishes).digest() != plan.digest():
        return [f"{wishes.plan_file.name} is another plan"]
    asked: dict[str, tuple[object, object]] = {
        "steps": (wishes.steps, plan.schedule.steps),
        "minutes per fold": (wishes.minutes_per_fold, plan.time_budget_minutes),
        "folds": (wishes.folds and min(wishes.folds, cases), plan.folds),
        "seed": (wishes.seed, plan.seed),
        "name": (wishes.name and model_name(wishes.name), plan.name),
    }
    return [f"{what}: {wanted} asked, {held} in the plan" for what, (wanted, held) in asked.items() if wanted not in (None, held)]


def _planned(
    dataset: Dataset,
    fingerprint: Fingerprint,
    wishes: Wishes,
    machine: Machine,
    adapt: Callable[[TrainingPlan], TrainingPlan] | None,
) -> TrainingPlan:
    if wishes.plan_file is not None:
        return _from_file(wishes.plan_file, wishes)
    plan = make_plan(
        dataset,
        fingerprint,
        memory_mb=machine.memory_mb,
        device=machine.device,
        steps=wishes.steps,
        folds=wishes.folds or 5,
        name=wishes.name or "",
        seed=wishes.seed or 0,
    )
    plan = adapt(plan) if adapt else plan
    if wishes.minutes_per_fold is None:
        return plan
    steps = wishes.steps or steps_within(wishes.minutes_per_fold, machine.seconds_per_step(plan))
    return with_steps(plan, steps, wishes.minutes_per_fold)


def _from_file(path: Path, wishes: Wishes) -> TrainingPlan:
    """The plan of a file, with what was said beside it on the command line."""
    plan = read_plan(path)
    if wishes.steps is not None:
        plan = with_steps(plan, wishes.steps, plan.time_budget_minutes)
    named = {
        "folds": wishes.folds,
        "seed": wishes.seed,
        "name": wishes.name and model_name(wishes.name),
        "time_budget_minutes": wishes.minutes_per_fold,
    }
    return plan.model_copy(update={key: value for key, value in named.items() if value is not None})


def _json(path: Path) -> dict[str, Any]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise InputError(f"{path} cannot be read: begin anew with --overwrite, or restore the file") from err
    if not isinstance(entries, dict):
        raise InputError(f"{path} is not what medseg wrote there: begin anew with --overwrite, or restore the file")
    return entries
