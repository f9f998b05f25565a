from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from grid_strategies import affines
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.core.errors import GeometryError, SingularAffineError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.io.nifti import read_nifti, write_nifti
from medseg.io.nifti_affine import header_fields

SHAPE = (6, 5, 4)


def saved(path: Path, sform: np.ndarray[Any, Any] | None, qform: np.ndarray[Any, Any] | None, change: Any = None) -> Path:
    """A NIfTI with exactly these two grids: nibabel's header, written as it is."""
    header = nib.Nifti1Header()
    header.set_data_shape(SHAPE)
    header.set_data_dtype(np.int16)
    header.set_xyzt_units("mm")
    header.set_sform(sform, code=1 if sform is not None else 0)
    header.set_qform(qform, code=1 if qform is not None else 0, strip_shears=True)
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    if change is not None:
        change(header)
    path.write_bytes(header.binaryblock + bytes(4) + bytes(2 * int(np.prod(SHAPE))))
    return path


def moved(affine: np.ndarray[Any, Any], r: float = 0.0, a: float = 0.0, s: float = 0.0) -> np.ndarray[Any, Any]:
    result = affine.copy()
    result[:3, 3] += (r, a, s)
    return result


AFFINE = np.array([[-0.8, 0, 0, 40], [0, 1.1, 0, -20], [0, 0, 2.5, 5], [0, 0, 0, 1]])


def test_qform_alone_and_sform_alone(tmp_path: Path) -> None:
    for name, forms in (("q.nii", (None, AFFINE)), ("s.nii", (AFFINE, None)), ("both.nii", (AFFINE, AFFINE))):
        volume = read_nifti(saved(tmp_path / name, *forms))
        np.testing.assert_allclose(volume.geometry.affine, AFFINE, atol=1e-6)
        assert [finding.code for finding in volume.findings] == (["SPACING_MISMATCH"] if name == "s.nii" else [])


def test_without_either_the_orientation_is_unknown_and_says_so(tmp_path: Path) -> None:
    def spacing(header: Any) -> None:
        header["pixdim"][1:4] = (0.8, 1.1, 2.5)

    path = saved(tmp_path / "x.nii", None, None, spacing)
    volume = read_nifti(path)
    assert [finding.code for finding in volume.findings] == ["ORIENTATION_UNKNOWN"]
    np.testing.assert_allclose(volume.geometry.affine, nib.load(path).affine, atol=1e-6)
    assert volume.geometry.voxel_volume_mm3 == pytest.approx(0.8 * 1.1 * 2.5)


@pytest.mark.parametrize(
    "qform",
    [
        moved(AFFINE, r=0.2),
        moved(AFFINE, s=-5),
        AFFINE @ np.diag([-1.0, 1, 1, 1]),
        AFFINE @ np.diag([1.0, 1, 1.02, 1]),
        AFFINE[:, [1, 0, 2, 3]],
    ],
)
def test_two_grids_that_differ_raise_and_name_both(tmp_path: Path, qform: np.ndarray[Any, Any]) -> None:
    """nibabel would take the first and ITK the second of these grids without a word."""
    path = saved(tmp_path / "x.nii", AFFINE, qform)
    with pytest.raises(GeometryError, match=r"sform and qform contradict.*xform='sform' or xform='qform'"):
        read_nifti(path)
    np.testing.assert_allclose(read_nifti(path, xform="sform").geometry.affine, AFFINE, atol=1e-5)
    np.testing.assert_allclose(read_nifti(path, xform="qform").geometry.affine, qform, atol=1e-5)


def test_differences_that_do_not_matter_are_accepted(tmp_path: Path) -> None:
    assert read_nifti(saved(tmp_path / "x.nii", AFFINE, moved(AFFINE, r=0.05))).findings == ()


def test_a_missing_choice_raises(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match="has no qform"):
        read_nifti(saved(tmp_path / "x.nii", AFFINE, None), xform="qform")


@settings(max_examples=150, deadline=None)
@given(affine=affines(sheared=False))
def test_qforms_are_read_as_nibabel_reads_them(affine: np.ndarray[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = saved(tmp_path_factory.mktemp("q") / "x.nii", None, affine)
    volume = read_nifti(path)
    header = nib.load(path).header
    expected = Geometry(SHAPE, header.get_qform())
    half_turn = 1 - sum(float(header[f"quatern_{letter}"]) ** 2 for letter in "bcd") < 4e-7  # nibabel rounds these more
    assert volume.geometry.distance_mm(expected) < (0.04 if half_turn else 1e-4)
    assert volume.geometry.voxel_volume_mm3 == pytest.approx(expected.voxel_volume_mm3, rel=1e-5)


@pytest.mark.parametrize("tilt", np.linspace(0.0, 0.06, 25))
def test_grids_near_half_a_turn_agree_with_their_own_qform(tmp_path: Path, tilt: float) -> None:
    """A head scan tilted about the left-right axis is half a turn from RAS: single precision then moves corners by 0.1 mm."""
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-0.5, -0.5, 1.0])
    affine[:3, 3] = (120, 130, -70)
    array = np.zeros((512, 512, 160), np.uint8)
    image = nib.Nifti1Image(array, affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    header_only = tmp_path / "x.nii"
    header_only.write_bytes(image.header.binaryblock + bytes(4))
    from medseg.io.nifti_affine import geometry_of
    from medseg.io.nifti_header import read_header
    from medseg.io.stream import open_stream

    with open_stream(header_only) as stream:
        geometry, _ = geometry_of(read_header(stream), (512, 512, 160), "auto", "x.nii")
    assert Geometry((512, 512, 160), affine).distance_mm(geometry) < 1e-3


@settings(max_examples=200, deadline=None)
@given(affine=affines(), shape=st.tuples(st.integers(2, 600), st.integers(2, 600), st.integers(2, 400)))
def test_the_qform_we_write_is_the_grid_or_absent(affine: np.ndarray[Any, Any], shape: tuple[int, int, int]) -> None:
    """Judged by nibabel's own arithmetic on single-precision fields."""
    grid = Geometry(shape, affine)
    fields = header_fields(grid)
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header["pixdim"] = fields["pixdim"]
    for axis, letter in enumerate("bcd"):
        header[f"quatern_{letter}"] = fields["quatern"][axis]
    for axis, letter in enumerate("xyz"):
        header[f"qoffset_{letter}"] = fields["qoffset"][axis]
    header["qform_code"] = fields["qform_code"]
    if fields["qform_code"]:
        assert grid.distance_mm(Geometry(shape, header.get_qform())) < 0.2  # nibabel itself rounds half turns
        assert not grid.is_sheared
    else:
        assert grid.is_sheared or grid.is_oblique


def test_a_sheared_grid_keeps_its_volume(tmp_path: Path) -> None:
    """Gantry tilt of 20 degrees: the product of the spacings would be 6.4 % too large."""
    affine = AFFINE.copy()
    affine[1, 2] = 2.5 * np.tan(np.radians(20))
    volume = read_nifti(write_nifti(Volume(np.zeros(SHAPE, np.int16), Geometry(SHAPE, affine)), tmp_path / "x.nii"))
    assert volume.geometry.voxel_volume_mm3 == pytest.approx(0.8 * 1.1 * 2.5, rel=1e-6)
    (finding,) = volume.findings
    assert finding.code == "SHEARED_GRID"
    assert finding.details["product_excess"] == pytest.approx(1 / np.cos(np.radians(20)) - 1, rel=1e-4)
    header = nib.load(tmp_path / "x.nii").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 1)


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1e-3), ("micron", 1e3), ("mm", 1.0)])
def test_units_become_millimetres(tmp_path: Path, unit: str, factor: float) -> None:
    stored = AFFINE.copy()
    stored[:3] *= factor
    path = saved(tmp_path / "x.nii", stored, stored, lambda header: header.set_xyzt_units(unit))
    volume = read_nifti(path)
    np.testing.assert_allclose(volume.geometry.affine, AFFINE, rtol=1e-5)
    assert [finding.code for finding in volume.findings] == ([] if unit == "mm" else ["UNIT_CONVERTED"])
    np.testing.assert_allclose(sitk.ReadImage(str(path)).GetSpacing(), volume.geometry.spacing_mm, rtol=1e-5)


@pytest.mark.parametrize("unit", ["meter", "micron"])
def test_millimetres_called_metres_raise(tmp_path: Path, unit: str) -> None:
    path = saved(tmp_path / "x.nii", AFFINE, AFFINE, lambda header: header.set_xyzt_units(unit))
    with pytest.raises(GeometryError, match="read like millimetres"):
        read_nifti(path)


def test_odd_spacings_are_findings(tmp_path: Path) -> None:
    wide = AFFINE @ np.diag([40.0, 1, 1, 1])
    assert [finding.code for finding in read_nifti(saved(tmp_path / "w.nii", wide, wide)).findings] == ["UNUSUAL_SPACING"]

    def negative(header: Any) -> None:
        header["pixdim"][2] = -1.1

    volume = read_nifti(saved(tmp_path / "n.nii", AFFINE, AFFINE, negative))
    assert [finding.code for finding in volume.findings] == ["NEGATIVE_SPACING"]
    assert volume.geometry.voxel_volume_mm3 == pytest.approx(2.2)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_a_spacing_that_is_none_raises_unless_the_sform_is_chosen(tmp_path: Path, value: float) -> None:
    def spoil(header: Any) -> None:
        header["pixdim"][3] = value

    path = saved(tmp_path / "x.nii", AFFINE, None, spoil)
    with pytest.raises(SingularAffineError, match="xform='sform'"):
        read_nifti(path)
    np.testing.assert_allclose(read_nifti(path, xform="sform").geometry.affine, AFFINE, atol=1e-6)


def test_an_impossible_quaternion_raises(tmp_path: Path) -> None:
    def spoil(header: Any) -> None:
        header["quatern_b"] = 1.5

    with pytest.raises(SingularAffineError, match="quaternion"):
        read_nifti(saved(tmp_path / "x.nii", None, AFFINE, spoil))


def test_a_single_slice_is_a_finding(tmp_path: Path) -> None:
    volume = read_nifti(write_nifti(Volume(np.zeros((4, 4, 1), np.int16), Geometry((4, 4, 1), AFFINE)), tmp_path / "x.nii"))
    assert [finding.code for finding in volume.findings] == ["SINGLE_SLICE"]
