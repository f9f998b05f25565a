"""Segmentations and scans from one form to another, with overlaps, contours and several volumes."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from medseg.cli.convert import numbered
from medseg.cli.main import run as run_program
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.io.dicom.series import write_series
from medseg.io.read import read, read_layers
from medseg.io.write import write

GRID = Geometry((24, 20, 12), np.array([[-1.0, 0, 0, 30], [0, 1.2, 0, -20], [0, 0, 2.5, 5], [0, 0, 0, 1]]))


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run_program([*map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def series(tmp_path: Path) -> Path:
    values = np.random.default_rng(3).integers(-200, 300, GRID.shape).astype(np.int16)
    write_series(Volume(values, GRID, "CT", "HU"), tmp_path / "ct", seed="convert")
    return tmp_path / "ct"


@pytest.fixture
def overlapping(series: Path, tmp_path: Path) -> Path:
    """Two boxes that share voxels, as .seg.nrrd on the grid of the series."""
    grid = read(series).geometry
    arrays = [np.zeros(grid.shape, np.uint8) for _ in range(2)]
    arrays[0][4:16, 4:14, 2:8], arrays[1][10:20, 6:12, 4:10] = 1, 2
    layers = [LabelMap(array, grid, (Segment(n, name),)) for array, n, name in zip(arrays, (1, 2), ("liver", "lesion"), strict=True)]
    return write(layers, tmp_path / "two.seg.nrrd")


def volumes(path: Path, **options) -> dict[str, int]:
    return {s.label: int((layer.array == s.number).sum()) for layer in read_layers(path, **options) for s in layer.segments}


EXPECTED = {"liver": 12 * 10 * 6, "lesion": 10 * 6 * 6}


def test_overlapping_segments_keep_every_voxel_in_forms_that_can(series, overlapping, tmp_path, capsys):
    for name in ("again.seg.nrrd", "seg.dcm"):
        code, _, err = call(capsys, "convert", overlapping, tmp_path / name, "--source", series)
        assert code == 0, err
        assert volumes(tmp_path / name) == EXPECTED
    code, out, _ = call(capsys, "convert", tmp_path / "seg.dcm", tmp_path / "back.seg.nrrd", "--json")
    assert (code, json.loads(out)["layers"]) == (0, 2)
    assert volumes(tmp_path / "back.seg.nrrd") == EXPECTED


def test_a_form_of_one_label_a_voxel_refuses_them(overlapping, tmp_path, capsys):
    code, _, err = call(capsys, "convert", overlapping, tmp_path / "x.nii.gz")
    assert code == 3
    assert ".seg.nrrd" in err
    assert not list(tmp_path.glob("x*"))


def test_contours_out_and_in_again(series, overlapping, tmp_path, capsys):
    for name, options in (("a.rtstruct.dcm", ()), ("b.dcm", ("--as", "rtstruct"))):
        code, _, err = call(capsys, "convert", overlapping, tmp_path / name, "--source", series, *options)
        assert code == 0, err
        assert pydicom.dcmread(tmp_path / name).SOPClassUID == "1.2.840.10008.5.1.4.1.1.481.3"
        for way in ("--like", "--source"):
            back = tmp_path / f"{name}{way}.seg.nrrd"
            code, _, err = call(capsys, "convert", tmp_path / name, back, way, series)
            assert code == 0, err
            assert volumes(back) == EXPECTED
            assert read_layers(back)[0].geometry.matches(read(series).geometry)


def test_contours_need_their_scan_and_their_suffix(series, overlapping, tmp_path, capsys):
    code, _, err = call(capsys, "convert", overlapping, tmp_path / "x.dcm", "--as", "rtstruct")
    assert (code, "--source" in err) == (3, True)
    code, _, err = call(capsys, "convert", overlapping, tmp_path / "x.nii.gz", "--as", "rtstruct", "--source", series)
    assert (code, ".dcm" in err) == (3, True)


def test_every_volume_of_a_4d_file_becomes_a_file(tmp_path, capsys):
    array = np.stack([np.full((6, 7, 8), 10 * t, np.int16) for t in range(3)], axis=3)
    nibabel.save(nibabel.Nifti1Image(array, GRID.affine), tmp_path / "bold.nii.gz")
    code, out, _ = call(capsys, "convert", tmp_path / "bold.nii.gz", tmp_path / "t.nii.gz", "--volume", "all", "--json")
    assert code == 0
    names = [f"t_{n:04d}.nii.gz" for n in range(3)]
    assert [Path(path).name for path in json.loads(out)["outputs"]] == names
    for n, name in enumerate(names):
        image = nibabel.load(tmp_path / name)
        assert np.unique(image.dataobj).tolist() == [10 * n]
        np.testing.assert_allclose(image.affine, GRID.affine, atol=1e-5)


def test_nothing_is_written_where_one_of_them_is_there_already(tmp_path, capsys):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.eye(4)), tmp_path / "bold.nii.gz")
    (tmp_path / "t_0001.nii").write_bytes(b"mine")
    code, _, _ = call(capsys, "convert", tmp_path / "bold.nii.gz", tmp_path / "t.nii", "--volume", "all")
    assert code == 5
    assert not (tmp_path / "t_0000.nii").exists()
    assert (tmp_path / "t_0001.nii").read_bytes() == b"mine"


def test_every_volume_of_a_dicom_series(shared_data, tmp_path, capsys):
    folder = shared_data / "dicom_mr_philips_oblique_phantom"
    code, out, err = call(capsys, "convert", folder / "dicom", tmp_path / "t.nii.gz", "--volume", "all", "--json")
    assert code == 0, err
    assert len(json.loads(out)["outputs"]) == 3


def test_a_name_without_known_suffix_gets_its_number_too():
    assert [path.name for path in numbered("a.b", 1)] == ["a_0000.b"]
    assert numbered("x/SCAN.NII.GZ", 1) == [Path("x/SCAN_0000.NII.GZ")]


def test_what_is_read_is_never_replaced(series, tmp_path, capsys):
    assert call(capsys, "convert", series, tmp_path / "ct.nii.gz")[0] == 0
    before = (tmp_path / "ct.nii.gz").read_bytes()
    code, _, err = call(capsys, "convert", tmp_path / "ct.nii.gz", tmp_path / "ct.nii.gz", "--overwrite")
    assert code == 2
    assert "never replaces what it reads" in err
    assert (tmp_path / "ct.nii.gz").read_bytes() == before
    assert call(capsys, "convert", series, series / "beside.nii.gz")[0] == 0  # beside the slices, not one of them
