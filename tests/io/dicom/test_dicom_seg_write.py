"""What medseg writes as SEG, read by highdicom and pydicom, and judged by dicom3tools."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from made_series import edit_files, numbered_volume

from medseg.core.codes import LEFT, Code
from medseg.core.errors import InputError, OutputVerificationError, SegmentError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap, ProbabilityMap
from medseg.core.provenance import Provenance
from medseg.core.segment import Segment
from medseg.core.volume import Source, Volume
from medseg.io.dicom import seg as seg_module
from medseg.io.dicom.seg import read_fractions, read_seg, read_seg_layers, write_seg
from medseg.io.dicom.seg_build import _decimal
from medseg.io.dicom.seg_check import measured
from medseg.io.dicom.seg_describe import stored_labels
from medseg.io.dicom.volume import read_series
from medseg.io.options import ReadOptions

OBLIQUE = np.array([[0.6, 0, 0.8 * 3, 5], [0, -0.9, 0, 6], [-0.8, 0, 0.6 * 3, 7], [0, 0, 0, 1]])

needs_dciodvfy = pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian's dicom3tools) is not installed")
needs_dcentvfy = pytest.mark.skipif(shutil.which("dcentvfy") is None, reason="dcentvfy (Debian's dicom3tools) is not installed")


@pytest.fixture
def scan(make_series) -> Volume:
    return read_series(make_series(numbered_volume((9, 7, 8), OBLIQUE)))


def layers_of(scan: Volume) -> tuple[LabelMap, LabelMap]:
    """Liver and left kidney in one layer; a lesion over the border of both in another."""
    organs = np.zeros(scan.array.shape, np.uint8)
    organs[1:4, 1:5, 2:6] = 4
    organs[5:8, 1:5, 2:6] = 9
    lesion = np.zeros(scan.array.shape, np.uint16)
    lesion[3:6, 2:4, 3:5] = 300
    return (
        LabelMap(organs, scan.geometry, (Segment(4, "liver"), Segment(9, "kidney_left"))),
        LabelMap(lesion, scan.geometry, (Segment(300, "lesion"),)),
    )


def said_by(tool: str, *files: str | Path) -> tuple[int, str]:
    done = subprocess.run([tool, *map(str, files)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_segments_that_share_voxels(scan: Volume, tmp_path: Path) -> None:
    layers = layers_of(scan)
    path = write_seg(layers, tmp_path / "x.dcm", scan)
    assert pydicom.dcmread(path).SegmentsOverlap == "YES"
    back = read_seg_layers(path)
    assert [[segment.label for segment in layer.segments] for layer in back] == [["liver", "kidney_left"], ["lesion"]]
    for ours, theirs in zip(layers, back, strict=True):
        assert theirs.geometry.matches(scan.geometry)
        for segment in ours.segments:
            np.testing.assert_array_equal(theirs.mask(segment.label), ours.mask(segment.label))
    theirs = highdicom.seg.segread(path)
    for number, (layer, label) in enumerate(((layers[0], "liver"), (layers[0], "kidney_left"), (layers[1], "lesion")), start=1):
        volume = theirs.get_volume(segment_numbers=[number])
        assert theirs.get_segment_description(number).segment_label == label
        found = np.argwhere(volume.array[..., 0]) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        expected = scan.geometry.index_to_world(np.argwhere(layer.mask(label))) * (-1, -1, 1)
        assert len(found) == len(expected)
        np.testing.assert_allclose(np.sort(found, axis=0), np.sort(expected, axis=0), atol=1e-4)


def test_layers_must_belong_together(scan: Volume, tmp_path: Path) -> None:
    organs, _ = layers_of(scan)
    with pytest.raises(SegmentError, match="give each its own"):
        write_seg((organs, organs), tmp_path / "x.dcm", scan)
    with pytest.raises(InputError, match="LABELMAP"):
        write_seg(layers_of(scan), tmp_path / "x.dcm", scan, labelmap=True)


@pytest.mark.parametrize("count", [2, 300])
def test_labelmap(scan: Volume, tmp_path: Path, count: int) -> None:
    array = np.zeros(scan.array.shape, np.uint16)
    array[2:4, 1:3, 3:5], array[6, 6, 6] = 1, count
    segments = tuple(Segment(number, f"part {number}") for number in range(1, count + 1))
    made = LabelMap(array, scan.geometry, segments)
    path = write_seg(made, tmp_path / "x.dcm", scan, labelmap=True)
    dataset = pydicom.dcmread(path)
    assert (dataset.SOPClassUID, dataset.BitsAllocated) == ("1.2.840.10008.5.1.4.1.1.66.7", 8 if count < 256 else 16)
    back = read_seg(path)
    assert back.geometry.matches(scan.geometry)
    np.testing.assert_array_equal(back.array, array)
    theirs = highdicom.seg.segread(path)
    assert list(theirs.segment_numbers) == list(range(1, count + 1))
    volume = theirs.get_volume(combine_segments=True)
    assert {int(value): int((volume.array == value).sum()) for value in (1, count)} == {1: 8, count: 1}


@pytest.mark.parametrize("kind", ["PROBABILITY", "OCCUPANCY"])
def test_fractional(scan: Volume, tmp_path: Path, kind: str) -> None:
    array = np.zeros((2, *scan.array.shape), np.float32)
    array[0, 1:4, 1:4, 2:4] = 0.25
    array[1, 2:5, 2:5, 3:6] = np.linspace(0.5, 1, 27, dtype=np.float32).reshape(3, 3, 3)
    made = ProbabilityMap(array, scan.geometry, (Segment(1, "liver"), Segment(2, "spleen")))
    path = write_seg(made, tmp_path / "x.dcm", scan, fractional=kind)
    dataset = pydicom.dcmread(path)
    assert (dataset.SegmentationType, dataset.SegmentationFractionalType, dataset.BitsAllocated) == ("FRACTIONAL", kind, 8)
    for (segment, found, geometry), wanted in zip(read_fractions(path), array, strict=True):
        assert geometry.matches(scan.geometry)
        np.testing.assert_allclose(found, wanted.T, atol=0.5 / 255 + 1e-6)
        volume = highdicom.seg.segread(path).get_volume(segment_numbers=[segment.number], rescale_fractional=True)
        assert float(volume.array.sum()) == pytest.approx(float(found.sum()), rel=1e-5)
    if shutil.which("dciodvfy"):
        code, said = said_by("dciodvfy", "-new", path)
        assert (code, "Error" in said) == (0, False)
    with pytest.raises(InputError, match="from 0 to 1"):
        write_seg(ProbabilityMap(array * 2, scan.geometry, made.segments), tmp_path / "y.dcm", scan)


@needs_dciodvfy
@needs_dcentvfy
def test_overlapping_segments_with_every_code_conform(scan: Volume, tmp_path: Path) -> None:
    organs, _ = layers_of(scan)
    segment = Segment(
        300,
        "cyst",
        type=Code("SCT", "367643001", "Cyst"),
        category=Code("SCT", "49755003", "Morphologically Altered Structure"),
        region=Code("SCT", "64033007", "Kidney"),
        region_modifier=LEFT,
        algorithm="region-growing",
    )
    lesion = LabelMap(layers_of(scan)[1].array, scan.geometry, (segment,), provenance=Provenance({"medseg": "1.2.3"}))
    path = write_seg((organs, lesion), tmp_path / "x.dcm", scan)
    code, said = said_by("dciodvfy", "-new", path)
    assert (code, "Error" in said) == (0, False)
    assert said_by("dcentvfy", path, *scan.source.files) == (0, "")


def test_every_segment_can_be_tracked_and_tells_how_it_was_made(scan: Volume, tmp_path: Path) -> None:
    organs, _ = layers_of(scan)
    segments = (
        Segment(4, "liver", algorithm="abdomen", tracking_id="liver of a study", tracking_uid="1.2.3.4"),
        Segment(9, "kidney_left", algorithm="manual"),
    )
    made = LabelMap(organs.array, scan.geometry, segments, provenance=Provenance({"medseg": "1.2.3"}, model={"version": "7"}))
    path = write_seg(made, tmp_path / "x.dcm", scan)
    dataset = pydicom.dcmread(path)
    liver, kidney = dataset.SegmentSequence
    assert (liver.TrackingID, liver.TrackingUID, kidney.TrackingID) == ("liver of a study", "1.2.3.4", "kidney_left")
    assert kidney.TrackingUID != liver.TrackingUID
    assert (liver.SegmentAlgorithmType, kidney.SegmentAlgorithmType) == ("AUTOMATIC", "MANUAL")
    identification = liver.SegmentationAlgorithmIdentificationSequence[0]
    assert (identification.AlgorithmName, identification.AlgorithmVersion) == ("abdomen", "7")
    assert identification.AlgorithmFamilyCodeSequence[0].CodeMeaning == "Artificial Intelligence"
    equipment = dataset.ContributingEquipmentSequence[0]
    assert (equipment.Manufacturer, equipment.SoftwareVersions, equipment.PurposeOfReferenceCodeSequence[0].CodeValue) == (
        "medseg",
        "1.2.3",
        "109102",
    )
    again = write_seg(read_seg(path), tmp_path / "y.dcm", scan)
    assert pydicom.dcmread(again).SegmentSequence[0].TrackingUID == "1.2.3.4"


def test_names_in_any_script_and_too_long_ones(make_series, tmp_path: Path) -> None:
    """The patient's name is in Latin-1; one Greek label turns the whole file to UTF-8."""

    def edit(dataset: pydicom.Dataset, _: int) -> None:
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.PatientName = "Müller^Jörg"
        dataset.StudyDescription = "Ärger"

    scan = read_series(make_series(edit=edit))
    array = np.zeros(scan.array.shape, np.uint8)
    array[0, 0, 0], array[1, 0, 0], array[2, 0, 0] = 1, 2, 3
    segments = (Segment(1, "ήπαρ"), Segment(2, "x" * 70), Segment(3, "x" * 64 + " other"))
    path = write_seg(LabelMap(array, scan.geometry, segments), tmp_path / "x.dcm", scan)
    dataset = pydicom.dcmread(path)
    assert (str(dataset.PatientName), dataset.StudyDescription) == ("Müller^Jörg", "Ärger")
    assert [item.SegmentLabel for item in dataset.SegmentSequence] == stored_labels(segments) == ["ήπαρ", "x" * 64, "x" * 58 + " (2)"]


def test_many_segments(make_series, tmp_path: Path) -> None:
    scan = read_series(make_series(numbered_volume((16, 16, 6))))
    array = np.zeros(scan.array.shape, np.uint8)
    array[:, :, 1:5] = np.arange(16 * 16 * 4).reshape(16, 16, 4) % 120 + 1
    made = LabelMap(array, scan.geometry, tuple(Segment(number, f"part {number}") for number in range(1, 122)))
    path = write_seg(made, tmp_path / "x.dcm", scan)
    back = read_seg(path)
    assert back.geometry.matches(scan.geometry)
    np.testing.assert_array_equal(back.array, array)
    assert len(back.segments) == 121


# ---------------------------------------------------------------- scans of other kinds


def test_frames_of_a_multiframe_scan_are_referred_to(shared_data: Path, tmp_path: Path) -> None:
    file = shared_data / "dicom_enhanced_legacy_ct" / "enhanced.dcm"
    scan = read_series(file)
    array = (scan.array > 200).astype(np.uint8)
    path = write_seg(LabelMap(array, scan.geometry, (Segment(1, "bone"),)), tmp_path / "x.dcm", scan)
    back = read_seg(path)
    assert back.geometry.matches(scan.geometry)
    np.testing.assert_array_equal(back.array, array)
    made, source = pydicom.dcmread(path), pydicom.dcmread(file)
    assert [item.ReferencedSOPInstanceUID for item in made.ReferencedSeriesSequence[0].ReferencedInstanceSequence] == [
        source.SOPInstanceUID
    ]
    for group in made.PerFrameFunctionalGroupsSequence:
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        frame = source.PerFrameFunctionalGroupsSequence[int(image.ReferencedFrameNumber) - 1]
        np.testing.assert_allclose(
            group.PlanePositionSequence[0].ImagePositionPatient, frame.PlanePositionSequence[0].ImagePositionPatient, atol=1e-3
        )


def test_planes_without_an_image_refer_to_the_series_alone(make_series, tmp_path: Path) -> None:
    folder = make_series(numbered_volume((9, 7, 8)))
    files = sorted(folder.glob("*"), key=lambda file: float(pydicom.dcmread(file).ImagePositionPatient[2]))
    files[3].unlink()
    scan = read_series(folder, ReadOptions(allow_gaps=True))
    assert scan.array.shape == (9, 7, 8)
    array = np.zeros(scan.array.shape, np.uint8)
    array[2:5, 2:5, 1:6] = 1
    path = write_seg(LabelMap(array, scan.geometry, (Segment(1, "liver"),)), tmp_path / "x.dcm", scan)
    np.testing.assert_array_equal(read_seg(path).array, array)
    frames = pydicom.dcmread(path).PerFrameFunctionalGroupsSequence
    bare = [float(group.PlanePositionSequence[0].ImagePositionPatient[2]) for group in frames if not group.DerivationImageSequence]
    assert bare == [pytest.approx(scan.geometry.origin_mm[2] + 3 * 2.5)]
    if shutil.which("dciodvfy"):
        code, said = said_by("dciodvfy", "-new", path)
        assert (code, "Error" in said) == (0, False)


def test_a_series_without_uids_is_refused_with_advice(scan: Volume, tmp_path: Path) -> None:
    organs, _ = layers_of(scan)
    for change in ({"series_uid": None}, {"sop_instance_uids": ("",) * 8}, {"files": ()}):
        values = {**vars(scan.source), **change}
        bare = Volume(scan.array, scan.geometry, source=Source(**values))
        with pytest.raises(InputError, match=r"series with UIDs.*write \.seg\.nrrd or NIfTI"):
            write_seg(organs, tmp_path / "x.dcm", bare)
    sheared = Geometry(scan.geometry.shape, scan.geometry.affine @ np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    with pytest.raises(InputError, match="right angles"):
        write_seg(organs.with_array(organs.array, sheared), tmp_path / "x.dcm", Volume(scan.array, sheared, source=scan.source))


def test_a_lossy_scan_makes_a_lossy_segmentation(make_series, tmp_path: Path) -> None:
    folder = make_series(numbered_volume((9, 7, 8)))

    def edit(dataset: pydicom.Dataset, _: int) -> None:
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionRatio = 10

    edit_files(list(folder.glob("*")), edit)
    scan = read_series(folder)
    dataset = pydicom.dcmread(write_seg(layers_of(scan)[0], tmp_path / "x.dcm", scan))
    assert (dataset.LossyImageCompression, float(dataset.LossyImageCompressionRatio)) == ("01", 10)


@pytest.mark.parametrize("value", [9.999999999999998, -0.1, 1 / 3, -123456.789012345678, 1e-17, -1.2345678901234e-120, 0.0, 2.5])
def test_numbers_fit_their_sixteen_characters(value: float) -> None:
    text = _decimal(value)
    assert len(text) <= 16
    assert float(text) == pytest.approx(value, rel=1e-8)


# ---------------------------------------------------------------- the second look


def spoil_position(dataset: pydicom.Dataset) -> None:
    """All planes a millimetre to the left: medseg's reader, given the grid, is asked as well."""
    for group in {id(group.PlanePositionSequence): group for group in dataset.PerFrameFunctionalGroupsSequence}.values():
        x, y, z = group.PlanePositionSequence[0].ImagePositionPatient
        group.PlanePositionSequence[0].ImagePositionPatient = [float(x) + 1, y, z]


def spoil_spacing(dataset: pydicom.Dataset) -> None:
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 4


def spoil_code(dataset: pydicom.Dataset) -> None:
    dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "1"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(spoil_position, "grid of the scan"), (spoil_spacing, r"ml instead of"), (spoil_code, "another code")],
)
def test_what_is_not_as_it_was_meant_never_gets_its_name(
    scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable, message: str
) -> None:
    original = seg_module._segmentation

    def spoilt(*arguments: object) -> pydicom.Dataset:
        dataset = original(*arguments)
        spoil(dataset)
        return dataset

    monkeypatch.setattr(seg_module, "_segmentation", spoilt)
    with pytest.raises(OutputVerificationError, match=message):
        write_seg(layers_of(scan)[0], tmp_path / "x.dcm", scan)
    assert not list(tmp_path.glob("*.dcm"))


def test_the_second_look_measures_what_is_there(scan: Volume, tmp_path: Path) -> None:
    layers = layers_of(scan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = measured(write_seg(layers, tmp_path / "x.dcm", scan))
    for number, (layer, label) in enumerate(((layers[0], "liver"), (layers[0], "kidney_left"), (layers[1], "lesion")), start=1):
        index = np.argwhere(layer.mask(label))
        assert found[number].volume_mm3 == pytest.approx(len(index) * scan.geometry.voxel_volume_mm3)
        np.testing.assert_allclose(found[number].centroid_mm, scan.geometry.index_to_world(index).mean(axis=0), atol=1e-4)
