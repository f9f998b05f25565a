from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
from skimage.filters import threshold_li, threshold_triangle, threshold_yen

from medseg.core.errors import GeometryMismatchError, InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.segmentation.segment import segment

NAMES = ["li", "yen", "triangle", "maximum-entropy", "kittler"]


def scan(values: object, dtype: type = np.int16) -> Volume:
    array = np.asarray(values, dtype).reshape(1, 1, -1)
    return Volume(array, Geometry(array.shape, np.eye(4)), "CT", "HU")


def threshold_of(found: LabelMap) -> float:
    (finding,) = (finding for finding in found.findings if finding.code == "HISTOGRAM_THRESHOLD")
    return float(finding.details["threshold"])


def two_tissues(seed: int, shape: tuple[int, int, int] = (24, 25, 26)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    dark, bright = rng.normal(60, 18, shape), rng.normal(150, 25, shape)
    return np.clip(np.where(rng.random(shape) < 0.3, bright, dark), 0, 255).astype(np.uint8)


# the same by definition, in plain Python


def sides(array: np.ndarray, cut: float) -> tuple[np.ndarray, np.ndarray]:
    flat = array.ravel().astype(float)
    return flat[flat <= cut], flat[flat > cut]


def cross_entropy(array: np.ndarray, cut: float) -> float:
    dark, bright = sides(array.astype(float) - array.min(), cut - array.min())
    return -sum(part.sum() * math.log(part.mean()) for part in (dark, bright) if part.sum() > 0)


def entropies(array: np.ndarray, cut: float) -> float:
    total = 0.0
    for part in sides(array, cut):
        shares = np.unique(part, return_counts=True)[1] / len(part)
        total -= float((shares * np.log(shares)).sum())
    return -total


def correlation(array: np.ndarray, cut: float) -> float:
    return float(sum(np.log(((np.unique(part, return_counts=True)[1] / len(part)) ** 2).sum()) for part in sides(array, cut)))


def error(array: np.ndarray, cut: float) -> float:
    total = 0.0
    for part in sides(array, cut):
        share = len(part) / array.size
        total += share * math.log(part.var() + 1 / 12) - 2 * share * math.log(share)
    return total


CRITERIA = {"li": cross_entropy, "maximum-entropy": entropies, "yen": correlation, "kittler": error}


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("seed", [1, 2])
def test_no_other_threshold_is_better(name: str, seed: int) -> None:
    array = two_tissues(seed)
    costs = {float(cut): CRITERIA[name](array, cut) for cut in np.unique(array)[:-1]}
    best = min(costs.values())
    ours = threshold_of(segment(Volume(array, Geometry(array.shape, np.eye(4))), name))
    assert costs[ours] == pytest.approx(best, rel=1e-10)
    assert sum(cost <= best + 1e-10 * abs(best) for cost in costs.values()) == 1


@pytest.mark.parametrize(("name", "theirs"), [("yen", threshold_yen), ("triangle", threshold_triangle)])
def test_yen_and_triangle_are_those_of_scikit_image_on_a_real_scan(ct: Volume, name: str, theirs: object) -> None:
    """scikit-image counts whole numbers one by one too."""
    expected = theirs(ct.array)  # type: ignore[operator]
    above, below = (segment(ct, name, side=side) for side in ("above", "below"))
    assert threshold_of(above) == expected
    assert np.array_equal(above.array, ct.array > expected)
    assert np.array_equal(below.array, ct.array <= expected)


def test_triangle_is_that_of_scikit_image_on_either_side_of_the_peak() -> None:
    rng = np.random.default_rng(4)
    tail = np.clip(rng.exponential(30, (12, 13, 14)), 0, 255).astype(np.uint8)
    for array in (tail, 255 - tail):
        found = segment(Volume(array, Geometry(array.shape, np.eye(4))), "triangle")
        assert threshold_of(found) == threshold_triangle(array)


def test_li_is_that_of_scikit_image_where_its_start_leads_to_the_best() -> None:
    for seed in (1, 2, 3):
        array = two_tissues(seed)
        ours = threshold_of(segment(Volume(array, Geometry(array.shape, np.eye(4))), "li"))
        assert ours == math.floor(threshold_li(array, tolerance=1e-6))


def test_li_on_a_real_scan_is_at_least_as_good_as_scikit_image(ct: Volume) -> None:
    ours = threshold_of(segment(ct, "li"))
    theirs = float(math.floor(threshold_li(ct.array)))
    assert cross_entropy(ct.array, ours) <= cross_entropy(ct.array, theirs) + 1e-9


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("maximum-entropy", sitk.MaximumEntropyThresholdImageFilter),
        ("yen", sitk.YenThresholdImageFilter),
        ("li", sitk.LiThresholdImageFilter),
    ],
)
def test_simpleitk_cuts_at_the_same_place(name: str, theirs: type) -> None:
    """With one bin a value; ITK gives the middle or the end of a bin, and stops its rounds for Li early."""
    array = two_tissues(7)
    array.flat[:2] = 0, 255
    filtered = theirs()
    filtered.SetNumberOfHistogramBins(256)
    filtered.Execute(sitk.GetImageFromArray(array))
    ours = threshold_of(segment(Volume(array.T, Geometry(array.T.shape, np.eye(4))), name))
    assert abs(ours - filtered.GetThreshold()) <= (1.0 if name in ("maximum-entropy", "yen") else 2.0)


def test_kittler_is_at_least_as_good_as_simpleitk() -> None:
    """ITK stops where its rounds from the mean lead, here 6 short of the best."""
    array = two_tissues(7)
    array.flat[:2] = 0, 255
    filtered = sitk.KittlerIllingworthThresholdImageFilter()
    filtered.SetNumberOfHistogramBins(256)
    filtered.Execute(sitk.GetImageFromArray(array))
    ours = threshold_of(segment(Volume(array, Geometry(array.shape, np.eye(4))), "kittler"))
    assert ours == pytest.approx(filtered.GetThreshold(), abs=8)
    assert error(array, ours) < error(array, filtered.GetThreshold())


def test_kittler_finds_the_threshold_of_least_error_of_two_normal_distributions() -> None:
    """Where the weighted densities are equal; Otsu lies 8 higher, in the middle of the unlike classes."""
    rng = np.random.default_rng(6)
    array = np.concatenate([rng.normal(100, 5, 40_000), rng.normal(160, 20, 40_000)]).round().astype(np.int16)
    a, b = 1 / 20**2 - 1 / 5**2, -2 * (160 / 20**2 - 100 / 5**2)
    c = (160 / 20) ** 2 - (100 / 5) ** 2 + 2 * math.log(20 / 5)
    crossing = max(np.roots([a, b, c]), key=lambda root: 100 < root < 160)
    assert threshold_of(segment(scan(array), "kittler")) == pytest.approx(crossing, abs=1.5)
    otsu = segment(scan(array), "otsu").findings[0].details["thresholds"][0]
    assert otsu > crossing + 5


@pytest.mark.parametrize("name", NAMES)
def test_whole_numbers_give_one_threshold_in_every_dtype(name: str, ct: Volume) -> None:
    expected = segment(ct, name)
    for dtype in (np.float32, np.float64, np.int32, np.int64):
        found = segment(ct.with_array(ct.array.astype(dtype)), name)
        assert threshold_of(found) == threshold_of(expected)
        assert np.array_equal(found.array, expected.array)
    assert 0 < expected.array.sum() < expected.array.size


@pytest.mark.parametrize(("name", "theirs"), [("yen", threshold_yen), ("triangle", threshold_triangle)])
def test_fractions_fall_into_256_bins_as_in_scikit_image(name: str, theirs: object) -> None:
    array = two_tissues(3).astype(np.float32) + np.random.default_rng(3).random((24, 25, 26)).astype(np.float32)
    found = segment(Volume(array, Geometry(array.shape, np.eye(4))), name)
    width = (float(array.max()) - float(array.min())) / 256
    # scikit-image gives the middle of the bin, ours is its last intensity
    assert 0 <= threshold_of(found) - theirs(array) <= width / 2 + 1e-4  # type: ignore[operator]


@pytest.mark.parametrize("name", NAMES)
def test_it_looks_only_where_it_is_told(name: str, ct: Volume) -> None:
    box = np.zeros(ct.array.shape, np.uint8)
    box[30:90, 20:80, 5:25] = 1
    mask = LabelMap(box, ct.geometry, (Segment(1, "box"),))
    looked_at = (box == 1) & (ct.array >= -300) & (ct.array <= 900)
    alone = threshold_of(segment(scan(ct.array[looked_at]), name))
    found = segment(ct, name, mask=mask, lower=-300, upper=900)
    assert threshold_of(found) == alone
    assert np.array_equal(found.array, looked_at & (ct.array > alone))


@pytest.mark.parametrize("name", NAMES)
def test_bins_can_be_fewer(name: str, ct: Volume) -> None:
    found = segment(ct, name, bins=64)
    (finding,) = found.findings
    assert finding.details["bins"] == 64
    low, span = int(ct.array.min()), int(ct.array.max()) - int(ct.array.min()) + 1
    numbers = (ct.array.astype(int) - low) * 64 // span  # the bin of each voxel as its intensity: the same cut
    expected = segment(ct.with_array(numbers.astype(np.uint8)), name)
    assert np.array_equal(found.array, expected.array)
    assert np.array_equal(found.array, ct.array > threshold_of(found))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("values", [[5, 5, 5], [np.nan, np.nan, np.nan], [np.nan, 4, 4]])
def test_too_few_intensities_are_an_error(name: str, values: list[float]) -> None:
    with pytest.raises(InputError, match="cannot be parted into 2 classes"):
        segment(scan(values, np.float32), name)


@pytest.mark.parametrize("name", NAMES)
def test_nan_is_never_kept_and_infinity_does_not_count(name: str) -> None:
    found = segment(scan([0, 1, 9, 10, np.nan, np.inf, -np.inf], np.float32), name)
    assert 0 <= threshold_of(found) < 10
    assert found.array.ravel()[[4, 5, 6]].tolist() == [0, 1, 0]


def test_wrong_parameters_and_grids_are_refused(ct: Volume) -> None:
    with pytest.raises(ParameterError, match="yen: "):
        segment(ct, "yen", lower=4, upper=3)
    with pytest.raises(ParameterError, match="bins"):
        segment(ct, "li", bins=1)
    other = Geometry(ct.geometry.shape, ct.geometry.affine + np.diag([0.1, 0, 0, 0]))
    with pytest.raises(GeometryMismatchError, match="kittler: mask lies on another grid"):
        segment(ct, "kittler", mask=LabelMap(np.zeros(other.shape, np.uint8), other, ()))


@pytest.mark.parametrize("name", NAMES)
def test_the_volume_does_not_depend_on_the_order_of_the_axes(name: str, affine: np.ndarray) -> None:
    array = two_tissues(9, (9, 8, 7))
    geometry = Geometry(array.shape, affine)
    found = segment(Volume(array, geometry), name)
    turned_geometry = geometry.transformed([[0, 0, -1], [1, 0, 0], [0, -1, 0]], (8, 0, 6), (8, 7, 9))
    turned = segment(Volume(array.transpose(1, 2, 0)[:, ::-1, ::-1], turned_geometry), name)
    assert found.array.any()
    assert np.array_equal(turned.array, found.array.transpose(1, 2, 0)[:, ::-1, ::-1])


@pytest.mark.parametrize("values", [[0, 0, 0, 1, 1], [0, 0, 1, 1, 1], [0, 0, 1, 1]])
@pytest.mark.parametrize("side", ["above", "below"])
def test_triangle_leaves_voxels_on_both_sides(values: list[int], side: str) -> None:
    """The far end of the histogram lies on the line itself: cut there, nothing would be left of it."""
    found = segment(scan(values), "triangle", side=side)
    assert found.array.ravel().tolist() == [value if side == "above" else 1 - value for value in values]


@pytest.mark.parametrize("name", NAMES)
def test_whole_numbers_that_doubles_cannot_tell_apart_are_one_intensity(name: str) -> None:
    with pytest.raises(InputError, match="1 different finite intensities"):
        segment(scan([2**64 - 1, 2**64 - 2, 2**64 - 9], np.uint64), name)
