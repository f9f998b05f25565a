from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from made_series import numbered_volume

from medseg.core.errors import GeometryError, InputError, OutputExistsError, OutputVerificationError
from medseg.core.volume import Volume
from medseg.io.dicom import series as series_module
from medseg.io.dicom.series import write_series
from medseg.io.dicom.volume import read_series

OBLIQUE = np.array([[-0.68, 0.13, 0.5, 7.125], [0.11, 0.85, -0.9, -40.5], [-0.13, 0.25, 2.2, 300.0625], [0, 0, 0, 1]])


def _right_angled(affine: np.ndarray) -> np.ndarray:
    """Make i and j perpendicular, as an image must have them; k may lean."""
    result = affine.copy()
    i, j = affine[:3, 0], affine[:3, 1]
    result[:3, 1] = j - i * (i @ j) / (i @ i)
    return result


GRIDS = {
    "axial": np.diag([-0.7, -0.9, 2.5, 1.0]),
    "RAS": np.array([[0.7, 0, 0, -5], [0, 0.9, 0, 3], [0, 0, 2.5, 1], [0, 0, 0, 1.0]]),
    "left-handed": np.array([[-0.7, 0, 0, -5], [0, 0.9, 0, 3], [0, 0, 2.5, 1], [0, 0, 0, 1.0]]),
    "sagittal": np.array([[0, 0, 3, -5], [-0.5, 0, 0, 3], [0, -0.75, 0, 1], [0, 0, 0, 1.0]]),
    "oblique and tilted": _right_angled(OBLIQUE),
}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("compressed", [False, True])
def test_every_voxel_comes_back_at_its_place(tmp_path: Path, name: str, modality: str, compressed: bool) -> None:
    volume = numbered_volume((6, 5, 7), GRIDS[name], modality)
    files = write_series(volume, tmp_path / "s", seed="x", compressed=compressed)
    assert len(files) == 7
    back = read_series(tmp_path / "s")
    index = np.stack(np.meshgrid(*map(np.arange, volume.array.shape), indexing="ij"), -1).reshape(-1, 3)
    places = back.geometry.world_to_index(volume.geometry.index_to_world(index))
    assert np.abs(places - np.rint(places)).max() < 1e-6
    assert (back.array[tuple(np.rint(places).astype(int).T)] == volume.array[tuple(index.T)]).all()
    assert back.geometry.voxel_volume_mm3 == pytest.approx(volume.geometry.voxel_volume_mm3)


def test_itk_reads_the_same(tmp_path: Path) -> None:
    volume = numbered_volume((6, 5, 7), GRIDS["left-handed"])
    write_series(volume, tmp_path / "s", compressed=True)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "s")))
    theirs = sitk.GetArrayFromImage(image)
    for index in np.ndindex(*volume.array.shape):
        x, y, z = volume.geometry.index_to_world(index)
        i, j, k = image.TransformPhysicalPointToIndex((float(-x), float(-y), float(z)))
        assert theirs[k, j, i] == volume.array[index]


def test_a_seed_fixes_every_byte_and_no_seed_is_new(tmp_path: Path) -> None:
    volume = numbered_volume()
    one, two, other, new, newer = (
        [file.read_bytes() for file in write_series(volume, tmp_path / name, seed=seed)]
        for name, seed in (("a", "s"), ("b", "s"), ("c", "t"), ("d", None), ("e", None))
    )
    assert one == two
    assert len({one[0], other[0], new[0], newer[0]}) == 4


def test_identity_is_synthetic_and_consistent(tmp_path: Path) -> None:
    files = write_series(numbered_volume(), tmp_path / "s", seed="s", series_description="a phantom")
    headers = [pydicom.dcmread(file) for file in files]
    assert {str(header.PatientName) for header in headers} == {"PHANTOM^MEDSEG"}
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({header[keyword].value for header in headers}) == 1
    assert len({header.SOPInstanceUID for header in headers}) == 6
    assert headers[0].SeriesDescription == "a phantom"
    assert (headers[0].RescaleIntercept, headers[0].RescaleSlope) == (-1024, 1)


def test_values(tmp_path: Path) -> None:
    base = numbered_volume()
    rounded = write_and_read(base.with_array(base.array + 0.4), tmp_path / "a")
    np.testing.assert_array_equal(rounded.array, base.array)  # CT is rounded to whole HU
    real = base.with_array((base.array * 0.0371).astype(np.float32), modality="MR")
    step = float(np.ptp(real.array)) / 32767
    np.testing.assert_allclose(write_and_read(real, tmp_path / "b").array, real.array, atol=0.51 * step)
    constant = base.with_array(np.full(base.array.shape, 0.25, np.float32), modality="MR")
    np.testing.assert_array_equal(write_and_read(constant, tmp_path / "c").array, 0.25)
    high = base.with_array(np.full(base.array.shape, 3071.0), modality="CT")
    assert write_and_read(high, tmp_path / "d").array.max() == 3071


def write_and_read(volume: Volume, folder: Path) -> Volume:
    write_series(volume, folder)
    return read_series(folder)


def test_what_no_series_can_hold(tmp_path: Path) -> None:
    base = numbered_volume()
    with pytest.raises(InputError, match="modality"):
        write_series(base.with_array(base.array, modality="PT"), tmp_path / "s")
    with pytest.raises(InputError, match="NaN"):
        write_series(base.with_array(np.where(base.array == 0, np.nan, 1.0)), tmp_path / "s")
    with pytest.raises(InputError, match="16 bits"):
        write_series(base.with_array(base.array.astype(np.int32) * 1000), tmp_path / "s")
    skewed = np.diag([0.7, 0.9, 2.5, 1.0])
    skewed[0, 1] = 0.2
    with pytest.raises(GeometryError, match="right angle"):
        write_series(numbered_volume(affine=skewed), tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "s"
    write_series(numbered_volume((4, 4, 6)), target)
    with pytest.raises(OutputExistsError, match="allow overwriting"):
        write_series(numbered_volume((4, 4, 3)), target)
    write_series(numbered_volume((4, 4, 3)), target, overwrite=True)
    assert len(list(target.iterdir())) == 3  # none of the old slices stays beside the new ones
    (target / "mine.txt").write_text("x")
    with pytest.raises(OutputExistsError, match="other files"):
        write_series(numbered_volume(), target, overwrite=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["s"]


def test_what_reads_back_wrong_never_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = series_module._save

    def spoil(dataset: pydicom.Dataset, path: Path, compressed: bool) -> None:
        dataset.PixelData = dataset.PixelData[:-2] + b"\x01\x01"
        original(dataset, path, compressed)

    monkeypatch.setattr(series_module, "_save", spoil)
    with pytest.raises(OutputVerificationError, match="intensities"):
        write_series(numbered_volume(), tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian's dicom3tools) is not installed")
@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("compressed", [False, True])
def test_the_files_conform_to_the_standard(tmp_path: Path, modality: str, compressed: bool) -> None:
    files = write_series(numbered_volume((6, 5, 3), GRIDS["oblique and tilted"], modality), tmp_path / "s", compressed=compressed)
    for file in files:
        said = subprocess.run(["dciodvfy", "-new", str(file)], capture_output=True, text=True, check=False)
        assert said.returncode == 0
        assert "Error" not in said.stdout + said.stderr
    entities = subprocess.run(["dcentvfy", *map(str, files)], capture_output=True, text=True, check=False)
    assert (entities.returncode, entities.stdout + entities.stderr) == (0, "")
