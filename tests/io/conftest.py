"""Small scans and label maps on a grid that forgives nothing: unequal spacing, oblique, left-handed."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.codes import ANATOMICAL_STRUCTURE, LEFT, Code
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume


@pytest.fixture
def grid() -> Geometry:
    angle = np.radians(12)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-0.8, 1.1, 2.5])
    affine[:3, 3] = (101.25, -37.5, 12.125)
    return Geometry((9, 8, 7), affine)


@pytest.fixture
def scan(grid: Geometry) -> Volume:
    values = np.random.default_rng(7).integers(-1000, 2000, grid.shape, dtype=np.int16)
    return Volume(values, grid)


@pytest.fixture
def organs(grid: Geometry) -> LabelMap:
    array = np.zeros(grid.shape, np.uint8)
    array[1:4, 1:4, 1:4] = 1
    array[5:8, 5:8, 3:6] = 7
    kidney = Segment(7, "kidney, left", ANATOMICAL_STRUCTURE, Code("SCT", "64033007", "Kidney"), LEFT, colour=(1, 128, 255))
    return LabelMap(array, grid, (Segment(1, 'liver "whole"', colour=(200, 100, 0)), kidney, Segment(9, "Galle Ü: leer")))
