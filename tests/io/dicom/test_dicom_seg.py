from __future__ import annotations

import json
import logging
import shutil
import subprocess
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from made_series import edit_files, numbered_volume

from medseg.core.codes import ANATOMICAL_STRUCTURE, LEFT, MORPHOLOGICALLY_ABNORMAL_STRUCTURE, RIGHT, Code
from medseg.core.errors import (
    GeometryMismatchError,
    InputError,
    OutputError,
    OutputExistsError,
    OutputVerificationError,
    OverlappingSegmentsError,
    UnreadableFileError,
    UnsupportedFormatError,
)
from medseg.core.label_map import LabelMap
from medseg.core.provenance import Provenance
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.io.dicom import seg as seg_module
from medseg.io.dicom.seg import is_seg, read_seg, write_seg
from medseg.io.dicom.seg_terms import lab_from_rgb, rgb_from_lab
from medseg.io.dicom.volume import read_series

TILTED = np.array([[-0.68, 0.13, 0, 7.125], [0.13, 0.68, 0.6, -40.5], [0, 0, 2.2, 300.0625], [0, 0, 0, 1]])
OBLIQUE = np.array([[0.6, 0, 0.8 * 3, 5], [0, -0.9, 0, 6], [-0.8, 0, 0.6 * 3, 7], [0, 0, 0, 1]])

SEGMENTS = (
    Segment(63, "kidney_left", algorithm="region-growing"),
    Segment(2, "kidney_right"),
    Segment(5, "unnamed thing", colour=(1, 2, 3)),
    Segment(7, "spleen"),
    Segment(
        9,
        "cyst in the left kidney",
        category=MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
        type=Code("SCT", "367643001", "Cyst"),
        region=Code("SCT", "64033007", "Kidney"),
        region_modifier=LEFT,
    ),
)


def labelled(volume: Volume) -> LabelMap:
    """An asymmetric map; the spleen has no voxel, slices at both ends are empty."""
    labels = np.zeros(volume.array.shape, np.uint8)
    labels[1:4, 1:3, 1:4] = 63
    labels[5:7, 2:5, 2:5] = 2
    labels[0, 0, 1] = 5
    labels[2, 2, 2] = 9
    return LabelMap(labels, volume.geometry, SEGMENTS, provenance=Provenance({"medseg": "0.1.0"}))


@pytest.fixture(params=["axial", "tilted", "oblique"])
def scan(request: pytest.FixtureRequest, make_series) -> Volume:
    affine = {"axial": None, "tilted": TILTED, "oblique": OBLIQUE}[request.param]
    return read_series(make_series(numbered_volume((8, 7, 6), affine)))  # whole bytes: ITK misreads the last bits of others


def test_everything_comes_back(scan: Volume, tmp_path: Path) -> None:
    made = labelled(scan)
    path = write_seg(made, tmp_path / "organs.dcm", scan)
    back = read_seg(path)
    assert back.geometry.matches(scan.geometry)
    assert [segment.label for segment in back.segments] == [
        "kidney_right",
        "unnamed thing",
        "spleen",
        "cyst in the left kidney",
        "kidney_left",
    ]
    assert [segment.number for segment in back.segments] == [1, 2, 3, 4, 5]
    for segment in made.segments:
        np.testing.assert_array_equal(back.mask(segment.label), made.mask(segment.label))
        assert back[segment.label].colour == segment.colour
        assert back[segment.label].algorithm == segment.algorithm
    assert (back["kidney_left"].type.value, back["kidney_left"].modifier) == ("64033007", LEFT)
    assert (back["kidney_right"].type.value, back["kidney_right"].modifier) == ("64033007", RIGHT)
    assert back["unnamed thing"].type == ANATOMICAL_STRUCTURE
    cyst = back["cyst in the left kidney"]
    assert (cyst.category.value, cyst.region.value, cyst.region_modifier) == ("49755003", "64033007", LEFT)


def test_pydicom_and_itk_find_the_same_voxels_at_the_same_places(scan: Volume, tmp_path: Path) -> None:
    """Neither medseg's reader nor its geometry takes part: frames by ITK, positions by pydicom."""
    made = labelled(scan)
    path = write_seg(made, tmp_path / "organs.dcm", scan)
    frames = sitk.GetArrayFromImage(sitk.ReadImage(str(path))) > 0
    dataset = pydicom.dcmread(path)
    np.testing.assert_array_equal(frames, dataset.pixel_array > 0)
    plane = dataset.SharedFunctionalGroupsSequence[0]
    axes = np.asarray(plane.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    row_mm, column_mm = map(float, plane.PixelMeasuresSequence[0].PixelSpacing)
    points: dict[int, list[np.ndarray]] = {}
    for frame, groups in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        start = np.asarray(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        j, i = np.nonzero(frame)
        world = start + i[:, None] * axes[0] * column_mm + j[:, None] * axes[1] * row_mm
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        points.setdefault(number, []).append(world * (-1, -1, 1))
    for number, item in enumerate(dataset.SegmentSequence, start=1):
        found = np.concatenate(points.get(number, [np.zeros((0, 3))]))
        expected = scan.geometry.index_to_world(np.argwhere(made.mask(item.SegmentLabel)))
        assert len(found) == len(expected)
        if len(found):
            np.testing.assert_allclose(found.mean(axis=0), expected.mean(axis=0), atol=1e-6)
            np.testing.assert_allclose(np.sort(found, axis=0), np.sort(expected, axis=0), atol=1e-6)
    kidney = next(item for item in dataset.SegmentSequence if item.SegmentLabel == "kidney_left")
    kind = kidney.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeMeaning, kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning) == ("Kidney", "Left")


def test_highdicom_reads_the_same(make_series, tmp_path: Path) -> None:
    scan = read_series(make_series(numbered_volume((9, 7, 6), OBLIQUE)))
    made = labelled(scan)
    theirs = highdicom.seg.segread(write_seg(made, tmp_path / "x.dcm", scan))
    for number, segment in enumerate(made.segments, start=1):
        volume = theirs.get_volume(segment_numbers=[number], combine_segments=True, relabel=True)
        affine = np.diag([-1, -1, 1, 1]) @ volume.affine  # of (k, j, i)
        expected = np.argwhere(made.mask(segment.label))
        found = np.argwhere(volume.array > 0)
        assert len(found) == len(expected)
        world = found @ affine[:3, :3].T + affine[:3, 3]
        np.testing.assert_allclose(np.sort(world, axis=0), np.sort(scan.geometry.index_to_world(expected), axis=0), atol=1e-4)


def test_the_file_refers_to_its_source_and_copies_patient_and_study(make_series, tmp_path: Path) -> None:
    scan = read_series(make_series())
    dataset = pydicom.dcmread(write_seg(labelled_small(scan), tmp_path / "x.dcm", scan))
    source = pydicom.dcmread(scan.source.files[0])
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate"):
        assert dataset[keyword].value == source[keyword].value
    assert dataset.SeriesInstanceUID != source.SeriesInstanceUID
    referenced = {item.ReferencedSOPInstanceUID for item in dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert referenced == set(scan.source.sop_instance_uids)


def labelled_small(scan: Volume) -> LabelMap:
    labels = np.zeros(scan.array.shape, np.uint8)
    labels[1:3, 1:3, 1:3] = 1
    return LabelMap(labels, scan.geometry, (Segment(1, "liver"),))


def test_empty_frames_are_left_out_and_the_grid_comes_back_whole(make_series, tmp_path: Path) -> None:
    """Only the first and the last plane are stored though they are empty; two planes between do not touch any other."""
    scan = read_series(make_series(numbered_volume((9, 7, 12))))
    labels = np.zeros(scan.array.shape, np.uint8)
    labels[1:3, 1:3, 2:4] = 1
    labels[4:6, 1:3, 8] = 1
    made = LabelMap(labels, scan.geometry, (Segment(1, "liver"), Segment(2, "spleen")))
    path = write_seg(made, tmp_path / "x.dcm", scan)
    assert int(pydicom.dcmread(path).NumberOfFrames) == 6  # three of the liver, the ends, one of the empty spleen
    for back in (read_seg(path), read_seg(path, scan.geometry)):
        assert back.geometry.matches(scan.geometry)
        np.testing.assert_array_equal(back.mask("liver"), made.mask("liver"))
        assert not back.mask("spleen").any()


def test_a_map_without_a_voxel(make_series, tmp_path: Path) -> None:
    scan = read_series(make_series())
    empty = LabelMap(np.zeros(scan.array.shape, np.uint8), scan.geometry, (Segment(1, "liver"),))
    back = read_seg(write_seg(empty, tmp_path / "x.dcm", scan))
    assert not back.array.any()
    assert [segment.label for segment in back.segments] == ["liver"]


def test_what_cannot_be_written(make_series, tmp_path: Path) -> None:
    folder = make_series()
    scan = read_series(folder)
    made = labelled_small(scan)
    with pytest.raises(GeometryMismatchError, match="not on the grid"):
        write_seg(LabelMap(made.array[:-1], made.geometry.cropped((0, 0, 0), (6, 5, 6)), made.segments), tmp_path / "x.dcm", scan)
    moved = made.geometry.cropped((1, 0, 0), made.geometry.shape)
    with pytest.raises(GeometryMismatchError, match=r"0\.7 mm apart"):
        write_seg(made.with_array(made.array, moved), tmp_path / "x.dcm", scan)
    with pytest.raises(InputError, match="refers to the images"):
        write_seg(made, tmp_path / "x.dcm", numbered_volume())
    with pytest.raises(InputError, match="at least one"):
        write_seg(LabelMap(np.zeros_like(made.array), made.geometry, ()), tmp_path / "x.dcm", scan)
    (tmp_path / "there.dcm").write_text("x")
    with pytest.raises(OutputExistsError):
        write_seg(made, tmp_path / "there.dcm", scan)
    write_seg(made, tmp_path / "there.dcm", scan, overwrite=True)
    assert is_seg(tmp_path / "there.dcm")
    edit_files(sorted(folder.glob("*"))[:1], lambda dataset, k: setattr(dataset, "SOPInstanceUID", "1.2.3"))
    with pytest.raises(InputError, match="changed since"):
        write_seg(made, tmp_path / "x.dcm", scan)
    next(folder.glob("*")).unlink()
    with pytest.raises(InputError, match="cannot be read any more"):
        write_seg(made, tmp_path / "x.dcm", scan)
    assert not (tmp_path / "x.dcm").exists()


def test_source_files_that_lack_something_give_a_message_without_the_patient(make_series, tmp_path: Path) -> None:
    def edit(dataset: pydicom.Dataset, _: int) -> None:
        dataset.PatientName = "ZZCANARY^NAME"
        del dataset.StudyInstanceUID

    scan = read_series(make_series(edit=edit))
    with pytest.raises(OutputError) as caught:
        write_seg(labelled_small(scan), tmp_path / "x.dcm", scan)
    assert "ZZCANARY" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert not list(tmp_path.glob("*.dcm"))


def _with_bytes(file: Path, old: bytes, new: bytes) -> None:
    raw = file.read_bytes()
    assert old in raw
    assert len(old) == len(new)
    file.write_bytes(raw.replace(old, new))


def test_source_headers_with_invalid_values_still_give_a_segmentation(make_series, tmp_path: Path) -> None:
    """De-identified files often hold what the standard forbids: a word for a date, an identifier that is too long."""

    def edit(dataset: pydicom.Dataset, _: int) -> None:
        dataset.PatientBirthDate = "19011224"
        dataset["StudyID"]._value = "more than sixteen characters"

    folder = make_series(edit=edit)
    for file in folder.glob("*"):
        _with_bytes(file, b"19011224", b"REMOVED ")
    scan = read_series(folder)
    path = write_seg(labelled_small(scan), tmp_path / "x.dcm", scan)
    dataset = pydicom.dcmread(path)
    assert dataset.get_item("PatientBirthDate").value == b""
    assert dataset.get_item("StudyID").value == b"more than sixteen characters"


def test_what_pydicom_says_about_a_bad_header_is_not_passed_on(make_series, tmp_path: Path, caplog, capfd) -> None:
    """pydicom warns and logs with the value in the text."""
    scan = read_series(make_series())
    path = write_seg(labelled_small(scan), tmp_path / "x.dcm", scan)
    uid = str(pydicom.dcmread(path).SeriesInstanceUID).encode()
    _with_bytes(path, uid, b"ZZCANARY" + uid[8:])
    with caplog.at_level(logging.DEBUG):
        read_seg(path)
    assert "ZZCANARY" not in caplog.text + "".join(capfd.readouterr())
    with pytest.warns(UserWarning, match="ZZCANARY"):  # what would have been said
        str(pydicom.dcmread(path).SeriesInstanceUID)


@pytest.mark.parametrize("what", ["voxels", "side", "name"])
def test_what_reads_back_wrong_never_gets_its_name(make_series, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    scan = read_series(make_series())
    made = LabelMap(labelled_small(scan).array, scan.geometry, (Segment(1, "kidney_left"),))
    original = seg_module._segmentation

    def spoil(*arguments: object) -> pydicom.Dataset:
        dataset = original(*arguments)
        item = dataset.SegmentSequence[0]
        if what == "voxels":
            dataset.PixelData = bytes([dataset.PixelData[0] ^ 1]) + dataset.PixelData[1:]
        elif what == "side":
            kind = item.SegmentedPropertyTypeCodeSequence[0]
            kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue = RIGHT.value
        else:
            item.SegmentLabel = "kidney_right"
        return dataset

    monkeypatch.setattr(seg_module, "_segmentation", spoil)
    with pytest.raises(OutputVerificationError, match=r"kidney_left"):
        write_seg(made, tmp_path / "x.dcm", scan)
    assert not (tmp_path / "x.dcm").exists()


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian's dicom3tools) is not installed")
def test_the_file_conforms_to_the_standard(scan: Volume, tmp_path: Path) -> None:
    path = write_seg(labelled(scan), tmp_path / "organs.dcm", scan)
    said = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    assert said.returncode == 0
    assert "Error" not in said.stdout + said.stderr
    entities = subprocess.run(["dcentvfy", str(path), *scan.source.files], capture_output=True, text=True, check=False)
    assert (entities.returncode, entities.stdout + entities.stderr) == (0, "")


def test_real_scan_with_organs(shared_data: Path, tmp_path: Path) -> None:
    """A real CT has gaps in its attributes that a phantom has not; this one names no series, so no SEG can refer to it."""
    scan = read_series(shared_data / "ct_totalseg_dicom")
    labels = LabelMap(np.zeros(scan.array.shape, np.uint8), scan.geometry, (Segment(1, "liver"),))
    with pytest.raises(InputError, match="with UIDs"):
        write_seg(labels, tmp_path / "x.dcm", scan)


@pytest.mark.parametrize(
    "folder", ["tumour_sts_002/dicom/CT", "tumour_sts_002/dicom/MR_T1", "dicom_seg_qin_prostate/adc", "dicom_seg_dcmqi_ct/ct"]
)
def test_real_scans(shared_data: Path, tmp_path: Path, folder: str) -> None:
    scan = read_series(shared_data / folder)
    threshold = np.percentile(scan.array, 97)
    labels = (scan.array > threshold).astype(np.uint8)
    labels[: scan.array.shape[0] // 2][labels[: scan.array.shape[0] // 2] > 0] = 2
    made = LabelMap(labels, scan.geometry, (Segment(1, "kidney_left"), Segment(2, "kidney_right")))
    path = write_seg(made, tmp_path / "x.dcm", scan)
    back = read_seg(path)
    np.testing.assert_array_equal(back.array, made.array)
    assert back.geometry.matches(scan.geometry)
    if shutil.which("dciodvfy"):  # what is wrong with patient and study in the source is copied, nothing is added
        assert errors_by_dciodvfy(path) <= errors_by_dciodvfy(scan.source.files[0])


def errors_by_dciodvfy(path: str | Path) -> set[str]:
    said = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    return {line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")}


@pytest.mark.parametrize(
    ("case", "file", "key", "reference"),
    [
        ("dicom_seg_dcmqi_ct", "liver_seg.dcm", "liver_seg.dcm", "liver_seg.nrrd"),
        ("dicom_seg_dcmqi_small", "seg/label.seg.dcm", "seg", "label.nrrd"),
        ("dicom_seg_dcmqi_small", "sparse-labelmap-ppv5.dcm", "sparse_labelmap", "sparse_labelmap_ppv5_seg.nrrd"),
    ],
)
def test_segmentations_by_dcmqi(shared_data: Path, case: str, file: str, key: str, reference: str) -> None:
    folder = shared_data / case
    expected = json.loads((folder / "expected.json").read_text())[key]
    found = read_seg(folder / file)
    image = sitk.ReadImage(str(folder / reference))
    np.testing.assert_array_equal(found.array.T, sitk.GetArrayFromImage(image) == 1)  # dcmqi fills absent frames with padding
    for index in np.ndindex(2, 2, 2):
        x, y, z = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(found.geometry.index_to_world(index), (-x, -y, z), atol=1e-3)
    for described in expected["segments"]:
        if described["number"]:
            mask = found.mask(described["label"])
            assert mask.sum() == described["voxels"]
            assert mask.sum() * found.geometry.voxel_volume_mm3 / 1000 == pytest.approx(described["volume_ml"], rel=1e-5)


def test_overlapping_segments_are_refused_by_name(shared_data: Path) -> None:
    with pytest.raises(OverlappingSegmentsError, match="Peripheral zone of the prostate"):
        read_seg(shared_data / "dicom_seg_qin_prostate" / "seg.dcm")


def test_what_is_no_segmentation(make_series, shared_data: Path, tmp_path: Path) -> None:
    folder = make_series()
    file = next(folder.glob("*"))
    assert not is_seg(file)
    with pytest.raises(UnsupportedFormatError, match="not a DICOM segmentation"):
        read_seg(file)
    with pytest.raises(InputError, match="there are 0"):
        read_seg(folder)
    with pytest.raises(UnreadableFileError, match="no such file"):
        read_seg(tmp_path / "missing.dcm")
    assert read_seg(shared_data / "dicom_seg_dcmqi_ct").segments[0].label == "Liver"  # the only one in a folder


@pytest.mark.parametrize("seed", range(3))
def test_spoiled_segmentations_never_escape_as_foreign_errors(make_series, tmp_path: Path, seed: int) -> None:
    scan = read_series(make_series())
    whole = np.frombuffer(write_seg(labelled_small(scan), tmp_path / "x.dcm", scan).read_bytes(), np.uint8)
    random = np.random.default_rng(seed)
    spoiled_file = tmp_path / "y.dcm"
    from medseg.core.errors import MedsegError

    refused = 0
    for attempt in range(25):
        spoiled = whole.copy()
        spoiled[random.integers(400, spoiled.size, 4)] = random.integers(0, 256, 4)
        spoiled_file.write_bytes(spoiled.tobytes()[: spoiled.size - (attempt % 5) * 300])
        try:
            read_seg(spoiled_file)
        except MedsegError:
            refused += 1
    assert refused


def test_fractions_of_one_bit_are_refused(make_series, tmp_path: Path) -> None:
    scan = read_series(make_series())
    path = write_seg(labelled_small(scan), tmp_path / "x.dcm", scan)
    dataset = pydicom.dcmread(path)
    dataset.SegmentationType = "FRACTIONAL"
    dataset.save_as(path)
    with pytest.raises(UnsupportedFormatError, match="FRACTIONAL"):
        read_seg(path)


def test_colours_go_to_cielab_and_back() -> None:
    for colour in ((0, 0, 0), (255, 255, 255), (255, 0, 0), (12, 200, 90), (128, 128, 128), (3, 4, 250)):
        assert rgb_from_lab(lab_from_rgb(colour)) == colour
    # CIELab (D50) of pure sRGB red, as published: L 54.29, a 80.81, b 69.89
    lightness, a, b = lab_from_rgb((255, 0, 0))
    assert lightness * 100 / 65535 == pytest.approx(54.29, abs=0.02)
    assert a * 255 / 65535 - 128 == pytest.approx(80.81, abs=0.05)
    assert b * 255 / 65535 - 128 == pytest.approx(69.89, abs=0.05)
