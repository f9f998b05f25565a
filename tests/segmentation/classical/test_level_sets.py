from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.core.errors import GeometryError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.segmentation.segment import segment


def ball_with_a_bridge(affine: np.ndarray, bridge: bool = False) -> tuple[Volume, np.ndarray, tuple[float, ...]]:
    """A ball of 8 mm, with a rod of 1.5 mm that leaves it along i if asked for, drawn in mm; its centre."""
    geometry = Geometry((48, 36, 18), affine)
    centre = geometry.index_to_world((22, 18, 9))
    away = geometry.index_to_world(np.stack(np.indices(geometry.shape), axis=-1)) - centre
    ball = np.linalg.norm(away, axis=-1) < 8
    along = away @ geometry.direction[:, 0]
    rod = (np.linalg.norm(away - along[..., None] * geometry.direction[:, 0], axis=-1) < 1.5) & (along > 0)
    noise = np.random.default_rng(1).normal(0, 4, geometry.shape)
    array = 100 * (ball | rod if bridge else ball) + noise
    return Volume(array.astype(np.int16), geometry, "MR"), ball, tuple(float(v) for v in centre)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


METHODS = {
    "geodesic-active-contour": {"propagation": 1.0, "curvature": 0.2, "iterations": 1500},
    "threshold-level-set": {"lower": 50, "upper": 150, "curvature": 0.2, "iterations": 1500},
}


@pytest.mark.parametrize("name", METHODS)
def test_a_ball_grows_from_a_seed_to_its_size_on_every_grid(name: str, right_angled: np.ndarray) -> None:
    volume, ball, centre = ball_with_a_bridge(right_angled)
    found = segment(volume, name, seeds=[centre], start_radius_mm=4.0, reach_mm=10, **METHODS[name])
    assert dice(found.array > 0, ball) > 0.9
    assert [(item.number, item.algorithm) for item in found.segments] == [(1, name)]


@pytest.mark.parametrize("name", METHODS)
def test_a_sheared_grid_is_refused_with_a_way_out(name: str) -> None:
    matrix = np.diag([0.8, 1.1, 2.5, 1.0])
    matrix[1, 2] = 0.8
    volume, _, centre = ball_with_a_bridge(matrix)
    with pytest.raises(GeometryError, match=r"17\.7 degrees off right angles .* use graph-cut"):
        segment(volume, name, seeds=[centre], **METHODS[name])


def test_curvature_closes_the_bridge() -> None:
    volume, _, centre = ball_with_a_bridge(np.eye(4), bridge=True)
    given = {"seeds": [centre], "start_radius_mm": 4.0, "reach_mm": 25, "lower": 50, "upper": 150, "sigma_mm": 0, "iterations": 2000}
    leaks = [int((segment(volume, "threshold-level-set", curvature=weight, **given).array > 0)[34:].sum()) for weight in (0.0, 3.0)]
    assert leaks[0] > 20
    assert leaks[1] == 0


def test_the_box_does_not_change_what_itk_gives_on_the_whole_scan() -> None:
    """ITK by hand, without box and padding, on a scan with unequal spacing."""
    volume, _, centre = ball_with_a_bridge(np.diag([0.8, 1.1, 2.5, 1.0]))
    found = segment(volume, "threshold-level-set", seeds=[centre], start_radius_mm=4.0, reach_mm=12, sigma_mm=0, lower=50, upper=150)
    speed = np.clip(1 - np.abs(volume.array.T - 100.0) / 50, -1, 1)
    image = sitk.GetImageFromArray(speed.astype(np.float32))
    image.SetSpacing(volume.geometry.spacing_mm)
    away = np.linalg.norm(volume.geometry.index_to_world(np.stack(np.indices(volume.array.shape), axis=-1)) - centre, axis=-1)
    start = sitk.GetImageFromArray((away <= 4.0).T.astype(np.uint8))
    start.SetSpacing(volume.geometry.spacing_mm)
    distance = sitk.SignedMaurerDistanceMap(start, False, False, True)
    surface = sitk.ThresholdSegmentationLevelSet(distance, image, 0, 4, 1e-4, 1.0, 0.3, 500)
    assert dice(found.array > 0, sitk.GetArrayFromImage(surface).T < 0) > 0.99
    assert (found.array > 0).sum() > (away <= 4.0).sum() * 2


@pytest.mark.parametrize("name", METHODS)
def test_nan_is_never_inside(name: str) -> None:
    volume, _, centre = ball_with_a_bridge(np.eye(4))
    array = volume.array.astype(np.float32)
    array[24, 18, 9], array[0, 0, 0] = np.nan, np.inf
    found = segment(volume.with_array(array), name, seeds=[centre], start_radius_mm=4.0, reach_mm=10, **METHODS[name])
    assert not found.array[~np.isfinite(array)].any()
    assert found.array.sum() > 200


def test_limits_the_wrong_way_round_are_refused() -> None:
    volume, _, centre = ball_with_a_bridge(np.eye(4))
    with pytest.raises(ParameterError, match="lower"):
        segment(volume, "threshold-level-set", seeds=[centre], lower=90, upper=20)


def coarse_ball() -> tuple[Volume, np.ndarray, tuple[float, ...]]:
    """A ball of 24 mm in voxels of 3 mm; its centre."""
    geometry = Geometry((40, 40, 30), np.diag([3.0, 3.0, 3.0, 1.0]))
    centre = geometry.index_to_world((20, 20, 15))
    ball = np.linalg.norm(geometry.index_to_world(np.stack(np.indices(geometry.shape), axis=-1)) - centre, axis=-1) < 24
    array = 100 * ball + np.random.default_rng(0).normal(0, 10, geometry.shape)
    return Volume(array.astype(np.int16), geometry, "MR"), ball, tuple(float(v) for v in centre)


LIMITS = {"geodesic-active-contour": {}, "threshold-level-set": {"lower": 50, "upper": 150}}


@pytest.mark.parametrize("name", LIMITS)
def test_the_start_is_thick_enough_on_coarse_grids_and_a_thin_one_is_named(name: str) -> None:
    volume, ball, centre = coarse_ball()
    found = segment(volume, name, seeds=[centre], **LIMITS[name])
    assert dice(found.array > 0, ball) > 0.95
    assert not found.findings
    gone = segment(volume, name, seeds=[centre], start_radius_mm=4.0, **LIMITS[name])
    assert [item.code for item in gone.findings] == ["CONTOUR_VANISHED"]
    assert "only 1.3 voxels of 3 mm" in gone.findings[0].message
    assert "at least 7.5" in gone.findings[0].message


@pytest.mark.parametrize("name", LIMITS)
def test_a_contour_at_the_border_of_its_box_is_told_with_the_sides(name: str) -> None:
    volume, _, centre = coarse_ball()
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = volume.geometry.shape[0] - 1
    flipped = Volume(volume.array[::-1], Geometry(volume.geometry.shape, volume.geometry.affine @ flip), "MR")
    for scan in (volume, flipped):
        found = segment(scan, name, seeds=[(centre[0] + 15, centre[1], centre[2])], reach_mm=6.0, **LIMITS[name])
        told = [item for item in found.findings if item.code == "CONTOUR_AT_REACH"]
        assert len(told) == 1
        # from 15 mm right of the centre the box reaches 12 mm to both sides: on the right it ends 3 mm outside the ball
        assert "left" in told[0].details["sides"]
        assert "right" not in told[0].details["sides"]


def test_the_border_of_the_scan_is_not_the_border_of_the_box() -> None:
    volume, ball, _ = coarse_ball()
    cut = Volume(volume.array[20:], Geometry((20, 40, 30), volume.geometry.affine), "MR")
    found = segment(cut, "threshold-level-set", seeds=[(9, 60, 45)], **LIMITS["threshold-level-set"])
    assert (found.array[0] > 0).sum() > 0.9 * ball[20].sum()
    assert not found.findings
