from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from skimage.segmentation import watershed as skimage_watershed

from medseg.core.errors import GeometryMismatchError, InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.segmentation.classical.watershed import gradient_magnitude_mm
from medseg.segmentation.segment import segment


def two_balls(affine: np.ndarray, dtype: type = np.int16) -> tuple[Volume, list[tuple[float, ...]]]:
    """Two bright balls that touch, in noise; points in each and one outside."""
    rng = np.random.default_rng(6)
    shape = (30, 20, 16)
    i, j, k = np.indices(shape)
    inside = ((i - 9) ** 2 + (j - 10) ** 2 + (k - 8) ** 2 < 36) | ((i - 20) ** 2 + (j - 10) ** 2 + (k - 8) ** 2 < 36)
    volume = Volume((100 * inside + rng.normal(0, 8, shape)).astype(dtype), Geometry(shape, affine), "MR")
    return volume, [tuple(volume.geometry.index_to_world(index).tolist()) for index in ((9, 10, 8), (20, 10, 8), (1, 1, 1))]


def marker_map(volume: Volume, places: dict[str, tuple[int, int, int]], numbers: list[int]) -> LabelMap:
    array = np.zeros(volume.array.shape, np.uint16)
    for number, place in zip(numbers, places.values(), strict=True):
        array[place] = number
    return LabelMap(array, volume.geometry, tuple(Segment(n, name) for n, name in zip(numbers, places, strict=True)))


@pytest.mark.parametrize(("connectivity", "full"), [(6, False), (26, True)])
def test_it_is_itk_on_the_intensities(affine: np.ndarray, connectivity: int, full: bool) -> None:
    volume, points = two_balls(affine)
    volume = volume.with_array(-volume.array)  # basins are dark
    markers = np.zeros(volume.array.shape, np.uint8)
    markers[9, 10, 8], markers[20, 10, 8], markers[1, 1, 1] = 1, 2, 3
    expected = sitk.GetArrayFromImage(
        sitk.MorphologicalWatershedFromMarkers(sitk.GetImageFromArray(volume.array.T), sitk.GetImageFromArray(markers.T), False, full)
    ).T
    found = segment(volume, "watershed", seeds=points, relief="intensity", sigma_mm=0, connectivity=connectivity)
    assert np.array_equal(found.array, expected)
    assert [item.label for item in found.segments] == ["region_1", "region_2", "region_3"]
    assert sorted(np.bincount(found.array.ravel()))[-2] > 50


def test_it_is_itk_on_the_gradient_of_a_real_scan(ct: Volume) -> None:
    """The relief is made by ITK too: the gradient of the smoothed scan, at 16 bits so that both flood the same levels."""
    places = {"liver": (84, 70, 15), "spleen": (30, 60, 12), "background": (2, 2, 2), "gut": (60, 80, 20)}
    markers = marker_map(ct, places, [2, 5, 7, 9])
    whole = np.rint(np.clip(ct.array, -200, 300)).astype(np.int16)
    image = sitk.GetImageFromArray(whole.T.astype(np.float32))
    image.SetSpacing(ct.geometry.spacing_mm)
    relief = sitk.GradientMagnitude(image)
    expected = sitk.GetArrayFromImage(sitk.MorphologicalWatershedFromMarkers(relief, _same_grid(markers.array.T, image), False, False)).T
    expected[expected == 7] = 0
    found = segment(ct.with_array(whole), "watershed", markers=markers, sigma_mm=0)
    assert np.array_equal(found.array, expected)
    assert [(item.number, item.label) for item in found.segments] == [(2, "liver"), (5, "spleen"), (9, "gut")]
    assert set(np.unique(found.array)) == {0, 2, 5, 9}


def _same_grid(array: np.ndarray, image: sitk.Image) -> sitk.Image:
    made = sitk.GetImageFromArray(array)
    made.CopyInformation(image)
    return made


def test_limits_are_the_mask_of_scikit_image() -> None:
    """On a relief without equal heights, where the order of the queue does not matter."""
    volume, points = two_balls(np.eye(4))
    relief = np.random.default_rng(1).permutation(volume.array.size).reshape(volume.array.shape).astype(np.int32)
    markers = np.zeros(relief.shape, int)
    markers[9, 10, 8], markers[20, 10, 8], markers[1, 1, 1] = 1, 2, 3
    relief[markers > 0] = [5000, 6000, 7000]
    scan = volume.with_array(relief)
    lower, upper = 100, relief.size * 3 // 4
    mask = (relief >= lower) & (relief <= upper)
    expected = skimage_watershed(relief, markers, connectivity=1, mask=mask)
    found = segment(scan, "watershed", seeds=points, relief="intensity", sigma_mm=0, lower=lower, upper=upper)
    assert (found.array[~mask] == 0).all()
    assert np.array_equal(found.array, expected)


def test_each_ball_is_found_on_every_grid(affine: np.ndarray) -> None:
    """Balls drawn in mm that touch, in noise: the basins of the smoothed gradient against what was drawn."""
    shape = (60, 40, 20)
    geometry = Geometry(shape, affine)
    points = geometry.index_to_world(np.stack(np.indices(shape), axis=-1))
    centres = [geometry.index_to_world(index) for index in ((20, 20, 10), (41, 20, 10))]  # 16.8 mm apart
    left, right = (np.linalg.norm(points - centre, axis=-1) for centre in centres)
    array = 100 * ((left < 8.5) | (right < 8.5)) + np.random.default_rng(6).normal(0, 5, shape)
    drawn = np.where(left < 2, 1, 0) + np.where(right < 2, 2, 0) + np.where(np.minimum(left, right) > 12, 3, 0)
    markers = LabelMap(drawn.astype(np.uint8), geometry, (Segment(1, "left"), Segment(2, "right"), Segment(3, "Background")))
    found = segment(Volume(array, geometry), "watershed", markers=markers, sigma_mm=1.0)
    for label, truth in (("left", (left < 8.5) & (left < right)), ("right", (right < 8.5) & (right < left))):
        mask = found.mask(label)
        assert 2 * (truth & mask).sum() / (truth.sum() + mask.sum()) > 0.93
    assert not found.array[drawn == 3].any()
    assert len(found.segments) == 2


def test_the_gradient_is_intensity_per_mm_on_every_grid(affine: np.ndarray) -> None:
    geometry = Geometry((8, 9, 10), affine)
    slope = np.array([3.0, -4.0, 12.0])
    values = geometry.index_to_world(np.stack(np.indices(geometry.shape), axis=-1)) @ slope
    inner = gradient_magnitude_mm(np.asfortranarray(values).T, geometry)[1:-1, 1:-1, 1:-1]
    assert np.allclose(inner, 13, rtol=1e-3)


def test_the_gradient_is_that_of_itk_up_to_the_border(ct: Volume) -> None:
    image = sitk.GetImageFromArray(ct.array.T)
    image.SetSpacing((0.8, 1.1, 2.5))
    geometry = Geometry(ct.geometry.shape, np.diag([0.8, 1.1, 2.5, 1]))
    expected = sitk.GetArrayFromImage(sitk.GradientMagnitude(image))
    assert np.allclose(gradient_magnitude_mm(ct.array.T, geometry), expected, rtol=1e-5, atol=1e-3)


def test_a_slight_shear_changes_the_gradient_slightly() -> None:
    """Both ways of taking the gradient meet where shear is nearly none, at the border too."""
    rng = np.random.default_rng(0)
    array = rng.normal(0, 1, (6, 7, 8)).astype(np.float32)
    straight, tilted = np.diag([0.8, 1.1, 2.5, 1.0]), np.diag([0.8, 1.1, 2.5, 1.0])
    tilted[1, 2] = 2.5 * np.tan(np.radians(0.06))
    grids = [Geometry(array.T.shape, matrix) for matrix in (straight, tilted)]
    assert [grid.is_sheared for grid in grids] == [False, True]
    one, other = (gradient_magnitude_mm(array, grid) for grid in grids)
    assert np.allclose(one, other, atol=0.005)


def test_seeds_count_before_markers_and_keep_their_numbers_apart() -> None:
    volume, points = two_balls(np.eye(4))
    markers = marker_map(volume, {"left": (9, 10, 8), "background": (1, 1, 1)}, [4, 9])
    found = segment(volume, "watershed", markers=markers, seeds=[points[1]], label="right")
    assert [(item.number, item.label) for item in found.segments] == [(4, "left"), (10, "right")]
    assert (found.array[9, 10, 8], found.array[20, 10, 8], found.array[1, 1, 1]) == (4, 10, 0)
    over = segment(volume, "watershed", markers=markers, seeds=[points[0]], label="mine")
    assert over.array[9, 10, 8] == 10


def test_nan_belongs_to_no_basin() -> None:
    volume, points = two_balls(np.eye(4), np.float32)
    array = volume.array.copy()
    array[:, :, 0] = np.nan
    array[0, 0, 1] = np.inf
    found = segment(volume.with_array(array), "watershed", seeds=points)
    assert (found.array[~np.isfinite(array)] == 0).all()
    assert (found.array[np.isfinite(array)] > 0).all()
    array[9, 10, 8] = array[20, 10, 8] = array[1, 1, 1] = np.nan
    with pytest.raises(InputError, match="no marker lies on a voxel with a value"):
        segment(volume.with_array(array), "watershed", seeds=points)


def test_impossible_markers_are_refused() -> None:
    volume, points = two_balls(np.eye(4))
    empty = LabelMap(np.zeros(volume.array.shape, np.uint8), volume.geometry, (Segment(1, "a"),))
    elsewhere = LabelMap(np.ones((2, 2, 2), np.uint8), Geometry((2, 2, 2), np.eye(4)), (Segment(1, "a"),))
    with pytest.raises(ParameterError, match="give seeds, or markers"):
        segment(volume, "watershed", background_seeds=points)
    with pytest.raises(InputError, match="hold no voxel"):
        segment(volume, "watershed", markers=empty)
    with pytest.raises(GeometryMismatchError, match="markers lie on another grid"):
        segment(volume, "watershed", markers=elsewhere)
    with pytest.raises(ParameterError, match=r"background_seeds: the point \(500\.0"):
        segment(volume, "watershed", seeds=points, background_seeds=[(500, 0, 0)])
    with pytest.raises(ParameterError, match="same voxel as a seed of another basin"):
        segment(volume, "watershed", seeds=points[:2], background_seeds=[points[0]])
    with pytest.raises(ParameterError, match="watershed: markers: must be a label map"):
        segment(volume, "watershed", markers="markers.nii.gz")


def test_one_seed_keeps_the_plain_name() -> None:
    volume, points = two_balls(np.eye(4))
    assert [item.label for item in segment(volume, "watershed", seeds=points[:1], label="tumour").segments] == ["tumour"]
