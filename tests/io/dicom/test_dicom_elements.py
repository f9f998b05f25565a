from __future__ import annotations

import contextlib
import math
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset, write_file_meta_info

from medseg.io.dicom import elements, header
from medseg.io.dicom.elements import HeaderError, NotDicomError, read_elements

TAGS = {
    "Rows": 0x00280010, "SeriesInstanceUID": 0x0020000E, "ImagePositionPatient": 0x00200032, "ImageType": 0x00080008,
    "PixelSpacing": 0x00280030, "SOPInstanceUID": 0x00080018, "RescaleSlope": 0x00281053, "EchoTime": 0x00180081,
}  # fmt: skip


def _dicom_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*dicom*/**/*")) if path.is_file() and path.read_bytes()[128:132] == b"DICM"]


def test_headers_of_all_real_files_agree_with_pydicom(shared_data: Path) -> None:
    files = _dicom_files(shared_data)
    assert len(files) > 300
    for path in files:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        found = read_elements(str(path), frozenset(TAGS.values()))
        for keyword, tag in TAGS.items():
            if tag not in dataset:
                assert tag not in found.values, (path, keyword)
                continue
            raw = dataset.get_item(tag).value
            expected = raw if isinstance(raw, bytes) else None
            if expected is not None:
                assert found.values[tag] == expected, (path, keyword)
        assert found.transfer_syntax == dataset.file_meta.TransferSyntaxUID


def test_pixels_are_found_where_pydicom_finds_them(shared_data: Path) -> None:
    for path in _dicom_files(shared_data)[::7]:
        dataset = pydicom.dcmread(path)
        if "PixelData" not in dataset:
            continue
        found = read_elements(str(path), frozenset())
        data = elements.read_dataset_bytes(str(path), found.transfer_syntax)
        assert found.pixels is not None
        there = data[found.pixels.offset :]
        assert there.startswith(bytes(dataset.PixelData[:64])), path
        if found.pixels.length is not None:
            assert found.pixels.length == len(dataset.PixelData)


@pytest.mark.parametrize("cut", [140, 200, 333, 700])
def test_a_header_cut_short_is_an_error(make_series, cut: int) -> None:
    file = next(make_series().glob("*"))
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(HeaderError):
        header.read_header(str(file))


def test_a_header_longer_than_the_first_read_is_read_on(make_series) -> None:
    def edit(dataset: pydicom.Dataset, _: int) -> None:
        dataset.add_new(0x00091010, "OB", bytes(3 * elements.FIRST_BYTES))

    file = next(make_series(edit=edit).glob("*"))
    assert header.read_header(str(file)).rows == 5


@pytest.mark.parametrize(
    "content", [b"", b"not an image\n" * 50, bytes(4096), b"\x89PNG\r\n\x1a\n" + bytes(500), b"PK\x03\x04" + bytes(300)]
)
def test_other_files_are_not_dicom(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(NotDicomError):
        read_elements(str(path), frozenset())


def test_a_file_without_preamble_is_read(make_series) -> None:
    file = next(make_series().glob("*"))
    dataset = pydicom.dcmread(file)
    expected = header.read_header(str(file))
    whole = file.read_bytes()
    length = struct.unpack_from("<L", whole, 140)[0]
    file.write_bytes(whole[144 + length :])  # the data set alone: neither preamble nor group 2
    found = header.read_header(str(file))
    assert (found.rows, found.columns, found.position) == (expected.rows, expected.columns, expected.position)
    assert found.sop_instance_uid == dataset.SOPInstanceUID


def _deflated(file: Path, body: bytes) -> None:
    dataset = pydicom.dcmread(file)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(file)
    whole = file.read_bytes()
    start = 144 + struct.unpack_from("<L", whole, 140)[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    file.write_bytes(whole[:start] + packer.compress(body) + packer.flush())


def test_a_deflated_bomb_is_refused_before_it_grows(make_series, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elements, "INFLATE_FLOOR", 1 << 20)
    file = next(make_series().glob("*"))
    _deflated(file, bytes(300 << 20))
    with pytest.raises(HeaderError, match="grows beyond"):
        header.read_header(str(file))


def test_deflated_data_cut_short_is_an_error(make_series) -> None:
    file = next(make_series().glob("*"))
    dataset = pydicom.dcmread(file)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(file)
    assert header.read_header(str(file)).rows == 5
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(HeaderError, match="cut short"):
        header.read_header(str(file))


def test_sequences_nested_without_end_are_refused(make_series) -> None:
    file = next(make_series().glob("*"))
    whole = file.read_bytes()
    start = 144 + struct.unpack_from("<L", whole, 140)[0]
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    deeper = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + item
    file.write_bytes(whole[:start] + deeper * 5000)
    with pytest.raises(HeaderError, match="nested"):
        header.read_header(str(file))


@pytest.mark.parametrize("seed", range(4))
def test_spoiled_bytes_never_escape_as_foreign_errors(make_series, seed: int) -> None:
    import numpy as np

    file = next(make_series().glob("*"))
    whole = np.frombuffer(file.read_bytes(), np.uint8)
    random = np.random.default_rng(seed)
    for _ in range(150):
        spoiled = whole.copy()
        spoiled[random.integers(132, 1500, 6) % spoiled.size] = random.integers(0, 256, 6)
        file.write_bytes(spoiled.tobytes()[: int(random.integers(100, spoiled.size + 1))])
        with contextlib.suppress(HeaderError, NotDicomError, header.NotAnImageError):
            header.read_header(str(file))


def test_numbers_that_are_none_become_nan_and_never_a_guess(make_series) -> None:
    file = next(make_series().glob("*"))
    raw = file.read_bytes()
    at = raw.index(b"0.9\\0.7")
    file.write_bytes(raw[:at] + b"0,9\\1_0" + raw[at + 7 :])
    spacing = header.read_header(str(file)).pixel_spacing
    assert spacing is not None
    assert all(map(math.isnan, spacing))  # "0,9" and Python's "1_0" are no DICOM numbers


def _with_first_byte_of_vr(whole: bytes, tag: bytes, letter: bytes) -> bytes:
    at = whole.index(tag)
    return whole[: at + 4] + letter + whole[at + 5 :]


def test_a_header_with_an_unknown_vr_is_read_as_pydicom_reads_it(make_series) -> None:
    def edit(dataset: pydicom.Dataset, _: int) -> None:
        dataset.add_new(0x00091010, "LO", "private")

    file = next(make_series(edit=edit).glob("*"))
    expected = header.read_header(str(file))
    file.write_bytes(_with_first_byte_of_vr(file.read_bytes(), b"\x09\x00\x10\x10", b"Z"))
    found = header.read_header(str(file))
    assert replace(found, modified_ns=0) == replace(expected, modified_ns=0)
    assert pydicom.dcmread(file).PixelData.startswith(file.read_bytes()[found.pixels.offset :][:10])


def test_a_broken_header_that_pydicom_misreads_is_refused(make_series) -> None:
    def edit(dataset: pydicom.Dataset, _: int) -> None:
        dataset.add_new(0x00091010, "OB", bytes(range(200)) * 3)

    file = next(make_series(edit=edit).glob("*"))
    # a long value whose length is taken for a short one: what follows is read out of step
    file.write_bytes(_with_first_byte_of_vr(file.read_bytes(), b"\x09\x00\x10\x10", b"Z"))
    with pytest.raises(HeaderError):
        header.read_header(str(file))


def _write(file: Path, dataset: pydicom.Dataset, is_implicit: bool, is_little: bool = True) -> None:
    """Write a data set in an encoding, whatever its meta header names."""
    list(dataset.iterall())  # from raw bytes to values, which alone can be written in another encoding
    with DicomFileLike(file.open("wb")) as stream:
        stream.is_implicit_VR, stream.is_little_endian = False, True
        stream.write(bytes(128) + b"DICM")
        write_file_meta_info(stream, dataset.file_meta)
        stream.is_implicit_VR, stream.is_little_endian = is_implicit, is_little
        write_dataset(stream, dataset)


@pytest.mark.parametrize("is_implicit", [True, False])
def test_a_file_that_names_the_other_encoding_is_read(make_series, is_implicit: bool) -> None:
    file = next(make_series().glob("*"))
    expected = header.read_header(str(file))
    dataset = pydicom.dcmread(file)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian if is_implicit else pydicom.uid.ImplicitVRLittleEndian
    _write(file, dataset, is_implicit)
    found = header.read_header(str(file))
    for name in ("rows", "columns", "position", "orientation", "pixel_spacing", "slope", "intercept", "texts", "sop_instance_uid"):
        assert getattr(found, name) == getattr(expected, name), name
    assert file.read_bytes()[found.pixels.offset :] == dataset.PixelData


def test_sequences_of_both_kinds_are_stepped_over(make_series) -> None:
    def edit(dataset: pydicom.Dataset, _: int) -> None:
        inner, outer = pydicom.Dataset(), pydicom.Dataset()
        inner.Rows, inner.SOPInstanceUID = 999, "9.9.9"
        outer.PurposeOfReferenceCodeSequence = pydicom.Sequence([inner, inner])
        outer.Rows = 998
        dataset.ReferencedImageSequence = pydicom.Sequence([outer, pydicom.Dataset(), outer])
        dataset["ReferencedImageSequence"].is_undefined_length = True
        outer.is_undefined_length_sequence_item = True
        outer["PurposeOfReferenceCodeSequence"].is_undefined_length = True
        dataset.SourceImageSequence = pydicom.Sequence([])
        dataset["SourceImageSequence"].is_undefined_length = True

    file = next(make_series(edit=edit).glob("*"))
    found = header.read_header(str(file))
    assert (found.rows, found.columns) == (5, 7)
    assert found.sop_instance_uid == pydicom.dcmread(file).SOPInstanceUID


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"])
@pytest.mark.parametrize("size", [10, 9000, 300_000])
def test_long_values_between_the_wanted_ones_do_not_matter(make_series, syntax: str, size: int) -> None:
    file = next(make_series().glob("*"))
    expected = header.read_header(str(file))
    dataset = pydicom.dcmread(file)
    for tag, vr in ((0x00090010, "LO"), (0x00091010, "OB"), (0x00210010, "LO"), (0x00211010, "UN")):
        dataset.add_new(tag, vr, "MAKER" if vr == "LO" else bytes(size))
    inner = pydicom.Dataset()
    inner.add_new(0x00281050, "DS", "1")
    inner.Rows = 77
    dataset.SourceImageSequence = pydicom.Sequence([inner] * (size // 30))
    dataset["SourceImageSequence"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    dataset["PixelData"].VR = "OW"
    if syntax.endswith(".99"):
        dataset.save_as(file)
    else:
        _write(file, dataset, syntax == "1.2.840.10008.1.2", syntax != "1.2.840.10008.1.2.2")
    found = header.read_header(str(file))
    assert found.transfer_syntax == syntax
    for name in ("rows", "columns", "position", "orientation", "pixel_spacing", "slope", "intercept", "texts", "sop_instance_uid"):
        assert getattr(found, name) == getattr(expected, name), name
    data = elements.read_dataset_bytes(str(file), syntax)
    assert len(data) - found.pixels.offset == 5 * 7 * 2
