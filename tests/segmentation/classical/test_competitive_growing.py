from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import GeometryMismatchError, InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.segmentation.segment import segment

NAME = "competitive-growing"
SHAPE = (30, 24, 16)
CENTRES = ((9, 8, 7), (20, 15, 8))


def two_balls(affine: np.ndarray) -> tuple[Volume, np.ndarray]:
    """Two balls of 80 and 120 in a background of 20, and their numbers."""
    truth = np.zeros(SHAPE, np.uint8)
    places = np.indices(SHAPE)
    for number, centre in enumerate(CENTRES, 1):
        truth[sum((axis - middle) ** 2 for axis, middle in zip(places, centre, strict=True)) < 30] = number
    array = np.choose(truth, [20, 80, 120]) + np.random.default_rng(0).normal(0, 6, SHAPE)
    return Volume(array.astype(np.int16), Geometry(SHAPE, affine)), truth


def at(volume: Volume, index: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(volume.geometry.index_to_world(index).tolist())


def test_structures_and_background_are_shared_out_on_every_grid(affine: np.ndarray) -> None:
    volume, truth = two_balls(affine)
    found = segment(
        volume, NAME, seeds=[at(volume, c) for c in CENTRES], background_seeds=[at(volume, (1, 1, 1))], sigma_mm=0.5, seed_radius_mm=2
    )
    assert [s.label for s in found.segments] == ["region_1", "region_2"]
    for number in (1, 2):
        mask = found.array == number
        assert 2 * (mask & (truth == number)).sum() / (mask.sum() + (truth == number).sum()) > 0.97


def test_flipping_array_and_affine_flips_the_result() -> None:
    affine = np.diag([0.8, 1.1, 2.5, 1.0])
    volume, _ = two_balls(affine)
    mirror = np.eye(4)
    mirror[0] = (-1, 0, 0, SHAPE[0] - 1)
    flipped = Volume(np.asfortranarray(volume.array[::-1]), Geometry(SHAPE, affine @ mirror))
    points = [at(volume, c) for c in CENTRES]
    expected = segment(volume, NAME, seeds=points, seed_radius_mm=2).array
    assert np.array_equal(segment(flipped, NAME, seeds=points, seed_radius_mm=2).array[::-1], expected)
    assert (expected != 0).all()


def test_markers_keep_their_segments_and_a_seed_adds_one() -> None:
    volume, truth = two_balls(np.eye(4))
    marked = np.zeros(SHAPE, np.uint16)
    marked[8:11, 7:10, 6:9], marked[0] = 900, 7
    markers = LabelMap(marked, volume.geometry, (Segment(7, "Background"), Segment(900, "liver")))
    found = segment(volume, NAME, markers=markers, seeds=[at(volume, CENTRES[1])], label="spleen", seed_radius_mm=2)
    assert [(s.number, s.label) for s in found.segments] == [(900, "liver"), (901, "spleen")]
    assert found.array.dtype == np.uint16
    assert ((found.array == 900) == (truth == 1)).mean() > 0.99
    assert ((found.array == 901) == (truth == 2)).mean() > 0.99


def test_the_limit_of_difference_and_of_intensity() -> None:
    volume, truth = two_balls(np.eye(4))
    for chosen in ({"max_difference": 30}, {"lower": 50}):
        found = segment(volume, NAME, seeds=[at(volume, c) for c in CENTRES], sigma_mm=0, seed_radius_mm=2, **chosen)
        assert (found.array == truth).mean() > 0.99
        assert not found.array[0, 0].any()


def test_regions_that_are_alike_meet_in_the_middle() -> None:
    volume = Volume(np.zeros((9, 3, 3), np.int16), Geometry((9, 3, 3), np.eye(4)))
    found = segment(volume, NAME, seeds=[(2, 1, 1), (7, 1, 1)], sigma_mm=0)
    assert found.array[:, 1, 1].tolist() == [1, 1, 1, 1, 1, 2, 2, 2, 2]


def test_what_cannot_be_done_is_said() -> None:
    volume, _ = two_balls(np.eye(4))
    with pytest.raises(ParameterError, match="same voxel"):
        segment(volume, NAME, seeds=[(3, 3, 3)], background_seeds=[(3.2, 3, 3)])
    segment(volume, NAME, seeds=[(3, 3, 3)], background_seeds=[(9, 9, 9), (9.2, 9, 9)])
    with pytest.raises(InputError, match="no mark lies on a voxel"):
        segment(volume, NAME, seeds=[(1, 1, 1)], lower=900)
    empty = LabelMap(np.zeros(SHAPE, np.uint8), volume.geometry, (Segment(1, "a"),))
    with pytest.raises(InputError, match="markers hold no voxel"):
        segment(volume, NAME, markers=empty)
    with pytest.raises(GeometryMismatchError, match="another grid"):
        segment(volume, NAME, markers=LabelMap(empty.array, Geometry(SHAPE, np.diag([2.0, 2, 2, 1])), empty.segments))
    for chosen in ({}, {"seeds": [(0, 0, 0)], "lower": 3, "upper": 2}):
        with pytest.raises(ParameterError, match=f"{NAME}: "):
            segment(volume, NAME, **chosen)
