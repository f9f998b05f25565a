"""A reference and a prediction with 120 organs, for the benchmarks of metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from inputs import block_labels

from medseg.kernels.resample import resample_labels

SPACING_MM = (1.25, 0.8, 0.8)  # (k, j, i)
ORGANS = 120
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "ct_totalseg_organs" / "labels_full.nii.gz"


def organ_pair(ct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels (uint8) on the grid of a CT (k, j, i): real organs made finer, and the same turned, moved and with bumps.

    The organs of a slab of 30 slices are stacked four times, every second time upside down, each with labels of its own.
    """
    if not DATA.is_file():
        labels = block_labels(ct, ORGANS)
        return labels, np.roll(labels, (1, 2, -1), axis=(0, 1, 2))
    coarse = _stack(sitk.GetArrayFromImage(sitk.ReadImage(str(DATA))).astype(np.uint8))
    bumpy = _with_bumps(coarse)
    scale = [(n - 1) / (m - 1) for n, m in zip(coarse.shape, ct.shape, strict=True)]
    angle = np.radians(0.5)
    turned = np.diag(scale) @ np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    middle = (np.array(ct.shape) - 1) / 2
    offset = np.diag(scale) @ middle - turned @ middle + np.array([0.1, 0.3, -0.2])
    return (
        resample_labels(coarse, np.diag(scale), np.zeros(3), ct.shape),
        resample_labels(bumpy, turned, offset, ct.shape),
    )


def _stack(organs: np.ndarray) -> np.ndarray:
    numbers = np.unique(organs)[1:]
    copies = []
    for copy in range(4):
        table = np.zeros(256, np.uint8)
        own = np.arange(len(numbers)) + 1 + copy * len(numbers)
        table[numbers] = np.where(own <= ORGANS, own, 0)
        copies.append(table[organs[::-1] if copy % 2 else organs])
    return np.concatenate(copies)


def _with_bumps(labels: np.ndarray) -> np.ndarray:
    """One voxel in ten takes the label of its neighbour along a random axis."""
    rng = np.random.default_rng(4)
    out = labels.copy()
    for axis in range(3):
        takes = rng.random(labels.shape) < 1 / 30
        out[takes] = np.roll(labels, 1, axis)[takes]
    return out
