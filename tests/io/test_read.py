from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medseg.core.errors import InputError, SegmentError, UnreadableFileError, UnsupportedFormatError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.io.read import holds_label_map, read, read_label_map
from medseg.io.write import write

SCAN_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")


@pytest.mark.parametrize("suffix", SCAN_SUFFIXES)
@pytest.mark.parametrize("name", ["scan", "with space é", "UPPER.1.2", "n" * 200])
def test_names_and_suffixes_decide_nothing(scan: Volume, tmp_path: Path, suffix: str, name: str) -> None:
    path = write(scan, tmp_path / f"{name}{suffix}")
    for renamed in (path, path.rename(tmp_path / "no suffix"), (tmp_path / "no suffix").rename(tmp_path / "x.dcm")):
        if renamed == path:
            continue
        volume = read(tmp_path / "x.dcm")
        np.testing.assert_array_equal(volume.array, scan.array)
        assert volume.geometry.matches(scan.geometry)


@pytest.mark.parametrize(("suffix", "name"), [(".nii", "NIfTI-1"), (".nii.gz", "NIfTI-1"), (".nrrd", "NRRD"), (".mha", "MetaImage")])
def test_the_source_says_where_a_volume_came_from(scan: Volume, tmp_path: Path, suffix: str, name: str) -> None:
    path = write(scan, tmp_path / f"x{suffix}")
    volume = read(str(path))
    assert volume.source is not None
    assert (volume.source.path, volume.source.format, volume.source.files) == (str(path), name, (str(path),))
    assert (volume.modality, volume.unit) == ("", "")


@pytest.mark.parametrize("suffix", [*SCAN_SUFFIXES, ".seg.nrrd"])
def test_label_maps_keep_their_names(organs: LabelMap, tmp_path: Path, suffix: str) -> None:
    path = write(organs, tmp_path / f"x{suffix}")
    got = read_label_map(path)
    assert got.segments == organs.segments
    np.testing.assert_array_equal(got.array, organs.array)
    assert holds_label_map(path)


def test_a_label_table_names_the_labels_of_others(tmp_path: Path, grid: Geometry) -> None:
    array = np.zeros(grid.shape, np.int16)
    array[0, 0, 0], array[1, 1, 1] = 1, 2
    path = write(Volume(array, grid), tmp_path / "x.nii.gz")
    assert not holds_label_map(path)
    assert [segment.label for segment in read_label_map(path).segments] == ["segment_1", "segment_2"]
    (tmp_path / "x.labels.csv").write_text("LabelValue,Name\n0,background\n1,liver\n7,not here\n")
    assert [segment.label for segment in read_label_map(path).segments] == ["liver", "segment_2", "not here"]
    assert holds_label_map(path)


def test_a_scan_is_no_label_map(scan: Volume, tmp_path: Path) -> None:
    for suffix in SCAN_SUFFIXES:
        path = write(scan, tmp_path / suffix[1:] / f"x{suffix}")
        with pytest.raises(SegmentError, match="negative"):
            read_label_map(path)
        assert not holds_label_map(path)


def test_very_many_labels_are_doubted(tmp_path: Path) -> None:
    grid = Geometry((60, 50, 30), np.eye(4))
    array = np.arange(90_000, dtype=np.int32).reshape(grid.shape)
    with pytest.raises(SegmentError, match="different numbers"):
        read_label_map(write(Volume(array, grid), tmp_path / "a.nii.gz"))
    organs = read_label_map(write(Volume(array // 100, grid), tmp_path / "b.nii.gz"))
    assert [finding.code for finding in organs.findings] == ["MANY_LABELS"]


def test_what_is_not_there_or_no_image_raises(tmp_path: Path) -> None:
    (tmp_path / "empty.nii").write_bytes(b"")
    (tmp_path / "text.nii").write_text("just words, not an image\n" * 50)
    (tmp_path / "folder").mkdir()
    for reader in (read, read_label_map):
        for name, error in (
            ("missing.nii", UnreadableFileError),
            ("empty.nii", UnreadableFileError),
            ("text.nii", UnsupportedFormatError),
            ("folder", InputError),
        ):
            with pytest.raises(error) as caught:
                reader(tmp_path / name)
            assert name in str(caught.value)
    assert not any(holds_label_map(tmp_path / name) for name in ("missing.nii", "empty.nii", "text.nii", "folder"))


def test_dicom_is_read_through_the_same_door(shared_data: Path) -> None:
    folder = shared_data / "ct_totalseg_dicom" / "dicom"
    volume = read(folder)
    assert (volume.modality, volume.unit, volume.geometry.shape) == ("CT", "HU", (512, 512, 20))
    organs = read_label_map(shared_data / "ct_totalseg_dicom" / "labels.nii.gz")
    assert organs["liver"].number == 5
    seg = next((shared_data / "dicom_seg_dcmqi_ct").rglob("*.dcm"))
    assert isinstance(holds_label_map(seg), bool)


def test_a_segmentation_with_one_layer_can_be_shown_as_a_scan(organs: LabelMap, tmp_path: Path) -> None:
    volume = read(write(organs, tmp_path / "x.seg.nrrd"))
    np.testing.assert_array_equal(volume.array, organs.array)


def test_reading_nifti_imports_no_dicom_package(scan: Volume, tmp_path: Path) -> None:
    path = write(scan, tmp_path / "x.nii.gz")
    code = (
        "import sys; from medseg.io.read import read; from medseg.io.write import write;"
        f"write(read({str(path)!r}), {str(tmp_path / 'y.nrrd')!r});"
        "sys.exit(sum(name in sys.modules for name in ('pydicom', 'highdicom', 'nibabel', 'SimpleITK', 'torch', 'numba')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0
