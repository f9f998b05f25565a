"""Toy cases: a bright ball (label 1) and a cube (label 2) in noise, and a plan small enough to learn them in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.training.plan import TrainingPlan


@dataclass(frozen=True)
class ToyCase:
    id: str
    image: np.ndarray
    labels: np.ndarray
    background: np.ndarray


def toy_case(number: int, shape: tuple[int, int, int] = (24, 24, 24)) -> ToyCase:
    rng = np.random.default_rng(number)
    labels = np.zeros(shape, np.uint8)
    index = np.indices(shape).reshape(3, -1).T.reshape(*shape, 3)
    centre = rng.uniform(8, 16, 3)
    labels[np.linalg.norm(index - centre, axis=-1) < 5] = 1
    corner = [int(n) for n in rng.integers(1, 4, 3)]
    labels[corner[0] : corner[0] + 5, corner[1] : corner[1] + 5, corner[2] : corner[2] + 5] = 2
    image = np.choose(labels, [0.0, 1.5, -2.0]) + rng.normal(0, 0.3, shape)
    return ToyCase(f"case{number}", image[None].astype(np.float32), labels, np.zeros(1, np.float32))


def toy_entries(**changes: Any) -> dict[str, Any]:
    entries: dict[str, Any] = {
        "schema": "medseg.training-plan/1",
        "name": "toy",
        "title": "Balls and cubes",
        "version": "1.0.0",
        "channels": ["T1"],
        "modality": "MR",
        "labels": {1: "ball", 2: "cube"},
        "spacing_mm": [1.0, 1.0, 1.0],
        "orientation": "RAS",
        "alignment": "grid",
        "normalisation": [{"kind": "z-score"}],
        "patch_size": [16, 16, 16],
        "batch_size": 2,
        "network": {
            "name": "DynUNet",
            "arguments": {
                "spatial_dims": 3,
                "in_channels": 1,
                "out_channels": 3,
                "kernel_size": [3, 3, 3],
                "strides": [1, 2, 2],
                "upsample_kernel_size": [2, 2],
                "filters": [4, 8, 16],
                "norm_name": ["INSTANCE", {"affine": True}],
            },
        },
        "deep_supervision": 1,
        "mirror_axes": [0],
        "optimiser": {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.01},
        "schedule": {"steps": 6, "warmup_steps": 2, "power": 0.9},
        "ema_decay": 0.9,
        "precision": "float32",
        "folds": 2,
        "validation_every_steps": 3,
        "licence": {"code": "Apache-2.0", "weights": "CC0-1.0", "data": "CC0-1.0"},
        "intended_use": "Tests.",
    }
    return {**entries, **changes}


def toy_plan(steps: int = 6, **changes: Any) -> TrainingPlan:
    """A plan with so many steps and these changes; DynUNet's channels follow channels and labels."""
    entries = toy_entries(**{"schedule": {"steps": steps, "warmup_steps": 2, "power": 0.9}, **changes})
    if entries["network"]["name"] == "DynUNet":
        counts = {"in_channels": len(entries["channels"]), "out_channels": len(entries["labels"]) + 1}
        entries["network"] = {"name": "DynUNet", "arguments": {**entries["network"]["arguments"], **counts}}
    return TrainingPlan(**entries)
