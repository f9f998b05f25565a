from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from grid_strategies import grids, voxels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.core.errors import GeometryError, OutputVerificationError, SingularAffineError, UnreadableFileError, UnsupportedFormatError
from medseg.core.volume import Volume
from medseg.io import metaimage
from medseg.io.metaimage import read_stored, write_metaimage

ROUND_TRIP = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

HEADER = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 10 20 30
ElementSpacing = 0.5 0.6 2.5
DimSize = 4 3 2
ElementType = MET_SHORT
ElementDataFile = LOCAL
"""
ARRAY = np.arange(24, dtype="<i2").reshape((4, 3, 2), order="F")
RAW = ARRAY.tobytes(order="F")


def written(path: Path, header: str = HEADER, data: bytes = RAW) -> Path:
    path.write_bytes(header.encode() + data)
    return path


@ROUND_TRIP
@given(data=st.data())
def test_what_we_write_simpleitk_reads(data: st.DataObject, tmp_path: Path) -> None:
    grid = data.draw(grids(sheared=False))
    array = data.draw(voxels(grid.shape))
    path = write_metaimage(Volume(array, grid), tmp_path / "x.mha", overwrite=True)
    image = sitk.ReadImage(str(path))
    values = sitk.GetArrayFromImage(image).T
    assert values.dtype == array.dtype
    np.testing.assert_array_equal(values, array)
    corner = np.array(image.TransformIndexToPhysicalPoint([n - 1 for n in grid.shape])) * (-1, -1, 1)
    np.testing.assert_allclose(corner, grid.corners_mm()[-1], atol=1e-6)


@ROUND_TRIP
@given(data=st.data(), compress=st.booleans(), suffix=st.sampled_from((".mha", ".mhd")))
def test_what_simpleitk_writes_we_read(data: st.DataObject, compress: bool, suffix: str, tmp_path: Path) -> None:
    grid = data.draw(grids(sheared=False))
    array = data.draw(voxels(grid.shape))
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin([c * s for c, s in zip(grid.origin_mm, (-1, -1, 1), strict=True)])
    image.SetDirection((grid.direction * np.array([[-1], [-1], [1]])).ravel().tolist())
    path = tmp_path / f"x{suffix}"
    sitk.WriteImage(image, str(path), compress)
    stored = read_stored(path)
    np.testing.assert_array_equal(stored.array, array)
    assert grid.distance_mm(stored.geometry) < 1e-3


@ROUND_TRIP
@given(data=st.data())
def test_our_own_round_trip_keeps_shear_and_every_voxel(data: st.DataObject, tmp_path: Path) -> None:
    grid = data.draw(grids())
    array = data.draw(voxels(grid.shape))
    stored = read_stored(write_metaimage(Volume(array, grid), tmp_path / "x.mha", overwrite=True))
    np.testing.assert_array_equal(stored.array, array)
    assert grid.distance_mm(stored.geometry) < 1e-9


def test_headers_by_hand(tmp_path: Path) -> None:
    for header, data in (
        (HEADER, RAW),
        (HEADER.replace("ElementDataFile = LOCAL", "Comment = x\nElementDataFile = LOCAL"), RAW),
        (HEADER.replace("Offset", "Position").replace("TransformMatrix", "Orientation"), RAW),
        (HEADER.replace("MSB = False", "MSB = True"), ARRAY.astype(">i2").tobytes(order="F")),
        (HEADER.replace("CompressedData = False", "CompressedData = True"), zlib.compress(RAW)),
    ):
        stored = read_stored(written(tmp_path / "x.mha", header, data))
        np.testing.assert_array_equal(stored.array, ARRAY)
        np.testing.assert_array_equal(stored.geometry.affine, [[-0.5, 0, 0, -10], [0, -0.6, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1]])


def test_data_files_and_header_sizes(tmp_path: Path) -> None:
    (tmp_path / "x.raw").write_bytes(b"12345" + RAW)
    for size in (5, -1):
        header = HEADER.replace("ElementDataFile = LOCAL", f"HeaderSize = {size}\nElementDataFile = x.raw")
        np.testing.assert_array_equal(read_stored(written(tmp_path / "x.mhd", header, b"")).array, ARRAY)


def test_a_missing_direction_is_a_finding(tmp_path: Path) -> None:
    header = HEADER.replace("TransformMatrix = 1 0 0 0 1 0 0 0 1\n", "")
    assert [finding.code for finding in read_stored(written(tmp_path / "x.mha", header)).findings] == ["ORIENTATION_UNKNOWN"]


@pytest.mark.parametrize(
    ("line", "by", "error", "words"),
    [
        ("NDims = 3", "NDims = 2", UnsupportedFormatError, "2D"),
        ("NDims = 3", "NDims = 3\nElementNumberOfChannels = 0", UnsupportedFormatError, "0 values"),
        ("ElementSpacing = 0.5 0.6 2.5\n", "", GeometryError, "ElementSpacing"),
        ("0.5 0.6 2.5", "0.5 0 2.5", SingularAffineError, "volume"),
        ("0.5 0.6 2.5", "0.5 nan 2.5", SingularAffineError, "NaN"),
        ("0.5 0.6 2.5", "0.5 2.5", UnreadableFileError, "elementspacing"),
        ("0.5 0.6 2.5", "a b c", UnreadableFileError, "elementspacing"),
        ("1 0 0 0 1 0 0 0 1", "1 0 0 0 1 0 0 1 0", SingularAffineError, "volume"),
        ("DimSize = 4 3 2", "DimSize = 4 3 0", UnreadableFileError, "impossible"),
        ("DimSize = 4 3 2", "DimSize = 4 3 2.5", UnreadableFileError, "impossible"),
        ("DimSize = 4 3 2", "DimSize = 4 3 1", UnreadableFileError, "more bytes"),
        ("DimSize = 4 3 2", "DimSize = 4 3 3", UnreadableFileError, "cut short"),
        ("DimSize = 4 3 2", "DimSize = 32767 32767 32767", UnreadableFileError, "more than"),
        ("MET_SHORT", "MET_UCHAR_ARRAY", UnsupportedFormatError, "MET_UCHAR_ARRAY"),
        ("BinaryData = True", "BinaryData = False", UnsupportedFormatError, "text"),
        ("CompressedData = False", "CompressedData = True", UnreadableFileError, "corrupted"),
        ("= LOCAL", "= ../x.raw", UnsupportedFormatError, "outside"),
        ("= LOCAL", "= /etc/passwd", UnsupportedFormatError, "outside"),
        ("= LOCAL", "= missing.raw", UnreadableFileError, "beside"),
        ("= LOCAL", "= LIST", UnsupportedFormatError, "several files"),
        ("= LOCAL", "= x%03d.raw 1 2 1", UnsupportedFormatError, "several files"),
        ("ElementDataFile = LOCAL\n", "", UnreadableFileError, "ElementDataFile"),
    ],
)
def test_damaged_headers_raise_and_say_why(tmp_path: Path, line: str, by: str, error: type[Exception], words: str) -> None:
    assert line in HEADER
    with pytest.raises(error, match=words) as caught:
        read_stored(written(tmp_path / "x.mha", HEADER.replace(line, by)))
    assert "x.mha" in str(caught.value)


@pytest.mark.parametrize("compress", [True, False])
def test_a_file_cut_short_anywhere_raises(tmp_path: Path, compress: bool) -> None:
    """SimpleITK reads some of these without a word."""
    header = HEADER.replace("CompressedData = False", f"CompressedData = {compress}")
    whole = written(tmp_path / "x.mha", header, zlib.compress(RAW) if compress else RAW).read_bytes()
    for length in range(len(whole)):
        (tmp_path / "x.mha").write_bytes(whole[:length])
        with pytest.raises((UnreadableFileError, UnsupportedFormatError)):
            read_stored(tmp_path / "x.mha")


def test_what_is_written_wrongly_is_noticed(scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = metaimage._write

    def lossy(file: object, before: bytes, after: bytes, array: np.ndarray) -> None:
        changed = array.copy(order="F")
        changed[-1, -1, -1] += 1
        honest(file, before, after, changed)  # type: ignore[arg-type]

    monkeypatch.setattr(metaimage, "_write", lossy)
    with pytest.raises(OutputVerificationError):
        write_metaimage(scan, tmp_path / "x.mha")
    assert list(tmp_path.iterdir()) == []
