"""From trained folds to a model folder: weights as float16 safetensors, model.json, MODEL_CARD.md."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.core.errors import InputError
from medseg.io.atomic import write_bytes, write_text
from medseg.segmentation.learned.dependencies import import_safetensors, import_torch
from medseg.segmentation.learned.store import DESCRIPTION_FILE
from medseg.training.card import model_card_markdown
from medseg.training.dataset import Dataset
from medseg.training.networks import inference_weights
from medseg.training.plan import TrainingPlan

if TYPE_CHECKING:
    import torch

WEIGHTS_FILE = "weights.safetensors"
CARD_FILE = "MODEL_CARD.md"
FINETUNE_FILE = "finetune.json"
_LARGEST_FLOAT16 = 65504.0


def packed_weights(plan: TrainingPlan, weights: Mapping[str, torch.Tensor]) -> bytes:
    """Return the weights inference needs as a safetensors file, floats as float16 (float32 where one is too large for it)."""
    torch = import_torch()
    packed = {}
    for name, weight in inference_weights(plan, weights).items():
        tensor = weight.detach().cpu().contiguous().clone()
        if tensor.is_floating_point() and not bool((tensor.abs() > _LARGEST_FLOAT16).any()):
            tensor = tensor.to(torch.float16)
        packed[name] = tensor
    content: bytes = import_safetensors().save(packed)
    return content


def sha256_of_weights(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_fold_model(folder: Path, plan: TrainingPlan, weights: Mapping[str, torch.Tensor]) -> None:
    """Make the folder of a fold a model of its own: weights.safetensors and model.json."""
    content = packed_weights(plan, weights)
    path = folder / WEIGHTS_FILE
    if not path.is_file() or path.read_bytes() != content:
        write_bytes(path, content, overwrite=True)
    description = {**plan.description_entries(), "weights": _entry(WEIGHTS_FILE, content)}
    write_text(folder / DESCRIPTION_FILE, json.dumps(description, indent=1) + "\n", overwrite=True)


def export_model(folder: Path, plan: TrainingPlan, dataset: Dataset, scores: Sequence[Mapping[str, Any]]) -> None:
    """Make `folder` a model of its trained folds: fold_N.safetensors, model.json, MODEL_CARD.md.

    `scores` are the scores.json of the folds; the card says which of the plan's folds are missing. Raises InputError where
    no fold is there.
    """
    if not scores:
        raise InputError(f"{folder} holds no trained fold yet: train one first")
    entries = []
    for score in scores:
        content = (folder / f"fold_{score['fold']}" / WEIGHTS_FILE).read_bytes()
        name = f"fold_{score['fold']}.safetensors"
        write_bytes(folder / name, content, overwrite=True)
        entries.append(_entry(name, content))
    training = training_entry(plan, dataset, scores) | started_from(folder)
    weights = entries[0] if len(entries) == 1 else entries
    description = {**plan.description_entries(), "weights": weights, "training": training}
    write_text(folder / CARD_FILE, model_card_markdown(description, plan, dataset, scores), overwrite=True)
    write_text(folder / DESCRIPTION_FILE, json.dumps(description, indent=1) + "\n", overwrite=True)


def finished_folds(folder: Path) -> list[dict[str, Any]]:
    """Return the scores.json of every fold in a folder that is trained and scored, in order."""
    found = []
    for path in folder.glob("fold_*/scores.json"):
        document = json.loads(path.read_text(encoding="utf-8"))
        weights = path.parent / WEIGHTS_FILE
        if weights.is_file() and sha256_of_weights(weights) == document.get("weights_sha256"):
            found.append(document)
    return sorted(found, key=lambda document: int(document["fold"]))


def training_entry(plan: TrainingPlan, dataset: Dataset, scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what `model.json` says under `training`."""
    return {
        "dataset": dataset.name,
        "reference": dataset.reference,
        "data_licence": dataset.licence,
        "cases": len(dataset.cases),
        "folds_planned": plan.folds,
        "folds": {
            str(score["fold"]): {
                "steps": score["steps"],
                "seconds": score["seconds"],
                "device": score["device"],
                "precision": score["precision"],
                "dice": {label: entry["mean_dice"] for label, entry in score["summary"].items()},
            }
            for score in scores
        },
        "plan_sha256": plan.digest(),
        "versions": dict(scores[0]["versions"]),
    }


def started_from(folder: Path) -> dict[str, Any]:
    """Return what finetune.json says of the model a run began from, as an entry of `training`; nothing where it began at random."""
    path = folder / FINETUNE_FILE
    if not path.is_file():
        return {}
    document = json.loads(path.read_text(encoding="utf-8"))
    return {"started_from": document["source"]}


def _entry(name: str, content: bytes) -> dict[str, Any]:
    return {"file": name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
