"""Where frames lie decides, whatever the other tags say; what cannot be placed is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from made_segs import asymmetric, axial_seg, by_highdicom, edited, groups_of, heights, in_order, name_segments, uneven
from made_series import numbered_volume
from pydicom.dataset import Dataset

from medseg.core.errors import (
    GeometryError,
    GeometryMismatchError,
    InputError,
    OverlappingSegmentsError,
    UnsupportedFormatError,
)
from medseg.core.geometry import Geometry
from medseg.io.dicom.seg_read import read_native_slices, read_seg
from medseg.io.dicom.volume import read_series

OBLIQUE = np.array([[0.6, 0, 0.8 * 3, 5], [0, -0.9, 0, 6], [-0.8, 0, 0.6 * 3, 7], [0, 0, 0, 1]])
STEP = 2.5  # of the axial series


@pytest.fixture
def folder(make_series) -> Path:
    return make_series(numbered_volume((9, 7, 8)))


@pytest.fixture
def path(folder: Path, tmp_path: Path) -> Path:
    return axial_seg(folder, tmp_path)


def measures(spacing: float | None, thickness: float | None) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        item = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        for keyword, value in (("SpacingBetweenSlices", spacing), ("SliceThickness", thickness)):
            if value is None:
                del item[keyword]
            else:
                setattr(item, keyword, value)

    return change


@pytest.mark.parametrize(
    ("spacing", "thickness", "codes"),
    [
        (STEP, STEP, []),
        (2 * STEP, STEP, ["SLICE_SPACING_IGNORED"]),
        (-STEP, STEP, []),
        (0.0, STEP, []),
        (None, STEP / 2, []),
        (None, None, []),
        (1.7, STEP, ["SLICE_SPACING_IGNORED"]),
        (STEP / 2, STEP, ["SLICE_SPACING_UNSURE"]),
        (STEP / 2, None, ["SLICE_SPACING_UNSURE"]),
    ],
)
def test_the_spacing_comes_from_positions(path: Path, spacing: float | None, thickness: float | None, codes: list[str]) -> None:
    found = read_seg(edited(path, measures(spacing, thickness)))
    assert found.geometry.spacing_mm[2] == pytest.approx(STEP)
    np.testing.assert_array_equal(found.array.T, asymmetric())
    assert [finding.code for finding in found.findings] == codes


def test_frames_left_out_everywhere_between_count_where_two_tags_agree(path: Path) -> None:
    """As dcmqi stores a segmentation of every second slice; with the scan's grid there is no doubt at all."""
    in_order(path, [0, 2, 4, 6])
    found = read_seg(path)
    assert (found.geometry.shape[2], [finding.code for finding in found.findings]) == (7, ["SLICE_SPACING_UNSURE"])
    assert found.findings[0].details == {"taken_mm": pytest.approx(STEP), "other_mm": pytest.approx(2 * STEP)}
    np.testing.assert_array_equal(found.array.T[::2], asymmetric()[[0, 2, 4, 6]])
    assert not found.array.T[1::2].any()


def test_places_in_the_stack_tell_left_out_frames(path: Path) -> None:
    in_order(path, [0, 2, 4, 6])
    edited(path, measures(None, 2 * STEP))
    assert read_seg(path).geometry.spacing_mm[2] == pytest.approx(2 * STEP)

    def count(dataset: Dataset) -> None:
        for number, group in zip((1, 3, 5, 7), dataset.PerFrameFunctionalGroupsSequence, strict=True):
            group.FrameContentSequence[0].StackID = "1"
            group.FrameContentSequence[0].InStackPositionNumber = number

    found = read_seg(edited(path, count))
    assert found.geometry.spacing_mm[2] == pytest.approx(STEP)
    assert found.findings == ()


def test_gaps_of_different_size_are_left_out_frames(path: Path, folder: Path) -> None:
    in_order(path, [0, 2, 5, 7])
    found = read_seg(path)
    np.testing.assert_array_equal(found.array.T[[0, 2, 5, 7]], asymmetric()[[0, 2, 5, 7]])
    assert found.geometry.matches(read_series(folder).geometry, 0.01)
    assert found.findings == ()


def test_one_slice_alone_rests_on_the_header(path: Path) -> None:
    in_order(path, [4])
    found = read_seg(path)
    assert (found.geometry.shape, found.geometry.spacing_mm[2]) == ((9, 7, 1), pytest.approx(STEP))
    assert [finding.code for finding in found.findings] == ["SINGLE_SLICE"]


def test_small_errors_of_positions_do_not_add_up(make_series, tmp_path: Path) -> None:
    """150 slices whose header was rounded: the step of the first two is not the step of the stack."""
    volume = numbered_volume((9, 7, 150), np.diag([-0.7, -0.9, 0.6251, 1.0]))
    path = by_highdicom(make_series(volume), np.ones((150, 7, 9), np.uint8), tmp_path / "x.dcm")

    def rounded(dataset: Dataset) -> None:
        for group in dataset.PerFrameFunctionalGroupsSequence:
            x, y, z = group.PlanePositionSequence[0].ImagePositionPatient
            group.PlanePositionSequence[0].ImagePositionPatient = [x, y, round(float(z), 2)]
        dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 0.63

    found = read_seg(edited(path, rounded))
    assert found.geometry.shape == (9, 7, 150)
    assert found.geometry.spacing_mm[2] == pytest.approx(0.6251, abs=1e-4)


def test_groups_may_stand_in_every_frame(path: Path) -> None:
    def move(dataset: Dataset) -> None:
        shared = dataset.SharedFunctionalGroupsSequence[0]
        for group in dataset.PerFrameFunctionalGroupsSequence:
            for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
                group[keyword] = deepcopy(shared[keyword])
        dataset.SharedFunctionalGroupsSequence = [Dataset()]

    np.testing.assert_array_equal(read_seg(edited(path, move)).array.T, asymmetric())
    edited(path, lambda dataset: dataset.__delitem__("SharedFunctionalGroupsSequence"))
    np.testing.assert_array_equal(read_seg(path).array.T, asymmetric())


def test_directions_that_differ_in_the_last_digit_are_one(path: Path) -> None:
    def jitter(dataset: Dataset) -> None:
        shared = dataset.SharedFunctionalGroupsSequence[0]
        for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            group["PlaneOrientationSequence"] = deepcopy(shared["PlaneOrientationSequence"])
            group.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 1e-6 * number, 0, 0, 1, 0]

    np.testing.assert_array_equal(read_seg(edited(path, jitter)).array.T, asymmetric())


# ---------------------------------------------------------------- the grid of a scan


@pytest.mark.parametrize("affine", [None, OBLIQUE])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)])
def test_the_scan_may_have_its_axes_any_way_round(
    make_series, tmp_path: Path, affine: np.ndarray | None, order: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    """Left-handed and permuted grids, as NIfTI copies of a series have them, and larger ones: the world decides."""
    folder = make_series(numbered_volume((9, 7, 8), affine))
    path = by_highdicom(folder, asymmetric(), tmp_path / "x.dcm")
    scan = read_series(folder).geometry
    matrix = np.eye(3)[:, order] * np.array(flips)
    shape = np.array(scan.shape)[list(order)]
    start = -np.minimum(matrix, 0) @ (shape - 1)  # an axis that runs backwards begins at the far end
    grid = scan.transformed(matrix, start, shape.tolist())
    padded = grid.cropped((-2, -1, -3), (shape + np.array((3, 2, 4))).tolist())
    for target in (grid, padded):
        found = read_seg(path, target)
        assert found.geometry == target
        own = read_seg(path)
        ours = target.index_to_world(np.argwhere(found.array))
        theirs = own.geometry.index_to_world(np.argwhere(own.array))
        np.testing.assert_allclose(ours[np.lexsort(np.round(ours, 2).T)], theirs[np.lexsort(np.round(theirs, 2).T)], atol=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        lambda grid: grid.cropped((1, 0, 0), grid.shape),
        lambda grid: grid.cropped((0, 0, 2), (9, 7, 6)),
        lambda grid: grid.transformed(np.eye(3), (0.3, 0, 0), grid.shape),
        lambda grid: grid.transformed(np.eye(3), (0, 0, 0.4), grid.shape),
        lambda grid: grid.transformed(np.diag([1, 1, 0.75]), (0, 0, 0), (9, 7, 11)),
        lambda grid: Geometry(grid.shape, grid.affine @ np.diag([1.02, 1, 1, 1])),
    ],
    ids=["beside", "too low", "between pixels", "between slices", "other spacing", "other pixels"],
)
def test_a_scan_that_does_not_fit_is_refused(path: Path, folder: Path, change: Callable[[Geometry], Geometry]) -> None:
    with pytest.raises(GeometryMismatchError, match="does not lie on the grid of the scan"):
        read_seg(path, change(read_series(folder).geometry))


def test_another_frame_of_reference_is_told(path: Path, folder: Path) -> None:
    grid = read_series(folder).geometry
    found = read_seg(path, Geometry(grid.shape, grid.affine, "1.2.3"))
    assert [finding.code for finding in found.findings] == ["OTHER_FRAME_OF_REFERENCE"]


# ---------------------------------------------------------------- odd segments


def test_segments_without_codes_names_or_description(path: Path) -> None:
    def bare(dataset: Dataset) -> None:
        item = dataset.SegmentSequence[0]
        for keyword in (
            "SegmentLabel",
            "SegmentedPropertyCategoryCodeSequence",
            "SegmentedPropertyTypeCodeSequence",
            "SegmentAlgorithmName",
        ):
            del item[keyword]

    found = read_seg(edited(path, bare))
    assert [(segment.number, segment.label, segment.type) for segment in found.segments] == [(1, "segment_1", None)]
    edited(path, lambda dataset: setattr(groups_of(dataset, 2).SegmentIdentificationSequence[0], "ReferencedSegmentNumber", 7))
    found = read_seg(path)
    assert [segment.label for segment in found.segments] == ["segment_1", "segment_7"]
    assert [finding.code for finding in found.findings] == ["UNDESCRIBED_SEGMENTS"]
    np.testing.assert_array_equal(found.mask(7).T[2], asymmetric()[2])
    edited(path, lambda dataset: dataset.__delitem__("SegmentSequence"))
    assert [segment.label for segment in read_seg(path).segments] == ["segment_1", "segment_7"]


def test_numbers_with_gaps_stay(make_series, tmp_path: Path) -> None:
    folder = make_series(numbered_volume((9, 7, 8)))
    path = edited(by_highdicom(folder, asymmetric(), tmp_path / "x.dcm"), name_segments)

    def renumber(dataset: Dataset) -> None:
        dataset.SegmentSequence[0].SegmentNumber = 4711
        for group in dataset.PerFrameFunctionalGroupsSequence:
            group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 4711

    found = read_seg(edited(path, renumber))
    assert (found.array.dtype, [segment.number for segment in found.segments]) == (np.uint16, [4711])
    np.testing.assert_array_equal(found.array.T, asymmetric().astype(int) * 4711)


def test_a_frame_twice_counts_once_and_another_one_there_is_refused(path: Path) -> None:
    in_order(path, [*range(8), 3])
    np.testing.assert_array_equal(read_seg(path).array.T, asymmetric())
    in_order(path, [*range(8), 0])

    def moved(dataset: Dataset) -> None:
        dataset.PerFrameFunctionalGroupsSequence[8].PlanePositionSequence = deepcopy(groups_of(dataset, 5).PlanePositionSequence)

    with pytest.raises(UnsupportedFormatError, match="two different frames at one position"):
        read_seg(edited(path, moved))


# ---------------------------------------------------------------- slice by slice


def test_uneven_frames_are_measured_slice_by_slice(path: Path) -> None:
    edited(path, uneven)
    found = read_native_slices(path)
    positions = heights(path)
    np.testing.assert_allclose(found.positions_mm, positions)
    np.testing.assert_array_equal(found.labels, asymmetric())
    assert found.pixel_area_mm2 == pytest.approx(0.63)
    by_hand = sum(slice_.sum() * 0.63 * width for slice_, width in zip(asymmetric(), np.gradient(positions), strict=True))
    counts = found.labels.sum(axis=(1, 2), dtype=float)
    assert float((counts * found.pixel_area_mm2 * found.widths_mm).sum()) == pytest.approx(by_hand)


def test_slices_of_the_scan_count_where_empty_frames_were_left_out(path: Path) -> None:
    edited(path, uneven)
    positions = heights(path)
    in_order(path, [2, 3, 5])
    found = read_native_slices(path, positions.tolist())
    assert len(found.labels) == 8
    np.testing.assert_array_equal(found.labels[[2, 3, 5]], asymmetric()[[2, 3, 5]])
    assert not found.labels[[0, 1, 4, 6, 7]].any()
    with pytest.raises(GeometryMismatchError, match="slices of the scan"):
        read_native_slices(path, (positions + 1.0).tolist())
    with pytest.raises(GeometryError, match="rise"):
        read_native_slices(path, positions[::-1].tolist())


def test_slice_by_slice_has_no_place_for_overlaps(make_series, tmp_path: Path) -> None:
    both = np.stack([asymmetric(), asymmetric()], axis=3)
    path = by_highdicom(make_series(numbered_volume((9, 7, 8))), both, tmp_path / "x.dcm")
    with pytest.raises(OverlappingSegmentsError):
        read_native_slices(path)
    with pytest.raises(InputError):
        read_native_slices(tmp_path / "none.dcm")
