"""What training shows to people: fingerprint, plan and scores as tables, and one live line a fold."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.terminal import Terminal
from medseg.method.settings import Progress, no_progress

if TYPE_CHECKING:
    from rich.table import Table

    from medseg.training.loop import TrainingProgress
    from medseg.training.plan import TrainingPlan

OnStep = Callable[["TrainingProgress"], None]

_FAULTS_SHOWN = 10
_NO_SCORE: Mapping[str, Any] = {"mean_dice": None, "worst_dice": None, "worst_case": None, "mean_hd95_mm": None}


def fingerprint_table(name: str, fingerprint: Mapping[str, Any]) -> Table:
    """Return what the dataset is like: cases, grids, volumes of the labels, intensities of the channels."""
    table = _table(f"Dataset {name}", "", "")
    cases = fingerprint["cases"]
    shapes = [case["shape"] for case in cases]
    least, largest = ([f(axis) for axis in zip(*shapes, strict=True)] for f in (min, max))
    table.add_row("cases", f"{len(cases)}" + (f", {len(fingerprint['left_out'])} left out" if fingerprint["left_out"] else ""))
    table.add_row("voxels", f"{_times(fingerprint['median_shape'])} (median), {_times(least)} to {_times(largest)}")
    table.add_row("spacing", f"{_times(fingerprint['median_spacing_mm'])} mm (median)")
    table.add_row("orientation", ", ".join(f"{code} ({count})" for code, count in fingerprint["orientations"].items()))
    for channel, values in fingerprint["channels"].items():
        text = f"{values['median']:.4g} (0.5 to 99.5 %: {values['percentile_00_5']:.4g} to {values['percentile_99_5']:.4g})"
        table.add_row(f"{channel}, within labels", text)
    for number, entry in fingerprint["labels"].items():
        ml = entry["volume_ml"]
        text = f"in {_counted(entry['cases'], 'case')}, {ml['median']:.3g} ml (median), {ml['least']:.3g} to {ml['largest']:.3g}"
        table.add_row(f"label {number} {entry['name']}", text)
    return table


def left_out_lines(fingerprint: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each case that was left out, with the reason."""
    from rich.markup import escape

    left_out = list(fingerprint["left_out"].items())
    for case, reasons in left_out[:_FAULTS_SHOWN]:
        yield f"[yellow]left out[/] {escape(case)}: {escape('; '.join(reasons))}"
    if len(left_out) > _FAULTS_SHOWN:
        yield f"[yellow]left out[/] {len(left_out) - _FAULTS_SHOWN} more: see fingerprint.json"


def plan_table(plan: TrainingPlan, seconds_per_step: float | None, device: str) -> Table:
    """Return what will be trained, and about how long it takes on this device."""
    table = _table(f"Plan of {plan.name}", "", "")
    rules = ", ".join(rule.kind for rule in plan.normalisation)
    mirrored = ", ".join("ijk"[axis] for axis in plan.mirror_axes) or "none (left and right differ)"
    filters = plan.network.arguments.get("features_per_stage", plan.network.arguments.get("filters"))
    network = f"{plan.network.name}, {len(filters)} levels, {filters[0]} to {filters[-1]} features" if filters else plan.network.name
    table.add_row("spacing", f"{_times(plan.spacing_mm)} mm, {plan.orientation}, intensities {rules}")
    table.add_row("patch", f"{_times(plan.patch_size)} voxels, {plan.batch_size} a step")
    table.add_row("network", network)
    table.add_row("mirrored axes", mirrored)
    table.add_row("optimiser", f"{plan.optimiser.name}, learning rate {plan.optimiser.learning_rate:g}")
    table.add_row("steps", f"{plan.schedule.steps} a fold, {_counted(plan.folds, 'fold')}")
    if plan.time_budget_minutes is not None:
        table.add_row("time budget", f"{plan.time_budget_minutes:g} min a fold")
    if seconds_per_step is not None:
        fold = seconds_per_step * plan.schedule.steps
        if plan.time_budget_minutes is not None:
            fold = min(fold, plan.time_budget_minutes * 60)
        text = f"about {seconds_per_step:.3g} s a step on {device}: {duration(fold)} a fold, {duration(fold * plan.folds)} in all"
        table.add_row("time, as measured now", text)
    return table


def score_table(scores: Sequence[Mapping[str, Any]]) -> Table:
    """Return for each label the Dice of every fold on cases it did not learn from, their mean, the worst case and HD95."""
    folds = [f"fold {score['fold']}" for score in scores]
    table = _table("Scores on held-out cases: Dice", "label", *folds, "all", "worst (case)", "HD95 mm")
    for label, mean in mean_dice(scores).items():
        if label == "mean":
            of_folds = [_mean([e["mean_dice"] for e in score["summary"].values() if e["mean_dice"] is not None]) for score in scores]
            table.add_row("mean", *(_number(value, 4) for value in of_folds), _number(mean, 4), style="bold")
            continue
        entries = [score["summary"].get(label, _NO_SCORE) for score in scores]
        worst = min((e for e in entries if e["worst_dice"] is not None), key=lambda e: e["worst_dice"], default=_NO_SCORE)
        worst_text = "–" if worst["worst_dice"] is None else f"{worst['worst_dice']:.3f} ({worst['worst_case']})"
        distance = _mean([e["mean_hd95_mm"] for e in entries if e["mean_hd95_mm"] is not None])
        table.add_row(label, *(_number(e["mean_dice"], 4) for e in entries), _number(mean, 4), worst_text, _number(distance, 2))
    return table


def mean_dice(scores: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the mean over the folds' mean Dice of each label, and of all labels under "mean"; None where nothing was scored.

    >>> mean_dice([{"summary": {"a": {"mean_dice": 0.8}}}, {"summary": {"a": {"mean_dice": 0.9}}}])
    {'a': 0.8500000000000001, 'mean': 0.8500000000000001}
    """
    labels = list(dict.fromkeys(label for score in scores for label in score["summary"]))
    means: dict[str, float | None] = {}
    for label in labels:
        found = [score["summary"][label]["mean_dice"] for score in scores if label in score["summary"]]
        means[label] = _mean([value for value in found if value is not None])
    if labels:
        means["mean"] = _mean([value for value in means.values() if value is not None])
    return means


@contextmanager
def training_display(terminal: Terminal) -> Iterator[tuple[Progress, OnStep]]:
    """Yield a progress callback and one for training steps: live bars on a terminal, a line a validation elsewhere."""
    if terminal.as_json or terminal.quiet:
        yield no_progress, lambda _: None
        return
    if not sys.stderr.isatty():
        yield no_progress, _line_printer()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[said]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        tasks: dict[str, Any] = {}

        def show(description: str, done: int, total: int, said: str = "") -> None:
            if description not in tasks or bar.tasks[tasks[description]].finished:
                tasks[description] = bar.add_task(description, total=max(total, 1), said="")
            bar.update(tasks[description], completed=done, total=max(total, 1), said=said)

        yield show, lambda step: show(f"fold {step.fold}", step.step, step.steps, _said(step))


def duration(seconds: float) -> str:
    """Return a time in words.

    >>> duration(42), duration(400), duration(9000)
    ('42 s', '7 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _line_printer() -> OnStep:
    last: dict[int, float | None] = {}

    def on_step(step: TrainingProgress) -> None:
        if last.get(step.fold, "none") != step.dice or step.step == step.steps:
            last[step.fold] = step.dice
            click.echo(f"fold {step.fold} step {step.step}/{step.steps} {_said(step)}", err=True)

    return on_step


def _said(step: TrainingProgress) -> str:
    dice = "" if step.dice is None else f"Dice {step.dice:.3f}  "
    return f"loss {step.loss:.3f}  {dice}rate {step.learning_rate:.2g}  {duration(step.remaining_seconds)} left"


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=any(columns), header_style="bold")
    for column in columns:
        table.add_column(column)
    return table


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _times(values: Sequence[float]) -> str:
    return "×".join(f"{value:.4g}" for value in values)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
