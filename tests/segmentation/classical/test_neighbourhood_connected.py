from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.core.errors import GeometryMismatchError, InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.segmentation.segment import segment

NAME = "neighbourhood-connected"


def scan(affine: np.ndarray) -> tuple[Volume, tuple[float, ...]]:
    rng = np.random.default_rng(3)
    i, j, k = np.indices((26, 22, 18))
    array = 100.0 * ((i - 12) ** 2 + (j - 10) ** 2 + (k - 9) ** 2 < 60) + rng.normal(0, 14, i.shape)
    volume = Volume(array.astype(np.int16), Geometry(array.shape, affine))
    return volume, tuple(volume.geometry.index_to_world((12, 10, 9)).tolist())


@pytest.mark.parametrize("radius_mm", [0.5, 1.2, 2.5])
def test_it_is_itk_neighborhood_connected_on_every_grid(affine: np.ndarray, radius_mm: float) -> None:
    volume, point = scan(affine)
    radius = [int(radius_mm / spacing * (1 + 1e-9)) for spacing in volume.geometry.spacing_mm]
    found = segment(volume, NAME, seeds=[point], lower=50, upper=160, radius_mm=radius_mm)
    expected = sitk.NeighborhoodConnected(sitk.GetImageFromArray(volume.array.T), [(12, 10, 9)], 50, 160, radius, 1)
    assert np.array_equal(found.array, sitk.GetArrayFromImage(expected).T)
    assert found.array.any()


def test_a_bridge_thinner_than_the_box_is_not_crossed() -> None:
    array = np.zeros((21, 7, 7), np.int16)
    array[1:8, 1:6, 1:6] = array[8:13, 3, 3] = array[13:20, 1:6, 1:6] = 50
    volume = Volume(array, Geometry(array.shape, np.eye(4)))
    assert segment(volume, NAME, seeds=[(4, 3, 3)], lower=40, radius_mm=0).array[16, 3, 3] == 1
    found = segment(volume, NAME, seeds=[(4, 3, 3)], lower=40, radius_mm=1)
    assert found.array.sum() == 5 * 3 * 3
    assert not found.array[8:].any()


def test_seeds_of_a_mask() -> None:
    array = np.full((9, 9, 9), 50, np.int16)
    array[4] = 0
    grid = Geometry(array.shape, np.diag([1.0, 1, 2, 1]))
    marked = np.zeros(array.shape, np.uint8)
    marked[1, 4, 4] = marked[7, 4, 4] = 3
    seeds = LabelMap(marked, grid, (Segment(3, "scribble"),))
    found = segment(Volume(array, grid), NAME, seed_mask=seeds, lower=40, radius_mm=1)
    assert np.array_equal(np.flatnonzero(found.array.any(axis=(1, 2))), [0, 1, 2, 6, 7, 8])
    other = LabelMap(marked, Geometry(array.shape, np.eye(4)), seeds.segments)
    with pytest.raises(GeometryMismatchError, match="seed_mask lies on another grid"):
        segment(Volume(array, grid), NAME, seed_mask=other, lower=40)


def test_a_seed_beside_the_border_of_the_structure_is_told() -> None:
    volume, _ = scan(np.eye(4))
    with pytest.raises(InputError, match="move the seeds away from the border"):
        segment(volume, NAME, seeds=[(0, 0, 0)], lower=50)
    for chosen in ({"lower": 1}, {"seeds": [(0, 0, 0)]}, {"seeds": [(0, 0, 0)], "lower": 3, "upper": 2}):
        with pytest.raises(ParameterError, match=f"{NAME}: "):
            segment(volume, NAME, **chosen)
