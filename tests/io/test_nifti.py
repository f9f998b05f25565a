from __future__ import annotations

import struct
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
    SegmentError,
    UnreadableFileError,
    UnsupportedFormatError,
)
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
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
        with pytest.raises(UnsupportedFormatError, match="choose one from 0"):
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


def test_a_few_nan_voxels_become_the_smallest_value(scan: Volume, tmp_path: Path) -> None:
    array = scan.array.astype(np.float32)
    array[1, 2, 3], array[0, 0, 0], array[4, 4, 4] = np.nan, np.inf, -np.inf
    volume = read_nifti(write_nifti(Volume(array, scan.geometry), tmp_path / "x.nii.gz"))
    good = np.isfinite(array)
    np.testing.assert_array_equal(volume.array[good], array[good])
    assert (volume.array[~good] == array[good].min()).all()
    (finding,) = volume.findings
    assert (finding.code, finding.severity.value) == ("NON_FINITE_VOXELS", "warning")
    assert (finding.details["count"], finding.details["inside"]) == (3, 2)  # a corner is not inside anything


def test_nan_in_more_than_a_hundredth_of_the_body_raises_and_around_it_does_not(scan: Volume, tmp_path: Path) -> None:
    array = np.full((20, 20, 20), np.nan, np.float32)
    body = np.zeros(array.shape, bool)
    body[4:16, 4:16, 4:16] = True
    array[body] = np.arange(body.sum())
    grid = Geometry(array.shape, np.eye(4))
    (finding,) = read_nifti(write_nifti(Volume(array, grid), tmp_path / "around.nii")).findings
    assert (finding.details["count"], finding.details["inside"]) == (8000 - 1728, 0)
    array[6, 6:14, 6:8] = np.nan  # 16 of 1,728: less than a hundredth
    assert read_nifti(write_nifti(Volume(array, grid), tmp_path / "few.nii")).findings[0].details["inside"] == 16
    array[8, 6:14, 6:8] = np.inf
    with pytest.raises(UnreadableFileError, match="32 voxels inside the body"):
        read_nifti(write_nifti(Volume(array, grid), tmp_path / "many.nii"))
    array[:] = np.nan
    with pytest.raises(UnreadableFileError, match="no finite number"):
        read_nifti(write_nifti(Volume(array, grid), tmp_path / "all.nii"))


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
