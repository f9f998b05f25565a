"""Missing slices, uneven stacks, mixed pixel spacing and spacings given by hand: what is scanned stays, the rest lies where it belongs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from made_series import edit_files, numbered_volume, place_and_paint
from pydicom.dataset import Dataset
from scipy.ndimage import map_coordinates

from medseg.core.errors import InconsistentSeriesError
from medseg.core.finding import Severity
from medseg.core.native_slices import slice_widths_mm
from medseg.core.volume import Volume
from medseg.io.dicom.find import find_series
from medseg.io.dicom.gaps import Gaps, find_gaps
from medseg.io.dicom.sort import StackGeometry
from medseg.io.dicom.uneven import SNAP_MM, lay_out, on_grid
from medseg.io.dicom.volume import inspect_series, native_stack, read_series
from medseg.io.options import ReadOptions

ALLOW = ReadOptions(allow_gaps=True)


def _stack(positions: list[float]) -> StackGeometry:
    places = np.asarray(positions, dtype=float)
    gaps = np.diff(places)
    usual = float(np.sort(gaps)[(gaps.size - 1) // 2])
    return StackGeometry(tuple(range(len(places))), np.array([0, 0, 1.0]), places, gaps, usual, 0.0, 0.0, (0.0, 0.0))


def _gaps(positions: list[float], thickness: list[float | None] | None = None) -> Gaps:
    return find_gaps(_stack(positions), thickness or [None] * len(positions))


def _summed(*steps: float) -> list[float]:
    return np.concatenate([[0], np.cumsum(steps)]).tolist()


@pytest.mark.parametrize(
    ("positions", "missing", "is_uneven"),
    [
        (_summed(*[2.5] * 9), [], False),
        (_summed(2.5, 2.5, 5, 2.5, 2.5), [1], False),
        (_summed(2.5, 2.5, 5, 5, 2.5, 2.5, 2.5), [1, 1], False),
        (_summed(2.5, 2.5, 12.6, 2.5, 2.5), [4], False),
        (_summed(2.5, 2.5, 4, 2.5, 2.5), [], True),  # 1.6 times: no slice is missing there
        (_summed(*[2.5] * 8, *[5.0] * 8), [], True),  # a part of the scan with wider spacing
        (_summed(*[5.0] * 8, *[2.5] * 9), [], True),
        (_summed(*[2.5] * 8, 5, *[4.0] * 6, 8, *[4.0] * 3), [1], True),  # a hole in the wider part, none where the parts meet
        (_summed(*[2.5] * 6, 101.3, *[2.5] * 6), [40], True),  # two slabs: a hole, though no whole multiple
        (_summed(2.5, 5), [1], False),
    ],
)
def test_which_gaps_are_holes(positions: list[float], missing: list[int], is_uneven: bool) -> None:
    found = _gaps(positions)
    assert ([hole.missing for hole in found.holes], found.is_uneven) == (missing, is_uneven)


def test_thick_slices_that_cover_a_wide_gap_are_not_holes() -> None:
    positions = _summed(2.5, 2.5, 2.5, 2.5, 2.5, 5, 5, 5)
    assert _gaps(positions, [2.5] * 5 + [2.5, 5, 5, 5]).missing == 1  # the slice before the first wide gap is thin
    assert _gaps(positions, [2.5] * 9).missing == 3
    assert _gaps(positions, [5.0] * 9).missing == 3  # overlapping slices, all as thick: thickness says nothing


def test_two_combs_are_recognised() -> None:
    assert _gaps(_summed(*[0.9, 1.6] * 8)).are_combs
    assert not _gaps(_summed(*[0.9, 1.6] * 3)).are_combs  # too few to be sure
    assert not _gaps(_summed(*[0.9, 1.6, 2.0] * 6)).are_combs


@settings(max_examples=80, deadline=None)
@given(steps=st.lists(st.floats(0.4, 9), min_size=3, max_size=25), seed=st.integers(0, 1000))
def test_a_linear_stack_is_linear_on_any_layout(steps: list[float], seed: int) -> None:
    stack = _stack(_summed(*steps))
    layout = lay_out(stack, find_gaps(stack, [None] * (len(steps) + 1)))
    random = np.random.default_rng(seed)
    base, slope = random.normal(size=(2, 3, 2))
    native = base + stack.positions_mm[:, None, None] * slope
    expected = base + layout.places_mm[:, None, None] * slope
    assert np.abs(on_grid(native, layout) - expected).max() <= 1.001 * SNAP_MM * np.abs(slope).max() + 1e-9
    assert layout.places_mm[[0, -1]] == pytest.approx(stack.positions_mm[[0, -1]])
    for m, k in enumerate(layout.native_k):
        if k >= 0:
            np.testing.assert_array_equal(on_grid(native, layout)[k], native[m])
    assert len(layout.places_mm) <= 4 * (len(steps) + 1) + layout.native_k.max() + 1


# A tilted scan whose value is a linear function of the place: wherever a voxel ends up, it must have the value of its place
TILT = np.array([0.0, 0.34, 1.0])


def _linear(points: np.ndarray) -> np.ndarray:
    return np.asarray(points @ (3.0, -4.0, 7.0) + 11)


def _tilted(make_series, heights: list[float], name: str = "tilted") -> Path:
    places = [tuple(np.array([-20.0, -30, 40]) + height * TILT) for height in heights]
    return make_series(numbered_volume((9, 8, len(heights))), edit=place_and_paint(places, _linear), name=name)


def _assert_linear(volume: Volume) -> None:
    index = np.indices(volume.array.shape).reshape(3, -1).T
    values = volume.array.reshape(-1).astype(float)
    assert np.abs(values - _linear(volume.geometry.index_to_world(index))).max() <= 1.01  # rounded when made, and when resampled
    assert np.ptp(values) > 100


def test_missing_slices_are_interpolated_where_they_were(make_series) -> None:
    heights = [2.5 * k for k in range(14) if k not in (3, 4, 9)]
    folder = _tilted(make_series, heights)
    with pytest.raises(InconsistentSeriesError, match="use --allow-gaps"):
        read_series(folder)
    volume = read_series(folder, ALLOW)
    assert volume.array.shape == (9, 8, 14)
    assert volume.array.dtype == np.int16
    assert volume.geometry.spacing_mm[2] == pytest.approx(2.5 * np.linalg.norm(TILT))
    _assert_linear(volume)
    for m, file in enumerate(volume.source.files):
        stored = pydicom.dcmread(file).pixel_array - 1024
        np.testing.assert_array_equal(volume.array[:, :, round(heights[m] / 2.5)].T, stored)
    (finding,) = [one for one in volume.findings if one.code == "GAPS_INTERPOLATED"]
    assert finding.severity is Severity.WARNING
    assert finding.details["k"] == [3, 4, 9]
    assert "MISSING_SLICES" not in {one.code for one in volume.findings}


@pytest.mark.parametrize(
    "heights",
    [
        _summed(2, 2, 2, 3.1, 2, 2, 4.7, 2, 1.2),
        _summed(*[2.0] * 6, *[3.0] * 6),
        _summed(*[1.7 + 0.13 * k for k in range(12)]),
    ],
)
def test_uneven_tilted_slices_are_resampled_where_they_lie(make_series, heights: list[float]) -> None:
    volume = read_series(_tilted(make_series, heights))
    assert {"UNEVEN_SPACING", "GANTRY_TILT"} <= {finding.code for finding in volume.findings}
    assert volume.geometry.is_sheared
    _assert_linear(volume)


def test_a_hole_in_an_uneven_stack_is_refused_and_filled_on_request(make_series) -> None:
    folder = _tilted(make_series, _summed(*[2.5] * 8, 5, *[4.0] * 6, 8, *[4.0] * 3))
    with pytest.raises(InconsistentSeriesError, match=r"MISSING_SLICES: 1 slice\(s\) .* 8 mm after position"):
        read_series(folder)
    volume = read_series(folder, ALLOW)
    assert {"UNEVEN_SPACING", "GAPS_INTERPOLATED"} <= {finding.code for finding in volume.findings}
    _assert_linear(volume)


def test_real_missing_slices_against_the_whole_series(shared_data: Path) -> None:
    whole = read_series(shared_data / "tumour_sts_025" / "dicom" / "CT")
    volume = read_series(shared_data / "dicom_ct_missing_slices", ALLOW)
    assert volume.geometry.matches(whole.geometry)
    missing = json.loads((shared_data / "dicom_ct_missing_slices" / "expected.json").read_text())["missing"]["left_out_sorted_indices"]
    there = np.setdiff1d(np.arange(47), missing)
    np.testing.assert_array_equal(volume.array[..., there], whole.array[..., there])
    true = whole.array.astype(float)
    for k, below, above, weight in ((10, 9, 12, 1 / 3), (11, 9, 12, 2 / 3), (30, 29, 31, 1 / 2)):
        np.testing.assert_allclose(volume.array[..., k], (1 - weight) * true[..., below] + weight * true[..., above], atol=0.501)
        # nearer to what was scanned there than the nearest slice that is left
        own_error = np.abs(volume.array[..., k] - true[..., k]).mean()
        assert own_error < min(np.abs(true[..., other] - true[..., k]).mean() for other in (below, above))


def test_real_uneven_tilted_head(shared_data: Path) -> None:
    """GE head CT: gaps of 1.08, 4.0 and 7.0 mm and 18.5 degrees of tilt; every pixel must be found again at its DICOM place."""
    case = shared_data / "dicom_ct_gantry_tilt_uneven_ge"
    expected = json.loads((case / "expected.json").read_text())["dicom"]
    volume = read_series(case)
    assert {"UNEVEN_SPACING", "GANTRY_TILT"} <= {finding.code for finding in volume.findings}
    random = np.random.default_rng(5)
    stored, found = [], []
    for file in sorted((case / "dicom").glob("*.dcm")):
        dataset = pydicom.dcmread(file)
        row, column = random.integers(0, 512, (2, 300))
        axes = np.asarray(dataset.ImageOrientationPatient, dtype=float).reshape(2, 3)
        steps = column[:, None] * float(dataset.PixelSpacing[1]) * axes[0] + row[:, None] * float(dataset.PixelSpacing[0]) * axes[1]
        ras = (np.asarray(dataset.ImagePositionPatient, dtype=float) + steps) * (-1, -1, 1)
        found.append(map_coordinates(volume.array.astype(np.float32), volume.geometry.world_to_index(ras).T, order=1, mode="nearest"))
        stored.append(dataset.pixel_array[row, column] * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept))
    assert np.corrcoef(np.concatenate(stored), np.concatenate(found))[0, 1] > 0.9995  # dcm2niix: 0.786, its corrected output 0.998
    native = native_stack(case)
    np.testing.assert_allclose(native.positions_mm, expected["slice_positions_along_normal_mm"], atol=2e-4)
    areas = np.asarray(expected["voxels_hu_gt_300_per_slice"]) * native.pixel_area_mm2
    assert (areas * slice_widths_mm(native.positions_mm)).sum() / 1000 == pytest.approx(
        expected["volume_hu_gt_300_ml_midpoint_rule"], rel=1e-5
    )
    assert not native.is_even
    for m in (0, 13, 27):
        position = np.asarray(pydicom.dcmread(native.slices[m].path).ImagePositionPatient, dtype=float) * (-1, -1, 1)
        np.testing.assert_allclose(native.origins_mm[m], position, atol=1e-9)


def test_the_native_stack_of_a_series_with_holes(shared_data: Path) -> None:
    native = native_stack(find_series(shared_data / "dicom_ct_missing_slices")[0])
    assert (len(native.slices), native.is_even, native.usual_gap_mm) == (44, False, pytest.approx(3.27))
    assert native.geometry.shape[2] == 47
    assert native.layout.interpolated_k == (10, 11, 30)
    assert len(set(native.sop_instance_uids)) == 44
    assert native.pixel_area_mm2 == pytest.approx(0.976562**2)
    even = native_stack(shared_data / "tumour_sts_025" / "dicom" / "CT")
    assert even.is_even
    assert even.geometry.matches(native.geometry)


def test_real_valued_intensities_stay_real(make_series) -> None:
    places = [(0.0, 0.0, z) for z in _summed(2, 2, 4, 2, 2)]

    def edit(dataset: Dataset, k: int) -> None:
        place_and_paint(places, lambda points: 40 + 10 * points[..., 2])(dataset, k)
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.1, 0

    volume = read_series(make_series(numbered_volume((4, 4, 6), modality="MR"), edit=edit), ALLOW)
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array[1, 1], [4, 6, 8, 10, 12, 14, 16], rtol=1e-6)


class TestMixedPixelSpacing:
    @pytest.fixture
    def folder(self, make_series) -> Path:
        """Slices 3 to 5 were reconstructed with coarser pixels over a larger field, around the same middle."""
        folder = make_series(numbered_volume((20, 16, 8)), name="mixed")

        def edit(dataset: Dataset, k: int) -> None:
            i_mm, j_mm = (1.5, 1.25) if 3 <= k <= 5 else (1.0, 1.0)
            dataset.PixelSpacing = [j_mm, i_mm]
            middle = np.array([9.5 * i_mm, 7.5 * j_mm, 0])
            place = np.array([12.0, -40.0, 2.0 * k]) - middle
            place_and_paint([tuple(place)] * 8, lambda points: points @ (9.0, -13.0, 4.0))(dataset, k)

        edit_files(sorted(folder.glob("*")), edit)
        return folder

    def test_it_is_refused(self, folder: Path) -> None:
        with pytest.raises(InconsistentSeriesError, match="use --resample-mixed") as caught:
            read_series(folder)
        assert [finding.code for finding in caught.value.findings if finding.severity is Severity.ERROR] == ["MIXED_PIXEL_SPACING"]

    def test_it_is_brought_onto_the_finest_grid(self, folder: Path) -> None:
        volume = read_series(folder, ReadOptions(resample_mixed=True))
        assert volume.geometry.spacing_mm == pytest.approx((1, 1, 2))
        assert "MIXED_SPACING_RESAMPLED" in {finding.code for finding in volume.findings}
        image = sitk.ReadImage  # each slice, resampled by ITK onto our grid, must be what we have
        for k, file in enumerate(volume.source.files):
            dataset = pydicom.dcmread(file)
            slice_image = image(file)
            rows, columns = slice_image.GetSize()[1], slice_image.GetSize()[0]
            origin = volume.geometry.index_to_world([0, 0, k]) * (-1, -1, 1)
            lowest = float(volume.array.min())
            grid = sitk.Image([*volume.array.shape[:2], 1], sitk.sitkFloat64)
            grid.SetOrigin(origin.tolist())
            grid.SetSpacing(list(volume.geometry.spacing_mm))
            theirs = sitk.GetArrayFromImage(sitk.Resample(slice_image, grid, sitk.Transform(), sitk.sitkLinear, lowest, sitk.sitkFloat64))
            np.testing.assert_allclose(volume.array[:, :, k].T, theirs[0], atol=0.51)
            assert (volume.array[:, :, k] > lowest).sum() >= 0.95 * rows * columns * float(np.prod(np.float64(dataset.PixelSpacing)))

    def test_slices_of_the_finest_grid_keep_their_voxels(self, folder: Path) -> None:
        volume = read_series(folder, ReadOptions(resample_mixed=True))
        for k in (0, 7):
            dataset = pydicom.dcmread(volume.source.files[k])
            first = np.asarray(dataset.ImagePositionPatient, dtype=float) * (-1, -1, 1)
            i, j, at_k = np.rint(volume.geometry.world_to_index(first)).astype(int)
            assert at_k == k
            np.testing.assert_array_equal(volume.array[i : i + 20, j : j + 16, k].T, dataset.pixel_array - 1024)

    def test_the_option_does_nothing_where_nothing_is_mixed(self, make_series) -> None:
        assert read_series(make_series(), ReadOptions(resample_mixed=True, allow_gaps=True, assume_hu=True)).findings == ()


def _without(*keywords: str, only: int | None = None):
    def edit(dataset: Dataset, k: int) -> None:
        for keyword in keywords:
            if only in (None, k):
                delattr(dataset, keyword)

    return edit


class TestSpacingGiven:
    options = ReadOptions(spacing_mm=(0.7, 0.9, 2.5))

    def test_slices_without_positions_are_stacked_by_number(self, make_series) -> None:
        folder = make_series(edit=_without("ImagePositionPatient", "PixelSpacing", "ImageOrientationPatient", "FrameOfReferenceUID"))
        with pytest.raises(InconsistentSeriesError, match="give the true --spacing"):
            read_series(folder)
        volume = read_series(folder, self.options)
        np.testing.assert_array_equal(volume.array, numbered_volume().array)
        assert volume.geometry.spacing_mm == pytest.approx((0.7, 0.9, 2.5))
        assert volume.geometry.frame_of_reference_uid is None
        assert [finding.code for finding in volume.findings] == ["SPACING_GIVEN"]
        assert inspect_series(find_series(folder)[0], self.options).audit.options_used == ("--spacing",)

    def test_an_orientation_that_is_there_is_kept(self, make_series) -> None:
        def edit(dataset: Dataset, k: int) -> None:
            dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
            del dataset.ImagePositionPatient

        assert read_series(make_series(edit=edit), self.options).geometry.orientation == "PIR"  # k along the normal

    def test_positions_that_are_there_are_kept(self, make_series) -> None:
        volume = read_series(make_series(edit=_without("PixelSpacing")), ReadOptions(spacing_mm=(0.7, 0.9, 99)))
        np.testing.assert_allclose(volume.geometry.affine, numbered_volume().geometry.affine)
        assert [finding.code for finding in volume.findings] == ["SPACING_GIVEN"]

    @pytest.mark.parametrize("only", [0, 3])
    def test_one_slice_without_position_is_no_case_for_it(self, make_series, only: int) -> None:
        folder = make_series(edit=_without("ImagePositionPatient", only=only))
        with pytest.raises(
            InconsistentSeriesError, match=rf"1 of 6 slices have no usable position or orientation: slice_000{only + 1}\.dcm"
        ):
            read_series(folder, self.options)

    def test_numbers_that_repeat_give_no_order(self, make_series) -> None:
        def edit(dataset: Dataset, k: int) -> None:
            del dataset.ImagePositionPatient
            dataset.InstanceNumber = 1 + k // 2

        with pytest.raises(InconsistentSeriesError, match="their order is unknown too"):
            read_series(make_series(edit=edit), self.options)

    def test_it_changes_nothing_where_the_file_has_its_own(self, make_series) -> None:
        folder = make_series()
        assert read_series(folder, ReadOptions(spacing_mm=(9, 9, 9))).geometry == read_series(folder).geometry


def test_frames_that_the_file_does_not_describe_are_stacked_on_request(shared_data: Path) -> None:
    file = shared_data / "dicom_enhanced_mr_no_geometry" / "emri_small.dcm"
    expected = json.loads((file.parent / "expected.json").read_text())["dicom"]
    volume = read_series(file, ReadOptions(spacing_mm=(1, 1, 2)))
    assert volume.array.shape == (64, 64, 10)
    assert int(volume.array.sum(dtype=np.int64)) == expected["pixel_sum"]
    assert "SPACING_GIVEN" in {finding.code for finding in volume.findings}


def test_stored_values_are_taken_as_hu_on_request(make_series) -> None:
    def edit(dataset: Dataset, _: int) -> None:
        del dataset.RescaleSlope, dataset.RescaleIntercept

    folder = make_series(edit=edit)
    with pytest.raises(InconsistentSeriesError, match=r"MISSING_RESCALE.*use --assume-hu"):
        read_series(folder)
    volume = read_series(folder, ReadOptions(assume_hu=True))
    np.testing.assert_array_equal(volume.array, numbered_volume().array + 1024)
    assert [(finding.code, finding.severity) for finding in volume.findings] == [("HU_ASSUMED", Severity.WARNING)]
