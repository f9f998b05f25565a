"""`medseg train`: from a folder of scans with label maps to a model, fold by fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from medseg.cli.terminal import Terminal, device_option, speaking

if TYPE_CHECKING:
    from medseg.training.cache import CachedCase
    from medseg.training.distributed import Group
    from medseg.training.finetune import Start
    from medseg.training.finetune_source import SourceNetwork
    from medseg.training.folds import FoldSettings
    from medseg.training.plan import TrainingPlan
    from medseg.training.run_folder import Machine, Run, Wishes

F = TypeVar("F", bound=Callable[..., Any])

_COUNT = click.IntRange(min=1)
_ABOVE_0 = click.FloatRange(0, min_open=True)
_PATH = click.Path(path_type=Path)


@dataclass(frozen=True)
class Origin:
    """A model to start from, the learning rate (None: a tenth of the plan's), and how long its first half stays as it is.

    `frozen_steps` None: as the run was begun, or 0.
    """

    model: str
    learning_rate: float | None = None
    frozen_steps: int | None = None


@dataclass(frozen=True)
class Choices:
    """How a run is carried out, beside what the plan says."""

    dataset: Path
    output: Path
    device: str
    memory_gb: float | None
    cache: Path | None
    split: Path | None
    folds: tuple[int, ...] | None
    workers: int | None
    plan_only: bool
    skip_bad: bool
    overwrite: bool
    origin: Origin | None = None


_OPTIONS = (
    click.option("-o", "--output", required=True, type=_PATH, metavar="OUT", help="The folder of the model that is made."),
    click.option("--plan", "plan_file", type=_PATH, help="Train by this plan.yaml instead of making one."),
    click.option("--plan-only", is_flag=True, help="Write OUT/plan.yaml and fingerprint.json, show them and stop; edit, then call again."),
    click.option("--folds", type=_COUNT, help="Parts of the cross-validation (5); 1 trains on every case and scores none."),
    click.option("--fold", "chosen", type=click.IntRange(min=0), multiple=True, help="Train this fold only (from 0); repeatable."),
    click.option("--split", type=_PATH, help='Cases of the folds, JSON: [{"train": [ids], "val": [ids]}, ...].'),
    click.option("--steps", type=_COUNT, help="Steps a fold; by default 2500 on a CPU, 30 000 on a GPU."),
    click.option("--minutes-per-fold", type=_ABOVE_0, help="As many steps as fit, by a measurement; a fold ends in time."),
    device_option,
    click.option("--memory-gb", type=_ABOVE_0, help="Memory the plan may use; by default 80 % of what is free."),
    click.option("--seed", type=click.IntRange(min=0), help="Of split, first weights and patches (0)."),
    click.option("--workers", type=_COUNT, help="Threads that make patches, and processes that prepare scans."),
    click.option("--cache", type=_PATH, help="Folder of the prepared scans; by default OUT/cache."),
    click.option(
        "--skip-bad", is_flag=True, help="Leave out the cases that cannot be used; fingerprint.json and the model card name them."
    ),
    click.option("--name", help="Of the model; by default that of the dataset."),
    click.option(
        "--resume/--overwrite", "resume", default=True, help="Go on with the run OUT holds (default), or remove it and begin anew."
    ),
)


def training_options(function: F) -> F:
    """Add the options that `train` and `finetune` share; the command gets them as keywords."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command()
@click.argument("dataset", type=_PATH)
@training_options
@speaking
def train(dataset: Path, terminal: Terminal, **options: Any) -> int:
    """Train a 3D U-Net on DATASET, a folder with dataset.json (Medical Segmentation Decathlon or nnU-Net raw).

    The data decide the plan: voxel size, patch, network, normalisation. It is written to OUT/plan.yaml, where every entry is
    explained. The same command goes on where a run was stopped. OUT is a model for `medseg segment model --model OUT`.
    """
    return carried_out(terminal, dataset, options)


def carried_out(terminal: Terminal, dataset: Path, options: Mapping[str, Any], origin: Origin | None = None) -> int:
    """Train with the options of the command line and print the document; say that an interrupted run can go on."""
    from medseg.training.run_folder import Wishes

    wishes = Wishes(**{name: options[name] for name in ("plan_file", "steps", "minutes_per_fold", "folds", "seed", "name")})
    same = ("output", "device", "memory_gb", "cache", "split", "workers", "plan_only", "skip_bad")
    choices = Choices(
        dataset=dataset,
        folds=tuple(sorted(set(options["chosen"]))) or None,
        overwrite=not options["resume"],
        origin=origin,
        **{name: options[name] for name in same},
    )
    try:
        document = train_in_group(choices, wishes, terminal)
    except KeyboardInterrupt:
        if not terminal.quiet:
            click.echo("medseg: stopped; the same command goes on from the last checkpoint", err=True)
        raise
    if document is not None:
        terminal.document(document)
    return 0


def train_in_group(choices: Choices, wishes: Wishes, terminal: Terminal) -> dict[str, Any] | None:
    """Train, alone or as one of the processes of torchrun; only the first of them prepares, speaks and returns a document."""
    from medseg.training.distributed import join_group, leave_group

    group = join_group()
    try:
        if group.is_first:
            return _train(choices, wishes, terminal, group)
        group.wait()  # for the first to have prepared everything
        return None if choices.plan_only else _train(replace(choices, overwrite=False), wishes, Terminal(quiet=True), group)
    finally:
        leave_group(group)


def _train(choices: Choices, wishes: Wishes, terminal: Terminal, group: Group) -> dict[str, Any] | None:
    from medseg.cli.training_display import training_display
    from medseg.training.cache import cache_cases
    from medseg.training.folds import FoldSettings
    from medseg.training.loop import LoopSettings
    from medseg.training.run_folder import CACHE_FOLDER, begin, open_run
    from medseg.training.timing import this_machine

    machine = this_machine(choices.device, choices.memory_gb)
    source = _source(choices.origin)
    with terminal.progress() as progress:
        run = open_run(
            choices.dataset,
            choices.output,
            wishes,
            machine,
            progress,
            skip_bad=choices.skip_bad,
            overwrite=choices.overwrite,
            adapt=_adapter(source, choices.origin),
        )
    start = _start(run, source, choices.origin, terminal, writes=group.is_first)
    document = _introduce(run, machine, terminal)
    if choices.plan_only:
        terminal.show(f"{run.folder / 'plan.yaml'} is written: edit it if you like, then call again without --plan-only")
        group.wait()
        return document
    with training_display(terminal) as (progress, on_step):
        cases = cache_cases(run.dataset, run.plan, choices.cache or run.folder / CACHE_FOLDER, progress, workers=choices.workers or 2)
        if group.is_first:
            begin(run, cases)
            group.wait()
        frozen_steps = _frozen_steps(run.folder, choices.origin)
        loop = LoopSettings(
            progress=on_step,
            patch_threads=choices.workers or 1,
            frozen=start.encoder if start and frozen_steps else (),
            frozen_steps=frozen_steps,
            group=group,
        )
        _train_folds(run, cases, choices, FoldSettings(choices.folds, loop, progress, _command(choices)), start)
    return {**document, **finish(run, terminal)} if group.is_first else None


def _source(origin: Origin | None) -> SourceNetwork | None:
    if origin is None:
        return None
    from medseg.training.finetune_source import read_source

    return read_source(origin.model)


def _adapter(source: SourceNetwork | None, origin: Origin | None) -> Callable[[TrainingPlan], TrainingPlan] | None:
    """What makes of a plan for a dataset one that goes on from a model."""
    if source is None or origin is None:
        return None
    from medseg.training.finetune import finetuning_plan

    return lambda plan: finetuning_plan(source, plan, origin.learning_rate)


def _start(run: Run, source: SourceNetwork | None, origin: Origin | None, terminal: Terminal, *, writes: bool) -> Start | None:
    """The weights to start from, said and noted in the folder; raises OutputExistsError where the run began otherwise."""
    from medseg.core.errors import OutputExistsError
    from medseg.training.export import FINETUNE_FILE
    from medseg.training.finetune import starting_weights, write_start

    began_from_model = (run.folder / FINETUNE_FILE).is_file()
    if run.resumed and began_from_model != (origin is not None):
        way = "from a model: go on with `medseg finetune`" if began_from_model else "from random weights: go on with `medseg train`"
        raise OutputExistsError(f"{run.folder} holds a run that began {way}, or choose another folder")
    if source is None or origin is None:
        return None
    start = starting_weights(source, run.plan)
    if writes:
        write_start(run.folder, source, start, _frozen_steps(run.folder, origin))
    total = len(start.taken) + len(start.adapted) + len(start.fresh)
    terminal.show(
        f"from model {source.identity.name} {source.identity.version}: {len(start.taken)} of {total} tensors taken as they are, "
        f"{len(start.adapted)} in part, {len(start.fresh)} begin at random (finetune.json names them)",
        f"output channels kept: background{''.join(f', {label}' for label in start.kept_labels)}",
        *(f"note: {note}" for note in source.notes),
    )
    return start


def _frozen_steps(folder: Path, origin: Origin | None) -> int:
    """As asked for, else as the run was begun, else 0."""
    import json

    from medseg.training.export import FINETUNE_FILE

    path = folder / FINETUNE_FILE
    if origin is None:
        return 0
    if origin.frozen_steps is None and path.is_file():
        return int(json.loads(path.read_text(encoding="utf-8")).get("frozen_steps", 0))
    return origin.frozen_steps or 0


def _introduce(run: Run, machine: Machine, terminal: Terminal) -> dict[str, Any]:
    """Show dataset and plan; return their part of the document."""
    if not terminal.as_json and not terminal.quiet:
        from medseg.cli.training_display import fingerprint_table, left_out_lines, plan_table

        if run.resumed:
            terminal.show(f"{run.folder} holds this run already: going on with its plan")
        terminal.show(fingerprint_table(run.dataset.name, run.fingerprint), *left_out_lines(run.fingerprint))
        terminal.show(plan_table(run.plan, machine.seconds_per_step(run.plan), machine.device))
    counted = {"cases": len(run.fingerprint["cases"]), "left_out": run.fingerprint["left_out"]}
    return {
        "schema": "medseg.training/1",
        "model": str(run.folder),
        "resumed": run.resumed,
        "dataset": {"name": run.dataset.name, **counted},
        "plan": run.plan.to_dict(),
    }


def _train_folds(run: Run, cases: Sequence[CachedCase], choices: Choices, settings: FoldSettings, start: Start | None) -> None:
    from medseg.training.folds import SPLIT_FILE, read_split, split, train_folds

    ids = [case.id for case in run.dataset.cases]
    begun = run.folder / SPLIT_FILE
    given = choices.split or (begun if begun.is_file() else None)
    parts = read_split(given, ids) if given else split(ids, run.plan.folds, run.plan.seed)
    weights = start.weights if start else None
    train_folds(run.dataset, run.plan, cases, run.folder, folds=parts, settings=settings, device=choices.device, start_weights=weights)


def _command(choices: Choices) -> str:
    """The command for the model card, without the paths of this machine."""
    names = f"{choices.dataset.resolve().name} -o {choices.output.resolve().name}"
    return f"medseg finetune {Path(choices.origin.model).name} {names}" if choices.origin else f"medseg train {names}"


def finish(run: Run, terminal: Terminal) -> dict[str, Any]:
    """Make the folder a model of its finished folds, show their scores, and return their part of the document."""
    from medseg.cli.training_display import mean_dice, score_table
    from medseg.training.export import export_model, finished_folds

    scores = finished_folds(run.folder)
    export_model(run.folder, run.plan, run.dataset, scores)
    if not terminal.as_json and not terminal.quiet:
        if any(score["summary"] for score in scores):
            terminal.show(score_table(scores))
        missing = sorted(set(range(run.plan.folds)) - {score["fold"] for score in scores})
        if missing:
            terminal.show(f"folds not trained yet: {', '.join(map(str, missing))}")
        terminal.show(f"model of {len(scores)} fold(s) in {run.folder}: medseg segment model SCAN --model {run.folder}")
    return {"folds": scores, "mean_dice": mean_dice(scores)}
