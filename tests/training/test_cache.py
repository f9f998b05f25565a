"""Prepared cases against numpy and SimpleITK; reuse, change, damage and interruption of the cache."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from medseg.core.errors import InputError
from medseg.core.geometry import Geometry
from medseg.preprocessing.plan import plan_preparation
from medseg.training.cache import CachedCase, cache_cases, prepare_case
from medseg.training.dataset import Dataset, read_dataset
from medseg.training.fingerprint import take_fingerprint
from medseg.training.label_grid import labels_on_target
from medseg.training.plan import TrainingPlan
from medseg.training.planning import make_plan


def planned(folder: Path, **changes) -> tuple[Dataset, TrainingPlan]:
    dataset = read_dataset(folder)
    plan = make_plan(dataset, take_fingerprint(dataset), memory_mb=4000, device="cpu")
    return dataset, plan.model_copy(update=changes)


def times(cases: list[CachedCase], folder: Path) -> list[int]:
    return [(folder / f"{case.id}.image.npy").stat().st_mtime_ns for case in cases]


def test_hippocampus_is_each_scan_by_its_own_mean_and_deviation_and_its_labels(shared_data: Path, tmp_path: Path) -> None:
    dataset = read_dataset(shared_data / "msd_task04_hippocampus")
    dataset = dataset.without({case.id: ("not in this test",) for case in dataset.cases[4:]})
    plan = make_plan(dataset, take_fingerprint(dataset), memory_mb=8000, device="cpu")
    for cached, case in zip(cache_cases(dataset, plan, tmp_path), dataset.cases, strict=True):
        scan, labels = (np.asarray(nibabel.load(path).dataobj) for path in (case.images[0], case.label))
        scan = scan.astype(np.float64)
        np.testing.assert_allclose(cached.image[0].T, (scan - scan.mean()) / scan.std(), atol=1e-4)
        np.testing.assert_array_equal(cached.labels.T, labels)
        assert cached.background[0] == pytest.approx((scan.min() - scan.mean()) / scan.std(), abs=1e-4)
        assert (cached.image.dtype, cached.labels.dtype, isinstance(cached.image, np.memmap)) == (np.float32, np.uint8, True)


def test_what_is_there_is_reused_and_what_changed_is_made_anew(make_dataset, tmp_path: Path) -> None:
    dataset, plan = planned(make_dataset(4))
    cache = tmp_path / "cache"
    first = cache_cases(dataset, plan, cache)
    made = times(first, cache)
    assert times(cache_cases(dataset, plan, cache), cache) == made

    image = nibabel.load(dataset.cases[1].images[0])
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj) ** 2, image.affine), dataset.cases[1].images[0])
    second = cache_cases(dataset, plan, cache)
    assert [a == b for a, b in zip(times(second, cache), made, strict=True)] == [True, False, True, True]
    assert [a.key == b.key for a, b in zip(second, first, strict=True)] == [True, False, True, True]

    dataset.cases[2].label.touch()  # another time, the same content
    assert cache_cases(dataset, plan, cache)[2].key == first[2].key

    coarse = plan.model_copy(update={"spacing_mm": (2.0, 2.0, 2.0)})
    assert cache_cases(dataset, coarse, cache)[0].shape == (10, 9, 8)


@pytest.mark.parametrize("damage", ["truncated", "missing", "no record"])
def test_damaged_files_are_made_anew(make_dataset, tmp_path: Path, damage: str) -> None:
    dataset, plan = planned(make_dataset(2))
    before = np.array(cache_cases(dataset, plan, tmp_path)[0].image)
    path = tmp_path / "c0.image.npy"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "missing":
        path.unlink()
    else:
        (tmp_path / "c0.json").write_text("{")
    np.testing.assert_array_equal(cache_cases(dataset, plan, tmp_path)[0].image, before)


def test_processes_make_the_same(make_dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, plan = planned(make_dataset(5))
    alone = cache_cases(dataset, plan, tmp_path / "a")
    monkeypatch.setattr("medseg.training.cache._WORTH_PROCESSES_SECONDS", 0.0)
    seen: list[tuple[int, int]] = []
    together = cache_cases(dataset, plan, tmp_path / "b", lambda _, done, total: seen.append((done, total)), workers=2)
    assert [case.id for case in together] == [case.id for case in alone]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
    assert seen == [(n, 5) for n in range(1, 6)]


def test_unjudged_voxels_are_255_and_labels_are_channels(make_dataset, tmp_path: Path) -> None:
    folder = make_dataset(2, labels={"background": 0, "second": 2, "ignore": 7, "first": 1})
    path = folder / "labelsTr" / "c0.nii.gz"
    image = nibabel.load(path)
    array = np.asarray(image.dataobj).copy()
    array[0] = 7
    nibabel.save(nibabel.Nifti1Image(array, image.affine), path)
    dataset, plan = planned(folder)
    cached = cache_cases(dataset, plan, tmp_path / "cache")[0]
    np.testing.assert_array_equal(cached.labels.T, np.where(array == 7, 255, array))


def test_a_fault_names_the_case_and_another_dataset_is_refused(make_dataset, tmp_path: Path) -> None:
    dataset, plan = planned(make_dataset(2))
    dataset.cases[0].images[0].write_bytes(b"not an image")
    with pytest.raises(InputError, match="case c0: "):
        prepare_case(dataset.cases[0], dataset, plan, tmp_path)
    other = read_dataset(make_dataset(2, name="other", labels={"0": "background", "1": "first", "2": "b", "3": "c"}))
    with pytest.raises(InputError, match=r"label numbers \[1, 2\], the dataset has \[1, 2, 3\]"):
        cache_cases(other, plan, tmp_path)


@pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), (0.5, 0.7, 0.9), (3.0, 2.0, 4.0)])
def test_labels_on_another_grid_keep_their_volume_and_agree_with_simpleitk(affine: np.ndarray, spacing: tuple[float, float, float]) -> None:
    k, j, i = np.meshgrid(np.arange(20), np.arange(40), np.arange(50), indexing="ij")
    labels = np.zeros(k.shape, np.uint8)
    radius = ((i - 24) * 0.8) ** 2 + ((j - 20) * 1.1) ** 2 + ((k - 10) * 2.5) ** 2
    labels[radius < 15**2] = 1
    labels[(radius < 15**2) & (i > 27)] = 3
    geometry = Geometry((50, 40, 20), affine)
    plan = plan_preparation(geometry, spacing, "RAS", "patient")
    ours = labels_on_target(labels, geometry, plan)
    before, after = ((array > 0).sum() * grid.voxel_volume_mm3 for array, grid in ((labels, geometry), (ours, plan.target)))
    assert after == pytest.approx(before, rel=0.05)
    for number in (1, 3):
        before = (labels == number).sum() * geometry.voxel_volume_mm3
        after = (ours == number).sum() * plan.target.voxel_volume_mm3
        # the flat face between the labels can move by half a target voxel
        assert after == pytest.approx(before, abs=0.5 * max(spacing) * np.pi * 15**2)
    if geometry.is_sheared:  # SimpleITK holds no shear
        return
    reference = _through_simpleitk(labels, geometry, plan.target)
    assert (ours == reference).mean() > (0.985 if max(spacing) < 3 else 0.95)


def test_labels_on_the_same_grid_and_on_turned_axes_stay_as_they_are() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (5, 6, 7)).astype(np.uint8)
    geometry = Geometry((7, 6, 5), np.diag([1.0, 1.0, 2.0, 1.0]))
    same = labels_on_target(labels, geometry, plan_preparation(geometry, (1, 1, 2), "RAS", "grid"))
    np.testing.assert_array_equal(same, labels)
    turned = labels_on_target(labels, geometry, plan_preparation(geometry, (1, 1, 2), "LPS", "grid"))
    np.testing.assert_array_equal(turned, labels[:, ::-1, ::-1])


def _through_simpleitk(labels: np.ndarray, source: Geometry, target: Geometry) -> np.ndarray:
    def with_grid(image: sitk.Image, geometry: Geometry) -> sitk.Image:
        flip = np.diag([-1.0, -1.0, 1.0])
        image.SetOrigin((flip @ geometry.origin_mm).tolist())
        image.SetSpacing(geometry.spacing_mm)
        image.SetDirection((flip @ geometry.direction).ravel().tolist())
        return image

    shares = []
    grid = with_grid(sitk.Image(*(int(n) for n in target.shape), sitk.sitkFloat32), target)
    for number in range(4):
        mask = with_grid(sitk.GetImageFromArray((labels == number).astype(np.float32)), source)
        shares.append(sitk.GetArrayFromImage(sitk.Resample(mask, grid, sitk.Transform(), sitk.sitkLinear, float(number == 0))))
    return np.argmax(shares, axis=0).astype(np.uint8)
