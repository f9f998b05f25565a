"""NIfTI files that are not right, and disks that are not."""

from __future__ import annotations

import gzip
import struct
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medseg.core.errors import (
    OutputError,
    OutputExistsError,
    OutputVerificationError,
    SingularAffineError,
    UnreadableFileError,
    UnsupportedFormatError,
)
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.io import nifti
from medseg.io.nifti import read_nifti, write_nifti


def patched(source: Path, offset: int, fmt: str, *values: Any) -> Path:
    """A copy with some header bytes changed."""
    data = bytearray(source.read_bytes())
    struct.pack_into(fmt, data, offset, *values)
    target = source.with_name("patched.nii")
    target.write_bytes(bytes(data))
    return target


@pytest.fixture
def plain(scan: Volume, tmp_path: Path) -> Path:
    return write_nifti(scan, tmp_path / "plain.nii")


# ---------------------------------------------------------------- files that are not right


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_file_cut_short_anywhere_raises(scan: Volume, tmp_path: Path, suffix: str) -> None:
    data = write_nifti(scan, tmp_path / f"x{suffix}").read_bytes()
    path = tmp_path / f"cut{suffix}"
    for length in {*range(0, 400, 7), *range(400, len(data), 61), len(data) - 1}:
        path.write_bytes(data[:length])
        with pytest.raises(UnreadableFileError):
            read_nifti(path)


def test_flipped_bytes_inside_gzip_never_change_the_scan(scan: Volume, tmp_path: Path) -> None:
    data = write_nifti(scan, tmp_path / "x.nii.gz").read_bytes()
    path = tmp_path / "flipped.nii.gz"
    for position in range(10, len(data), 23):
        broken = bytearray(data)
        broken[position] ^= 0x10
        path.write_bytes(bytes(broken))
        with pytest.raises(UnreadableFileError):
            read_nifti(path)


def test_names_that_lie_about_gzip_are_read_with_a_note(scan: Volume, tmp_path: Path) -> None:
    for name, wrong in (("a.nii", "a.nii.gz"), ("b.nii.gz", "b.nii")):
        path = write_nifti(scan, tmp_path / name).rename(tmp_path / wrong)
        volume = read_nifti(path)
        np.testing.assert_array_equal(volume.array, scan.array)
        assert [finding.code for finding in volume.findings] == ["WRONG_SUFFIX"]


@pytest.mark.parametrize(
    ("offset", "fmt", "values", "error", "words"),
    [
        (344, "4s", (b"xyz\0",), UnreadableFileError, "magic"),
        (344, "4s", (b"\0\0\0\0",), UnsupportedFormatError, "ANALYZE"),
        (344, "4s", (b"n+2\0",), UnreadableFileError, "magic"),
        (0, "<i", (347,), UnreadableFileError, "damaged"),
        (40, "<hhhh", (3, 0, 8, 7), UnreadableFileError, "extents"),
        (40, "<hhhh", (3, -9, 8, 7), UnreadableFileError, "extents"),
        (40, "<h", (8,), UnreadableFileError, "extents"),
        (40, "<h", (2,), UnsupportedFormatError, "2D"),
        (40, "<hhhh", (3, 32767, 32767, 32767), UnreadableFileError, "more than"),
        (40, "<hhhh", (3, 2000, 2000, 2000), UnreadableFileError, "cut short"),
        (40, "<hhhh", (3, 9, 8, 6), UnreadableFileError, "more bytes"),
        (40, "<hhhhhh", (5, 3, 8, 7, 1, 3), UnsupportedFormatError, "3 volumes"),
        (70, "<hh", (128, 24), UnsupportedFormatError, "colours"),
        (70, "<hh", (2304, 32), UnsupportedFormatError, "colours"),
        (70, "<hh", (32, 64), UnsupportedFormatError, "complex"),
        (70, "<hh", (1, 1), UnsupportedFormatError, "one bit"),
        (70, "<hh", (99, 16), UnreadableFileError, "unknown voxel type"),
        (70, "<hh", (2, 8), UnreadableFileError, "more bytes"),
        (70, "<hh", (16, 32), UnreadableFileError, "cut short"),
        (108, "<f", (float("nan"),), UnreadableFileError, "at byte"),
        (108, "<f", (1e30,), UnreadableFileError, "at byte"),
        (108, "<f", (100.0,), UnreadableFileError, "at byte"),
        (80, "<f", (0.0,), SingularAffineError, "pixdim"),
        (88, "<f", (float("nan"),), SingularAffineError, "pixdim"),
        (280, "<f", (float("nan"),), SingularAffineError, "NaN"),
        (280, "<ffff", (0, 0, 0, 0), SingularAffineError, "volume"),
    ],
)  # fmt: skip
def test_damaged_headers_raise_and_say_why(
    plain: Path, offset: int, fmt: str, values: tuple[Any, ...], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        read_nifti(patched(plain, offset, fmt, *values))
    assert "patched.nii" in str(caught.value)


def test_a_header_that_asks_for_terabytes_takes_no_memory(plain: Path, tmp_path: Path) -> None:
    """The size is compared with what the file can hold before anything is allocated; gzip cannot grow beyond 1032 : 1."""
    import tracemalloc

    data = bytearray(plain.read_bytes())
    struct.pack_into("<hhhh", data, 40, 3, 2000, 2000, 2000)
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(bytes(data)))
    tracemalloc.start()
    with pytest.raises(UnreadableFileError, match="at most"):
        read_nifti(tmp_path / "x.nii.gz")
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_gzip_bomb_raises(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(plain.read_bytes() + bytes(30_000_000)))
    with pytest.raises(UnreadableFileError, match="more bytes than its header declares"):
        read_nifti(tmp_path / "bomb.nii.gz")


def test_reading_takes_no_second_copy(tmp_path: Path) -> None:
    import tracemalloc

    array = np.random.default_rng(0).integers(0, 500, (128, 128, 64), dtype=np.int16)
    path = write_nifti(Volume(array, Geometry(array.shape, np.eye(4))), tmp_path / "x.nii.gz")
    read_nifti(path)
    tracemalloc.start()
    volume = read_nifti(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < volume.array.nbytes + 4_000_000


def test_bitpix_that_disagrees_is_a_finding(plain: Path, scan: Volume) -> None:
    volume = read_nifti(patched(plain, 72, "<h", 8))
    np.testing.assert_array_equal(volume.array, scan.array)
    assert [finding.code for finding in volume.findings] == ["BITPIX_MISMATCH"]


def test_text_mode_transfers_of_nifti2_are_named(scan: Volume, tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(scan.array, np.eye(4)), tmp_path / "x.nii")
    data = (tmp_path / "x.nii").read_bytes().replace(b"\r\n", b"\n", 1)
    (tmp_path / "x.nii").write_bytes(data)
    with pytest.raises(UnreadableFileError, match="text mode"):
        read_nifti(tmp_path / "x.nii")


def test_pairs_are_read_and_need_both_files(scan: Volume, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(scan.array, scan.geometry.affine), tmp_path / "x.hdr")
    volume = read_nifti(tmp_path / "x.hdr")
    np.testing.assert_array_equal(volume.array, scan.array)
    assert scan.geometry.matches(volume.geometry)
    (tmp_path / "x.img").unlink()
    with pytest.raises(UnreadableFileError, match=r"x\.img is not beside it"):
        read_nifti(tmp_path / "x.hdr")


def test_extensions_are_passed_over(scan: Volume, tmp_path: Path) -> None:
    image = nib.Nifti1Image(scan.array, scan.geometry.affine)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"anything " * 100))
    nib.save(image, tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(read_nifti(tmp_path / "x.nii.gz").array, scan.array)


# ---------------------------------------------------------------- writing


def test_the_header_holds_no_text_and_the_bytes_are_always_the_same(scan: Volume, tmp_path: Path) -> None:
    first = write_nifti(scan, tmp_path / "a.nii.gz")
    second = write_nifti(scan, tmp_path / "b.nii.gz")
    assert first.read_bytes() == second.read_bytes()
    header = nib.load(first).header
    assert [bytes(header[name]).strip(b"\0") for name in ("descrip", "aux_file", "intent_name", "db_name")] == [b""] * 4
    assert len(header.extensions) == 0


def test_long_grids_are_written_as_nifti2(tmp_path: Path) -> None:
    grid = Geometry((32_768, 2, 2), np.diag([0.1234567891234, 1.0, 1.0, 1.0]))
    array = np.arange(grid.shape[0] * 4, dtype=np.int32).reshape(grid.shape)
    path = write_nifti(Volume(array, grid), tmp_path / "x.nii.gz")
    image = nib.load(path)
    assert isinstance(image, nib.Nifti2Image)
    np.testing.assert_array_equal(np.asarray(image.dataobj), array)
    np.testing.assert_array_equal(image.affine, grid.affine)
    np.testing.assert_array_equal(read_nifti(path).geometry.affine, grid.affine)


def test_half_precision_is_written_as_single(grid: Geometry, tmp_path: Path) -> None:
    array = np.full(grid.shape, 1.5, np.float16)
    assert read_nifti(write_nifti(Volume(array, grid), tmp_path / "x.nii")).array.dtype == np.float32


def test_an_existing_file_stays(scan: Volume, tmp_path: Path) -> None:
    (tmp_path / "x.nii").write_text("mine")
    with pytest.raises(OutputExistsError):
        write_nifti(scan, tmp_path / "x.nii")
    assert (tmp_path / "x.nii").read_text() == "mine"


def test_a_disk_that_forgets_bytes_is_noticed(scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole new file is read back: a lost tail, a flipped voxel and a wrong grid each stop it from getting its name."""
    honest = nifti.write_file

    def damaged(change: Any) -> Any:
        def write(path: Path, header: bytes, array: Any, compress: bool) -> None:
            honest(path, header, array, False)
            path.write_bytes(change(bytearray(path.read_bytes())))

        return write

    def flip(position: int) -> Any:
        def change(data: bytearray) -> bytearray:
            data[position] ^= 1
            return data

        return change

    changes = [lambda data: data[:-1], lambda data: data[:400], lambda data: data + b"more", flip(-1), flip(352), flip(283)]
    for change in changes:
        monkeypatch.setattr(nifti, "write_file", damaged(change))
        with pytest.raises(OutputVerificationError):
            write_nifti(scan, tmp_path / "x.nii")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_raises_and_leaves_nothing(scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Any, head: bytes, array: Any) -> None:
        file.write(head)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nifti, "write_gzipped", full)
    with pytest.raises(OutputError, match="free some space"):
        write_nifti(scan, tmp_path / "x.nii.gz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("first", "second"), [("x.nii", "x.nii.gz"), ("x.nii.gz", "x.nii")])
def test_twins_that_itk_mixes_up_are_refused(scan: Volume, tmp_path: Path, first: str, second: str) -> None:
    """SimpleITK reads x.nii.gz with the voxels of x.nii; a copy of the same scan does no harm."""
    write_nifti(scan, tmp_path / first)
    write_nifti(scan, tmp_path / second)
    other = scan.with_array(scan.array + np.int16(1))
    with pytest.raises(OutputError, match="mix the two up"):
        write_nifti(other, tmp_path / second, overwrite=True)
    (tmp_path / "x.nii").write_bytes(write_nifti(other, tmp_path / "other.nii").read_bytes())
    mixed = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "x.nii.gz"))).T
    assert (mixed == other.array).all(), "ITK no longer does this: the check can go"


def test_other_readers_have_no_complaints(organs: LabelMap, tmp_path: Path) -> None:
    path = write_nifti(organs, tmp_path / "x.nii.gz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        header = nib.load(path).header
        assert header.check_fix is not None
        assert nib.Nifti1Header.diagnose_binaryblock(header.binaryblock) == ""
