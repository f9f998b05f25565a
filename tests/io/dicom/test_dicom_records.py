"""Records become the files they describe, read again by pydicom, and mistakes in them stay."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from medseg.core.errors import OutputExistsError
from medseg.io.dicom.records import SYNTAXES, write_records
from medseg.phantom.faults import FAULTS, DicomFile, RawFile
from medseg.phantom.faults.scene import stack
from medseg.phantom.faults.series import Storage, ct_series

LOSSLESS = ("explicit-little", "implicit-little", "big-endian", "deflated", "rle", "jpeg-ls", "jpeg-2000-lossless")
WITH_IMAGECODECS = ("jpeg-lossless", "jpeg-lossless-sv1", "htj2k-lossless")


def one(syntax: str = "explicit-little", **fields) -> DicomFile:
    (file,) = ct_series("records", stack()[40:41])
    return DicomFile("one.dcm", {**file.header, **fields}, file.pixels, syntax)


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_pixels_come_back_from_every_syntax(syntax, tmp_path):
    record = one(syntax)
    (path,) = write_records([record], tmp_path)
    read = pydicom.dcmread(path)
    assert read.file_meta.TransferSyntaxUID == SYNTAXES[syntax]
    np.testing.assert_array_equal(read.pixel_array, record.pixels)


@pytest.mark.parametrize("syntax", WITH_IMAGECODECS)
def test_pixels_come_back_from_jpeg(syntax, tmp_path):
    imagecodecs = pytest.importorskip("imagecodecs")
    record = one(syntax)
    (path,) = write_records([record], tmp_path)
    (frame,) = pydicom.encaps.generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1)
    decode = imagecodecs.jpeg2k_decode if syntax.startswith("htj2k") else imagecodecs.ljpeg_decode
    np.testing.assert_array_equal(decode(frame), record.pixels)


def test_lossy_jpeg_of_12_bits_is_close(tmp_path):
    imagecodecs = pytest.importorskip("imagecodecs")
    record = one("jpeg-extended")
    (path,) = write_records([record], tmp_path)
    (frame,) = pydicom.encaps.generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1)
    assert np.abs(imagecodecs.jpeg8_decode(frame).astype(int) - record.pixels).max() < 60


def test_wrong_values_stay_wrong(tmp_path):
    (path,) = write_records([one(RescaleSlope="NaN", SpacingBetweenSlices=-2.5, **{"0019,100A US": 7})], tmp_path)
    read = pydicom.dcmread(path)
    assert read.get_item("RescaleSlope").value.strip() == b"NaN"
    assert read.SpacingBetweenSlices == -2.5
    assert read[0x0019, 0x100A].value in (7, b"\x07\x00")


def test_a_file_without_preamble_begins_with_its_first_element(tmp_path):
    file = FAULTS["no-preamble"].build().files[0]
    (path,) = write_records([file], tmp_path)
    assert path.read_bytes()[:2] == b"\x08\x00"
    assert pydicom.dcmread(path, force=True).Rows == 128


def test_values_have_at_most_16_characters(tmp_path):
    (path,) = write_records([one(ImagePositionPatient=[-1 / 3, -0.0, 1e-17])], tmp_path)
    raw = pydicom.dcmread(path).get_item("ImagePositionPatient").value
    assert all(len(part.strip()) <= 16 for part in raw.split(b"\\"))
    assert b"-0\\" not in raw


def test_bytes_are_written_as_they_are(tmp_path):
    write_records([RawFile("x.nii", b"abc")], tmp_path)
    assert (tmp_path / "x.nii").read_bytes() == b"abc"
    with pytest.raises(OutputExistsError, match=r"x\.nii"):
        write_records([RawFile("x.nii", b"abc")], tmp_path)
    write_records([RawFile("x.nii", b"abcd")], tmp_path, overwrite=True)


def test_sequences_and_signed_numbers(tmp_path):
    record = FAULTS["enhanced-ct"].build().files[0]
    (path,) = write_records([record], tmp_path)
    read = pydicom.dcmread(path)
    assert len(read.PerFrameFunctionalGroupsSequence) == read.NumberOfFrames == 80
    assert read.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing == [1, 1]
    storage = Storage(is_signed=True, intercept=0.0)
    assert storage.store(np.array([-1.0, 3000.0])).tolist() == [-1, 2047]
