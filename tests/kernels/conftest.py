"""Volumes that the kernels are tried on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

# Odd, unequal and one voxel thick.
SHAPES = [(1, 1, 1), (1, 7, 16), (9, 1, 8), (6, 5, 1), (13, 11, 17), (3, 20, 32)]


@pytest.fixture(params=SHAPES, ids=str)
def shape(request: pytest.FixtureRequest) -> tuple[int, int, int]:
    return request.param


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240607)


@pytest.fixture(scope="session")
def ct(shared_data: Path) -> NDArray[Any]:
    """A real CT, int16 (k, j, i), 3 mm."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(shared_data / "ct_totalseg_organs" / "image.nii.gz"))).astype(np.int16)


@pytest.fixture(scope="session")
def organs(shared_data: Path) -> NDArray[Any]:
    """The labels of the CT, uint8 (k, j, i)."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(shared_data / "ct_totalseg_organs" / "labels_full.nii.gz"))).astype(np.uint8)
