"""Connected parts of all labels at once, against scipy label by label."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medseg.kernels.instances import find_instances

STRUCTURES = {6: 1, 18: 2, 26: 3}


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("shape", [(5, 7, 16), (9, 6, 5), (1, 1, 40), (17, 3, 8)])
def test_parts_are_those_scipy_finds_in_each_label(connectivity: int, shape: tuple[int, int, int]) -> None:
    """Dense labels: runs of different labels touch within a line, which runs of one mask never do."""
    rng = np.random.default_rng(connectivity + sum(shape))
    for dtype in (np.uint8, np.uint16, np.uint32):
        labels = rng.integers(0, 4, shape).astype(dtype)
        found = find_instances(labels, connectivity)
        painted = found.painted(np.arange(1, found.voxels.size + 1, dtype=np.int32))
        assert ((painted > 0) == (labels > 0)).all()
        structure = ndimage.generate_binary_structure(3, STRUCTURES[connectivity])
        count = 0
        for value in range(1, 4):
            expected, parts = ndimage.label(labels == value, structure)
            count += parts
            pairs = set(zip(expected[labels == value].tolist(), painted[labels == value].tolist(), strict=True))
            assert len(pairs) == parts  # one to one
            assert {int(found.numbers[n - 1]) for _, n in pairs} <= {value}
        assert found.voxels.size == count
        assert found.voxels.tolist() == np.bincount(painted.ravel(), minlength=count + 1)[1:].tolist()


def test_centroids_are_those_of_the_voxels() -> None:
    labels = np.random.default_rng(3).integers(0, 3, (6, 5, 8)).astype(np.uint8)
    found = find_instances(labels)
    painted = found.painted(np.arange(1, found.voxels.size + 1, dtype=np.int32))
    expected = ndimage.center_of_mass(painted > 0, painted, range(1, found.voxels.size + 1))
    assert np.allclose(found.centroids(), expected)


def test_without_connectivity_each_label_is_one_part() -> None:
    labels = np.array([[[1, 0, 1, 7, 0, 7, 65535]]], np.uint16)
    found = find_instances(labels, None)
    assert found.numbers.tolist() == [1, 7, 65535]
    assert found.voxels.tolist() == [2, 2, 1]


def test_an_empty_array_has_no_part() -> None:
    for connectivity in (6, None):
        found = find_instances(np.zeros((3, 4, 5), np.uint8), connectivity)
        assert found.voxels.size == 0
        assert not found.painted(np.zeros(0, np.uint8)).any()


def test_views_that_are_not_contiguous_give_the_same_parts() -> None:
    labels = np.random.default_rng(4).integers(0, 3, (8, 9, 10)).astype(np.uint8)
    turned = labels.transpose(2, 0, 1)[::-1]
    assert sorted(find_instances(turned).voxels.tolist()) == sorted(find_instances(labels).voxels.tolist())


@pytest.mark.parametrize("connectivity", [6, 26])
def test_islands_are_the_parts_of_each_plane(connectivity: int) -> None:
    labels = (np.random.default_rng(8).random((5, 9, 12)) > 0.55).astype(np.uint8)
    found = find_instances(labels, connectivity)
    painted = found.painted(np.arange(1, found.voxels.size + 1, dtype=np.int32))
    islands = found.islands(connectivity)
    structure = ndimage.generate_binary_structure(2, 1 if connectivity == 6 else 2)
    count = sum(ndimage.label(plane == part, structure)[1] for plane in painted for part in np.unique(plane[plane > 0]))
    assert islands.max() + 1 == count
    assert len(np.unique(islands)) == count
