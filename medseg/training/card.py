"""The model card: what a network was trained on, how, and how well each fold does on cases it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medseg.training.dataset import Dataset
from medseg.training.plan import TrainingPlan
from medseg.training.validate import summary_of


def model_card_markdown(description: Mapping[str, Any], plan: TrainingPlan, dataset: Dataset, scores: Sequence[Mapping[str, Any]]) -> str:
    """Return MODEL_CARD.md of a description (`model.json`), its plan, its dataset and the scores.json of its folds."""
    licence = description["licence"]
    lines = [
        f"# {description['title']}",
        "",
        f"`{description['name']}` {description['version']}, a model for medseg: `medseg segment model SCAN --model FOLDER`.",
        "",
        "## Intended use",
        "",
        str(description["intended_use"]),
        "",
        "## Training data",
        "",
        f"{dataset.name}: {len(dataset.cases)} cases ({plan.modality}; channels: {', '.join(plan.channels)})."
        + (f" {dataset.description}." if dataset.description else ""),
        f"Source: {dataset.reference or 'not stated'}. Licence of the data: {dataset.licence or 'not stated'}.",
        f"Licence of the weights: {licence['weights']}; of the code: {licence['code']}.",
        *_left_out(dataset),
        "",
        "## Scores on cases the fold was not trained on",
        "",
        *_score_section(plan, scores),
        "",
        "## Training",
        "",
        *_started_from(description.get("training", {}).get("started_from")),
        *_training_section(plan, scores),
        "",
        "## Limits",
        "",
        "The scores are those of scans like the training data. Other scanners, protocols, ages or diseases may be segmented worse,",
        "and nothing in the result says so: look at every segmentation. The references were drawn by people and carry their errors.",
        "",
    ]
    return "\n".join(lines)


def _left_out(dataset: Dataset) -> list[str]:
    if not dataset.left_out:
        return []
    return ["", "Left out:", "", *(f"- {case}: {'; '.join(reasons)}" for case, reasons in sorted(dataset.left_out.items()))]


def _score_section(plan: TrainingPlan, scores: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [row for score in scores for row in score["cases"]]
    if not rows:
        return ["None: the network was trained on all cases, so there was none left to test it on."]
    trained = [int(score["fold"]) for score in scores]
    missing = sorted(set(range(plan.folds)) - set(trained))
    lines = [
        "Whole scans on their own grid"
        + (", mean of mirrored passes" if any(score.get("mirrored") for score in scores) else "")
        + ". Dice and the 95th percentile of the surface distance (HD95, mm); sd is that over cases.",
        "",
        "| fold | label | cases | Dice mean ± sd | worst Dice (case) | HD95 mean, mm |",
        "|---|---|---|---|---|---|",
    ]
    for score in scores:
        lines += [_row(str(score["fold"]), label, entry) for label, entry in score["summary"].items()]
    overall = summary_of(rows)
    if len(scores) > 1:
        lines += [_row("**all**", label, entry) for label, entry in overall.items()]
    means = [entry["mean_dice"] for entry in overall.values() if entry["mean_dice"] is not None]
    if means:
        lines += ["", f"Mean Dice over labels: **{np.mean(means):.4f}** ({len({row['case'] for row in rows})} cases)."]
    if missing:
        numbers = ", ".join(str(fold) for fold in missing)
        lines += ["", f"Trained so far: {len(trained)} of {plan.folds} folds; missing: {numbers}. Their cases are not in these figures."]
    if len(trained) > 1:
        lines += ["", f"The model averages its {len(trained)} folds; the table is of single folds, since each case was seen by the others."]
    return lines


def _row(fold: str, label: str, entry: Mapping[str, Any]) -> str:
    if entry["mean_dice"] is None:
        return f"| {fold} | {label} | 0 | – | – | – |"
    sd = f" ± {entry['sd_dice']:.3f}" if entry["sd_dice"] is not None else ""
    distance = f"{entry['mean_hd95_mm']:.2f}" if entry["mean_hd95_mm"] is not None else "–"
    worst = f"{entry['worst_dice']:.3f} ({entry['worst_case']})"
    return f"| {fold} | {label} | {entry['cases']} | {entry['mean_dice']:.4f}{sd} | {worst} | {distance} |"


def _started_from(source: Mapping[str, Any] | None) -> list[str]:
    if source is None:
        return []
    licence = source["licence"].get("weights", "not stated")
    return [
        f"Finetuned from `{source['name']}` {source['version']} ({source['kind']}, SHA-256 {source['sha256'][:12]}…). "
        f"Licence of its weights: {licence}.",
        "",
    ]


def _run_row(score: Mapping[str, Any]) -> str:
    where = f"{score['device']}, {score['precision']}"
    return f"| {score['fold']} | {score['steps']} | {score['seconds'] / 60:.0f} min | {where} | {score['finished']} |"


def _training_section(plan: TrainingPlan, scores: Sequence[Mapping[str, Any]]) -> list[str]:
    i, j, k = plan.patch_size
    spacing = " × ".join(f"{value:g}" for value in plan.spacing_mm)
    first = scores[0]
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    lines = [
        f"{plan.network.name}, patches of {i} × {j} × {k} voxels of {spacing} mm, batch {plan.batch_size}; Dice and cross-entropy"
        + (f" with {plan.deep_supervision} lower outputs" if plan.deep_supervision else "")
        + f"; {plan.optimiser.name}, highest learning rate {plan.optimiser.learning_rate:g}; averaged weights ({plan.ema_decay:g}).",
        "",
        "| fold | steps | time | device | ended |",
        "|---|---|---|---|---|",
        *(_run_row(score) for score in scores),
        "",
        f"Made with {versions}.",
    ]
    if first.get("command"):
        lines += ["", f"    {first['command']}"]
    return lines
