"""Colours and channels of one file are volumes that are chosen, or channels of a method: never read as one scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from click.testing import CliRunner

from medseg.cli.main import cli
from medseg.core.errors import SeveralVolumesError, UnsupportedFormatError
from medseg.io.options import ReadOptions
from medseg.io.read import read, read_label_map, read_volumes
from medseg.io.several import volume_count
from medseg.segmentation.segment import segment

SHAPE = (9, 8, 7)
AFFINE = np.array([[0.0, -0.8, 0.1, 4], [1.1, 0, 0, -7], [0, 0, 2.5, 3], [0, 0, 0, 1]])


def colours(count: int = 3) -> np.ndarray[Any, Any]:
    """Values (i, j, k, colour): the left half red, the right half blue, with an even noise."""
    values = np.random.default_rng(3).integers(0, 40, (*SHAPE, count)).astype(np.uint8)
    values[:4, :, :, 0] += 200
    values[4:, :, :, 2] += 200
    return values


def by_nibabel(path: Path, values: np.ndarray[Any, Any]) -> Path:
    kind = np.dtype([(name, "u1") for name in "RGBA"[: values.shape[3]]])
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(values).view(kind)[..., 0], AFFINE), path)
    return path


def by_simpleitk(path: Path, values: np.ndarray[Any, Any]) -> Path:
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0, 3)), isVector=True)
    image.SetSpacing((0.8, 1.1, 2.5))
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.nrrd", "x.mha"])
def test_each_colour_is_a_volume_that_must_be_chosen(tmp_path: Path, name: str, count: int) -> None:
    values = colours(count)
    path = (by_nibabel if ".nii" in name else by_simpleitk)(tmp_path / name, values)
    assert volume_count(path) == count
    with pytest.raises(SeveralVolumesError, match="colours") as caught:
        read(path)
    assert caught.value.count == count
    with pytest.raises(UnsupportedFormatError):
        read_label_map(path)
    for index in range(count):
        found = read(path, volume_index=index)
        np.testing.assert_array_equal(found.array, values[..., index])
        assert found.array.flags.f_contiguous
    with pytest.raises(UnsupportedFormatError, match=f"got {count}"):
        read(path, volume_index=count)


def test_the_grid_of_a_colour_is_that_of_the_file(tmp_path: Path) -> None:
    np.testing.assert_allclose(read(by_nibabel(tmp_path / "x.nii", colours()), volume_index=1).geometry.affine, AFFINE, atol=1e-6)


def test_a_colour_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = by_nibabel(tmp_path / "x.nii", colours())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Exception, match="cut short"):
        read(path, volume_index=0)


@pytest.mark.parametrize("name", ["x.nii.gz", "x.nrrd"])
def test_colours_are_channels_of_a_segmentation(tmp_path: Path, name: str) -> None:
    """Red and blue have one brightness: only the colours together tell the halves apart."""
    path = (by_nibabel if ".nii" in name else by_simpleitk)(tmp_path / name, colours())
    done = CliRunner().invoke(cli, ["segment", "k-means", str(path), "--volume", "all", "--classes", "2", "-o", str(tmp_path / "o.nii.gz")])
    assert done.exit_code == 0, done.output
    found = read_label_map(tmp_path / "o.nii.gz").array
    assert len(np.unique(found[:4])) == len(np.unique(found[4:])) == 1
    assert found[0, 0, 0] != found[-1, 0, 0]
    same = segment(tuple(read_volumes(path, ReadOptions())), "k-means", classes=2)
    np.testing.assert_array_equal(found, same.array)
