"""What the contact sheet sorts by, on label maps whose answer is written out."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from medseg.batch.worker.checks import checks_of
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.measurement.measure import measure

SHEARED = np.array([[0.8, 0.1, 0.0, 5.0], [0.0, -0.9, 0.3, 7.0], [0.1, 0.0, 2.5, -3.0], [0.0, 0.0, 0.0, 1.0]])


def test_pieces_and_absence() -> None:
    """Two cubes, one at the border; a diagonal pair that is one piece; a segment without voxels."""
    array = np.zeros((10, 11, 12), np.uint8)
    array[0:2, 2:4, 2:4] = 1
    array[5:7, 2:4, 2:4] = 1
    array[3, 7, 7] = array[4, 8, 8] = 2
    segments = (Segment(1, "two"), Segment(2, "diagonal"), Segment(3, "none"))
    label_map = LabelMap(array, Geometry(array.shape, SHEARED), segments)
    found = checks_of(label_map, measure(label_map))
    assert found == {"components": {"two": 2, "diagonal": 1}}


def test_pieces_agree_with_scipy_on_noise() -> None:
    """Many pieces, four labels, an anisotropic grid."""
    array = np.random.default_rng(3).choice(5, (23, 17, 19), p=[0.7, 0.1, 0.1, 0.05, 0.05]).astype(np.uint8)
    label_map = LabelMap(array, Geometry(array.shape, SHEARED), tuple(Segment(n, f"s{n}") for n in range(1, 5)))
    found = checks_of(label_map, measure(label_map))["components"]
    assert found == {f"s{n}": int(ndimage.label(array == n, np.ones((3, 3, 3)))[1]) for n in range(1, 5)}
