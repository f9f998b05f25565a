"""Grids of every kind, and one real CT scan."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.volume import Volume

SPACING_MM = np.array([0.8, 1.1, 2.5])


def _rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    a, b, c = np.radians(degrees)
    about_r = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_a = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_s = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_s @ about_a @ about_r


DIRECTIONS = {
    "anisotropic": np.eye(3),
    "left-handed": np.diag([-1.0, 1.0, 1.0]),
    "permuted": np.eye(3)[:, [2, 0, 1]] * [1, -1, 1],
    "oblique": _rotation((12, -20, 33)),
    "sheared": np.array([[1, 0, 0], [0, 1, np.sin(np.radians(18))], [0, 0, np.cos(np.radians(18))]]),
}


def _affine(kind: str) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = DIRECTIONS[kind] * SPACING_MM
    matrix[:3, 3] = (-31.5, 12.25, 140.0)
    return matrix


@pytest.fixture(params=list(DIRECTIONS))
def affine(request: pytest.FixtureRequest) -> np.ndarray:
    """An affine of each kind, with unequal spacing and an origin off zero."""
    return _affine(request.param)


@pytest.fixture(params=[kind for kind in DIRECTIONS if kind != "sheared"])
def right_angled(request: pytest.FixtureRequest) -> np.ndarray:
    """The affines that packages without shear can hold."""
    return _affine(request.param)


@pytest.fixture(scope="session")
def ct(shared_data: Path) -> Volume:
    """The abdominal CT as nibabel reads it."""
    image = nibabel.load(shared_data / "ct_totalseg_organs" / "image.nii.gz")
    array = np.asarray(image.dataobj).astype(np.int16)
    return Volume(array, Geometry(array.shape, image.affine), "CT", "HU")
