"""Labels of nnU-Net models run by medseg against those of nnunetv2 itself: same weights, same scans, same labels.

Weights are random, so labels look like noise: every voxel lies near a border of many structures, the worst case for
agreement. A trained network differs in far fewer voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("dynamic_network_architectures", reason="nnunetv2 is not installed (development only)")

import medseg
from medseg.segmentation.learned.nnunet.converted import convert_nnunet, open_converted
from medseg.segmentation.learned.nnunet.model import NnunetModel
from medseg.segmentation.learned.trained import Request

from .nnunet_models import ModelRecipe, write_model

LEAST_EQUAL = 0.9999
MOST_OF_ONE = 0.9  # the largest structure fills no more of a scan than this

Z_SCORE = {"channels": ("MRI",), "schemes": ("ZScoreNormalization",)}

CT_RECIPES = {
    "5 classes, same spacing": ModelRecipe(),
    "5 classes, finer": ModelRecipe(spacing=(2.5, 2.0, 2.2), seed=1),
    "25 classes, coarser": ModelRecipe(classes=25, spacing=(4.0, 4.5, 3.7), seed=2),
    "anisotropic plan": ModelRecipe(spacing=(8.0, 2.0, 2.0), patch=(4, 32, 32), stages=2, seed=3),
    "mirrored": ModelRecipe(classes=5, spacing=(3.5, 3.5, 3.5), mirror=True, seed=4),
    "three folds": ModelRecipe(classes=5, spacing=(3.5, 3.5, 3.5), folds=3, seed=5),
    "transposed": ModelRecipe(spacing=(3.3, 3.1, 3.6), transpose=(1, 0, 2), patch=(20, 12, 20), seed=6),
    "transposed all round": ModelRecipe(spacing=(3.3, 3.1, 3.6), transpose=(2, 0, 1), patch=(20, 12, 20), seed=7),
    "residual encoder": ModelRecipe(spacing=(3.3, 3.1, 3.6), residual=True, seed=8),
    "old plans": ModelRecipe(spacing=(3.3, 3.1, 3.6), old_plans=True, seed=9),
    "torch resampling": ModelRecipe(spacing=(2.7, 3.1, 3.6), torch_resampling=True, separate_z=False, seed=10),
    "torch resampling, separate": ModelRecipe(spacing=(10.0, 3.1, 3.0), patch=(4, 20, 20), stages=2, torch_resampling=True, seed=11),
    "regions": ModelRecipe(classes=5, spacing=(3.3, 3.1, 3.6), regions=True, seed=12),
    "ignore label": ModelRecipe(spacing=(3.3, 3.1, 3.6), ignore_label=True, seed=13),
    "smaller than the patch": ModelRecipe(spacing=(6.0, 6.0, 6.0), patch=(16, 24, 24), seed=14),
    "nibabel": ModelRecipe(spacing=(3.3, 3.1, 3.6), reader="NibabelIO", seed=15),
}  # fmt: skip


def agreement(
    oracle: Callable[..., np.ndarray],
    folder: Path,
    files: Sequence[Path],
    mirroring: bool | None = None,
    *,
    most_of_one: float = MOST_OF_ONE,
) -> float:
    """Share of voxels with equal labels; fails where the grids differ, or one structure fills (almost) all of the scan."""
    expected = oracle(folder, files, mirroring=mirroring is not False)
    volumes = tuple(medseg.read(file) for file in files)
    outcome = NnunetModel.open(folder).segment(volumes, Request(device="cpu", mirroring=mirroring))
    labels = outcome.labels.T
    assert labels.shape == expected.shape
    assert np.bincount(expected.ravel()).max() <= most_of_one * expected.size, "one structure fills the scan: agreement would mean little"
    return float((labels == expected).mean())


@pytest.mark.parametrize("name", CT_RECIPES)
def test_real_ct(name: str, oracle: Callable[..., np.ndarray], ct_file: Path, tmp_path: Path) -> None:
    folder = write_model(tmp_path, CT_RECIPES[name])
    assert agreement(oracle, folder, [ct_file]) >= LEAST_EQUAL


MR_RECIPES = {
    "z-score": ModelRecipe(**Z_SCORE, spacing=(3.3, 3.1, 3.6), seed=20),
    "z-score within the mask": ModelRecipe(**Z_SCORE, mask_for_norm=True, spacing=(3.3, 3.1, 3.6), seed=21),
    "no normalisation": ModelRecipe(channels=("MRI",), schemes=("NoNormalization",), seed=22),
    "rescaled to 0..1": ModelRecipe(channels=("MRI",), schemes=("RescaleTo01Normalization",), spacing=(2.5, 3.0, 3.0), seed=23),
    "SimpleITK, reoriented": ModelRecipe(**Z_SCORE, reader="SimpleITKIOWithReorient", spacing=(2.5, 3.1, 3.6), seed=24),
    "nibabel, reoriented": ModelRecipe(**Z_SCORE, reader="NibabelIOWithReorient", spacing=(2.5, 3.1, 3.6), seed=25),
    "nibabel, transposed": ModelRecipe(**Z_SCORE, reader="NibabelIO", transpose=(2, 0, 1), patch=(20, 12, 20), seed=26),
}


@pytest.mark.parametrize("name", MR_RECIPES)
def test_real_mr(name: str, oracle: Callable[..., np.ndarray], mr_file: Path, tmp_path: Path) -> None:
    folder = write_model(tmp_path, MR_RECIPES[name])
    assert agreement(oracle, folder, [mr_file]) >= LEAST_EQUAL


@pytest.mark.parametrize("reader", ["SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient"])
@pytest.mark.parametrize("turned", ["permuted", "oblique"])
def test_turned_scans(reader: str, turned: str, oracle: Callable[..., np.ndarray], ct_file: Path, tmp_path: Path) -> None:
    """The same voxels under another affine: axes in another order and direction, or turned out of the patient's planes."""
    image = nibabel.load(ct_file)
    if turned == "permuted":
        image = image.as_reoriented(np.array([[1, -1], [2, 1], [0, -1]]))
    else:
        a, b = np.radians((25.0, -33.0))
        about_s = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
        about_r = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
        affine = np.eye(4)
        affine[:3, :3] = about_s @ about_r @ np.diag([-3.0, 3.0, 3.0])
        image = nibabel.Nifti1Image(np.asanyarray(image.dataobj), affine)
    nibabel.save(image, tmp_path / "turned.nii.gz")
    folder = write_model(tmp_path, ModelRecipe(reader=reader, spacing=(3.3, 3.1, 3.6), seed=30))
    assert agreement(oracle, folder, [tmp_path / "turned.nii.gz"]) >= LEAST_EQUAL


@pytest.mark.parametrize("plan", [(8.0, 2.5, 2.5), (3.0, 3.0, 3.0), (2.5, 8.0, 2.5)])
def test_thick_slices(plan: tuple[float, float, float], oracle: Callable[..., np.ndarray], ct_file: Path, tmp_path: Path) -> None:
    """Scans with slices far thicker than pixels, to plans that are so too or not, or along another axis."""
    image = nibabel.load(ct_file)
    thick = np.asanyarray(image.dataobj)[:, :, ::4]
    nibabel.save(nibabel.Nifti1Image(thick, image.affine @ np.diag([1, 1, 4, 1])), tmp_path / "thick.nii.gz")
    patch = (4, 20, 20) if plan[0] > 5 else (12, 4, 20) if plan[1] > 5 else (12, 20, 20)
    folder = write_model(tmp_path, ModelRecipe(spacing=plan, patch=patch, stages=2, seed=31))
    assert agreement(oracle, folder, [tmp_path / "thick.nii.gz"]) >= LEAST_EQUAL


@pytest.mark.parametrize("mask", [False, True])
def test_empty_borders_are_cropped(mask: bool, oracle: Callable[..., np.ndarray], mr_file: Path, tmp_path: Path) -> None:
    image = nibabel.load(mr_file)
    array = np.asanyarray(image.dataobj).copy()
    array[:7] = array[-4:] = 0
    array[:, :5] = array[:, :, :3] = array[:, :, -2:] = 0
    array[20:23, 20:23, 8:10] = 0  # a hole that is not outside
    nibabel.save(nibabel.Nifti1Image(array, image.affine), tmp_path / "cropped.nii.gz")
    folder = write_model(tmp_path, ModelRecipe(**Z_SCORE, mask_for_norm=mask, spacing=(3.3, 3.1, 3.6), seed=32))
    assert agreement(oracle, folder, [tmp_path / "cropped.nii.gz"]) >= LEAST_EQUAL


@pytest.mark.parametrize("crop", [np.s_[:, :, 9:10], np.s_[5:6, :, :], np.s_[10:14, 20:23, 8:10]], ids=["one slice", "one column", "crumb"])
def test_hardly_a_volume(crop: tuple[slice, ...], oracle: Callable[..., np.ndarray], ct_file: Path, tmp_path: Path) -> None:
    nibabel.save(nibabel.load(ct_file).slicer[crop], tmp_path / "small.nii.gz")
    folder = write_model(tmp_path, ModelRecipe(spacing=(2.0, 2.2, 2.4), seed=38))
    assert agreement(oracle, folder, [tmp_path / "small.nii.gz"], most_of_one=1) >= LEAST_EQUAL


def test_two_channels(oracle: Callable[..., np.ndarray], ct_file: Path, tmp_path: Path) -> None:
    image = nibabel.load(ct_file)
    other = np.sqrt(np.abs(np.asanyarray(image.dataobj).astype(np.float32)))
    other[:6] = 0
    nibabel.save(nibabel.Nifti1Image(other, image.affine), tmp_path / "other.nii.gz")
    recipe = ModelRecipe(
        channels=("CT", "something"), schemes=("CTNormalization", "ZScoreNormalization"), spacing=(3.3, 3.1, 3.6), mirror=True, seed=33
    )
    folder = write_model(tmp_path, recipe)
    assert agreement(oracle, folder, [ct_file, tmp_path / "other.nii.gz"]) >= LEAST_EQUAL


def test_mirroring_left_off(oracle: Callable[..., np.ndarray], ct_file: Path, tmp_path: Path) -> None:
    folder = write_model(tmp_path, ModelRecipe(spacing=(4.0, 4.0, 4.0), mirror=True, seed=34))
    assert agreement(oracle, folder, [ct_file], mirroring=False) >= LEAST_EQUAL


@pytest.mark.parametrize("torch_resampling", [False, True])
def test_cascade(torch_resampling: bool, oracle: Callable[..., np.ndarray], ct_file: Path, tmp_path: Path) -> None:
    """Both stages by nnunetv2, the first one's labels through a file, against one call."""
    recipe = ModelRecipe(
        spacing=(3.3, 3.1, 3.6), low_spacing=(5.0, 5.2, 4.8), cascade=True, torch_resampling=torch_resampling, separate_z=False, seed=35
    )
    folder = write_model(tmp_path, recipe)
    first = folder.with_name(folder.name.replace("3d_cascade_fullres", "3d_lowres"))
    labels = oracle(first, [ct_file]).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(labels, nibabel.load(ct_file).affine), tmp_path / "first.nii.gz")
    expected = oracle(folder, [ct_file], previous=tmp_path / "first.nii.gz")
    outcome = NnunetModel.open(folder).segment((medseg.read(ct_file),), Request(device="cpu"))
    assert (expected == outcome.labels.T).mean() >= LEAST_EQUAL


def test_105_classes(oracle: Callable[..., np.ndarray], ct_file: Path, tmp_path: Path) -> None:
    folder = write_model(tmp_path, ModelRecipe(classes=105, spacing=(4.0, 4.0, 4.0), seed=36))
    assert agreement(oracle, folder, [ct_file]) >= LEAST_EQUAL


def test_converted_model_gives_the_labels_of_the_original(ct_file: Path, tmp_path: Path) -> None:
    folder = write_model(tmp_path, ModelRecipe(spacing=(4.0, 4.0, 4.0), low_spacing=(6, 6, 6), cascade=True, folds=2, mirror=True, seed=37))
    convert_nnunet(folder, tmp_path / "converted")
    scan = (medseg.read(ct_file),)
    request = Request(device="cpu", mirroring=False)
    original = NnunetModel.open(folder).segment(scan, request)
    converted = open_converted(tmp_path / "converted").segment(scan, request)
    assert len(np.unique(original.labels)) > 2
    assert (original.labels == converted.labels).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "spacing", "mirror"),
    [
        (5, (3.0, 3.0, 3.0), True),
        (5, (2.0, 2.0, 2.0), False),
        (5, (9.0, 2.5, 2.5), True),
        (25, (3.0, 3.0, 3.0), False),
        (25, (2.0, 2.0, 2.0), True),
        (25, (9.0, 2.5, 2.5), False),
        (105, (3.0, 3.0, 3.0), True),
        (105, (2.0, 2.0, 2.0), False),
        (105, (9.0, 2.5, 2.5), True),
    ],
    ids=str,
)
def test_whole_ct(
    classes: int, spacing: tuple[float, float, float], mirror: bool, oracle: Callable[..., np.ndarray], shared_data: Path, tmp_path: Path
) -> None:
    """The whole scan, with patches of a size nearer to real ones: every number of classes on every spacing, mirrored in turn."""
    patch = (8, 48, 48) if spacing[0] > 5 else (24, 48, 48)
    stages = 2 if spacing[0] > 5 else 4
    folder = write_model(tmp_path, ModelRecipe(classes=classes, spacing=spacing, mirror=mirror, patch=patch, stages=stages, seed=classes))
    assert agreement(oracle, folder, [shared_data / "ct_totalseg_organs" / "image.nii.gz"]) >= LEAST_EQUAL
