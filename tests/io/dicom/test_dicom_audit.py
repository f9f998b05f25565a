from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from made_series import add_file, edit_files, numbered_volume
from pydicom.dataset import Dataset

from medseg.core.errors import InconsistentSeriesError, InputError, UnreadableFileError, UnsupportedFormatError
from medseg.core.finding import Severity
from medseg.io.dicom.find import find_series
from medseg.io.dicom.volume import inspect_series, read_series
from medseg.io.options import ReadOptions


def _codes(folder: Path) -> dict[str, Severity]:
    (series,) = find_series(folder)
    return {finding.code: finding.severity for finding in inspect_series(series).findings}


def _finding(folder: Path, code: str):
    return next(finding for finding in inspect_series(find_series(folder)[0]).findings if finding.code == code)


def _set(**values: object) -> Callable[[Dataset, int], None]:
    def edit(dataset: Dataset, _: int) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return edit


def _move(k: int, shift: tuple[float, float, float]) -> Callable[[Dataset, int], None]:
    def edit(dataset: Dataset, number: int) -> None:
        if number == k:
            dataset.ImagePositionPatient = [x + s for x, s in zip(dataset.ImagePositionPatient, shift, strict=True)]

    return edit


def test_a_sound_series_has_no_finding(make_series) -> None:
    folder = make_series()
    assert _codes(folder) == {}
    assert read_series(folder).findings == ()


def test_missing_slices_are_counted_and_placed(make_series) -> None:
    folder = make_series(numbered_volume((5, 5, 12)))
    for number in (4, 5, 9):
        (folder / f"slice_{number:04d}.dcm").unlink()
    finding = _finding(folder, "MISSING_SLICES")
    assert finding.details["count"] == 3
    assert [place["positions_mm"] for place in finding.details["gaps"]] == [[7.5, 10.0], [20.0]]
    assert [place["gap_mm"] for place in finding.details["gaps"]] == [7.5, 5.0]
    with pytest.raises(InconsistentSeriesError, match=r"MISSING_SLICES: 3 slice\(s\) are missing in 2 place\(s\)") as caught:
        read_series(folder)
    assert any(finding.code == "MISSING_SLICES" for finding in caught.value.findings)


def test_exact_copies_are_dropped_and_counted(make_series) -> None:
    folder = make_series()
    expected = read_series(folder).array
    for number in (2, 5):
        add_file(folder / f"slice_{number:04d}.dcm", folder / f"copy{number}.dcm")
    volume = read_series(folder)
    np.testing.assert_array_equal(volume.array, expected)
    (finding,) = volume.findings
    assert (finding.code, finding.severity, finding.details["count"]) == ("DUPLICATE_SLICES", Severity.WARNING, 2)


def test_the_same_file_twice_is_a_copy(make_series) -> None:
    folder = make_series()
    (folder / "again.dcm").write_bytes((folder / "slice_0003.dcm").read_bytes())
    assert [finding.code for finding in read_series(folder).findings] == ["DUPLICATE_SLICES"]


def test_one_position_with_two_contents_is_refused(make_series) -> None:
    folder = make_series()

    def other(dataset: Dataset) -> None:
        dataset.PixelData = bytes(len(dataset.PixelData))

    add_file(folder / "slice_0003.dcm", folder / "other.dcm", other)
    with pytest.raises(InconsistentSeriesError, match="AMBIGUOUS_SERIES: 1 of 6 positions"):
        read_series(folder)


def test_one_uid_with_two_contents_is_refused(make_series) -> None:
    folder = make_series()
    dataset = pydicom.dcmread(folder / "slice_0003.dcm")
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(folder / "other.dcm")
    assert "REPEATED_UID" in _codes(folder)
    with pytest.raises(InconsistentSeriesError):
        read_series(folder)


@pytest.mark.parametrize(
    ("shift_mm", "is_resampled"),
    [(0.02, None), (0.1, False), (0.4, True), (-0.9, True)],
)
def test_uneven_spacing_by_degrees(make_series, shift_mm: float, is_resampled: bool | None) -> None:
    folder = make_series(edit=_move(3, (0, 0, shift_mm)))  # the usual gap is 2.5 mm
    volume = read_series(folder)
    found = [finding for finding in volume.findings if finding.code == "UNEVEN_SPACING"]
    assert [(finding.severity, finding.details["resampled"]) for finding in found] == (
        [] if is_resampled is None else [(Severity.WARNING, is_resampled)]
    )
    if is_resampled:
        assert volume.geometry.index_to_world([0, 0, volume.array.shape[2] - 1])[2] == pytest.approx(12.5)
        assert found[0].details["positions_mm"] == pytest.approx([0, 2.5, 5, 7.5 + shift_mm, 10, 12.5])
    else:
        assert volume.array.shape[2] == 6
        assert volume.geometry.spacing_mm[2] == pytest.approx(2.5)


def test_a_gap_that_is_no_whole_multiple_is_uneven_and_not_missing(make_series) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        if k > 3:
            dataset.ImagePositionPatient[2] += 2.5 * 0.6  # a gap of 1.6 times the usual: no slice is missing there

    assert set(_codes(make_series(numbered_volume((4, 4, 9)), edit=edit))) == {"UNEVEN_SPACING"}


def test_a_field_that_numbers_the_slices_splits_nothing(make_series) -> None:
    """Two slices a rotation, each rotation an acquisition: splitting by it would tear the stack into pairs."""
    folder = make_series(numbered_volume((4, 4, 12)), edit=lambda dataset, k: setattr(dataset, "AcquisitionNumber", 1 + k // 2))

    def other(dataset: Dataset) -> None:
        dataset.AcquisitionNumber = 99
        dataset.PixelData = bytes(len(dataset.PixelData))

    add_file(folder / "slice_0003.dcm", folder / "other.dcm", other)
    with pytest.raises(InconsistentSeriesError, match="AMBIGUOUS_SERIES: 1 of 12 positions"):
        read_series(folder)


def test_a_slowly_growing_distance_is_uneven_though_each_gap_is_nearly_right(make_series) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        dataset.ImagePositionPatient[2] = 2.5 * k * (1 + 0.0008 * k)

    volume = read_series(make_series(numbered_volume((4, 4, 60)), edit=edit))
    (finding,) = volume.findings
    assert (finding.code, finding.details["resampled"]) == ("UNEVEN_SPACING", True)
    assert "from its even place" in finding.message


@pytest.mark.parametrize("degrees", [0.02, 5.0, 20.0])
def test_gantry_tilt_is_named_and_kept(make_series, degrees: float) -> None:
    affine = np.diag([-0.7, -0.9, 2.5, 1.0])
    affine[1, 2] = 2.5 * np.tan(np.radians(degrees))
    folder = make_series(numbered_volume(affine=affine))
    volume = read_series(folder)
    np.testing.assert_allclose(volume.geometry.affine, affine, atol=1e-6)
    assert volume.geometry.voxel_volume_mm3 == pytest.approx(0.7 * 0.9 * 2.5)
    tilted = [finding for finding in volume.findings if finding.code == "GANTRY_TILT"]
    assert [round(finding.details["degrees"], 3) for finding in tilted] == ([degrees] if degrees > 1 else [])


def test_a_slice_shifted_sideways_is_refused(make_series) -> None:
    folder = make_series(edit=_move(2, (2.0, 0, 0)))
    assert _finding(folder, "SIDEWAYS_SHIFT").details["largest_shift_mm"] == pytest.approx(2.0)


def test_localizers_are_left_out(make_series) -> None:
    folder = make_series()

    def localizer(dataset: Dataset) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        dataset.Rows, dataset.PixelData = 2, dataset.PixelData[: 2 * dataset.Columns * 2]

    add_file(folder / "slice_0001.dcm", folder / "scout.dcm", localizer)
    volume = read_series(folder)
    assert volume.array.shape == (7, 5, 6)
    assert [finding.code for finding in volume.findings] == ["LOCALIZER"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED"]}, "DERIVED_SLICES"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "LOCALIZER"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "OTHER_OBJECTS"),
    ],
)
def test_a_single_slice_of_another_kind_is_left_out(make_series, changes: dict[str, object], code: str) -> None:
    folder = make_series()
    add_file(folder / "slice_0002.dcm", folder / "odd.dcm", lambda dataset: _set(**changes)(dataset, 0))
    volume = read_series(folder)
    assert volume.array.shape == (7, 5, 6)
    assert [finding.code for finding in volume.findings] == [code]


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda dataset, k: setattr(dataset, "PixelSpacing", [0.9, 0.7 + 0.01 * (k == 4)]), "MIXED_PIXEL_SPACING"),
        (lambda dataset, k: setattr(dataset, "FrameOfReferenceUID", f"1.2.{3 + k // 3}"), "MIXED_FRAME_OF_REFERENCE"),
        (lambda dataset, k: delattr(dataset, "ImagePositionPatient"), "MISSING_GEOMETRY"),
        (lambda dataset, k: delattr(dataset, "ImagePositionPatient") if k == 2 else None, "MISSING_GEOMETRY"),
        (lambda dataset, k: delattr(dataset, "ImageOrientationPatient"), "MISSING_GEOMETRY"),
        (lambda dataset, k: setattr(dataset, "ImageOrientationPatient", [0, 0, 0, 0, 0, 0]), "BAD_ORIENTATION"),
        (lambda dataset, k: setattr(dataset, "ImageOrientationPatient", [1, 0, 0, 0.3, 0.95, 0]), "BAD_ORIENTATION"),
        (lambda dataset, k: setattr(dataset, "PixelSpacing", [0, 0.7]), "BAD_PIXEL_SPACING"),
        (lambda dataset, k: setattr(dataset, "PixelSpacing", [-0.9, 0.7]), "BAD_PIXEL_SPACING"),
        (lambda dataset, k: delattr(dataset, "PixelSpacing"), "BAD_PIXEL_SPACING"),
        (lambda dataset, k: delattr(dataset, "RescaleSlope"), "MISSING_RESCALE"),
        (lambda dataset, k: setattr(dataset, "RescaleSlope", 0), "BAD_RESCALE"),
        (lambda dataset, k: setattr(dataset, "AnatomicalOrientationType", "QUADRUPED"), "QUADRUPED"),
    ],
)
def test_faults_that_forbid_reading(make_series, edit, code: str) -> None:
    folder = make_series(edit=edit)
    assert _codes(folder)[code] is Severity.ERROR
    with pytest.raises(InconsistentSeriesError, match=code):
        read_series(folder)


def test_position_that_is_nan(make_series) -> None:
    folder = make_series(numbered_volume(affine=np.array([[-0.7, 0, 0, 11], [0, -0.9, 0, 22], [0, 0, 2.5, 0.125], [0, 0, 0, 1]])))
    file = folder / "slice_0002.dcm"
    raw = file.read_bytes()
    assert raw.count(b"-11.0\\-22.0\\") == 1
    file.write_bytes(raw.replace(b"-11.0\\-22.0\\", b"nan  \\-22.0\\"))
    with pytest.raises(InconsistentSeriesError, match=r"MISSING_GEOMETRY.*slice_0002\.dcm"):
        read_series(folder)


@pytest.mark.parametrize(
    ("changes", "code", "severity"),
    [
        ({"SliceThickness": 5}, "SLICE_THICKNESS_DIFFERS", Severity.WARNING),
        ({"SliceThickness": 1}, "SLICE_THICKNESS_DIFFERS", Severity.WARNING),
        ({"SpacingBetweenSlices": 5}, "SPACING_BETWEEN_SLICES_WRONG", Severity.WARNING),
        ({"SpacingBetweenSlices": -2.5}, "SPACING_BETWEEN_SLICES_WRONG", Severity.WARNING),
        ({"SpacingBetweenSlices": 0}, "SPACING_BETWEEN_SLICES_WRONG", Severity.WARNING),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME1", Severity.WARNING),
        ({"LossyImageCompression": "01"}, "LOSSY_COMPRESSION", Severity.WARNING),
        ({"ImagesInAcquisition": 20}, "ENDS_MAY_BE_MISSING", Severity.WARNING),
    ],
)
def test_header_fields_that_are_not_trusted(make_series, changes, code: str, severity: Severity) -> None:
    expected = read_series(make_series(name="sound"))
    folder = make_series(edit=_set(**changes))
    assert _codes(folder) == {code: severity}
    volume = read_series(folder)
    np.testing.assert_array_equal(volume.array, expected.array)  # MONOCHROME1 too: intensities are never inverted
    np.testing.assert_array_equal(volume.geometry.affine, expected.geometry.affine)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_slices(make_series, count: int) -> None:
    folder = make_series(numbered_volume((5, 4, count)))
    assert _codes(folder) == {"TOO_FEW_SLICES": Severity.ERROR if count == 1 else Severity.WARNING}
    if count == 1:
        with pytest.raises(InconsistentSeriesError, match="not a volume"):
            read_series(folder)
    else:
        assert read_series(folder).array.shape == (5, 4, count)


def test_order_and_numbers_of_files_do_not_matter(make_series) -> None:
    expected = read_series(make_series(name="sound"))
    random = np.random.default_rng(3)
    numbers = [int(n) for n in random.permutation(6)]
    folder = make_series(edit=lambda dataset, k: setattr(dataset, "InstanceNumber", numbers[k]))
    for file, name in zip(sorted(folder.glob("*")), random.permutation(list("abcdef")), strict=True):
        file.rename(folder / str(name))
    volume = read_series(folder)
    np.testing.assert_array_equal(volume.array, expected.array)
    assert volume.source is not None
    uids = [str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in volume.source.files]
    assert tuple(uids) == volume.source.sop_instance_uids


def test_two_phases_at_the_same_positions_are_never_mixed(make_series) -> None:
    folder = make_series(edit=_set(AcquisitionNumber=3))
    late = make_series(numbered_volume().with_array(numbered_volume().array + 500), name="late", seed="late")
    series_uid = pydicom.dcmread(folder / "slice_0001.dcm").SeriesInstanceUID
    frame_uid = pydicom.dcmread(folder / "slice_0001.dcm").FrameOfReferenceUID
    edit_files(list(late.glob("*")), _set(AcquisitionNumber=12, SeriesInstanceUID=series_uid, FrameOfReferenceUID=frame_uid))
    for file in list(late.glob("*")):
        file.rename(folder / f"late_{file.name}")
    with pytest.raises(InconsistentSeriesError, match="AcquisitionNumber") as caught:
        read_series(folder)
    (finding,) = caught.value.findings
    assert [stack["differs"] for stack in finding.details["stacks"]] == ["AcquisitionNumber 3", "AcquisitionNumber 12"]
    first, second = (read_series(folder, ReadOptions(series=f"{series_uid}#{n}")) for n in (1, 2))
    np.testing.assert_array_equal(first.array + 500, second.array)
    assert len(read_series(folder, ReadOptions(series=f"{series_uid[:-2]}#2")).source.files) == 6
    with pytest.raises(InputError, match="there is no #3"):
        read_series(folder, ReadOptions(series=f"{series_uid}#3"))


def test_two_interleaved_acquisitions_are_split(make_series) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        dataset.AcquisitionNumber = 1 + k % 2
        if k % 2:
            dataset.ImagePositionPatient[2] += 0.6

    folder = make_series(numbered_volume((4, 4, 16)), edit=edit)
    with pytest.raises(InconsistentSeriesError, match="2 stacks that differ by AcquisitionNumber"):
        read_series(folder)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"NumberOfFrames": 2}, UnreadableFileError, "announces 2 frames"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, UnsupportedFormatError, "COLOUR: 6 colour images"),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, UnsupportedFormatError, "NO_INTENSITIES"),
    ],
)
def test_files_of_another_kind_are_refused_by_name(make_series, changes, error, text: str) -> None:
    with pytest.raises(error, match=text):
        read_series(make_series(edit=_set(**changes)))


def test_mosaics_that_cannot_be_cut_are_refused_and_plain_slices_with_their_name_are_not(make_series) -> None:
    """All pictures of a mosaic series have one position; slices lie one by one."""
    kind = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    plain = make_series(edit=_set(ImageType=kind), name="plain")
    assert _codes(plain) == {"MOSAIC_IN_NAME": Severity.INFO}
    np.testing.assert_array_equal(read_series(plain).array, numbered_volume().array)
    mosaics = make_series(edit=_set(ImageType=kind, ImagePositionPatient=[1, 2, 3]), name="mosaics")
    with pytest.raises(UnsupportedFormatError, match=r"MOSAIC: slice_0001\.dcm: a Siemens mosaic whose slices cannot be placed.*dcm2niix"):
        read_series(mosaics)
    with pytest.raises(UnsupportedFormatError, match="MOSAIC"):
        read_series(mosaics, ReadOptions(spacing_mm=(1, 1, 1)))


def test_a_broken_file_in_the_folder_forbids_reading(make_series) -> None:
    folder = make_series()
    (folder / "slice_0006.dcm").write_bytes(b"")  # an end slice: its absence would go unseen
    with pytest.raises(UnreadableFileError, match=r"UNREADABLE_FILE.*slice_0006\.dcm: the file is empty"):
        read_series(folder)
