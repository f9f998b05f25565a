from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from medseg.core.errors import GeometryMismatchError, InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.segmentation.classical.marks import _likes, _unlike, ball, mean_difference, unit_image
from medseg.segmentation.segment import segment

Points = list[tuple[float, ...]]


def touching_balls(affine: np.ndarray, dtype: type = np.int16) -> tuple[Volume, Points, dict[str, np.ndarray]]:
    """Two balls of 8 mm that touch, drawn in mm, of unlike brightness, in noise; points in each and one outside."""
    geometry = Geometry((60, 40, 20), affine)
    points = geometry.index_to_world(np.stack(np.indices(geometry.shape), axis=-1))
    centres = [geometry.index_to_world(index) for index in ((20, 20, 10), (41, 20, 10))]  # 16.8 mm apart
    left, right = (np.linalg.norm(points - centre, axis=-1) for centre in centres)
    noise = np.random.default_rng(6).normal(0, 4, geometry.shape)
    array = np.where(left < 8.5, 100, np.where(right < 8.5, 160, 0)) + noise
    seeds = [tuple(float(v) for v in centre) for centre in centres]
    truth = {"region_1": (left < 8.5) & (left < right), "region_2": (right < 8.5) & (right < left)}
    return Volume(array.astype(dtype), geometry, "MR"), [*seeds, tuple(geometry.index_to_world((1, 1, 1)).tolist())], truth


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.mark.parametrize("name", ["grow-from-seeds", "random-walker"])
def test_both_balls_are_found_from_one_seed_each_on_every_grid(name: str, affine: np.ndarray) -> None:
    volume, points, truth = touching_balls(affine)
    found = segment(volume, name, seeds=points[:2], background_seeds=points[2:], sigma_mm=0)
    for label, reference in truth.items():
        assert dice(found.mask(label), reference) > 0.95
    assert [(item.number, item.algorithm) for item in found.segments] == [(1, name), (2, name)]


@pytest.mark.parametrize("name", ["grow-from-seeds", "random-walker", "graph-cut"])
def test_flipping_the_array_with_its_affine_flips_the_result(name: str) -> None:
    volume, points, _ = touching_balls(np.diag([0.8, 1.1, 2.5, 1.0]))
    seeds = {"seeds": points[:1], "background_seeds": points[1:], "sigma_mm": 0}
    found = segment(volume, name, **seeds)
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = volume.geometry.shape[0] - 1
    flipped = Volume(volume.array[::-1], Geometry(volume.geometry.shape, volume.geometry.affine @ flip), "MR")
    again = segment(flipped, name, **seeds)
    assert (again.array[::-1] == found.array).mean() > (0.9999 if name == "random-walker" else 0.9999999)
    assert found.array.any()


def test_in_an_even_scan_the_nearer_seed_wins_in_mm() -> None:
    """1 mm apart along i and 5 along k: a voxel three steps away along i is nearer than one step along k."""
    volume = Volume(np.zeros((9, 1, 3), np.int16), Geometry((9, 1, 3), np.diag([1.0, 1.0, 5.0, 1.0])))
    found = segment(volume, "grow-from-seeds", seeds=[(0, 0, 0), (8, 0, 10)], sigma_mm=0, connectivity=26)
    way = np.abs(np.indices((9, 1, 3)) - np.array([0, 0, 0]).reshape(3, 1, 1, 1))
    other = np.abs(np.indices((9, 1, 3)) - np.array([8, 0, 2]).reshape(3, 1, 1, 1))

    def length(steps: np.ndarray) -> np.ndarray:  # the shortest way over 26 neighbours in one plane
        diagonal = np.minimum(steps[0], steps[2])
        return diagonal * np.sqrt(26) + (steps[0] - diagonal) + 5 * (steps[2] - diagonal)

    assert np.array_equal(found.array, np.where(length(way) <= length(other), 1, 2))


def test_reach_and_unlikeness_mark_background() -> None:
    volume, points, truth = touching_balls(np.diag([0.8, 1.1, 2.5, 1.0]))
    ends = segment(volume, "grow-from-seeds", seeds=points[:1], reach_mm=5.0, edge_mm=0, sigma_mm=0, connectivity=26)
    far = np.linalg.norm(volume.geometry.index_to_world(np.stack(np.indices(volume.array.shape), axis=-1)) - points[0], axis=-1)
    assert not ends.array[far > 5].any()
    assert ends.array[far < 2].all()
    unlike = segment(volume, "grow-from-seeds", seeds=points[:2], seed_radius_mm=3.0, background_beyond=5.0, sigma_mm=0)
    assert dice(unlike.mask("region_1"), truth["region_1"]) > 0.95
    assert dice(unlike.mask("region_2"), truth["region_2"]) > 0.95


def test_reach_is_a_distance_in_the_patient_on_sheared_grids_too(affine: np.ndarray) -> None:
    volume, points, _ = touching_balls(affine)
    found = segment(
        volume.with_array(np.zeros_like(volume.array)), "grow-from-seeds", seeds=points[:1], reach_mm=6.0, sigma_mm=0, connectivity=26
    )
    far = np.linalg.norm(volume.geometry.index_to_world(np.stack(np.indices(volume.array.shape), axis=-1)) - points[0], axis=-1)
    assert not found.array[far > 6.01].any()
    assert found.array[far < 2.5].all()


def test_markers_keep_their_segments_and_seeds_count_before_them() -> None:
    volume, points, _ = touching_balls(np.eye(4))
    array = np.zeros(volume.array.shape, np.uint16)
    array[20, 20, 10], array[1, 1, 1] = 4, 9
    markers = LabelMap(array, volume.geometry, (Segment(4, "left"), Segment(9, "Background")))
    found = segment(volume, "grow-from-seeds", markers=markers, seeds=[points[1]], label="right")
    assert [(item.number, item.label) for item in found.segments] == [(4, "left"), (10, "right")]
    assert (found.array[20, 20, 10], found.array[41, 20, 10], found.array[1, 1, 1]) == (4, 10, 0)
    assert segment(volume, "grow-from-seeds", markers=markers, seeds=[points[0]]).array[20, 20, 10] == 10


@pytest.mark.parametrize("name", ["grow-from-seeds", "random-walker", "graph-cut"])
def test_nan_belongs_to_nothing_and_no_way_leads_through_it(name: str) -> None:
    volume, points, _ = touching_balls(np.eye(4), np.float32)
    array = volume.array.copy()
    array[30] = np.nan
    array[0, 0, 1] = np.inf
    found = segment(volume.with_array(array), name, seeds=points[:1], background_seeds=points[2:])
    assert not found.array[~np.isfinite(array)].any()
    assert not found.array[31:].any()
    assert found.array.any()
    with pytest.raises(InputError, match=f"{name}: no mark lies on a voxel with a value"):
        segment(volume.with_array(np.full_like(array, np.nan)), name, seeds=points[:1], background_seeds=points[2:])


@pytest.mark.parametrize("name", ["grow-from-seeds", "random-walker"])
def test_impossible_marks_are_refused(name: str) -> None:
    volume, points, _ = touching_balls(np.eye(4))
    empty = LabelMap(np.zeros(volume.array.shape, np.uint8), volume.geometry, (Segment(1, "a"),))
    elsewhere = LabelMap(np.ones((2, 2, 2), np.uint8), Geometry((2, 2, 2), np.eye(4)), (Segment(1, "a"),))
    with pytest.raises(ParameterError, match="give seeds, or markers"):
        segment(volume, name, background_seeds=points)
    with pytest.raises(InputError, match="hold no voxel"):
        segment(volume, name, markers=empty)
    with pytest.raises(GeometryMismatchError, match="markers lie on another grid"):
        segment(volume, name, markers=elsewhere)
    with pytest.raises(ParameterError, match=r"background_seeds: the point \(500\.0"):
        segment(volume, name, seeds=points[:1], background_seeds=[(500, 0, 0)])
    with pytest.raises(ParameterError, match="same voxel as a seed of another structure"):
        segment(volume, name, seeds=points[:2], background_seeds=[points[0]])


def test_a_ball_is_round_in_the_patient_and_stays_on_the_grid(affine: np.ndarray) -> None:
    geometry = Geometry((12, 11, 10), affine)
    away = geometry.index_to_world(np.stack(np.indices(geometry.shape), axis=-1)) - geometry.index_to_world((2, 9, 4))
    expected = np.argwhere(np.linalg.norm(away, axis=-1) <= 3.31)
    assert sorted(map(tuple, ball(geometry, (2, 9, 4), 3.31).tolist())) == sorted(map(tuple, expected.tolist()))
    assert ball(geometry, (2, 9, 4), 0).tolist() == [[2, 9, 4]]


def test_intensities_of_any_size_become_0_to_1() -> None:
    image, finite, scale = unit_image(np.array([[[-1e308, 0, 1e308]]]))
    assert image.tolist() == [[[0, 0.5, 1]]]
    assert finite is None
    assert scale > 1e308
    image, finite, _ = unit_image(np.array([[[2, np.nan, 4, -np.inf]]]))
    assert image.tolist() == [[[0, 0, 1, 0]]]
    assert finite is not None
    assert finite.tolist() == [[[1, 0, 1, 0]]]
    assert mean_difference(np.array([[[0, 0, 1, 0]]], np.float32), finite) == 0
    assert mean_difference(np.array([[[0, 0.5], [1, 0]]], np.float32), None) == pytest.approx((0.5 + 1 + 1 + 0.5) / 4)


@pytest.mark.parametrize("name", ["grow-from-seeds", "random-walker", "competitive-growing", "watershed"])
def test_one_structure_without_background_takes_everything_and_says_so(name: str) -> None:
    volume, points, _ = touching_balls(np.eye(4))
    everything = segment(volume, name, seeds=points[:1])
    assert everything.array.all()
    assert [(item.code, item.severity.value) for item in everything.findings] == [("EVERYTHING_TAKEN", "warning")]
    assert not segment(volume, name, seeds=points[:2]).findings
    assert not segment(volume, name, seeds=points[:1], background_seeds=points[2:]).findings


@pytest.mark.parametrize(
    ("name", "limit"), [("competitive-growing", "max_difference"), ("competitive-growing", "lower"), ("watershed", "lower")]
)
def test_limits_hold_one_structure(name: str, limit: str) -> None:
    volume, points, _ = touching_balls(np.eye(4))
    value = float(volume.array[tuple(np.rint(volume.geometry.world_to_index(points[0])).astype(int))])
    assert not segment(volume, name, seeds=points[:1], **{limit: abs(value) / 2}).findings


def test_too_many_structures_for_the_random_walker_are_refused_with_another_way() -> None:
    volume = Volume(np.zeros((21, 11, 1), np.int16), Geometry((21, 11, 1), np.eye(4)))
    points = [tuple(map(float, index)) for index in np.ndindex(21, 10, 1)]
    with pytest.raises(InputError, match=r"random-walker: 201 structures .* grow-from-seeds"):
        segment(volume, "random-walker", seeds=points[:201])
    assert segment(volume, "random-walker", seeds=points[:200]).array.max() == 200


def test_unlike_voxels_are_those_unlike_each_structure_by_itself() -> None:
    rng = np.random.default_rng(5)
    image = rng.random((7, 20, 30), np.float32)
    array = np.where(rng.random(image.shape) < 0.1, rng.integers(1, 9, image.shape), 0).astype(np.uint8)
    image[array > 0] = (0.11 * array + rng.normal(0, 0.01, image.shape))[array > 0]
    unlike = np.ones(image.shape, bool)
    for number in (1, 2, 3, 4, 5, 7, 8):  # 6 is background
        own = image[array == number].astype(np.float64)
        unlike &= np.abs(image - own.mean()) > 2.0 * max(own.std(), 0.002)
    lows, highs = _likes(image, array, 6, 2.0, 0.002)
    told = ~((image[..., None] >= lows) & (image[..., None] <= highs)).any(axis=-1)
    assert np.array_equal(told, unlike)
    assert len(lows) >= 5
    expected = unlike & (uniform_filter(unlike.astype(np.float32), 3, mode="nearest") > 0.5)
    assert np.array_equal(_unlike(image, array, 6, 2.0, 0.002), expected)
    assert expected.any()
