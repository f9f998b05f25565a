"""`plan.yaml`: a plan with a line about every entry, for the person who edits it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from medseg.io.atomic import write_text
from medseg.training.plan import TrainingPlan

_HEAD = """\
# Plan of a medseg training run. Edit what you like, then: medseg train DATASET -o MODEL --plan THIS_FILE
# Axes are in the order i, j, k of the scan turned to `orientation` (RAS: towards Right, Anterior, Superior).
"""

# Section titles and, for each entry, what it means; the order is that of the file.
_SECTIONS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "The model",
        (
            ("schema", "format of this file; leave it"),
            ("name", "short name: small letters, digits, dots, dashes"),
            ("title", "one line for people"),
            ("version", "of the model; raise it when you train again"),
            ("channels", "the scans the network sees, in this order"),
            ("modality", "CT, MR, PT, US or OT; scans of another modality are refused when the model is used"),
            ("labels", "number in the label maps: name of the structure"),
            ("licence", "of the program, of the weights you make and of the data; they go into the model card"),
            ("intended_use", "shown to everyone who uses the model"),
        ),
    ),
    (
        "How a scan is prepared (a change makes the cached cases anew)",
        (
            ("spacing_mm", "voxels the network sees; finer needs a larger patch, more time and memory"),
            ("orientation", "axes of the prepared scan"),
            ("alignment", "grid: along the scan's own axes; patient: oblique scans are turned upright"),
            ("normalisation", "z-score: by each scan's mean and deviation; clip-and-z-score (CT): lower, upper, mean, std of the dataset"),
            ("background", "intensity outside the scan; null: the lowest of the scan"),
        ),
    ),
    (
        "The network",
        (
            ("patch_size", "voxels the network sees at once; a multiple of the product of the strides along each axis"),
            ("batch_size", "patches per step; halve it when memory runs out"),
            ("network", "name and arguments as in docs/models.md; kernels and strides are in the order k, j, i"),
            ("deep_supervision", "lower levels that get a loss of their own while training"),
            ("mirror_axes", "axes that may be mirrored; leave 0 out where left and right have labels of their own"),
            ("overlap", "of neighbouring patches when the model is used"),
        ),
    ),
    (
        "What it learns from: probability of each change per patch (0: never)",
        (
            ("augmentation", ""),
            ("foreground_share", "share of the patches that hold a labelled structure for certain"),
        ),
    ),
    (
        "How it learns",
        (
            ("optimiser", "adamw or sgd; halve learning_rate when the loss jumps or becomes nan"),
            ("schedule", "steps per fold; the learning rate rises over warmup_steps, then falls by (1 - step/steps)^power"),
            ("ema_decay", "the model is the moving average of the weights; 0: the last weights"),
            ("gradient_clip", "longest gradient that is followed"),
            ("precision", "auto, float32, bfloat16 or float16"),
            ("folds", "parts the cases are split into; each is scored once by a network that never saw it; 1: no split"),
            ("validation_every_steps", "how often patches of the held-out cases are scored"),
            ("early_stop_after", "stop a fold after so many validations without a better score; null: never"),
            ("time_budget_minutes", "per fold; the schedule is shortened to end in time; null: no limit"),
            ("seed", "the same seed, plan and machine give the same model"),
        ),
    ),
)


def plan_text(plan: TrainingPlan) -> str:
    """Return a plan as YAML in which every entry is explained; `read_plan` reads it back to an equal plan."""
    entries = _without_nulls(plan.to_dict())
    lines = [_HEAD]
    for title, names in _SECTIONS:
        lines.append(f"# --- {title} ---")
        for name, meaning in names:
            if meaning:
                lines.append(f"# {meaning}")
            lines.append(_yaml({name: entries.pop(name)}))
        lines.append("")
    if entries:  # an entry without an explanation is a fault of this module, not of the plan
        lines.append(_yaml(entries))
    return "\n".join(lines).rstrip() + "\n"


def write_plan(plan: TrainingPlan, path: str | Path, overwrite: bool = False) -> Path:
    """Write `plan.yaml`; raises OutputExistsError, OutputError."""
    return write_text(path, plan_text(plan), overwrite)


def explained_entries() -> frozenset[str]:
    """Return the names of the entries that have an explanation."""
    return frozenset(name for _, names in _SECTIONS for name, _ in names)


def _without_nulls(entries: dict[str, Any]) -> dict[str, Any]:
    entries = dict(entries)
    entries["normalisation"] = [{key: value for key, value in rule.items() if value is not None} for rule in entries["normalisation"]]
    entries["labels"] = {int(number): label for number, label in entries["labels"].items()}
    return entries


class _Dumper(yaml.SafeDumper):
    """Block style for mappings, one line for lists of plain values."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> Any:
        """Represent a list on one line unless it holds mappings."""
        flat = not any(isinstance(item, dict) for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=flat)


def _yaml(entries: dict[str, Any]) -> str:
    text = yaml.dump(entries, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False)
    return text.rstrip("\n")
