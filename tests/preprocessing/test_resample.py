from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from medseg.core.errors import GeometryError, GeometryMismatchError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.preprocessing.crop import Box, crop_to
from medseg.preprocessing.orientation import reoriented
from medseg.preprocessing.preprocess import preprocess
from medseg.preprocessing.resample import (
    fit_to,
    resample_antialiased,
    resample_label_map,
    resample_volume,
    restore,
    shared_voxels,
    with_spacing,
)

LPS = np.diag([-1.0, -1.0, 1.0])


def noise(affine: np.ndarray, shape: tuple[int, int, int] = (11, 12, 9)) -> Volume:
    rng = np.random.default_rng(4)
    return Volume(rng.normal(0, 300, shape).astype(np.int16), Geometry(shape, affine, "1.2"), "CT", "HU")


def in_itk(array: np.ndarray, geometry: Geometry) -> sitk.Image:
    """The same grid for ITK, which cannot hold shear: its own direction check refuses it."""
    image = sitk.GetImageFromArray(array.T)
    image.SetSpacing(geometry.spacing_mm)
    image.SetDirection((LPS @ geometry.direction).ravel().tolist())
    image.SetOrigin((LPS @ geometry.origin_mm).tolist())
    return image


def itk_resampled(volume: Volume, geometry: Geometry, kind: int, fill: float) -> np.ndarray:
    target = in_itk(np.zeros(geometry.shape, np.uint8), geometry)
    image = sitk.Cast(in_itk(volume.array, volume.geometry), sitk.sitkFloat64)
    return sitk.GetArrayFromImage(sitk.Resample(image, target, sitk.Transform(), kind, fill)).T


# the new grid


@pytest.mark.parametrize("spacing", [[1.0], [2.0, 2.0, 2.0], [0.4, 3.0, 1.0], [7.0], [100.0]])
def test_the_new_grid_covers_the_old_one_and_shares_its_centre(affine: np.ndarray, spacing: list[float]) -> None:
    old = Geometry((11, 12, 9), affine, "1.2")
    new = with_spacing(old, spacing)
    assert np.allclose(new.spacing_mm, np.broadcast_to(spacing, 3))
    assert np.allclose(new.direction, old.direction)
    assert np.allclose(new.index_to_world((np.array(new.shape) - 1) / 2), old.index_to_world((np.array(old.shape) - 1) / 2))
    extent = np.array(new.shape) * new.spacing_mm - np.array(old.shape) * old.spacing_mm
    assert (extent >= -0.0101 * np.array(new.spacing_mm)).all()
    assert (extent < np.array(new.spacing_mm)).all()
    assert new.frame_of_reference_uid == "1.2"


def test_outer_faces_coincide_where_the_extent_is_a_whole_number_of_voxels() -> None:
    new = with_spacing(Geometry((10, 10, 4), np.diag([1.0, 1.0, 2.5, 1.0])), [0.5])
    assert new.shape == (20, 20, 20)
    assert np.allclose(new.index_to_world((-0.5, -0.5, -0.5)), (-0.5, -0.5, -1.25))
    assert np.allclose(new.index_to_world((19.5, 19.5, 19.5)), (9.5, 9.5, 8.75))


def test_a_grid_too_large_is_refused_before_any_memory_is_taken() -> None:
    with pytest.raises(ParameterError, match="too many: choose a coarser spacing"):
        preprocess(noise(np.eye(4)), "resample", spacing_mm=0.001)


@pytest.mark.parametrize("spacing", [0, -1, [1, 2], [], [1, 0, 1], "a", float("inf"), None])
def test_an_impossible_spacing_is_refused(spacing: object) -> None:
    with pytest.raises(ParameterError, match="resample: "):
        preprocess(noise(np.eye(4)), "resample", spacing_mm=spacing)


def test_spacing_comes_as_a_number_a_list_or_text() -> None:
    shapes = {preprocess(noise(np.eye(4)), "resample", spacing_mm=spacing).array.shape for spacing in (2, "2", [2], "2,2,2", (2.0, 2, 2))}
    assert shapes == {(6, 6, 5)}


@pytest.mark.parametrize(("rule", "edge"), [("finest", 0.8), ("coarsest", 2.5)])
def test_isotropic_voxels_have_the_edge_the_rule_names(affine: np.ndarray, rule: str, edge: float) -> None:
    found = preprocess(noise(affine), "resample", isotropic=rule)
    assert np.allclose(found.geometry.spacing_mm, edge)


def test_voxels_of_the_same_volume(affine: np.ndarray) -> None:
    old = noise(affine)
    found = preprocess(old, "resample", isotropic="same-volume").geometry
    assert np.ptp(found.spacing_mm) < 1e-9
    if not found.is_sheared:  # on a sheared grid three equal spacings make a smaller voxel than their cube
        assert found.voxel_volume_mm3 == pytest.approx(old.geometry.voxel_volume_mm3)


def test_one_way_to_name_the_grid() -> None:
    for chosen in ({}, {"spacing_mm": 2, "isotropic": "finest"}, {"spacing_mm": 2, "antialias": True, "interpolation": "nearest"}):
        with pytest.raises(ParameterError, match="one of the two"):
            preprocess(noise(np.eye(4)), "resample", **chosen)


# scans


def test_antialiasing_is_a_gaussian_and_then_linear_interpolation(affine: np.ndarray) -> None:
    volume = noise(affine)
    volume = volume.with_array(volume.array.astype(np.float32))
    found = preprocess(volume, "resample", spacing_mm=[2.0, 1.1, 4.0], antialias=True)
    sigma = np.sqrt(np.maximum(0, np.array([2.0, 1.1, 4.0]) ** 2 - np.array([0.8, 1.1, 2.5]) ** 2) / 12) / [0.8, 1.1, 2.5]
    blurred = gaussian_filter(volume.array.astype(np.float64), sigma, mode="nearest")
    expected = preprocess(volume.with_array(blurred.astype(np.float32)), "resample", spacing_mm=[2.0, 1.1, 4.0])
    assert found.geometry == expected.geometry
    inside = np.indices(found.array.shape)
    at = volume.geometry.world_to_index(found.geometry.index_to_world(np.moveaxis(inside, 0, -1)))
    within = volume.geometry.contains(at)  # what overhangs gets the lowest intensity of each, which blurring changes
    assert np.allclose(found.array[within], expected.array[within], atol=1e-2)


def test_antialiasing_averages_noise_and_leaves_finer_grids_alone(affine: np.ndarray) -> None:
    volume = noise(affine, (24, 22, 20))
    picked, averaged = (preprocess(volume, "resample", spacing_mm=5.0, antialias=on).array[1:-1, 1:-1, 1:-1] for on in (False, True))
    assert averaged.std() < 0.65 * picked.std()
    finer = [preprocess(volume, "resample", spacing_mm=[0.5, 1.0, 2.0], antialias=on) for on in (False, True)]
    assert np.array_equal(finer[0].array, finer[1].array)


def test_antialiasing_needs_the_same_axes(ct: Volume) -> None:
    turned = ct.geometry.transformed([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]], (3, 4, 0), (20, 20, 20))
    with pytest.raises(GeometryError, match="needs the same axes"):
        resample_antialiased(ct, turned)


SPACINGS = pytest.mark.parametrize("spacing", [[1.0], [0.37, 0.71, 1.13], [1.9, 3.3, 4.1]])


@SPACINGS
def test_linear_is_that_of_itk_on_every_grid_that_itk_can_hold(right_angled: np.ndarray, spacing: list[float]) -> None:
    volume = noise(right_angled)
    found = preprocess(volume, "resample", spacing_mm=spacing)
    expected = itk_resampled(volume, found.geometry, sitk.sitkLinear, -32768)
    assert expected.min() > -32768
    assert found.array.dtype == np.int16
    assert np.abs(found.array - expected).max() <= 0.5 + 1e-6


@SPACINGS
def test_nearest_is_that_of_itk_on_every_grid_that_itk_can_hold(right_angled: np.ndarray, spacing: list[float]) -> None:
    """Points half-way between two voxels are left out: rounding errors decide where they go."""
    volume = noise(right_angled)
    found = preprocess(volume, "resample", spacing_mm=spacing, interpolation="nearest")
    expected = itk_resampled(volume, found.geometry, sitk.sitkNearestNeighbor, -32768)
    points = found.geometry.index_to_world(np.stack(np.indices(found.geometry.shape), axis=-1))
    clear = (np.abs(volume.geometry.world_to_index(points) % 1 - 0.5) > 1e-6).all(axis=-1)
    assert clear.mean() > 0.5
    assert np.array_equal(found.array[clear], expected[clear])
    assert set(np.unique(found.array)) <= set(np.unique(volume.array))


def test_it_is_itk_on_a_real_scan(ct: Volume) -> None:
    found = preprocess(ct, "resample", spacing_mm=(2.0, 4.0, 5.0))
    expected = itk_resampled(ct, found.geometry, sitk.sitkLinear, -32768)
    assert found.array.shape == (183, 76, 18)
    assert np.abs(found.array - expected).max() <= 0.5 + 1e-6


def test_a_linear_field_is_kept_exactly_on_every_grid(affine: np.ndarray) -> None:
    """Intensity = a + b·point: linear interpolation must give it back at every new point inside the old centres."""
    geometry = Geometry((12, 11, 10), affine)
    slope = np.array([1.5, -0.7, 0.3])
    values = geometry.index_to_world(np.stack(np.indices(geometry.shape), axis=-1)) @ slope + 20
    found = preprocess(Volume(values, geometry), "resample", spacing_mm=[0.9, 0.6, 1.4])
    points = found.geometry.index_to_world(np.stack(np.indices(found.geometry.shape), axis=-1))
    index = geometry.world_to_index(points)
    inside = ((index >= 0) & (index <= np.array(geometry.shape) - 1)).all(axis=-1)
    assert inside.mean() > 0.6
    assert np.allclose(found.array[inside], (points @ slope + 20)[inside], atol=1e-6)


def test_an_explicit_grid_is_that_of_itk_and_outside_is_the_lowest_intensity(affine: np.ndarray) -> None:
    volume = noise(affine)
    centre = volume.geometry.index_to_world((5, 5, 4))
    target = np.diag([1.3, 1.7, 0.9, 1.0])
    target[:3, 3] = centre - (9, 7, 5)
    grid = Geometry((14, 9, 13), target)
    found = resample_volume(volume, grid)
    assert found.geometry == grid
    assert found.array.min() == volume.array.min()
    if not volume.geometry.is_sheared:
        expected = itk_resampled(volume, grid, sitk.sitkLinear, float(volume.array.min()))
        assert (expected == volume.array.min()).any()
        assert np.abs(found.array - expected).max() <= 0.5 + 1e-6
    assert (resample_volume(volume, grid, fill=-2000).array == -2000).any()
    with pytest.raises(ParameterError, match=r"fill 0\.5 cannot be held by int16"):
        resample_volume(volume, grid, fill=0.5)


def test_resampling_commutes_with_a_change_of_axes(affine: np.ndarray) -> None:
    volume = noise(affine)
    one = reoriented(preprocess(volume, "resample", spacing_mm=1.3), "ILA")
    other = preprocess(reoriented(volume, "ILA"), "resample", spacing_mm=1.3)
    assert np.allclose(one.geometry.affine, other.geometry.affine)
    assert np.abs(one.array.astype(int) - other.array).max() <= 1


def test_another_frame_of_reference_is_refused() -> None:
    volume = noise(np.eye(4))
    other = Geometry(volume.geometry.shape, np.eye(4), "9.9")
    with pytest.raises(GeometryMismatchError, match="different frames of reference"):
        resample_volume(volume, other)
    with pytest.raises(GeometryMismatchError, match="different frames of reference"):
        restore(LabelMap(np.zeros(volume.array.shape, np.uint8), volume.geometry, ()), other)


# label maps


@pytest.fixture
def ball(affine: np.ndarray) -> LabelMap:
    """A ball of 9 mm with another of 5 mm inside, on a grid of 2 mm along its longest axis."""
    shape = (44, 36, 20)
    geometry = Geometry(shape, affine, "1.2")
    points = geometry.index_to_world(np.stack(np.indices(shape), axis=-1))
    distance = np.linalg.norm(points - geometry.index_to_world((22, 18, 10)), axis=-1)
    array = (distance < 9).astype(np.uint16) * 3 + (distance < 5).astype(np.uint16) * 900
    return LabelMap(array, geometry, (Segment(3, "organ"), Segment(903, "lesion"), Segment(4, "absent")))


def test_labels_on_another_grid_are_the_greatest_linear_weight(ball: LabelMap) -> None:
    """Against one linear interpolation a segment by the (separately checked) float resampling."""
    grid = with_spacing(ball.geometry, [1.1])
    found = resample_label_map(ball, grid)
    weights = [resample_volume(Volume((ball.array == n).astype(np.float64), ball.geometry), grid).array for n in (0, 3, 903)]
    ordered = np.sort(weights, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-6
    assert clear.mean() > 0.99
    assert np.array_equal(found.array[clear], np.array([0, 3, 903])[np.argmax(weights, axis=0)][clear])
    assert set(np.unique(found.array)) == {0, 3, 903}
    assert found.segments == ball.segments
    assert found.array.dtype == np.uint16


def test_a_grid_three_times_finer_holds_every_old_voxel(ball: LabelMap) -> None:
    """Its middle voxels have the old centres; the way back picks just those, so it is exact."""
    fine = resample_label_map(ball, with_spacing(ball.geometry, (np.array(ball.geometry.spacing_mm) / 3).tolist()))
    assert fine.array.shape == tuple(3 * n for n in ball.array.shape)
    assert np.array_equal(fine.array[1::3, 1::3, 1::3], ball.array)
    assert np.array_equal(restore(fine, ball.geometry).array, ball.array)


def test_restore_undoes_turns_crops_and_pads_exactly(ball: LabelMap) -> None:
    for code in ("RAS", "LPS", "SRP", "AIL", "IPR"):
        turned = reoriented(ball, code)
        assert np.array_equal(restore(turned, ball.geometry).array, ball.array)
        first = turned.array.nonzero()
        box = Box(tuple(int(axis.min()) for axis in first), tuple(int(axis.max()) + 1 for axis in first))
        cut = crop_to(turned, box, margin_mm=3)
        assert cut.array.size < turned.array.size
        back = restore(cut, ball.geometry)
        assert np.array_equal(back.array, ball.array)
        assert back.geometry == ball.geometry
        assert back.findings == ()
    padded = ball.with_array(np.pad(ball.array, 3), ball.geometry.cropped((-3, -3, -3), [n + 6 for n in ball.array.shape]))
    assert np.array_equal(restore(padded, ball.geometry).array, ball.array)
    assert np.array_equal(restore(padded, ball.geometry.cropped((60, 0, 0), (5, 36, 20))).array, np.zeros((5, 36, 20)))


def test_restore_after_resampling_is_near_and_on_the_source_grid(ball: LabelMap) -> None:
    back = restore(resample_label_map(ball, with_spacing(ball.geometry, [0.7])), ball.geometry)
    assert back.geometry == ball.geometry
    same = (back.array == ball.array).mean()
    assert same > 0.99


def test_fit_to_moves_voxels_but_never_interpolates(ball: LabelMap) -> None:
    turned = reoriented(ball, "IPR")
    assert np.array_equal(fit_to(turned, ball.geometry).array, ball.array)
    assert fit_to(ball, ball.geometry) is ball
    half = ball.geometry.cropped((22, 0, 0), (22, 36, 20))
    cut = fit_to(ball, half)
    assert np.array_equal(cut.array, ball.array[22:])
    assert [finding.code for finding in cut.findings] == ["LABELS_OUTSIDE_GRID"]
    for grid in (with_spacing(ball.geometry, [1.3]), ball.geometry.transformed(np.eye(3), (0.4, 0, 0), ball.geometry.shape)):
        with pytest.raises(GeometryMismatchError, match="do not share their voxels"):
            fit_to(ball, grid)


def test_labels_that_have_no_place_are_told(ball: LabelMap) -> None:
    half = ball.geometry.cropped((22, 0, 0), (22, 36, 20))
    for grid in (half, with_spacing(half, [1.3])):
        back = restore(ball, grid)
        assert [finding.code for finding in back.findings] == ["LABELS_OUTSIDE_GRID"]
    assert restore(ball, with_spacing(ball.geometry, [1.3])).findings == ()


def test_grids_that_share_no_voxels_are_told_apart(affine: np.ndarray) -> None:
    grid = Geometry((6, 7, 8), affine)
    assert shared_voxels(grid, grid) is not None
    assert shared_voxels(grid, grid.cropped((1, -2, 3), (4, 4, 4))) is not None
    assert shared_voxels(grid, grid.transformed(np.eye(3), (0.3, 0, 0), (6, 7, 8))) is None
    assert shared_voxels(grid, with_spacing(grid, [3.0])) is None
    assert shared_voxels(grid, grid.transformed(np.eye(3), (0.005, 0, 0), (6, 7, 8))) is not None
    assert shared_voxels(grid, grid.transformed(np.eye(3) * 1.01, (0, 0, 0), (6, 7, 8))) is None


@pytest.mark.parametrize("antialias", [False, True])
def test_half_precision_is_kept(antialias: bool) -> None:
    array = np.random.default_rng(0).normal(0, 9, (6, 8, 7)).astype(np.float16)
    half, single = (Volume(values, Geometry(array.shape, np.eye(4))) for values in (array, array.astype(np.float32)))
    found, expected = (preprocess(scan, "resample", spacing_mm=1.7, antialias=antialias).array for scan in (half, single))
    assert found.dtype == np.float16
    assert np.array_equal(found, expected.astype(np.float16))
