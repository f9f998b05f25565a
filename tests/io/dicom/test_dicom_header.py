from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from medseg.io.dicom.find import is_dicom
from medseg.io.dicom.header import NotAnImageError, SliceHeader, read_header, read_headers

GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "StackID": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
}


def _dicom_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and is_dicom(path)]


def _of_frame(dataset: Dataset, frame: int, keyword: str) -> object:
    """The value of an attribute for one frame, as pydicom reads it: from its functional group, else from the file."""
    if "PerFrameFunctionalGroupsSequence" in dataset and keyword in GROUPS:
        own = dataset.PerFrameFunctionalGroupsSequence[frame]
        shared = dataset.get("SharedFunctionalGroupsSequence", [Dataset()])[0]
        for source in (own, shared):
            group = source.get(GROUPS[keyword])
            if group and keyword in group[0]:
                return group[0][keyword].value
        return None
    return dataset.get(keyword)


def _floats(value: object) -> tuple[float, ...] | None:
    if value is None or value == "":
        return None
    return tuple(map(float, value)) if isinstance(value, MultiValue) else (float(value),)  # type: ignore[arg-type]


def _first(value: object) -> float | None:
    found = _floats(value)
    return found[0] if found else None


def _compare(header: SliceHeader, dataset: Dataset) -> None:
    frame = header.frame
    assert header.sop_instance_uid == (dataset.SOPInstanceUID or dataset.file_meta.MediaStorageSOPInstanceUID)
    assert header.series_uid == dataset.SeriesInstanceUID
    assert header.study_uid == dataset.get("StudyInstanceUID", "")
    assert header.sop_class_uid == (dataset.SOPClassUID or dataset.file_meta.MediaStorageSOPClassUID)
    assert header.modality == dataset.get("Modality", "")
    assert header.frame_of_reference_uid == dataset.get("FrameOfReferenceUID", "")
    assert header.frame_count == int(dataset.get("NumberOfFrames", 1))
    assert (header.stored_size or (header.rows, header.columns)) == (dataset.Rows, dataset.Columns)
    assert (header.bits_allocated, header.bits_stored, header.high_bit) == (dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit)
    assert header.is_signed == bool(dataset.PixelRepresentation)
    assert header.samples == dataset.SamplesPerPixel
    assert header.photometric == dataset.PhotometricInterpretation
    assert header.transfer_syntax == dataset.file_meta.TransferSyntaxUID
    assert header.padding == dataset.get("PixelPaddingValue")
    assert header.slope == _first(_of_frame(dataset, frame, "RescaleSlope"))
    assert header.intercept == _first(_of_frame(dataset, frame, "RescaleIntercept"))
    assert header.pixel_spacing == _floats(_of_frame(dataset, frame, "PixelSpacing"))
    assert header.orientation == _floats(_of_frame(dataset, frame, "ImageOrientationPatient"))
    assert header.numbers["slice_thickness"] == _first(_of_frame(dataset, frame, "SliceThickness"))
    assert header.texts["stack_id"] == (_of_frame(dataset, frame, "StackID") or "")
    if header.tile is None:
        assert header.position == _floats(_of_frame(dataset, frame, "ImagePositionPatient"))
    if not header.is_enhanced:
        assert header.image_type == tuple(part.strip() for part in dataset.get("ImageType", [""]))
        assert header.instance_number == (None if dataset.get("InstanceNumber") is None else int(dataset.InstanceNumber))
        assert header.texts["acquisition_number"] == str(dataset.get("AcquisitionNumber", "") or "")
    echo = _of_frame(dataset, frame, "EffectiveEchoTime") if header.is_enhanced else dataset.get("EchoTime")
    assert (float(header.texts["echo_time"]) if header.texts["echo_time"] else None) == _first(echo)


def test_headers_of_every_real_file_agree_with_pydicom(shared_data: Path) -> None:
    images = frames = others = 0
    for path in _dicom_files(shared_data):
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        try:
            headers = read_headers(str(path))
        except NotAnImageError:
            assert "Rows" not in dataset or dataset.Modality in {"SEG", "RTDOSE"}, path
            others += 1
            continue
        images += 1
        frames += len(headers)
        for header in headers:
            _compare(header, dataset)
        if "PerFrameFunctionalGroupsSequence" in dataset:
            assert [header.frame for header in headers] == list(range(int(dataset.NumberOfFrames)))
    assert images > 500
    assert frames > images + 90  # two enhanced CT frames, 47 legacy, 40 ASL, 8 + 8 MR, and mosaics
    assert others > 5


PRIVATE_B_VALUES = [
    ((0x00190010, "LO", "SIEMENS MR HEADER"), (0x0019100C, "IS", "800"), "800"),
    ((0x00430010, "LO", "GEMS_PARM_01"), (0x00431039, "IS", ["1000000700", "8", "0", "0"]), "700"),
    ((0x20010010, "LO", "Philips Imaging DD 001"), (0x20011003, "FL", 1000.0), "1000"),
    ((0x00190010, "LO", "ANOTHER MAKER"), (0x0019100C, "IS", "800"), ""),
]


@pytest.mark.parametrize(("creator", "element", "expected"), PRIVATE_B_VALUES)
def test_b_values_of_older_scanners_are_read_under_their_makers_name(make_series, creator, element, expected: str) -> None:
    def edit(dataset: Dataset, _: int) -> None:
        dataset.add_new(*creator)
        dataset.add_new(*element)
        if "SIEMENS" in creator[2]:
            dataset.add_new(0x0019100E, "FD", [0.6, 0.0, -0.8])

    file = next(make_series(edit=edit).glob("*"))
    assert read_header(str(file)).texts["b_value"] == expected
    assert read_header(str(file)).texts["gradient"] == ("0.6\\0\\-0.8" if "SIEMENS" in creator[2] else "")


def test_the_standard_b_value_comes_first(make_series) -> None:
    def edit(dataset: Dataset, _: int) -> None:
        dataset.DiffusionBValue, dataset.BurnedInAnnotation = 50.0, "YES"
        dataset.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
        dataset.add_new(0x0019100C, "IS", "800")

    header = read_header(str(next(make_series(edit=edit).glob("*"))))
    assert (header.texts["b_value"], header.texts["burned_in"]) == ("50", "YES")
