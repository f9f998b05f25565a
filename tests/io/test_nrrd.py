from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import nrrd as pynrrd
import numpy as np
import pytest
import SimpleITK as sitk
from grid_strategies import LABEL_DTYPES, grids, voxels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.core.errors import (
    GeometryError,
    InputError,
    OutputExistsError,
    OutputVerificationError,
    SingularAffineError,
    UnreadableFileError,
    UnsupportedFormatError,
)
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.io import nrrd
from medseg.io.nrrd import read_stored, write_nrrd
from medseg.io.nrrd_header import escaped, geometry_of, unescaped

ROUND_TRIP = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

HEADER = """NRRD0005
# a comment
type: short
dimension: 3
space: left-posterior-superior
sizes: 4 3 2
space directions: (0.5,0,0) (0,0.6,0) (0,0,2.5)
kinds: domain domain domain
endian: little
encoding: raw
space origin: (10,20,30)
"""
ARRAY = np.arange(24, dtype="<i2").reshape((4, 3, 2), order="F")


def written(path: Path, header: str = HEADER, data: bytes = ARRAY.tobytes(order="F"), end: str = "\n") -> Path:
    path.write_bytes((header + end).encode() + data)
    return path


def replaced(line: str, by: str) -> str:
    assert line in HEADER
    return HEADER.replace(line, by)


# ---------------------------------------------------------------- against other readers and writers


@ROUND_TRIP
@given(data=st.data())
def test_what_we_write_pynrrd_and_simpleitk_read(data: st.DataObject, tmp_path: Path) -> None:
    """Voxels and grid to the last bit."""
    grid = data.draw(grids())
    array = data.draw(voxels(grid.shape))
    path = write_nrrd(Volume(array, grid), tmp_path / "x.nrrd", overwrite=True)
    values, header = pynrrd.read(str(path))
    assert values.dtype == array.dtype
    np.testing.assert_array_equal(values, array)
    assert header["space"] == "left-posterior-superior"
    np.testing.assert_array_equal(np.array(header["space directions"]).T, (LPS @ grid.affine)[:3, :3])
    np.testing.assert_array_equal(header["space origin"], (LPS @ grid.affine)[:3, 3])
    if not grid.is_sheared:
        image = sitk.ReadImage(str(path))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, array)
        corner = np.array(image.TransformIndexToPhysicalPoint([n - 1 for n in grid.shape])) * (-1, -1, 1)
        np.testing.assert_allclose(corner, grid.corners_mm()[-1], atol=1e-6)


@ROUND_TRIP
@given(
    data=st.data(),
    space=st.sampled_from(("left-posterior-superior", "LPS", "right-anterior-superior", "RAS", "left-anterior-superior", "LAS")),
    encoding=st.sampled_from(("raw", "gzip", "bzip2")),
    detached=st.booleans(),
)
def test_what_pynrrd_writes_we_read(data: st.DataObject, space: str, encoding: str, detached: bool, tmp_path: Path) -> None:
    grid = data.draw(grids())
    array = data.draw(voxels(grid.shape))
    signs = {"l": (-1, -1, 1), "r": (1, 1, 1)}[space[0].lower()]
    if space in ("left-anterior-superior", "LAS"):
        signs = (-1, 1, 1)
    stored = np.diag([*signs, 1.0]) @ grid.affine
    header = {"space": space, "space directions": stored[:3, :3].T, "space origin": stored[:3, 3], "encoding": encoding}
    path = tmp_path / ("x.nhdr" if detached else "x.nrrd")
    pynrrd.write(str(path), array, header, detached_header=detached)
    image = read_stored(path)
    np.testing.assert_array_equal(image.array, array)
    assert image.array.dtype == array.dtype
    np.testing.assert_allclose(image.geometry.affine, grid.affine, rtol=1e-12, atol=1e-12)


@ROUND_TRIP
@given(data=st.data())
def test_what_simpleitk_writes_we_read(data: st.DataObject, tmp_path: Path) -> None:
    grid = data.draw(grids(sheared=False))
    array = data.draw(voxels(grid.shape))
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin([c * s for c, s in zip(grid.origin_mm, (-1, -1, 1), strict=True)])
    image.SetDirection((grid.direction * np.array([[-1], [-1], [1]])).ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / "x.nrrd"), True)
    stored = read_stored(tmp_path / "x.nrrd")
    np.testing.assert_array_equal(stored.array, array)
    assert grid.distance_mm(stored.geometry) < 1e-6


@ROUND_TRIP
@given(data=st.data())
def test_label_maps_come_back_equal(data: st.DataObject, tmp_path: Path) -> None:
    grid = data.draw(grids())
    array = data.draw(voxels(grid.shape, LABEL_DTYPES))
    organs = read_stored(write_nrrd(Volume(array, grid), tmp_path / "x.nrrd", overwrite=True)).to_label_map()
    np.testing.assert_array_equal(organs.array, array)
    np.testing.assert_array_equal(organs.geometry.affine, grid.affine)


# ---------------------------------------------------------------- real files


def test_variants_hold_the_same_ball(shared_data: Path) -> None:
    expected = json.loads((shared_data / "nrrd_variants" / "expected.json").read_text())["files"]
    for name, facts in expected.items():
        stored = read_stored(shared_data / "nrrd_variants" / name)
        assert stored.array.shape == tuple(facts["shape"])
        assert stored.array.dtype.name == facts["dtype"]
        assert (stored.array.min(), stored.array.max(), stored.array.sum(dtype=np.int64)) == (facts["min"], facts["max"], facts["sum"])
        assert stored.geometry.spacing_mm == tuple(facts["spacing"])
        assert stored.geometry.orientation == "LPS"


def test_a_scan_of_3d_slicer(shared_data: Path) -> None:
    facts = json.loads((shared_data / "nrrd_slicer_ctchest" / "expected.json").read_text())["CTChest4.nrrd"]
    volume = read_stored(shared_data / "nrrd_slicer_ctchest" / "CTChest4.nrrd").to_volume()
    np.testing.assert_allclose(volume.geometry.affine, facts["affine_ras"], atol=1e-6)
    assert volume.geometry.orientation == facts["orientation"]
    assert float(volume.array.mean(dtype=np.float64)) == pytest.approx(facts["intensity"]["mean"], rel=1e-6)
    for probe in facts["probes"]:
        index = tuple(int(n) for n in np.rint(volume.geometry.world_to_index(probe["ras_mm"])))
        assert volume.array[index] == probe["value"]


def test_a_mask_of_mitk_ends_in_a_line_feed(shared_data: Path) -> None:
    stored = read_stored(shared_data / "metrics_prostate_masks" / "seg_multilabel.nrrd")
    values, _ = pynrrd.read(str(shared_data / "metrics_prostate_masks" / "seg_multilabel.nrrd"))
    np.testing.assert_array_equal(stored.array, values)
    assert stored.to_volume().geometry.shape == (105, 81, 15)


# ---------------------------------------------------------------- forms of the header


def test_an_attached_header_by_hand(tmp_path: Path) -> None:
    stored = read_stored(written(tmp_path / "x.nrrd"))
    np.testing.assert_array_equal(stored.array, ARRAY)
    np.testing.assert_array_equal(stored.geometry.affine, [[-0.5, 0, 0, -10], [0, -0.6, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1]])
    assert stored.findings == ()


@pytest.mark.parametrize(
    "header",
    [
        HEADER.replace("\n", "\r\n"),
        HEADER + "a key:=a value: with=signs\n",
        HEADER + "content: anything\nold min: 0\nmeasurement frame: (1,0,0) (0,1,0) (0,0,1)\n",
        replaced("short", "signed short int"),
        replaced("space origin: (10,20,30)", "space origin:  ( 10 , 20, 30 )"),
        HEADER + 'space units: "mm" "mm" "mm"\n',
        replaced("NRRD0005", "NRRD0001"),
    ],
)
def test_forms_that_mean_the_same(tmp_path: Path, header: str) -> None:
    stored = read_stored(written(tmp_path / "x.nrrd", header, end="\r\n" if "\r" in header else "\n"))
    np.testing.assert_array_equal(stored.array, ARRAY)
    assert stored.geometry.spacing_mm == (0.5, 0.6, 2.5)


def test_big_endian(tmp_path: Path) -> None:
    stored = read_stored(written(tmp_path / "x.nrrd", replaced("little", "big"), ARRAY.astype(">i2").tobytes(order="F")))
    np.testing.assert_array_equal(stored.array, ARRAY)
    assert stored.array.dtype.isnative


@pytest.mark.parametrize("folder", ["", "below/"])
@pytest.mark.parametrize(
    ("more", "data"),
    [
        ("", b"%s"),
        ("byte skip: 7\n", b"7 bytes%s"),
        ("byte skip: -1\n", b"any number of bytes%s"),
        ("line skip: 2\n", b"one\ntwo\n%s"),
        ("line skip: 1\nbyte skip: 3\n", b"one\n123%s"),
    ],
)
def test_detached_headers_and_skips(tmp_path: Path, folder: str, more: str, data: bytes) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / folder / "x.raw").write_bytes(data % ARRAY.tobytes(order="F"))
    for end in ("", "\n"):
        stored = read_stored(written(tmp_path / "x.nhdr", f"{HEADER}{more}data file: {folder}x.raw\n", b"", end))
        np.testing.assert_array_equal(stored.array, ARRAY)


def test_skips_of_gzip_are_lines_before_and_bytes_inside(tmp_path: Path) -> None:
    header = replaced("encoding: raw", "encoding: gz") + "line skip: 1\nbyte skip: 4\n"
    data = b"a line\n" + gzip.compress(b"4444" + ARRAY.tobytes(order="F"))
    np.testing.assert_array_equal(read_stored(written(tmp_path / "x.nrrd", header, data)).array, ARRAY)


@pytest.mark.parametrize(
    ("sizes", "directions", "kinds"),
    [
        ("1 4 3 2", "none (0.5,0,0) (0,0.6,0) (0,0,2.5)", "list domain domain domain"),
        ("1 4 3 2", "(nan,nan,nan) (0.5,0,0) (0,0.6,0) (0,0,2.5)", "vector domain domain domain"),
        ("4 3 2 1", "(0.5,0,0) (0,0.6,0) (0,0,2.5) none", "domain domain domain time"),
    ],
)
def test_axes_of_length_one_that_are_not_space_are_dropped(tmp_path: Path, sizes: str, directions: str, kinds: str) -> None:
    header = replaced("dimension: 3", "dimension: 4").replace("sizes: 4 3 2", f"sizes: {sizes}")
    header = header.replace("(0.5,0,0) (0,0.6,0) (0,0,2.5)", directions).replace("domain domain domain", kinds)
    stored = read_stored(written(tmp_path / "x.nrrd", header))
    np.testing.assert_array_equal(stored.array, ARRAY)
    assert stored.geometry.spacing_mm == (0.5, 0.6, 2.5)


def test_a_sheared_grid_keeps_its_volume(tmp_path: Path) -> None:
    stored = read_stored(written(tmp_path / "x.nrrd", replaced("(0,0,2.5)", "(0,0.9,2.5)")))
    assert stored.geometry.voxel_volume_mm3 == pytest.approx(0.5 * 0.6 * 2.5)
    assert [finding.code for finding in stored.findings] == ["SHEARED_GRID"]


@pytest.mark.parametrize(
    ("line", "by", "codes"),
    [
        ("space: left-posterior-superior\n", "", ["ORIENTATION_UNKNOWN"]),
        ("space: left-posterior-superior\n", "space dimension: 3\n", ["ORIENTATION_UNKNOWN"]),
        ("space: left-posterior-superior\n", "space: scanner-xyz\n", ["ORIENTATION_UNKNOWN"]),
        ("space origin: (10,20,30)\n", "", ["ORIGIN_UNKNOWN"]),
    ],
)
def test_what_is_missing_but_guessable_is_a_finding(tmp_path: Path, line: str, by: str, codes: list[str]) -> None:
    stored = read_stored(written(tmp_path / "x.nrrd", replaced(line, by)))
    assert [finding.code for finding in stored.findings] == codes
    assert stored.geometry.orientation == "LPS"


@pytest.mark.parametrize(("unit", "factor"), [("m", 1000), ("cm", 10), ("um", 0.001), ("parsec", 1)])
def test_units(tmp_path: Path, unit: str, factor: float) -> None:
    line = f'space units: "{unit}" "{unit}" "{unit}"\n'
    geometry, _, _ = geometry_of(nrrd.parse(written(tmp_path / "x.nrrd", HEADER + line)))
    np.testing.assert_allclose(geometry.spacing_mm, np.array((0.5, 0.6, 2.5)) * factor)


# ---------------------------------------------------------------- files that are not right


@pytest.mark.parametrize(
    ("line", "by", "error", "words"),
    [
        ("NRRD0005", "NRRDxxxx", UnreadableFileError, "NRRD000"),
        ("type: short\n", "", UnreadableFileError, "'type'"),
        ("type: short", "type: block", UnsupportedFormatError, "block"),
        ("endian: little\n", "", UnreadableFileError, "byte order"),
        ("endian: little", "endian: middle", UnreadableFileError, "byte order"),
        ("encoding: raw", "encoding: ascii", UnsupportedFormatError, "ascii"),
        ("encoding: raw\n", "", UnreadableFileError, "'encoding'"),
        ("sizes: 4 3 2", "sizes: 4 3", UnreadableFileError, "fit together"),
        ("sizes: 4 3 2", "sizes: 4 3 0", UnreadableFileError, "fit together"),
        ("sizes: 4 3 2", "sizes: 4 3 -2", UnreadableFileError, "fit together"),
        ("sizes: 4 3 2", "sizes: 4 3 two", UnreadableFileError, "whole numbers"),
        ("sizes: 4 3 2", "sizes: 4 3 3", UnreadableFileError, "cut short"),
        ("sizes: 4 3 2", "sizes: 4 3 1", UnreadableFileError, "more bytes"),
        ("sizes: 4 3 2", "sizes: 32767 32767 32767", UnreadableFileError, "more than"),
        ("sizes: 4 3 2", "sizes: 2000 2000 2000", UnreadableFileError, "cut short"),
        ("dimension: 3", "dimension: 4", UnreadableFileError, "fit together"),
        ("space directions: (0.5,0,0) (0,0.6,0) (0,0,2.5)\n", "spacings: 1 1\n", UnreadableFileError, "2 spacings"),
        ("space directions: (0.5,0,0) (0,0.6,0) (0,0,2.5)\n", "spacings: 1 1 one\n", UnreadableFileError, "not numbers"),
        ("space directions: (0.5,0,0) (0,0.6,0) (0,0,2.5)\n", "spacings: 1 1 nan\n", UnsupportedFormatError, "2 axes"),
        ("space directions: (0.5,0,0) (0,0.6,0) (0,0,2.5)\n", "", GeometryError, "no spacings"),
        ("(0.5,0,0) (0,0.6,0) (0,0,2.5)", "(500,0,0) (0,600,0) (0,0,2500)", GeometryError, "impossible"),
        ("(0,0.6,0)", "(0,0,0)", SingularAffineError, "volume"),
        ("(0,0.6,0)", "(0.5,0,0)", SingularAffineError, "volume"),
        ("(0,0.6,0)", "none", UnsupportedFormatError, "2 axes"),
        ("(0,0.6,0)", "(nan,0.6,0)", UnsupportedFormatError, "2 axes"),
        ("(0,0.6,0)", "(0,0.6)", UnsupportedFormatError, "axes in space"),
        ("(0,0.6,0)", "(0,x,0)", UnreadableFileError, "vector"),
        ("(0,0.6,0) ", "", UnreadableFileError, "directions"),
        ("space origin: (10,20,30)", "space origin: (10,20)", UnreadableFileError, "origin"),
        ("space origin: (10,20,30)", "space origin: (nan,20,30)", SingularAffineError, "NaN"),
        ("kinds: domain domain domain", "byte skip: -2", UnreadableFileError, "byte skip"),
        ("kinds: domain domain domain", "line skip: many", UnreadableFileError, "whole number"),
        ("kinds: domain domain domain", "line skip: 99", UnreadableFileError, "lines"),
        ("kinds: domain domain domain", "no colon here", UnreadableFileError, "line"),
        ("kinds: domain domain domain", "data file: /etc/passwd", UnsupportedFormatError, "outside"),
        ("kinds: domain domain domain", "data file: ../x.raw", UnsupportedFormatError, "outside"),
        ("kinds: domain domain domain", "data file: a/../../x.raw", UnsupportedFormatError, "outside"),
        ("kinds: domain domain domain", "data file: C:\\x.raw", UnsupportedFormatError, "outside"),
        ("kinds: domain domain domain", "data file: ..\\x.raw", UnsupportedFormatError, "outside"),
        ("kinds: domain domain domain", "data file: LIST", UnsupportedFormatError, "several files"),
        ("kinds: domain domain domain", "data file: x%03d.raw 1 2 1", UnsupportedFormatError, "several files"),
        ("kinds: domain domain domain", "data file: missing.raw", UnreadableFileError, "beside"),
        ("kinds: domain domain domain", 'space units: "m" "mm" "mm"', GeometryError, "units"),
    ],
)  # fmt: skip
def test_damaged_headers_raise_and_say_why(tmp_path: Path, line: str, by: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        read_stored(written(tmp_path / "x.nrrd", replaced(line, by)))
    assert "x.nrrd" in str(caught.value)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.raw").write_bytes(ARRAY.tobytes(order="F"))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.raw").symlink_to(tmp_path / "secret.raw")
    with pytest.raises(UnsupportedFormatError, match="link out of the folder"):
        read_stored(written(tmp_path / "in" / "x.nhdr", HEADER + "data file: x.raw\n", b""))


@pytest.mark.parametrize(
    ("sizes", "kinds", "words"),
    [("3 4 2 1", "RGB-color domain domain domain", "colours"), ("2 4 3 1", "covariant-vector domain domain domain", "several")],
)
def test_several_values_a_voxel_raise(tmp_path: Path, sizes: str, kinds: str, words: str) -> None:
    header = replaced("dimension: 3", "dimension: 4").replace("sizes: 4 3 2", f"sizes: {sizes}").replace("domain domain domain", kinds)
    header = header.replace("(0.5,0,0)", "none (0.5,0,0)")
    with pytest.raises(UnsupportedFormatError, match=words):
        read_stored(written(tmp_path / "x.nrrd", header))


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_a_file_cut_short_anywhere_raises(tmp_path: Path, encoding: str) -> None:
    data = ARRAY.tobytes(order="F")
    header = replaced("encoding: raw", f"encoding: {encoding}")
    whole = written(tmp_path / "x.nrrd", header, gzip.compress(data) if encoding == "gzip" else data).read_bytes()
    for length in range(len(whole)):
        (tmp_path / "x.nrrd").write_bytes(whole[:length])
        with pytest.raises((InputError, GeometryError)):
            read_stored(tmp_path / "x.nrrd")


def test_flipped_bytes_inside_gzip_never_change_the_scan(scan: Volume, tmp_path: Path) -> None:
    data = write_nrrd(scan, tmp_path / "x.nrrd").read_bytes()
    start = data.index(b"\n\n") + 12
    for position in range(start, len(data), 29):
        broken = bytearray(data)
        broken[position] ^= 0x10
        (tmp_path / "x.nrrd").write_bytes(bytes(broken))
        with pytest.raises(UnreadableFileError):
            read_stored(tmp_path / "x.nrrd")


# ---------------------------------------------------------------- writing


def test_the_same_scan_gives_the_same_bytes_and_files_are_kept(scan: Volume, tmp_path: Path) -> None:
    first = write_nrrd(scan, tmp_path / "a.nrrd").read_bytes()
    assert write_nrrd(scan, tmp_path / "b.nrrd").read_bytes() == first
    with pytest.raises(OutputExistsError):
        write_nrrd(scan, tmp_path / "a.nrrd")


@pytest.mark.parametrize("value", ["plain", "two\nlines", r"back\slash \n", "Ü:=: #", ""])
def test_keys_and_values_survive(scan: Volume, tmp_path: Path, value: str) -> None:
    assert unescaped(escaped(value)) == value
    path = write_nrrd(scan, tmp_path / "x.nrrd", keys={"a key": value})
    assert nrrd.parse(path).keys == {"a key": value}


def test_a_lost_tail_is_noticed(scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lossy(file: Any, head: bytes, array: Any) -> None:
        changed = np.array(array, order="F")
        changed[-1, -1, -1] ^= 1
        honest(file, head, changed)

    honest = nrrd.write_gzipped
    monkeypatch.setattr(nrrd, "write_gzipped", lossy)
    with pytest.raises(OutputVerificationError):
        write_nrrd(scan, tmp_path / "x.nrrd")
    assert list(tmp_path.iterdir()) == []


def test_half_precision_is_written_as_single(grid: Geometry, tmp_path: Path) -> None:
    path = write_nrrd(Volume(np.full(grid.shape, 1.5, np.float16), grid), tmp_path / "x.nrrd")
    assert read_stored(path).array.dtype == np.float32
