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
from grid_strategies import LABEL_DTYPES, grids, voxels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.core.errors import (
    OutputError,
    OutputExistsError,
    OutputVerificationError,
    SegmentError,
    SingularAffineError,
    UnreadableFileError,
    UnsupportedFormatError,
)
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.io import nifti
from medseg.io.nifti import read_nifti, read_stored, write_nifti

ROUND_TRIP = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def single(affine: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return affine.astype(np.float32).astype(np.float64)


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


# ---------------------------------------------------------------- against other readers and writers


@ROUND_TRIP
@given(data=st.data(), suffix=st.sampled_from((".nii", ".nii.gz")))
def test_what_we_write_nibabel_and_simpleitk_read(data: st.DataObject, suffix: str, tmp_path: Path) -> None:
    """Voxels exactly; the affine to single precision; SimpleITK where the grid has no shear (it refuses shear)."""
    grid = data.draw(grids())
    array = data.draw(voxels(grid.shape))
    path = write_nifti(Volume(array, grid), tmp_path / f"written{len(suffix)}{suffix}", overwrite=True)
    image = nib.load(path)
    assert image.get_data_dtype() == array.dtype
    np.testing.assert_array_equal(np.asarray(image.dataobj), array)
    np.testing.assert_array_equal(image.affine, single(grid.affine))
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(image.header.get_zooms(), grid.spacing_mm, rtol=1e-6)
    if int(image.header["qform_code"]):
        qform = Geometry(grid.shape, image.get_qform())
        assert grid.distance_mm(qform) < 0.02
    else:
        assert grid.is_sheared or grid.is_oblique
    if not grid.is_sheared:
        other = sitk.ReadImage(str(path))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(other).T, array)
        corner = np.array(other.TransformIndexToPhysicalPoint([n - 1 for n in grid.shape])) * (-1, -1, 1)
        np.testing.assert_allclose(corner, grid.corners_mm()[-1], atol=0.02)


@ROUND_TRIP
@given(data=st.data(), version=st.sampled_from((1, 2)), order=st.sampled_from("<>"), suffix=st.sampled_from((".nii", ".nii.gz")))
def test_what_nibabel_writes_we_read(data: st.DataObject, version: int, order: str, suffix: str, tmp_path: Path) -> None:
    grid = data.draw(grids())
    array = data.draw(voxels(grid.shape))
    kind = nib.Nifti1Image if version == 1 else nib.Nifti2Image
    header = kind.header_class(endianness=order)
    header.set_data_dtype(array.dtype)
    image = kind(array, grid.affine, header)
    path = tmp_path / f"x{suffix}"
    nib.save(image, path)
    volume = read_nifti(path)
    assert volume.array.dtype == array.dtype
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.T.flags.c_contiguous
    np.testing.assert_array_equal(volume.geometry.affine, nib.load(path).affine)
    assert grid.distance_mm(volume.geometry) < 1e-3


@ROUND_TRIP
@given(data=st.data())
def test_what_simpleitk_writes_we_read(data: st.DataObject, tmp_path: Path) -> None:
    grid = data.draw(grids(sheared=False))
    array = data.draw(voxels(grid.shape))
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin([c * s for c, s in zip(grid.origin_mm, (-1, -1, 1), strict=True)])
    image.SetDirection((grid.direction * np.array([[-1], [-1], [1]])).ravel().tolist())
    path = tmp_path / "x.nii.gz"
    sitk.WriteImage(image, str(path))
    volume = read_nifti(path)
    np.testing.assert_array_equal(volume.array, array)
    assert grid.distance_mm(volume.geometry) < 0.02


@ROUND_TRIP
@given(data=st.data())
def test_label_maps_come_back_equal(data: st.DataObject, tmp_path: Path) -> None:
    grid = data.draw(grids())
    array = data.draw(voxels(grid.shape, LABEL_DTYPES))
    organs = read_stored(write_nifti(Volume(array, grid), tmp_path / "x.nii.gz", overwrite=True)).to_label_map()
    np.testing.assert_array_equal(organs.array, array)
    path = write_nifti(organs, tmp_path / "y.nii.gz", overwrite=True)
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), array)


# ---------------------------------------------------------------- real scans


@pytest.mark.parametrize("case", ["ct_totalseg_organs", "mr_totalseg_organs", "ct_totalseg_body_composition", "mr_spinal_cord_t1_t2"])
def test_real_scans_have_their_known_grid_voxels_and_volumes(shared_data: Path, expected: Any, case: str) -> None:
    """Grids, probes at patient positions, and label volumes that two independent readers agreed on."""
    checked = 0
    for block in expected(case):
        if not block["file"].endswith((".nii", ".nii.gz")):
            continue
        volume = read_nifti(shared_data / case / block["file"])
        check_block(block, volume)
        checked += 1
        if "labels" in block:
            organs = read_stored(shared_data / case / block["file"]).to_label_map()
            counts = np.bincount(organs.array.reshape(-1, order="F"))
            for number, label in block["labels"].items():
                assert counts[int(number)] == label["voxels"]
                assert counts[int(number)] * organs.geometry.voxel_volume_mm3 == pytest.approx(label["volume_mm3"], rel=1e-3)
    assert checked


def check_block(block: Any, volume: Volume) -> None:
    assert volume.geometry.shape == tuple(block["shape_ijk"][:3])
    np.testing.assert_allclose(volume.geometry.affine, block["affine_ras"], atol=2e-6)
    np.testing.assert_allclose(volume.geometry.spacing_mm, block["spacing_mm"], rtol=1e-5)
    assert volume.geometry.orientation == block["orientation"]
    if "intensity" in block and len(block["shape_ijk"]) == 3:
        assert float(volume.array.min()) == pytest.approx(block["intensity"]["min"], rel=1e-6)
        assert float(volume.array.max()) == pytest.approx(block["intensity"]["max"], rel=1e-6)
        assert float(volume.array.mean(dtype=np.float64)) == pytest.approx(block["intensity"]["mean"], rel=1e-5)
    for probe in block.get("probes", ()):
        index = tuple(int(n) for n in np.rint(volume.geometry.world_to_index(probe["ras_mm"])))
        assert float(volume.array[index]) == pytest.approx(probe["value"], rel=1e-6)


@pytest.fixture
def expected(shared_data: Path) -> Any:
    import json

    def blocks(case: str) -> list[Any]:
        found = []

        def walk(node: Any) -> None:
            if isinstance(node, dict):
                if "file" in node and "affine_ras" in node:
                    found.append(node)
                for value in node.values():
                    walk(value)

        walk(json.loads((shared_data / case / "expected.json").read_text()))
        return found

    return blocks


def test_variants_are_read_and_4d_asks_for_a_choice(shared_data: Path, expected: Any) -> None:
    """Big endian, scale factors, NIfTI-2; the first volume of a 4D file is the same as nibabel's."""
    for block in expected("nifti_variants"):
        path = shared_data / "nifti_variants" / block["file"]
        if len(block["shape_ijk"]) == 3:
            check_block(block, read_nifti(path))
            continue
        with pytest.raises(UnsupportedFormatError, match="volume_index"):
            read_nifti(path)
        values = np.asarray(nib.load(path).dataobj)
        for index in (0, values.shape[3] - 1):
            volume = read_nifti(path, volume_index=index)
            np.testing.assert_allclose(volume.array, values[..., index], rtol=1e-6)
        np.testing.assert_allclose(volume.geometry.affine, block["affine_ras"], atol=2e-6)
        with pytest.raises(UnsupportedFormatError, match="volume_index goes from 0"):
            read_nifti(path, volume_index=values.shape[3])


def test_names_in_the_header_of_totalsegmentator(shared_data: Path) -> None:
    organs = read_stored(shared_data / "ct_totalseg_organs" / "labels_full.nii.gz").to_label_map()
    assert organs["liver"].number == 5
    assert organs["spleen"].rgb == (0, 255, 0)
    assert len(organs.segments) == 117


# ---------------------------------------------------------------- scaling and kinds of voxels


@pytest.mark.parametrize(
    ("stored", "slope", "intercept", "dtype"),
    [
        ("u2", 1, -1024, "i2"),
        ("i2", 1, -1024, "i2"),
        ("i2", 2, 0, "i2"),
        ("u1", 300, -5, "i4"),
        ("i2", 0.5, 0, "f4"),
        ("u1", 1, 0.25, "f4"),
        ("f4", 2, 1, "f4"),
        ("f8", 0.1, 0, "f8"),
        ("i4", 0.1, 0, "f8"),
        ("u2", -1, 0, "i4"),
    ],
)
def test_scale_factors(plain: Path, scan: Volume, tmp_path: Path, stored: str, slope: float, intercept: float, dtype: str) -> None:
    """Whole factors keep integers wherever they fit; the values are nibabel's."""
    array = np.arange(scan.array.size).reshape(scan.array.shape).astype(stored)
    if stored == "u2":
        array[0, 0, 0] = 40_000 if slope < 0 else 3_000
    path = patched(write_nifti(Volume(array, scan.geometry), tmp_path / "s.nii"), 112, "<ff", slope, intercept)
    volume = read_nifti(path)
    assert volume.array.dtype == np.dtype(dtype)
    np.testing.assert_allclose(volume.array, np.asarray(nib.load(path).dataobj), rtol=1e-6)


@pytest.mark.parametrize("slope", [0.0, float("nan"), float("inf")])
@pytest.mark.parametrize("intercept", [0.0, 5.0, float("nan")])
def test_slope_zero_or_nan_means_not_scaled(plain: Path, scan: Volume, slope: float, intercept: float) -> None:
    volume = read_nifti(patched(plain, 112, "<ff", slope, intercept))
    np.testing.assert_array_equal(volume.array, scan.array)
    assert [finding.code for finding in volume.findings] == (["SCALE_IGNORED"] if intercept == 5 or np.isinf(slope) else [])


def test_a_slope_without_an_intercept_raises(plain: Path) -> None:
    with pytest.raises(UnreadableFileError, match="intercept"):
        read_nifti(patched(plain, 112, "<ff", 2.0, float("nan")))


def test_nan_voxels_are_kept_and_counted(scan: Volume, tmp_path: Path) -> None:
    array = scan.array.astype(np.float32)
    array[1, 2, 3], array[0, 0, 0], array[4, 4, 4] = np.nan, np.inf, -np.inf
    volume = read_nifti(write_nifti(Volume(array, scan.geometry), tmp_path / "x.nii.gz"))
    np.testing.assert_array_equal(volume.array, array)
    (finding,) = volume.findings
    assert (finding.code, finding.severity.value, finding.details["count"]) == ("NON_FINITE_VOXELS", "warning", 3)


@pytest.mark.parametrize(
    ("dtype", "largest", "kept"), [("i8", 70_000, "i4"), ("u8", 3, "i4"), ("i8", 1 << 40, "i8"), ("u8", 1 << 40, "u8")]
)
def test_64_bit_integers_become_32_where_they_fit(scan: Volume, tmp_path: Path, dtype: str, largest: int, kept: str) -> None:
    array = np.zeros(scan.array.shape, dtype)
    array[1, 2, 3] = largest
    nib.save(nib.Nifti1Image(array, np.eye(4), dtype=array.dtype), tmp_path / "x.nii")
    volume = read_nifti(tmp_path / "x.nii")
    assert volume.array.dtype == np.dtype(kept)
    assert int(volume.array[1, 2, 3]) == largest


@pytest.mark.parametrize(("value", "dtype"), [(1.0000001, "u1"), (1.9999999, "u1"), (299.9995, "u2"), (70_000, "u4"), (0, "u1")])
def test_float_labels_are_rounded_not_cut(scan: Volume, tmp_path: Path, value: float, dtype: str) -> None:
    array = np.zeros(scan.array.shape, np.float64)
    array[1, 2, 3] = value
    organs = read_stored(write_nifti(Volume(array, scan.geometry), tmp_path / "x.nii")).to_label_map()
    assert organs.array.dtype == np.dtype(dtype)
    assert int(organs.array[1, 2, 3]) == round(value)


@pytest.mark.parametrize("value", [0.5, 1.002, -1, -1e-2, float("nan"), float("inf"), 1e12])
def test_what_are_no_labels_raise(scan: Volume, tmp_path: Path, value: float) -> None:
    array = np.zeros(scan.array.shape, np.float64)
    array[1, 2, 3] = value
    path = write_nifti(Volume(array, scan.geometry), tmp_path / "x.nii")
    with pytest.raises(SegmentError, match="labels"):
        read_stored(path).to_label_map()


def test_unnamed_labels_get_names_and_an_empty_map_is_fine(scan: Volume, tmp_path: Path) -> None:
    array = np.zeros(scan.array.shape, np.int16)
    assert read_stored(write_nifti(Volume(array, scan.geometry), tmp_path / "0.nii")).to_label_map().segments == ()
    array[0, 0, 0], array[1, 1, 1] = 3, 400
    organs = read_stored(write_nifti(Volume(array, scan.geometry), tmp_path / "x.nii")).to_label_map()
    assert [(segment.number, segment.label) for segment in organs.segments] == [(3, "segment_3"), (400, "segment_400")]


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
    class FullDisk(nifti.GzipWriter):
        def write(self, data: bytes | memoryview) -> None:
            if memoryview(data).nbytes != 352:
                raise OSError(28, "No space left on device")
            super().write(data)

    monkeypatch.setattr(nifti, "GzipWriter", FullDisk)
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
