"""The rows N1 to N15 and L1 of the catalogue of faults, for NIfTI-1, NIfTI-2, pairs, NRRD and MetaImage."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from made_files import AFFINE, SHAPE, SPACING, VOXELS, metaimage, nrrd, saved

import medseg.io
from medseg.core.errors import GeometryError, MedsegError, SegmentError, SeveralVolumesError, UnreadableFileError, UnsupportedFormatError
from medseg.core.finding import Severity
from medseg.io import metaimage as metaimages
from medseg.io import nrrd as nrrds
from medseg.io.file_codes import CODES, REFUSALS
from medseg.io.nifti import read_nifti, read_stored
from medseg.io.several import volume_count

VARIANTS = [(".nii", 1, "<"), (".nii.gz", 1, ">"), (".nii.gz", 2, "<"), (".nii", 2, ">"), (".hdr", 1, "<"), (".hdr", 2, ">")]
VOXEL_ML = 0.8 * 1.1 * 2.5 / 1000
TURNED = {"quatern": (0.0, 0.0, 0.0), "pixdim": (1, *SPACING, 0, 0, 0, 0)}
DIRECTIONS = "space: left-posterior-superior\nspace directions: (0.8,0,0) (0,-1.1,0) (0,0,2.5)\nspace origin: (-10,20,30)"


@pytest.fixture(params=VARIANTS, ids=lambda variant: f"{variant[0]}-{variant[1]}{variant[2]}")
def variant(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A function that saves a file of one kind with changed header fields."""
    suffix, version, order = request.param

    def make(voxels: Any = VOXELS, **changes: Any) -> Path:
        return saved(tmp_path / f"x{suffix}", voxels, version, order, **changes)

    return make


def codes(volume: Any) -> list[str]:
    return [finding.code for finding in volume.findings]


def organ_ml(volume: Any) -> float:
    """The volume of everything above 59, which is half of the voxels: 60."""
    return float(np.count_nonzero(volume.array > 59) * volume.geometry.voxel_volume_mm3 / 1000)


def test_a_sound_file_has_nothing_to_say(variant: Any) -> None:
    path = variant()
    volume = read_nifti(path)
    image = nib.load(path)  # the files themselves are what another reader takes for sound
    np.testing.assert_array_equal(np.asarray(image.dataobj), VOXELS)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
    np.testing.assert_allclose(image.get_qform(), AFFINE, atol=1e-5)
    assert codes(volume) == []
    np.testing.assert_allclose(volume.geometry.affine, AFFINE, atol=1e-5)
    np.testing.assert_array_equal(volume.array, VOXELS)
    assert organ_ml(volume) == pytest.approx(60 * VOXEL_ML, rel=1e-6)


@pytest.mark.parametrize("changes", [TURNED, {"pixdim": (-1, 0.8, 1.1, 4.32, 0, 0, 0, 0)}, {"qoffset": (10, -20, 30.2)}])
def test_n1_two_grids_are_refused_with_their_distance_and_ratio_and_a_choice_is_recorded(variant: Any, changes: dict[str, Any]) -> None:
    path = variant(**changes)
    with pytest.raises(REFUSALS["N1"][0], match=r"corners up to [0-9.]+ mm apart.*a ratio of [0-9.]+.*--nifti-xform"):
        read_nifti(path)
    by_sform, by_qform = (read_nifti(path, xform=xform) for xform in ("sform", "qform"))  # type: ignore[arg-type]
    np.testing.assert_allclose(by_sform.geometry.affine, AFFINE, atol=1e-5)
    assert by_sform.geometry.distance_mm(by_qform.geometry) > 0.1
    for volume in (by_sform, by_qform):
        finding = next(finding for finding in volume.findings if finding.code == "XFORM_CHOSEN")
        assert finding.severity is Severity.WARNING
        assert finding.details["corner_distance_mm"] == pytest.approx(by_sform.geometry.distance_mm(by_qform.geometry), rel=1e-5)
        ratio = by_sform.geometry.voxel_volume_mm3 / by_qform.geometry.voxel_volume_mm3
        assert finding.details["volume_ratio"] == pytest.approx(ratio, rel=1e-6)


def test_n1_a_choice_that_changes_nothing_is_no_finding(variant: Any) -> None:
    assert codes(read_nifti(variant(), xform="qform")) == []
    with pytest.raises(GeometryError, match="has no qform"):
        read_nifti(variant(qform_code=0), xform="qform")


def test_n2_n15_unknown_orientation_warns_and_keeps_the_volume(variant: Any) -> None:
    volume = read_nifti(variant(qform_code=0, sform_code=0))
    assert codes(volume) == ["ORIENTATION_UNKNOWN"]
    assert organ_ml(volume) == pytest.approx(60 * VOXEL_ML, rel=1e-6)
    assert "left and right" in volume.findings[0].message


@pytest.mark.parametrize("sign", [1, -1])
def test_n15_handedness_is_the_affines(variant: Any, sign: int) -> None:
    """The same voxels stored either way round: the bright corner stays at its side of the patient."""
    affine = AFFINE @ np.diag([-sign, 1, 1, 1])
    volume = read_nifti(variant(qform_code=0, srow=tuple(affine[:3].ravel())))
    assert volume.geometry.is_left_handed == (sign < 0)
    np.testing.assert_allclose(volume.geometry.index_to_world((5, 0, 0)), affine[:3, :3] @ (5, 0, 0) + affine[:3, 3], atol=1e-5)


def test_n3_a_sheared_sform_is_measured_by_its_determinant(variant: Any) -> None:
    """As dcm2niix writes gantry tilt of 20 degrees: spacings along the table, whose product is 6.4 % too large."""
    affine = AFFINE.copy()
    affine[:3, 2] = (0, 2.5 * np.sin(np.radians(20)), 2.5 * np.cos(np.radians(20)))
    volume = read_nifti(variant(qform_code=0, srow=tuple(affine[:3].ravel())))
    assert codes(volume) == ["SHEARED_GRID"]
    assert organ_ml(volume) == pytest.approx(60 * VOXEL_ML * np.cos(np.radians(20)), rel=1e-6)
    assert volume.findings[0].details["product_excess"] == pytest.approx(1 / np.cos(np.radians(20)) - 1, rel=1e-4)


def test_n3_pixdim_that_contradicts_the_sform_warns(variant: Any) -> None:
    volume = read_nifti(variant(qform_code=0, pixdim=(1, 1, 1, 1, 0, 0, 0, 0)))
    assert codes(volume) == ["SPACING_MISMATCH"]
    assert organ_ml(volume) == pytest.approx(60 * VOXEL_ML, rel=1e-6)


@pytest.mark.parametrize(("unit", "factor"), [(1, 1e-3), (3, 1e3)])
def test_n4_units_are_converted_and_refused_where_they_cannot_be_meant(variant: Any, unit: int, factor: float) -> None:
    stored = {
        "srow": tuple(factor * AFFINE[:3].ravel()),
        "pixdim": (-1, *(factor * step for step in SPACING), 0, 0, 0, 0),
        "qoffset": tuple(factor * AFFINE[:3, 3]),
    }
    volume = read_nifti(variant(xyzt_units=unit, **stored))
    assert codes(volume) == ["UNIT_CONVERTED"]
    assert organ_ml(volume) == pytest.approx(60 * VOXEL_ML, rel=1e-5)
    with pytest.raises(REFUSALS["N4"][0], match="xyzt_units"):
        read_nifti(variant(xyzt_units=unit))
    for code in (0, 2):  # millimetres, said or silently meant
        path = variant(xyzt_units=code, **stored)
        with pytest.raises(REFUSALS["N4"][0], match="impossible"):
            read_nifti(path)
        given = read_nifti(path, spacing_mm=SPACING)
        assert "SPACING_GIVEN" in codes(given)
        assert organ_ml(given) == pytest.approx(60 * VOXEL_ML, rel=1e-6)
        assert given.geometry.orientation == "LAS"


@pytest.mark.parametrize(
    ("slope", "expected"), [(0.0, ["SCALE_IGNORED"]), (float("nan"), ["SCALE_IGNORED"]), (float("inf"), ["SCALE_IGNORED"])]
)
def test_n5_a_slope_that_is_none_leaves_the_numbers_alone(variant: Any, slope: float, expected: list[str]) -> None:
    volume = read_nifti(variant(scl_slope=slope, scl_inter=5.0))
    assert codes(volume) == expected
    np.testing.assert_array_equal(volume.array, VOXELS)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_n6_no_spacing_is_refused_unless_one_is_given(variant: Any, value: float) -> None:
    path = variant(pixdim=(-1, 0.8, 1.1, value, 0, 0, 0, 0), sform_code=0)
    with pytest.raises(REFUSALS["N6"][0], match="spacing_mm"):
        read_nifti(path)
    volume = read_nifti(path, spacing_mm=SPACING)
    assert codes(volume) == ["SPACING_GIVEN"]
    assert organ_ml(volume) == pytest.approx(60 * VOXEL_ML, rel=1e-6)
    assert volume.geometry.orientation == "LAS"  # the quaternion is sound
    lost = read_nifti(variant(pixdim=(1, 0.8, 1.1, value, 0, 0, 0, 0), sform_code=0, qform_code=0), spacing_mm=SPACING)
    assert codes(lost) == ["SPACING_GIVEN", "ORIENTATION_UNKNOWN"]
    np.testing.assert_allclose(lost.geometry.corners_mm().mean(axis=0), 0, atol=1e-9)


def test_n6_negative_spacing_warns_and_a_needless_spacing_is_not_used(variant: Any) -> None:
    volume = read_nifti(variant(pixdim=(-1, 0.8, -1.1, 2.5, 0, 0, 0, 0)))
    assert codes(volume) == ["NEGATIVE_SPACING"]
    assert organ_ml(volume) == pytest.approx(60 * VOXEL_ML, rel=1e-6)
    assert codes(read_nifti(variant(), spacing_mm=SPACING)) == []
    other = read_nifti(variant(), spacing_mm=(1.0, 1.0, 1.0))
    assert codes(other) == ["SPACING_NOT_USED"]
    np.testing.assert_allclose(other.geometry.affine, AFFINE, atol=1e-5)


def test_n7_four_dimensions_need_a_choice(variant: Any) -> None:
    four = np.stack([VOXELS, VOXELS + 1000, VOXELS + 2000], axis=3)
    path = variant(four)
    with pytest.raises(REFUSALS["N7"][0], match="--volume 0 to 2") as caught:
        read_nifti(path)
    assert isinstance(caught.value, SeveralVolumesError)
    assert caught.value.count == volume_count(path) == 3
    for index in range(3):
        np.testing.assert_array_equal(read_nifti(path, volume_index=index).array, four[..., index])
    with pytest.raises(UnsupportedFormatError, match="choose one from 0 to 2, got 3"):
        read_nifti(path, volume_index=3)


def test_n7_axes_of_one_are_dropped(variant: Any) -> None:
    path = variant(VOXELS[..., None, None])
    assert volume_count(path) == 1
    np.testing.assert_array_equal(read_nifti(path).array, VOXELS)
    np.testing.assert_array_equal(read_nifti(path, volume_index=0).array, VOXELS)


def test_n8_is_counted_or_refused(variant: Any) -> None:
    voxels = VOXELS.astype(np.float32)
    voxels[0, 0, 0] = np.inf
    volume = read_nifti(variant(voxels))
    assert codes(volume) == ["NON_FINITE_VOXELS"]
    assert volume.array[0, 0, 0] == 1
    voxels[1:3, 1:3, 1:3] = np.nan
    with pytest.raises(REFUSALS["N8"][0], match="inside the body"):
        read_nifti(variant(voxels))


@pytest.mark.parametrize(("datatype", "bits"), [(128, 24), (2304, 32), (32, 64), (1, 1), (1792, 128)])
def test_n9_what_is_not_one_number_a_voxel_is_refused(variant: Any, datatype: int, bits: int) -> None:
    with pytest.raises(REFUSALS["N9"][0], match=r"convert it|colours; choose one"):
        read_nifti(variant(datatype=datatype, bitpix=bits))


def test_n10_cut_or_longer_or_other_type_is_refused(variant: Any) -> None:
    for changes in ({"dim": (3, 6, 5, 5, 1, 1, 1, 1)}, {"dim": (3, 6, 5, 3, 1, 1, 1, 1)}, {"datatype": 16, "bitpix": 32}):
        with pytest.raises(REFUSALS["N10"][0]):
            read_nifti(variant(**changes))


def test_n10_a_pair_whose_image_is_another_ones_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.hdr")
    image = tmp_path / "x.img"
    whole = image.read_bytes()
    for data in (whole[:-1], whole + b"\1", b"", whole * 2):
        image.write_bytes(data)
        with pytest.raises(UnreadableFileError):
            read_nifti(path)


@pytest.mark.parametrize(("name", "wrong"), [("a.nii", "a.nii.gz"), ("b.nii.gz", "b.nii")])
def test_n11_a_wrong_name_is_read_and_noted(tmp_path: Path, name: str, wrong: str) -> None:
    volume = read_nifti(saved(tmp_path / name).rename(tmp_path / wrong))
    assert codes(volume) == ["WRONG_SUFFIX"]
    np.testing.assert_array_equal(volume.array, VOXELS)


@pytest.mark.parametrize("value", [1.0009, 0.9991])
def test_l1_near_whole_numbers_are_rounded_and_others_refused(variant: Any, value: float) -> None:
    voxels = np.zeros(SHAPE, np.float64)
    voxels[1, 1, 1] = value
    assert int(read_stored(variant(voxels)).to_label_map().array[1, 1, 1]) == 1
    for bad in (1.0011, 0.9989, -1.0, np.nan, np.inf):
        voxels[1, 1, 1] = bad
        with pytest.raises(SegmentError):
            read_stored(variant(voxels)).to_label_map()


# ---------------------------------------------------------------- NRRD and MetaImage


def test_n12_nrrd_without_spacing(tmp_path: Path) -> None:
    bare = "dimension: 3\nsizes: 6 5 4"
    with pytest.raises(REFUSALS["N12"][0], match="--spacing"):
        nrrds.read_stored(nrrd(tmp_path / "x.nrrd", bare))
    for lines, expected in ((bare, ["SPACING_GIVEN", "ORIENTATION_UNKNOWN"]), (bare + "\nspacings: 0.8 1.1 2.5", ["ORIENTATION_UNKNOWN"])):
        volume = nrrds.read_stored(nrrd(tmp_path / "x.nrrd", lines), spacing_mm=SPACING).to_volume()
        assert codes(volume) == expected
        assert organ_ml(volume) == pytest.approx(60 * VOXEL_ML)
    metres = nrrd(tmp_path / "m.nrrd", bare + "\nspace: LPS\nspace directions: (.0008,0,0) (0,.0011,0) (0,0,.0025)\nspace origin: (0,0,0)")
    with pytest.raises(REFUSALS["N4"][0], match="impossible"):
        nrrds.read_stored(metres)
    assert nrrds.read_stored(metres, spacing_mm=SPACING).geometry.spacing_mm == pytest.approx(SPACING)


def test_n12_metaimage_without_spacing(tmp_path: Path) -> None:
    path = metaimage(tmp_path / "x.mha", "NDims = 3\nDimSize = 6 5 4\nTransformMatrix = 1 0 0 0 1 0 0 0 1")
    with pytest.raises(REFUSALS["N12"][0], match="--spacing"):
        metaimages.read_stored(path)
    volume = metaimages.read_stored(path, spacing_mm=SPACING).to_volume()
    assert codes(volume) == ["SPACING_GIVEN"]
    assert organ_ml(volume) == pytest.approx(60 * VOXEL_ML)


def test_n13_sheared_directions_are_measured_by_their_determinant(tmp_path: Path) -> None:
    lines = DIRECTIONS.replace("(0,0,2.5)", f"(0,{2.5 * np.sin(np.radians(20))},{2.5 * np.cos(np.radians(20))})")
    volume = nrrds.read_stored(nrrd(tmp_path / "x.nrrd", f"dimension: 3\nsizes: 6 5 4\n{lines}")).to_volume()
    assert codes(volume) == ["SHEARED_GRID"]
    assert organ_ml(volume) == pytest.approx(60 * VOXEL_ML * np.cos(np.radians(20)))


@pytest.mark.parametrize("first", [True, False], ids=["fastest", "slowest"])
@pytest.mark.parametrize("kind", ["list", "time", "none", "???"])
@pytest.mark.parametrize("gz", [True, False], ids=["gzip", "raw"])
@pytest.mark.parametrize("direction", ["none", "(nan,nan,nan)"])
def test_n14_volumes_along_a_list_axis_need_a_choice(tmp_path: Path, first: bool, kind: str, gz: bool, direction: str) -> None:
    volumes = [VOXELS, VOXELS + 1000, VOXELS + 2000]
    four = np.stack(volumes, axis=0 if first else 3)
    steps = "(0.8,0,0) (0,-1.1,0) (0,0,2.5)"
    steps, kinds, sizes = (
        f"{one} {three}" if first else f"{three} {one}"
        for one, three in ((direction, steps), (kind, "domain domain domain"), ("3", "6 5 4"))
    )
    lines = f"dimension: 4\nsizes: {sizes}\nkinds: {kinds}\nspace: LPS\nspace directions: {steps}\nspace origin: (-10,20,30)"
    path = nrrd(tmp_path / "x.nrrd", lines, four.tobytes(order="F"), gz)
    with pytest.raises(SeveralVolumesError, match="--volume 0 to 2"):
        nrrds.read_stored(path)
    assert volume_count(path) == 3
    for index, expected in enumerate(volumes):
        stored = nrrds.read_stored(path, volume_index=index)
        np.testing.assert_array_equal(stored.array, expected)
        np.testing.assert_allclose(stored.geometry.affine, AFFINE, atol=1e-12)
        assert stored.array.T.flags.c_contiguous
    with pytest.raises(UnsupportedFormatError, match="got 3"):
        nrrds.read_stored(path, volume_index=3)


@pytest.mark.parametrize("kind", ["complex", "covariant-vector", "3D-symmetric-matrix"])
def test_n14_what_is_no_list_of_volumes_is_refused_whatever_its_direction(tmp_path: Path, kind: str) -> None:
    data = np.stack([VOXELS] * 3).tobytes(order="F")
    for direction in ("none", "(1,0,0)"):
        steps = f"space directions: {direction} (0.8,0,0) (0,-1.1,0) (0,0,2.5)"
        lines = f"dimension: 4\nsizes: 3 6 5 4\nkinds: {kind} domain domain domain\nspace: LPS\n{steps}\nspace origin: (0,0,0)"
        with pytest.raises(REFUSALS["N14"][0], match=r"complex|several values"):
            nrrds.read_stored(nrrd(tmp_path / "x.nrrd", lines, data), volume_index=0)


def test_n14_a_space_with_time_has_three_axes_in_the_patient(tmp_path: Path) -> None:
    four = np.stack([VOXELS, VOXELS + 1000], axis=3)
    steps = "(0.8,0,0,0) (0,-1.1,0,0) (0,0,2.5,0) (0,0,0,1)"
    for space in ("left-posterior-superior-time", "LPST"):
        lines = f"dimension: 4\nsizes: 6 5 4 2\nspace: {space}\nspace directions: {steps}\nspace origin: (-10,20,30,0)"
        stored = nrrds.read_stored(nrrd(tmp_path / "x.nrrd", lines, four.tobytes(order="F")), volume_index=1)
        np.testing.assert_array_equal(stored.array, four[..., 1])
        np.testing.assert_allclose(stored.geometry.affine, AFFINE, atol=1e-12)


def test_n14_metaimage_in_four_dimensions(tmp_path: Path) -> None:
    four = np.stack([VOXELS, VOXELS + 1000], axis=3)
    lines = (
        "NDims = 4\nDimSize = 6 5 4 2\nElementSpacing = 0.8 1.1 2.5 1\nOffset = -10 20 30 0\n"
        "TransformMatrix = 1 0 0 0 0 -1 0 0 0 0 1 0 0 0 0 1"
    )
    path = metaimage(tmp_path / "x.mha", lines, four.tobytes(order="F"))
    assert volume_count(path) == 2
    with pytest.raises(SeveralVolumesError):
        metaimages.read_stored(path)
    stored = metaimages.read_stored(path, volume_index=1)
    np.testing.assert_array_equal(stored.array, four[..., 1])
    np.testing.assert_allclose(stored.geometry.affine, AFFINE, atol=1e-12)
    mixed = metaimage(tmp_path / "y.mha", lines.replace("0 0 0 1", "0 0 1 1"), four.tobytes(order="F"))
    with pytest.raises(GeometryError, match="fourth axis"):
        metaimages.read_stored(mixed, volume_index=0)


# ---------------------------------------------------------------- the table


def test_the_table_names_every_code_with_its_severity() -> None:
    """Every Finding made in these modules is in the table, and every line of the table is made somewhere."""
    folder = Path(medseg.io.__file__).parent
    found: dict[str, set[str]] = {}
    for name in ("nifti", "nifti_affine", "nifti_header", "nrrd", "nrrd_header", "metaimage", "grid", "values", "stored", "voxels"):
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding":
                code, severity = node.args[:2]
                assert isinstance(code, ast.Constant)
                assert isinstance(severity, ast.Attribute)
                found.setdefault(str(code.value), set()).add(severity.attr)
    assert found == {code: {rule.severity.name} for code, rule in CODES.items()}
    assert all(issubclass(kind, MedsegError) and text for kind, text in REFUSALS.values())
