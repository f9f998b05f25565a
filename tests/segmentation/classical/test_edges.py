"""Canny and zero crossings: on a sphere of known radius, beside ITK on a real scan, and on poor scans."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.core.errors import InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.segmentation.classical.edges import CannyParams, ZeroCrossingsParams, canny, hysteresis, zero_crossings

RADIUS_MM = 12.0
SHAPE = (44, 34, 16)


def sphere(affine: np.ndarray, noise: float = 0.0) -> tuple[Volume, np.ndarray]:
    """A ball of 100 in 0 with partial volumes over half a mm, and the distance of every voxel from its centre."""
    geometry = Geometry(SHAPE, affine)
    place = geometry.index_to_world(np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1))
    away = np.linalg.norm(place - geometry.index_to_world((21.3, 16.6, 7.8)), axis=-1)
    ball = 100 * np.clip((RADIUS_MM - away) / 1.0 + 0.5, 0, 1)
    return Volume((ball + np.random.default_rng(0).normal(0, noise, SHAPE)).astype(np.float32), geometry, "CT", "HU"), away


def radial(scan: Volume) -> np.ndarray:
    """Where the gradient of the ball points in every voxel, as unit vectors."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
    away = scan.geometry.index_to_world(index) - scan.geometry.index_to_world((21.3, 16.6, 7.8))
    return away / np.linalg.norm(away, axis=-1, keepdims=True)


def steps_mm(scan: Volume) -> np.ndarray:
    """How far away the neighbours of a voxel along the radius are."""
    return 1 / np.abs(radial(scan) @ np.linalg.inv(scan.geometry.affine[:3, :3]).T).max(axis=-1)


def test_canny_marks_the_sphere_and_nothing_else(affine: np.ndarray) -> None:
    scan, away = sphere(affine, noise=3.0)
    found = canny(scan, CannyParams(sigma_mm=1.0, lower=8, upper=15)).array.astype(bool)
    off_mm = away[found] - RADIUS_MM
    # a voxel is at most half a step from the edge, and interpolation over the curved front adds up to 0.4 (tests/kernels/test_edges.py)
    assert (np.abs(off_mm) / steps_mm(scan)[found]).max() < 0.9
    # the blur draws the edge of a ball inwards by sigma²/radius, that of the differences over two voxels included
    assert -0.25 < off_mm.mean() < 0.05
    # as many voxels as a sheet of one voxel has, whichever way it is cut: its area over voxel faces, within a factor
    area_mm2 = 4 * np.pi * RADIUS_MM**2
    assert 0.5 * area_mm2 < found.sum() * scan.geometry.voxel_volume_mm3 / 1.2 < 1.5 * area_mm2


def test_zero_crossings_mark_the_sphere(affine: np.ndarray) -> None:
    scan, away = sphere(affine)
    found = zero_crossings(scan, ZeroCrossingsParams(sigma_mm=2.0, least_slope=8)).array.astype(bool)
    off_mm = away[found] - RADIUS_MM
    # the slope f' of a blurred ball falls with -x/sigma² and its Laplacian is f'' + 2f'/radius: zero 2·sigma²/radius further out,
    # a little less for what the blur draws in
    shift_mm = 2 * 2.0**2 / RADIUS_MM
    assert off_mm.mean() == pytest.approx(shift_mm, abs=0.1)
    # of two face neighbours the nearer one: half their distance along the radius, and what the Laplacian is not linear between
    face_mm = np.abs(radial(scan) @ scan.geometry.affine[:3, :3]).max(axis=-1)[found]
    assert (np.abs(off_mm - shift_mm) - face_mm / 2).max() < 0.5
    assert found.sum() > 300


def test_defaults_find_the_sphere_in_noise() -> None:
    scan, away = sphere(np.diag([0.8, 1.1, 2.5, 1.0]), noise=8.0)
    result = canny(scan, CannyParams())
    found = result.array.astype(bool)
    assert (np.abs(away[found] - RADIUS_MM) < 2).mean() > 0.97
    limits = next(finding for finding in result.findings if finding.code == "EDGE_LIMITS").details
    assert 0 < limits["lower"] < limits["upper"]


def test_canny_agrees_with_itk_on_a_real_scan(ct: Volume) -> None:
    sigma_mm, lower, upper = 3.0, 4.0, 8.0
    ours = canny(ct, CannyParams(sigma_mm=sigma_mm, lower=lower, upper=upper)).array.T.astype(bool)
    image = sitk.GetImageFromArray(ct.array.T.astype(np.float32))
    image.SetSpacing(ct.geometry.spacing_mm)
    assert ct.geometry.spacing_mm == pytest.approx((3, 3, 3))
    # ITK blurs in mm, but its slopes are per voxel
    found = sitk.CannyEdgeDetection(image, 3 * lower, 3 * upper, [sigma_mm**2] * 3, [0.001] * 3)
    theirs = sitk.GetArrayFromImage(found).astype(bool)
    inner = (slice(2, -2),) * 3  # at the border ITK continues the scan, and we mark nothing
    ours, theirs = ours[inner], theirs[inner]
    assert ours.sum() > 10_000

    def beside(one: np.ndarray, other: np.ndarray) -> float:
        """Share of one's edge voxels with a voxel of the other among their 27."""
        from scipy.ndimage import binary_dilation

        return float(binary_dilation(other, np.ones((3, 3, 3)))[one].mean())

    assert beside(ours, theirs) > 0.999
    # ITK also follows edges whose slope is no maximum between its two neighbours
    assert beside(theirs, ours) > 0.95
    assert (ours & theirs).sum() > 0.65 * ours.sum()  # the voxel on the other side of the edge is as good


def test_hysteresis_follows_edges_over_corners() -> None:
    maxima = np.zeros((5, 5, 5), np.float32)
    maxima[0, 0, 0], maxima[1, 1, 1], maxima[2, 2, 2], maxima[0, 4, 4] = 9, 3, 3, 3
    kept = hysteresis(maxima, (3, 9))
    assert np.argwhere(kept).tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flipped_scan_gives_the_flipped_edges(affine: np.ndarray, axis: int) -> None:
    scan, _ = sphere(affine, noise=10)
    turned = affine.copy()
    turned[:3, 3] += affine[:3, axis] * (SHAPE[axis] - 1)
    turned[:3, axis] *= -1
    other = Volume(np.flip(scan.array, axis), Geometry(SHAPE, turned))
    for run in (lambda v: canny(v, CannyParams()), lambda v: zero_crossings(v, ZeroCrossingsParams())):
        # on a sheared grid the blur is a Fourier convolution, whose rounding may turn a tie
        assert (np.flip(run(scan).array, axis) != run(other).array).mean() < 1e-4


def test_nan_is_no_edge_and_makes_none() -> None:
    scan, _ = sphere(np.diag([0.8, 1.1, 2.5, 1.0]))
    array = scan.array.copy()
    array[2:6, 2:6, 2:6] = np.nan
    found = canny(scan.with_array(array), CannyParams(upper=15)).array.astype(bool)
    assert np.array_equal(found, canny(scan, CannyParams(upper=15)).array.astype(bool))
    with pytest.raises(InputError, match="finite"):
        canny(scan.with_array(np.full(SHAPE, np.nan, np.float32)), CannyParams())


def test_a_scan_without_edges_says_so() -> None:
    flat = Volume(np.full((6, 6, 6), 20, np.int16), Geometry((6, 6, 6), np.eye(4)))
    for result in (canny(flat, CannyParams()), zero_crossings(flat, ZeroCrossingsParams())):
        assert not result.array.any()
        assert "SEGMENT_EMPTY" in [finding.code for finding in result.findings]


def test_crossed_limits_are_refused() -> None:
    with pytest.raises(ParameterError, match="swap them"):
        canny.build({"lower": 5, "upper": 2})
