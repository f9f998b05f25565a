from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from medseg.core.errors import OutputError, OutputExistsError, UnsupportedFormatError
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.io import write as writing
from medseg.io.read import read, read_label_map
from medseg.io.write import check_output, check_source, write

SCAN_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")
LABEL_SUFFIXES = (*SCAN_SUFFIXES, ".seg.nrrd")


@pytest.mark.parametrize("suffix", SCAN_SUFFIXES)
def test_scans_come_back_equal(scan: Volume, tmp_path: Path, suffix: str) -> None:
    path = write(scan, tmp_path / "new folder" / f"x{suffix}")
    volume = read(path)
    np.testing.assert_array_equal(volume.array, scan.array)
    assert volume.array.dtype == scan.array.dtype
    assert volume.geometry.distance_mm(scan.geometry) < 1e-4
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("suffix", SCAN_SUFFIXES)
def test_label_maps_get_a_table_beside_them(organs: LabelMap, tmp_path: Path, suffix: str) -> None:
    write(organs, tmp_path / f"x{suffix}")
    assert sorted(os.listdir(tmp_path)) == ["x.labels.csv", f"x{suffix}"]


def test_a_seg_nrrd_needs_no_table(organs: LabelMap, tmp_path: Path) -> None:
    write(organs, tmp_path / "x.seg.nrrd")
    assert os.listdir(tmp_path) == ["x.seg.nrrd"]


@pytest.mark.parametrize("suffix", [".xyz", "", ".nii.bz2", ".csv"])
def test_unknown_suffixes_name_the_known_ones(scan: Volume, tmp_path: Path, suffix: str) -> None:
    for call in (lambda: write(scan, tmp_path / f"x{suffix}"), lambda: check_output(tmp_path / f"x{suffix}", label_map=False)):
        with pytest.raises(UnsupportedFormatError, match=r"\.nii\.gz, \.nii, \.seg\.nrrd") as caught:
            call()
        assert caught.value.exit_code == 5
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".seg.nrrd", ".dcm"])
def test_scans_do_not_go_into_formats_of_segments(scan: Volume, tmp_path: Path, suffix: str) -> None:
    with pytest.raises(UnsupportedFormatError, match="holds segments"):
        write(scan, tmp_path / f"x{suffix}")


def test_a_dicom_seg_needs_a_scan_from_dicom(organs: LabelMap, scan: Volume, tmp_path: Path) -> None:
    for source in (None, scan, read(write(scan, tmp_path / "scan.nii"))):
        with pytest.raises(UnsupportedFormatError, match=r"read from DICOM.*or write \.nii\.gz"):
            write(organs, tmp_path / "x.dcm", source=source)
    assert os.listdir(tmp_path) == ["scan.nii"]


def test_a_dicom_seg_comes_back_equal(shared_data: Path, tmp_path: Path) -> None:
    source = read(shared_data / "tumour_sts_025" / "dicom" / "MR_T1")
    array = np.zeros(source.geometry.shape, np.uint8)
    array[10:30, 15:25, 4:9] = 5
    organs = LabelMap(array, source.geometry, (Segment(5, "liver", colour=(200, 100, 0)),))
    got = read_label_map(write(organs, tmp_path / "x.dcm", source=source))
    assert int((got.array > 0).sum()) == 20 * 10 * 5
    assert got.geometry.voxel_volume_mm3 == pytest.approx(source.geometry.voxel_volume_mm3)
    assert [segment.label for segment in got.segments] == ["liver"]
    with pytest.raises(OutputExistsError):
        write(organs, tmp_path / "x.dcm", source=source)


@pytest.mark.parametrize("suffix", LABEL_SUFFIXES)
def test_existing_files_are_kept_unless_overwriting_is_allowed(organs: LabelMap, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_text("mine")
    for call in (lambda: write(organs, path), lambda: check_output(path, label_map=True)):
        with pytest.raises(OutputExistsError):
            call()
    assert path.read_text() == "mine"
    check_output(path, label_map=True, overwrite=True)
    write(organs, path, overwrite=True)
    assert read_label_map(path).segments == organs.segments


def test_an_existing_table_stops_the_write_before_it_begins(organs: LabelMap, tmp_path: Path) -> None:
    (tmp_path / "x.labels.csv").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"x\.labels\.csv"):
        write(organs, tmp_path / "x.nii.gz")
    assert os.listdir(tmp_path) == ["x.labels.csv"]


def test_one_table_serves_the_same_segments_in_two_formats(organs: LabelMap, tmp_path: Path) -> None:
    for suffix in (".nii.gz", ".nrrd"):
        write(organs, tmp_path / f"x{suffix}")
    other = LabelMap(organs.array, organs.geometry, (*organs.segments[:2], Segment(9, "another")))
    with pytest.raises(OutputExistsError, match="with other names"):
        write(other, tmp_path / "x.mha")
    assert sorted(os.listdir(tmp_path)) == ["x.labels.csv", "x.nii.gz", "x.nrrd"]


def test_an_old_table_never_names_new_segments(organs: LabelMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the new table cannot be written the old one goes, so that its names are not taken for the new numbers."""
    (tmp_path / "x.labels.csv").write_text("LabelValue,Name\n1,something else\n")

    def full_disk(*_: object) -> Path:
        raise OutputError("full")

    monkeypatch.setattr(writing, "write_label_table", full_disk)
    with pytest.raises(OutputError):
        write(organs, tmp_path / "x.nii.gz", overwrite=True)
    assert os.listdir(tmp_path) == []


def test_more_names_than_are_read_again_are_refused_before_anything_is_written(organs: LabelMap, tmp_path: Path) -> None:
    many = LabelMap(organs.array, organs.geometry, tuple(Segment(n, f"region {n} {'x' * 4000}") for n in range(1, 5000)))
    (tmp_path / "x.nii.gz").write_text("mine")
    with pytest.raises(OutputError, match=r"x\.labels\.csv.*4,999 segments.*MB"):
        write(many, tmp_path / "x.nii.gz", overwrite=True)
    assert (tmp_path / "x.nii.gz").read_text() == "mine"
    assert os.listdir(tmp_path) == ["x.nii.gz"]


def test_a_folder_in_the_way_is_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "x.nii").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        check_output(tmp_path / "x.nii", label_map=True, overwrite=True)


def test_a_folder_for_each_segment_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not of a folder"):
        check_output(tmp_path / "{label}" / "x.stl", label_map=True)
    check_output(tmp_path / "{label}.stl", label_map=True)


def test_a_dicom_object_without_its_scan_is_found_before_the_work(scan: Volume, tmp_path: Path) -> None:
    for suffix, kind in ((".dcm", "SEG"), (".rtstruct.dcm", "RTSTRUCT")):
        for source in (None, scan):
            with pytest.raises(OutputError, match=f"DICOM {kind}"):
                check_source(tmp_path / f"x{suffix}", source)
    check_source(tmp_path / "x.nii.gz", None)


@pytest.mark.parametrize("suffix", LABEL_SUFFIXES)
def test_places_that_cannot_be_written(organs: LabelMap, tmp_path: Path, suffix: str) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / f"x{suffix}"
    for call in (lambda: write(organs, path), lambda: check_output(path, label_map=True)):
        with pytest.raises(OutputError) as caught:
            call()
        assert caught.value.exit_code == 5


@pytest.mark.skipif(os.name != "posix" or not os.path.exists("/dev/shm"), reason="needs a POSIX system")
@pytest.mark.parametrize("suffix", LABEL_SUFFIXES)
def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    """A limit on the size of files stands for the full disk: the kernel refuses the write as it does there."""
    import subprocess
    import sys

    code = (
        "import resource, signal, sys, numpy as np\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from medseg.core.errors import OutputError\n"
        "from medseg.core.geometry import Geometry\n"
        "from medseg.core.label_map import LabelMap\n"
        "from medseg.core.segment import Segment\n"
        "from medseg.io.write import write\n"
        "array = np.random.default_rng(0).integers(0, 2, (64, 64, 64), dtype=np.uint8)\n"
        "organs = LabelMap(array, Geometry(array.shape, np.eye(4)), (Segment(1, 'liver'),))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try:\n"
        f"    write(organs, {str(tmp_path / ('x' + suffix))!r})\n"
        "except OutputError:\n"
        "    sys.exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 7
    assert os.listdir(tmp_path) == []
