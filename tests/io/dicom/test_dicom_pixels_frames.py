"""Stacks whose slices are frames of one file, tiles of a mosaic or files of their own, and what is refused before it is read."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_compressed import JPEG_LS, RLE, even, items, make_file, rle
from made_multiframe import make_enhanced
from made_series import numbered_volume

from medseg.core.errors import InconsistentSeriesError, UnreadableFileError, UnsupportedFormatError
from medseg.core.volume import Volume
from medseg.io import memory
from medseg.io.dicom import pixels
from medseg.io.dicom.codecs import missing_pixel_bytes, stored_frame
from medseg.io.dicom.find import find_series
from medseg.io.dicom.frame_file import FrameFile
from medseg.io.dicom.header import SliceHeader, read_header, read_headers
from medseg.io.dicom.pixels import read_pixels, same_pixels
from medseg.io.dicom.volume import read_series

PLAIN = "1.2.840.10008.1.2.1"


def value_at(volume: Volume, ras_mm: list[float]) -> float:
    i, j, k = np.rint(np.linalg.solve(volume.geometry.affine, [*ras_mm, 1])[:3]).astype(int)
    return float(volume.array[i, j, k])


def assert_probes(volume: Volume, probes: list[dict]) -> None:
    assert probes
    for probe in probes:
        assert value_at(volume, probe["ras_mm"]) == pytest.approx(probe["value"], abs=1e-3), probe


# ------------------------------------------------------------------ real files


@pytest.mark.parametrize("number", range(1, 10))
def test_a_real_mosaic_in_nine_encodings(shared_data: Path, tmp_path: Path, number: int) -> None:
    case = shared_data / "dicom_transfer_syntaxes_mr"
    shutil.copy(case / "dicom" / f"{number}.dcm", tmp_path)
    expected = json.loads((case / "expected.json").read_text())["reference_image"]
    volume = read_series(tmp_path)
    assert sorted(volume.array.shape) == sorted(expected["shape_ijk"])
    assert_probes(volume, expected["probes"])
    assert volume.array.mean() == pytest.approx(expected["intensity"]["mean"], abs=1e-5)


def test_real_mosaics_of_twelve_bits_in_sixteen(shared_data: Path, tmp_path: Path) -> None:
    case = shared_data / "dicom_12bit_in_16"
    for name, expected in json.loads((case / "expected.json").read_text()).items():
        if isinstance(expected, dict) and "reference_image" in expected:
            folder = tmp_path / name
            folder.mkdir()
            shutil.copy(case / "dicom" / f"{name}.dcm", folder)
            assert_probes(read_series(folder), expected["reference_image"]["probes"])


def test_a_real_ct_in_jpeg_2000(shared_data: Path) -> None:
    case = shared_data / "ct_totalseg_dicom"
    (expected,) = json.loads((case / "expected.json").read_text())["dicom"]
    volume = read_series(case / "dicom")
    assert_probes(volume, expected["probes"])
    found = expected["intensity_after_rescale"]
    assert (volume.array.min(), volume.array.max()) == (found["min"], found["max"])
    assert volume.array.mean() == pytest.approx(found["mean"], abs=1e-5)
    assert volume.array.dtype == np.int16


@pytest.mark.parametrize("folder", ["compressed_rle", "compressed_j2k", "compressed_jpegls", "compressed_jpeg"])
def test_a_real_mr_in_four_encodings(shared_data: Path, folder: str) -> None:
    case = shared_data / "dicom_compressed_mr_volume"
    expected = json.loads((case / "expected.json").read_text())
    volume = read_series(case / folder)
    assert_probes(volume, expected[folder]["probes"])
    assert_probes(volume, expected["reference_image"]["probes"])


def test_colour_slices_are_refused_as_such(shared_data: Path) -> None:
    folder = shared_data / "dicom_rgb_slices" / "dicom"
    with pytest.raises((UnsupportedFormatError, InconsistentSeriesError), match=r"(?i)colour"):
        read_series(folder)
    with pytest.raises(UnsupportedFormatError, match="colour image"):
        stored_frame(read_header(str(next(folder.iterdir()))))


# ------------------------------------------------------------------ frames of one file


def _multiframe(path: Path, syntax: str, frames: np.ndarray) -> list[SliceHeader]:
    encoders = {PLAIN: None, RLE: rle, JPEG_LS: _jpeg_ls}
    encode = encoders[syntax]
    data = frames.tobytes() if encode is None else items([encode(frame) for frame in frames])
    header = read_header(str(make_file(path, syntax, data, frames)))
    return [replace(header, frame=number, frame_count=len(frames), unusable="", position=(0, 0, number)) for number in range(len(frames))]


def _jpeg_ls(frame: np.ndarray) -> bytes:
    from jpeg_ls import encode_pixel_data

    rows, columns = frame.shape
    source = frame.astype("<u2").tobytes()
    return even(
        encode_pixel_data(source, rows=rows, columns=columns, samples_per_pixel=1, bits_stored=16, bits_allocated=16, lossy_error=0)
    )


@pytest.mark.parametrize("syntax", [PLAIN, RLE, JPEG_LS])
@pytest.mark.parametrize("threads", [1, 3, None])
def test_frames_in_any_order_each_with_its_rescale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: str, threads: int | None
) -> None:
    opened = []

    class Counted(FrameFile):
        def __init__(self, header: SliceHeader, pool: object) -> None:
            opened.append(header.path)
            super().__init__(header, pool)  # type: ignore[arg-type]

    monkeypatch.setattr(pixels, "FrameFile", Counted)
    frames = np.random.default_rng(2).integers(0, 4096, (7, 6, 5)).astype(np.uint16)
    headers = _multiframe(tmp_path / "a.dcm", syntax, frames)
    order = [4, 0, 6, 2, 2, 5]
    slices = [replace(headers[n], intercept=-1000.0 - 10 * n) for n in order]
    array, _ = read_pixels(slices, threads)
    np.testing.assert_array_equal(array, np.stack([frames[n].astype(int) - 1000 - 10 * n for n in order]))
    assert array.dtype == np.int16
    assert len(opened) == 1
    scaled, _ = read_pixels([replace(header, slope=0.5 + n) for n, header in enumerate(slices)], threads)
    expected = [frames[n] * (0.5 + at) - 1000 - 10 * n for at, n in enumerate(order)]
    np.testing.assert_array_equal(scaled, np.stack(expected).astype(np.float32))
    assert len(opened) == 2


def test_an_enhanced_file_gives_the_frames_it_names(tmp_path: Path) -> None:
    path = make_enhanced(tmp_path / "a.dcm", [{"ImagePositionPatient": [0, 0, 2.5 * (3 - n)]} for n in range(4)])
    headers = read_headers(str(path))
    array, _ = read_pixels(headers[::-1])
    assert array[:, 0, 0].tolist() == [3 - 1024, 2 - 1024, 1 - 1024, -1024]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_tiles_are_cut_from_a_frame_that_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: type) -> None:
    picture = np.random.default_rng(5).integers(0, 120, (12, 15)).astype(dtype)
    whole = read_header(str(make_file(tmp_path / "a.dcm", PLAIN, picture.tobytes(), picture)))
    tiles = [(row, column) for row in (0, 4, 8) for column in (0, 5, 10)]
    slices = [replace(whole, rows=4, columns=5, stored_size=(12, 15), tile=tile) for tile in tiles]
    calls = []
    monkeypatch.setattr(FrameFile, "frame", lambda self, *a, _old=FrameFile.frame: calls.append(1) or _old(self, *a))
    array, _ = read_pixels(slices)
    for k, (row, column) in enumerate(tiles):
        np.testing.assert_array_equal(array[k], picture[row : row + 4, column : column + 5])
        np.testing.assert_array_equal(stored_frame(slices[k]), array[k])
    assert len(calls) == 1 + len(tiles)
    with pytest.raises(UnreadableFileError, match="outside its picture"):
        stored_frame(replace(slices[0], tile=(9, 0)))
    assert not same_pixels(slices[0], slices[1])
    assert same_pixels(slices[3], slices[3])


# ------------------------------------------------------------------ types


@settings(max_examples=60, deadline=None)
@given(
    bits=st.sampled_from([(8, 8), (16, 12), (16, 16), (32, 20), (32, 32)]),
    signs=st.tuples(st.booleans(), st.booleans()),
    offsets=st.tuples(*[st.sampled_from([0, -1024, 1000, 32767, -40000])] * 3),
    seed=st.integers(0, 9),
)
def test_every_width_sign_and_intercept_gives_the_true_numbers(
    tmp_path_factory: pytest.TempPathFactory, bits: tuple[int, int], signs: tuple[bool, bool], offsets: tuple[int, ...], seed: int
) -> None:
    """Slices that fit and slices that do not, in one stack; the numbers are made with Python's integers."""
    allocated, stored = bits
    random = np.random.default_rng(seed)
    slices, expected = [], []
    for offset, is_signed in zip(offsets, (signs[0], signs[1], signs[0]), strict=True):
        low, high = (-(1 << stored - 1), (1 << stored - 1) - 1) if is_signed else (0, (1 << stored) - 1)
        span = random.choice([high, min(high, 1000)])
        values = random.integers(low if span == high else 0, span, (3, 4), endpoint=True)
        cells = values.astype(f"{'i' if is_signed else 'u'}{allocated // 8}")
        path = tmp_path_factory.mktemp("types") / "a.dcm"
        changes = {"BitsStored": stored, "HighBit": stored - 1, "RescaleSlope": 1, "RescaleIntercept": offset}
        header = read_header(str(make_file(path, PLAIN, cells.tobytes(), cells, Modality="MR", **changes)))
        slices.append(header)
        expected.append(values.astype(object) + offset)
    array, findings = read_pixels(slices)
    truth = np.stack(expected)
    assert not findings
    fits = truth.min() >= -32768 and truth.max() <= 32767
    assert (array.dtype == np.int16) == fits
    if stored < 24 or array.dtype != np.float32:
        assert (array.astype(object) == truth).all()


def test_the_volume_is_the_only_copy_of_the_pixels(make_series) -> None:
    (series,) = find_series(make_series(numbered_volume((128, 128, 60))))
    read_pixels(series.slices[:2])
    tracemalloc.start()
    array, _ = read_pixels(series.slices)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.1 * array.nbytes


# ------------------------------------------------------------------ refused before it is read


def _plain(tmp_path: Path, **changes: object) -> SliceHeader:
    values = np.zeros((6, 8), np.uint16)
    return read_header(str(make_file(tmp_path / "a.dcm", PLAIN, values.tobytes(), values, **changes)))


@pytest.mark.parametrize("change", [{"rows": 65535, "columns": 65535}, {"frame_count": 100_000}, {"rows": 7}])
def test_sizes_beyond_the_file_are_refused_before_memory_is_taken(tmp_path: Path, change: dict[str, int]) -> None:
    header = replace(_plain(tmp_path), **change)
    lack = missing_pixel_bytes(header)
    assert lack is not None
    assert lack[0] == 96
    tracemalloc.start()
    with pytest.raises(UnreadableFileError, match="96 bytes there"):
        stored_frame(header)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("change", [{"rows": 5}, {"columns": 6}, {"rows": 3, "columns": 4}])
def test_more_pixels_than_the_header_describes_are_refused(tmp_path: Path, change: dict[str, int]) -> None:
    with pytest.raises(UnreadableFileError, match="the header does not belong to these pixels"):
        stored_frame(replace(_plain(tmp_path), **change))


@pytest.mark.parametrize("change", [{"rows": 0}, {"columns": 0}, {"bits_stored": 17}, {"bits_stored": 0}, {"high_bit": 16}])
def test_headers_that_describe_nothing_are_refused(tmp_path: Path, change: dict[str, int]) -> None:
    with pytest.raises(UnreadableFileError, match=r"a\.dcm"):
        stored_frame(replace(_plain(tmp_path), **change))


@pytest.mark.parametrize("bits", [1, 12, 64])
def test_unusual_widths_are_named(tmp_path: Path, bits: int) -> None:
    with pytest.raises(UnsupportedFormatError, match=f"pixels of {bits} bits"):
        stored_frame(replace(_plain(tmp_path), bits_allocated=bits, bits_stored=bits, high_bit=bits - 1))


def test_a_volume_larger_than_the_memory_is_refused_with_need_and_have(make_series, monkeypatch: pytest.MonkeyPatch) -> None:
    (series,) = find_series(make_series())
    many = [replace(header, rows=1024, columns=1024) for header in series.slices] * 334
    monkeypatch.setattr(memory, "free_memory_bytes", lambda: 3_000_000_000)
    with pytest.raises(UnreadableFileError, match=r"1024 × 1024 × 2004 needs 4\.2 GB of memory, and 3\.0 GB are free"):
        read_pixels(many)


def test_a_file_that_changes_after_its_header_was_read(make_series) -> None:
    folder = make_series()
    (series,) = find_series(folder)
    file = folder / "slice_0003.dcm"
    file.write_bytes(file.read_bytes() + b"\0\0")
    with pytest.raises(UnreadableFileError, match=r"slice_0003\.dcm: the file changed"):
        read_pixels(series.slices)
    file.unlink()
    with pytest.raises(UnreadableFileError, match=r"slice \d of 6: .*slice_0003\.dcm: No such file"):
        read_pixels(series.slices)


# ------------------------------------------------------------------ padding


def _ct_slices(tmp_path: Path, stored: np.ndarray, **changes: object) -> list[SliceHeader]:
    header = read_header(
        str(make_file(tmp_path / "a.dcm", PLAIN, stored.tobytes(), stored, RescaleSlope=1, RescaleIntercept=-1024, **changes))
    )
    return [header, header]


def test_padding_brighter_than_air_becomes_air(tmp_path: Path) -> None:
    stored = np.full((6, 8), 1064, np.int16)
    stored[[0, 0, -1, -1, 0], [0, -1, 0, -1, 3]] = 4095
    array, findings = read_pixels([replace(header, padding=4095) for header in _ct_slices(tmp_path, stored)])
    assert (array[:, stored == 4095] == -1000).all()
    assert (array[:, stored == 1064] == 40).all()
    assert [(finding.code, finding.details["voxels"]) for finding in findings] == [("PADDING_AS_AIR", 10)]


def test_padding_inside_the_body_alone_is_left(tmp_path: Path) -> None:
    """A value that is declared as padding, but fills no corner, may be tissue."""
    stored = np.full((6, 8), 24, np.int16)
    stored[2, 2:5] = 1024
    array, findings = read_pixels([replace(header, padding=1024) for header in _ct_slices(tmp_path, stored)])
    assert (array[:, 2, 2:5] == 0).all()
    assert [finding.code for finding in findings] == ["PIXEL_PADDING"]


def test_undeclared_padding_in_the_corners_is_named(tmp_path: Path) -> None:
    stored = np.full((6, 8), 1064, np.uint16)
    stored[[0, 0, -1, -1], [0, -1, 0, -1]] = 63536
    array, findings = read_pixels(_ct_slices(tmp_path, stored))
    assert array[0, 0, 0] == 62512
    assert [(finding.code, finding.severity.value) for finding in findings] == [("PADDING_SUSPECTED", "warning")]
    assert "62512 HU" in findings[0].message
