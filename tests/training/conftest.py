"""Small training folders, written with nibabel."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
DatasetMaker = Callable[..., Path]


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def case(seed: int, shape: tuple[int, ...] = (16, 18, 10)) -> tuple[np.ndarray, np.ndarray]:
    """Noise with two brighter boxes, and the boxes as labels 1 and 2."""
    rng = np.random.default_rng(seed)
    image, labels = rng.normal(100, 10, shape).astype(np.float32), np.zeros(shape, np.uint8)
    start = rng.integers(2, 4, 3)
    for number in (1, 2):
        low = start + np.array([0, 5 * (number - 1), 0])
        box = tuple(slice(int(a), int(a) + 4) for a in low)
        image[box] += 50 * number
        labels[box] = number
    return image, labels


@pytest.fixture
def make_dataset(tmp_path: Path) -> DatasetMaker:
    """Return a function that writes a Decathlon folder with so many cases and these changes to dataset.json."""

    def make(count: int = 4, name: str = "data", affine: np.ndarray = AFFINE, **changes: Any) -> Path:
        folder = tmp_path / name
        training = []
        for n in range(count):
            image, labels = case(n)
            save(folder / "imagesTr" / f"c{n}.nii.gz", image, affine)
            save(folder / "labelsTr" / f"c{n}.nii.gz", labels, affine)
            training.append({"image": f"./imagesTr/c{n}.nii.gz", "label": f"./labelsTr/c{n}.nii.gz"})
        entries = {
            "name": "Two Boxes",
            "licence": "CC-BY-SA 4.0",
            "reference": "made by a test",
            "modality": {"0": "MRI"},
            "labels": {"0": "background", "1": "first", "2": "second"},
            "training": training,
        }
        entries.update(changes)
        (folder / "dataset.json").write_text(json.dumps({key: value for key, value in entries.items() if value is not None}))
        return folder

    return make
