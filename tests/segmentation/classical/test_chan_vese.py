from __future__ import annotations

import numpy as np
import pytest
from skimage.segmentation import morphological_chan_vese

from medseg.core.errors import GeometryMismatchError, InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.segmentation.segment import segment


def noisy_balls(affine: np.ndarray) -> tuple[Volume, np.ndarray, np.ndarray, tuple[float, ...]]:
    """Two balls of 7 mm apart from each other in noise as strong as their contrast, drawn in mm; the centre of the first."""
    geometry = Geometry((60, 36, 18), affine)
    points = geometry.index_to_world(np.stack(np.indices(geometry.shape), axis=-1))
    first, second = (geometry.index_to_world(index) for index in ((16, 18, 9), (44, 18, 9)))
    balls = [np.linalg.norm(points - centre, axis=-1) < 7 for centre in (first, second)]
    array = 100 * (balls[0] | balls[1]) + np.random.default_rng(3).normal(0, 40, geometry.shape)
    return Volume(array.astype(np.int16), geometry, "MR"), balls[0], balls[1], tuple(float(v) for v in first)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def test_a_ball_without_edges_is_found_on_every_grid(affine: np.ndarray) -> None:
    volume, ball, other, centre = noisy_balls(affine)
    found = segment(volume, "chan-vese", seeds=[centre], start_radius_mm=4.0, reach_mm=40)
    assert dice(found.array > 0, ball) > 0.92
    assert not found.array[other].any()  # like the first ball, but not connected to it
    both = segment(volume, "chan-vese", seeds=[centre], start_radius_mm=4.0, reach_mm=40, connected=False)
    assert dice(both.array > 0, ball | other) > 0.92
    assert not found.findings


def test_it_agrees_with_scikit_image_on_cubes() -> None:
    volume, ball, other, _ = noisy_balls(np.eye(4))
    start = LabelMap(ball.astype(np.uint8), volume.geometry, (Segment(1, "start"),))
    found = segment(volume, "chan-vese", start=start, sigma_mm=0, reach_mm=100, connected=False)
    theirs = morphological_chan_vese(volume.array.astype(float), 60, init_level_set=(ball | other).astype(np.int8), smoothing=0)
    assert dice(found.array > 0, theirs > 0) > 0.95


def test_more_smoothness_gives_less_surface() -> None:
    volume, _, _, centre = noisy_balls(np.diag([0.8, 1.1, 2.5, 1.0]))
    masks = [
        segment(volume, "chan-vese", seeds=[centre], sigma_mm=0, smoothness_mm=weight, connected=False).array > 0
        for weight in (0.02, 0.3, 1.2)
    ]
    areas = [sum(int(np.diff(mask, axis=axis).sum()) for axis in range(3)) for mask in masks]
    assert areas[0] > areas[1] > areas[2] > 0


def test_flipping_the_array_with_its_affine_flips_the_result() -> None:
    volume, _, _, centre = noisy_balls(np.diag([0.8, 1.1, 2.5, 1.0]))
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = volume.geometry.shape[0] - 1
    flipped = Volume(volume.array[::-1], Geometry(volume.geometry.shape, volume.geometry.affine @ flip), "MR")
    results = [segment(scan, "chan-vese", seeds=[centre]).array for scan in (volume, flipped)]
    assert (results[1][::-1] == results[0]).mean() > 0.9999


def test_reach_bounds_the_box_and_steps_that_run_out_are_told() -> None:
    volume, _, _, centre = noisy_balls(np.diag([0.8, 1.1, 2.5, 1.0]))
    near = segment(volume, "chan-vese", seeds=[centre], start_radius_mm=3.0, reach_mm=3.0, smoothness_mm=1.0)
    away = np.abs(volume.geometry.index_to_world(np.argwhere(near.array > 0)) - centre)
    assert away.size
    assert (away <= [6.9, 7.2, 8.6]).all()
    hurried = segment(volume, "chan-vese", seeds=[centre], start_radius_mm=4.0, iterations=1)
    assert [finding.code for finding in hurried.findings] == ["CONTOUR_NOT_AT_REST"]
    gone = segment(volume, "chan-vese", seeds=[centre], start_radius_mm=1.0, smoothness_mm=50.0)
    assert [finding.code for finding in gone.findings] == ["CONTOUR_VANISHED"]


def test_nan_is_never_inside_and_a_start_without_values_is_refused() -> None:
    volume, ball, _, centre = noisy_balls(np.eye(4))
    array = volume.array.astype(np.float32)
    array[18, 18, 9], array[20] = np.nan, np.inf
    found = segment(volume.with_array(array), "chan-vese", seeds=[centre], start_radius_mm=3.0)
    assert not found.array[~np.isfinite(array)].any()
    assert dice(found.array > 0, ball & np.isfinite(array)) > 0.7
    with pytest.raises(InputError, match="no voxel of the start has a value"):
        segment(volume.with_array(np.full_like(array, np.nan)), "chan-vese", seeds=[centre])
    with pytest.raises(ParameterError, match="give seeds, or start"):
        segment(volume, "chan-vese")
    with pytest.raises(ParameterError, match=r"the point \(500\.0"):
        segment(volume, "chan-vese", seeds=[(500, 0, 0)])
    elsewhere = LabelMap(np.ones((2, 2, 2), np.uint8), Geometry((2, 2, 2), np.eye(4)), (Segment(1, "a"),))
    with pytest.raises(GeometryMismatchError, match="the start lies on another grid"):
        segment(volume, "chan-vese", start=elsewhere)


def test_a_region_that_fills_its_box_is_told_with_the_sides() -> None:
    volume, _, _, centre = noisy_balls(np.diag([0.8, 1.1, 2.5, 1.0]))
    found = segment(volume, "chan-vese", seeds=[centre], start_radius_mm=3.0, reach_mm=2.0)
    told = [item for item in found.findings if item.code == "CONTOUR_AT_REACH"]
    assert len(told) == 1
    assert {"left", "right", "anterior", "posterior"} <= set(told[0].details["sides"])
