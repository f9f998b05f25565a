from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from made_series import numbered_volume
from pydicom.dataset import Dataset

from medseg.core.errors import UnreadableFileError
from medseg.io.dicom.codecs import stored_frame
from medseg.io.dicom.find import find_series
from medseg.io.dicom.header import SliceHeader, read_header
from medseg.io.dicom.volume import inspect_series, read_series


def _whole(header: SliceHeader) -> SliceHeader:
    """The stored picture of a mosaic, not one slice of it."""
    rows, columns = header.stored_size or (header.rows, header.columns)
    return replace(header, tile=None, stored_size=None, rows=rows, columns=columns)


def test_every_transfer_syntax_of_one_ct_slice(shared_data: Path) -> None:
    case = shared_data / "dicom_transfer_syntaxes_ct"
    files = json.loads((case / "expected.json").read_text())["files"]
    reference = stored_frame(read_header(str(case / "dicom" / "CTImage.dcm"))).astype(float) - 1024
    assert len(files) == 11
    for name, expected in files.items():
        header = read_header(str(case / "dicom" / name))
        found = stored_frame(header).astype(float) - 1024
        assert (found.min(), found.max()) == (expected["min"], expected["max"]), name
        assert found.mean() == pytest.approx(expected["mean"], abs=1e-6)
        assert np.abs(found - reference).max() == expected["max_abs_difference_to_uncompressed_hu"]


def test_every_transfer_syntax_of_one_mr_picture(shared_data: Path) -> None:
    case = shared_data / "dicom_transfer_syntaxes_mr"
    expected = json.loads((case / "expected.json").read_text())
    for name in expected["files"]:
        pixels = stored_frame(_whole(read_header(str(case / "dicom" / name)))).astype("<u2")
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == expected["pixel_sha256_uint16_little_endian_row_major"], name


def test_twelve_bits_in_sixteen(shared_data: Path) -> None:
    """Signed values get their sign from bit 11, what lies in the high bits is dropped: as ITK has it."""
    case = shared_data / "dicom_12bit_in_16"
    expected = json.loads((case / "expected.json").read_text())
    for file in sorted((case / "dicom").glob("*.dcm")):
        found = stored_frame(_whole(read_header(str(file))))
        assert (found.min(), found.max()) == (expected[file.stem]["pydicom_min"], expected[file.stem]["pydicom_max"])
        np.testing.assert_array_equal(found, sitk.GetArrayFromImage(sitk.ReadImage(str(file)))[0])


def test_compressed_series_equal_each_other(shared_data: Path) -> None:
    case = shared_data / "dicom_compressed_mr_volume"
    reference = sitk.GetArrayFromImage(sitk.ReadImage(str(case / "reference.nii.gz")))
    volumes = {folder.name: read_series(folder) for folder in sorted(case.glob("compressed_*"))}
    assert len(volumes) == 4
    for volume in volumes.values():
        assert sorted(np.unique(volume.array)) == sorted(np.unique(reference))
        np.testing.assert_array_equal(volume.array, volumes["compressed_rle"].array)


@pytest.mark.parametrize("high_bit", [11, 13, 15])
@pytest.mark.parametrize("is_signed", [False, True])
def test_bits_above_and_below_the_stored_ones_are_dropped(make_series, high_bit: int, is_signed: bool) -> None:
    values = np.arange(-2048 if is_signed else 0, 2048 if is_signed else 4096, dtype=np.int64).reshape(64, 64)
    dirt = np.random.default_rng(1).integers(0, 1 << 16, values.shape)
    mask = ((1 << 12) - 1) << (high_bit - 11)
    stored = ((values << (high_bit - 11)) & mask) | (dirt & ~mask & 0xFFFF)

    def edit(dataset: Dataset, _: int) -> None:
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, high_bit, int(is_signed)
        dataset.Rows = dataset.Columns = 64
        dataset.PixelData = stored.astype("<u2").tobytes()

    file = next(make_series(edit=edit).glob("*"))
    np.testing.assert_array_equal(stored_frame(read_header(str(file))), values)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_native_layouts(make_series, syntax: str, bits: int) -> None:
    values = np.arange(35, dtype=np.int64).reshape(5, 7) * 7
    order = ">" if syntax == "1.2.840.10008.1.2.2" else "<"

    def edit(dataset: Dataset, _: int) -> None:
        dataset.BitsAllocated = dataset.BitsStored = bits
        dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0
        dataset.PixelData = values.astype(f"{order}u{bits // 8}").tobytes() + (b"\0" if bits == 8 else b"")
        dataset["PixelData"].VR = "OB" if bits == 8 and order == ">" else "OW"

    folder = make_series()
    for k, file in enumerate(sorted(folder.glob("*"))):
        dataset = pydicom.dcmread(file)
        edit(dataset, k)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
        plain = Dataset()
        plain.update(dataset)
        plain.file_meta = dataset.file_meta
        pydicom.dcmwrite(file, plain, enforce_file_format=True, implicit_vr=syntax == "1.2.840.10008.1.2", little_endian=order == "<")
    file = folder / "slice_0001.dcm"
    found = stored_frame(read_header(str(file)))
    np.testing.assert_array_equal(found, values)
    assert found.dtype == np.dtype(f"u{bits // 8}")


@pytest.mark.parametrize("missing", [1, 200, 69])
def test_pixels_cut_short_name_slice_and_bytes(make_series, missing: int) -> None:
    folder = make_series()
    file = folder / "slice_0004.dcm"
    file.write_bytes(file.read_bytes()[:-missing])
    if missing > 70:  # cut into the header
        with pytest.raises(UnreadableFileError, match=r"slice_0004\.dcm"):
            read_series(folder)
        return
    with pytest.raises(UnreadableFileError, match=rf"slice_0004\.dcm has {70 - missing} of 70 bytes"):
        read_series(folder)
    assert not inspect_series(find_series(folder)[0]).is_readable


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90"])
def test_compressed_pixels_cut_short_or_damaged_never_pass(make_series, shared_data: Path, syntax: str) -> None:
    source = next(
        path
        for path in sorted((shared_data / "dicom_transfer_syntaxes_ct" / "dicom").glob("*"))
        if read_header(str(path)).transfer_syntax == syntax
    )
    whole = source.read_bytes()
    folder = make_series()
    file = folder / "slice_0001.dcm"
    expected = stored_frame(read_header(str(source)))
    random = np.random.default_rng(5)
    for cut in (10, 100, 5000, len(whole) // 2):
        file.write_bytes(whole[:-cut])
        with pytest.raises(UnreadableFileError, match="cut short"):
            stored_frame(read_header(str(file)))
    # lost bytes inside the fragment, its length set right: only the codec can notice
    at = read_header(str(source)).pixels.offset
    first_length = int.from_bytes(whole[at + 4 : at + 8], "little")
    start = at + 8 + first_length
    length = int.from_bytes(whole[start + 4 : start + 8], "little")
    for keep in (20, length // 4 * 2, length - 2000 & ~1):
        shorter = whole[: start + 4] + keep.to_bytes(4, "little") + whole[start + 8 : start + 8 + keep] + whole[start + 8 + length :]
        file.write_bytes(shorter)
        with pytest.raises(UnreadableFileError):
            stored_frame(read_header(str(file)))
    for _ in range(10):
        spoiled = np.frombuffer(whole, np.uint8).copy()
        spoiled[random.integers(start + 8, start + 72, 3)] = random.integers(0, 256, 3)
        file.write_bytes(spoiled.tobytes())
        with contextlib.suppress(UnreadableFileError):
            assert stored_frame(read_header(str(file))).shape == expected.shape


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90"])
@pytest.mark.parametrize("size", [(511, 512), (256, 256), (600, 512), (30000, 30000)])
def test_rows_and_columns_that_disagree_with_the_codestream(make_series, shared_data: Path, syntax: str, size: tuple[int, int]) -> None:
    source = next(
        path
        for path in sorted((shared_data / "dicom_transfer_syntaxes_ct" / "dicom").glob("*"))
        if read_header(str(path)).transfer_syntax == syntax
    )
    dataset = pydicom.dcmread(source)
    dataset.Rows, dataset.Columns = size
    file = make_series() / "slice_0001.dcm"
    dataset.save_as(file)
    with pytest.raises(UnreadableFileError):
        stored_frame(read_header(str(file)))


def test_each_slice_has_its_own_rescale(make_series) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5 + 0.25 * k, 10 * k

    plain = read_series(make_series(name="plain")).array.astype(float) + 1024
    volume = read_series(make_series(edit=edit))
    slopes, intercepts = 0.5 + 0.25 * np.arange(6), 10 * np.arange(6)
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, plain * slopes + intercepts, rtol=1e-6)
    assert [finding.code for finding in volume.findings] == ["RESCALE_PER_SLICE"]


def test_integers_that_do_not_fit_int16_become_floats_without_loss(make_series) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        dataset.PixelRepresentation = 0
        dataset.PixelData = np.full((5, 7), 40000 + k, "<u2").tobytes()

    volume = read_series(make_series(edit=edit))
    assert volume.array.dtype == np.float32
    assert volume.array[0, 0].tolist() == [38976, 38977, 38978, 38979, 38980, 38981]


def test_large_integers_keep_their_digits(make_series) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        dataset.BitsAllocated = dataset.BitsStored = 32
        dataset.HighBit = 31
        dataset.RescaleIntercept = 0
        dataset.PixelData = np.full((5, 7), (1 << 30) + 1 + k, "<i4").tobytes()

    volume = read_series(make_series(edit=edit))
    assert volume.array[2, 2].tolist() == [(1 << 30) + 1 + k for k in range(6)]


def test_padding_is_left_as_stored_and_named(make_series) -> None:
    def edit(dataset: Dataset, _: int) -> None:
        dataset.add_new("PixelPaddingValue", "SS", -2000)
        pixels = np.frombuffer(dataset.PixelData, "<i2").copy()
        pixels[:3] = -2000
        dataset.PixelData = pixels.tobytes()

    volume = read_series(make_series(edit=edit))
    assert volume.array.min() == -3024
    (finding,) = volume.findings
    assert (finding.code, finding.details) == ("PIXEL_PADDING", {"voxels": 18, "value": -3024})


def test_padding_that_wraps_round_is_read_as_meant(make_series) -> None:
    """-2000 written into unsigned pixels reads as 63536: 62512 HU, denser than any metal."""

    def edit(dataset: Dataset, _: int) -> None:
        dataset.PixelRepresentation = 0
        dataset.add_new("PixelPaddingValue", "US", 63536)
        pixels = np.frombuffer(dataset.PixelData, "<u2").copy()
        pixels[:3] = 63536
        dataset.PixelData = pixels.tobytes()

    plain = read_series(make_series(name="plain")).array
    volume = read_series(make_series(edit=edit))
    assert [finding.code for finding in volume.findings] == ["PADDING_WRAPPED"]
    assert volume.array.dtype == np.int16
    assert (volume.array[:3, 0] == -3024).all()
    np.testing.assert_array_equal(volume.array[3:], plain[3:])


def test_threads_give_the_same_volume(make_series) -> None:
    folder = make_series(numbered_volume((40, 30, 20)), compressed=True)
    np.testing.assert_array_equal(read_series(folder).array, read_series(folder, threads=2).array)
