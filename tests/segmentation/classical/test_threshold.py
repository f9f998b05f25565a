from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from skimage.filters import threshold_multiotsu, threshold_otsu

from medseg.core.errors import GeometryMismatchError, InputError, ParameterError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Source, Volume
from medseg.segmentation.segment import segment


def scan(values: object, dtype: type = np.int16) -> Volume:
    array = np.asarray(values, dtype).reshape(1, 1, -1)
    return Volume(array, Geometry(array.shape, np.eye(4)), "CT", "HU")


def exact_histogram(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts and values with a bin for every integer, as scikit-image takes them."""
    low = int(array.min())
    counts = np.bincount(array.ravel().astype(int) - low)
    return counts, np.arange(low, low + len(counts))


# threshold


@pytest.mark.parametrize(("lower", "upper"), [(-150, 250), (-1100, -400), (130, 1207), (40, 40)])
def test_threshold_is_that_of_itk_on_a_real_scan(ct: Volume, lower: float, upper: float) -> None:
    expected = sitk.GetArrayFromImage(sitk.BinaryThreshold(sitk.GetImageFromArray(ct.array.T), lower, upper))
    found = segment(ct, "threshold", lower=lower, upper=upper, label="tissue")
    assert expected.any()
    assert np.array_equal(found.array.T, expected)
    assert found.array.dtype == np.uint8
    assert found.geometry == ct.geometry
    assert found["tissue"].algorithm == "threshold"


def test_limits_are_included_and_one_is_enough() -> None:
    assert segment(scan([1, 2, 3]), "threshold", lower=2).array.ravel().tolist() == [0, 1, 1]
    assert segment(scan([1, 2, 3]), "threshold", upper=2).array.ravel().tolist() == [1, 1, 0]
    assert segment(scan([1, 2, 3]), "threshold", lower=2, upper=2).array.ravel().tolist() == [0, 1, 0]
    assert segment(scan([0.1, np.nan, np.inf], np.float32), "threshold", lower=0.1).array.ravel().tolist() == [1, 0, 1]


def test_an_empty_segment_says_so() -> None:
    found = segment(scan([1, 2, 3]), "threshold", lower=50)
    assert not found.array.any()
    assert [(finding.code, finding.severity) for finding in found.findings] == [("SEGMENT_EMPTY", Severity.WARNING)]


@pytest.mark.parametrize("limits", [{}, {"lower": 3, "upper": 2}, {"lower": float("inf")}, {"lower": 1, "label": ""}])
def test_impossible_parameters_are_refused(limits: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match="threshold: "):
        segment(scan([1, 2, 3]), "threshold", **limits)


def test_source_and_findings_of_the_scan_go_with_the_label_map() -> None:
    audit = Finding("MISSING_SLICES", Severity.ERROR, "3 slices are missing")
    source = Source("scan.nii", "nifti")
    plain = scan([1, 2, 3])
    volume = Volume(plain.array, plain.geometry, "CT", "HU", source, (audit,))
    found = segment(volume, "otsu")
    assert found.source is source
    assert [finding.code for finding in found.findings] == ["MISSING_SLICES", "OTSU_THRESHOLD"]


# otsu


def test_otsu_is_that_of_scikit_image_on_a_real_scan(ct: Volume) -> None:
    expected = threshold_otsu(hist=exact_histogram(ct.array))
    above, below = (segment(ct, "otsu", side=side) for side in ("above", "below"))
    (finding,) = above.findings
    assert (finding.code, finding.severity) == ("OTSU_THRESHOLD", Severity.INFO)
    assert finding.details["thresholds"] == [expected]
    assert np.array_equal(above.array, ct.array > expected)
    assert np.array_equal(below.array, ct.array <= expected)


def test_otsu_is_that_of_itk_where_both_have_one_bin_a_value() -> None:
    """ITK gives the upper edge of a bin: with 256 bins over 0 to 255 the classes are the same."""
    rng = np.random.default_rng(5)
    array = np.clip(np.concatenate([rng.normal(60, 20, 4000), rng.normal(170, 30, 2000)]), 0, 255).astype(np.uint8)
    array[:2] = 0, 255
    array = array.reshape(10, 20, 30)
    filtered = sitk.OtsuThresholdImageFilter()
    filtered.SetNumberOfHistogramBins(256)
    filtered.SetInsideValue(0)
    filtered.SetOutsideValue(1)
    expected = sitk.GetArrayFromImage(filtered.Execute(sitk.GetImageFromArray(array)))
    found = segment(Volume(array.T, Geometry(array.T.shape, np.eye(4))), "otsu")
    assert 0 < expected.sum() < array.size
    assert np.array_equal(found.array.T, expected)


def test_a_float_scan_parts_as_its_integers_do(ct: Volume) -> None:
    """2308 values on 65,536 bins: no bin holds two of them, so nothing is lost."""
    whole = segment(ct, "otsu").array
    assert np.array_equal(segment(ct.with_array(ct.array.astype(np.float32)), "otsu").array, whole)
    assert np.array_equal(segment(ct.with_array(ct.array.astype(np.float64) * 0.125), "otsu").array, whole)


def test_a_float_threshold_never_takes_a_voxel_from_below() -> None:
    """The threshold of float32 values far from 0 falls between two numbers that float32 can hold."""
    found = segment(scan([1000.0, 1000.0, 1001.0, 1001.0], np.float32), "otsu")
    assert found.array.ravel().tolist() == [0, 0, 1, 1]


def test_otsu_looks_only_where_it_is_told(ct: Volume) -> None:
    box = np.zeros(ct.array.shape, np.uint8)
    box[30:90, 20:80, 5:25] = 1
    mask = LabelMap(box, ct.geometry, (Segment(1, "box"),))
    looked_at = (box == 1) & (ct.array >= -500) & (ct.array <= 700)
    counts, values = exact_histogram(ct.array[looked_at])
    expected = threshold_otsu(hist=(counts, values))
    found = segment(ct, "otsu", mask=mask, lower=-500, upper=700)
    assert found.findings[0].details["thresholds"] == [expected]
    assert np.array_equal(found.array, looked_at & (ct.array > expected))


def test_a_mask_on_another_grid_is_refused(ct: Volume) -> None:
    grid = Geometry(ct.geometry.shape, ct.geometry.affine + np.eye(4)[:, [3, 3, 3, 0]] * 0.0 + np.diag([0.1, 0, 0, 0]))
    with pytest.raises(GeometryMismatchError, match="mask lies on another grid"):
        segment(ct, "otsu", mask=LabelMap(np.zeros(grid.shape, np.uint8), grid, ()))


@pytest.mark.parametrize("values", [[5, 5, 5], [np.nan, np.nan, np.nan], [np.nan, 4, 4]])
@pytest.mark.parametrize("method", ["otsu", "multi-otsu"])
def test_too_few_intensities_are_an_error(values: list[float], method: str) -> None:
    with pytest.raises(InputError, match="cannot be parted into"):
        segment(scan(values, np.float32), method)
    with pytest.raises(InputError, match="0 different finite intensities"):
        segment(scan([1, 2, 3]), "otsu", lower=10)


# multi-otsu


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_multi_otsu_is_that_of_scikit_image(ct: Volume, classes: int) -> None:
    """On every tenth HU, as scikit-image's exhaustive search takes too long on all of them."""
    coarse = (ct.array // 10).astype(np.int16)
    expected = threshold_multiotsu(classes=classes, hist=exact_histogram(coarse))
    found = segment(ct.with_array(coarse), "multi-otsu", classes=classes)
    assert found.findings[0].details["thresholds"] == expected.tolist()
    assert np.array_equal(found.array, np.digitize(coarse, expected, right=True))
    assert [item.label for item in found.segments] == [f"class_{n}" for n in range(1, classes)]


def test_multi_otsu_with_5_classes_has_the_largest_variance_between_them() -> None:
    """Checked against every possible choice of four thresholds."""
    from itertools import combinations

    rng = np.random.default_rng(8)
    array = rng.choice([0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 17], 400, p=rng.dirichlet(np.ones(11))).astype(np.int16)

    def variance(cuts: tuple[int, ...]) -> float:
        parts = [array[np.digitize(array, cuts, right=True) == n] for n in range(5)]
        return sum(len(part) * (part.mean() - array.mean()) ** 2 for part in parts if len(part))

    best = max(variance(cuts) for cuts in combinations(np.unique(array)[:-1].tolist(), 4))
    found = segment(scan(array), "multi-otsu", classes=5, label="grey")
    assert variance(tuple(found.findings[0].details["thresholds"])) == pytest.approx(best, rel=1e-12)
    assert [item.label for item in found.segments] == ["grey_1", "grey_2", "grey_3", "grey_4"]


# geometry


@pytest.mark.parametrize(("method", "chosen"), [("threshold", {"lower": 60}), ("otsu", {}), ("multi-otsu", {"classes": 3})])
def test_the_volume_does_not_depend_on_the_order_of_the_axes(affine: np.ndarray, method: str, chosen: dict[str, object]) -> None:
    rng = np.random.default_rng(2)
    array = rng.integers(0, 200, (9, 8, 7)).astype(np.int16)
    geometry = Geometry(array.shape, affine)
    found = segment(Volume(array, geometry), method, **chosen)
    turned_geometry = geometry.transformed([[0, 0, -1], [1, 0, 0], [0, -1, 0]], (8, 0, 6), (8, 7, 9))
    turned = segment(Volume(array.transpose(1, 2, 0)[:, ::-1, ::-1], turned_geometry), method, **chosen)
    for item in found.segments:
        volumes_ml = [int(result.mask(item.label).sum()) * result.geometry.voxel_volume_mm3 / 1000 for result in (found, turned)]
        assert volumes_ml[0] > 0
        assert volumes_ml[0] == pytest.approx(volumes_ml[1], rel=1e-12)
    assert np.array_equal(turned.array, found.array.transpose(1, 2, 0)[:, ::-1, ::-1])
