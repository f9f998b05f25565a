from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from medseg.core.errors import IncompatibleModelError, ModelNotFoundError
from medseg.segmentation.learned.nnunet.folder import chosen_folds, find_folds, find_model_folder, previous_stage_folder


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """`Dataset297_…/nnUNetTrainer__nnUNetPlans__3d_fullres`, the layout of TotalSegmentator's downloads."""
    folder = tmp_path / "Dataset297_TotalSegmentator_total_3mm_1559subj" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    touch(folder, "plans.json", "dataset.json", "fold_0/checkpoint_final.pth")
    return folder


def test_the_folder_of_the_data_set_will_do(trained: Path) -> None:
    assert find_model_folder(trained) == trained
    assert find_model_folder(trained.parent) == trained


def test_full_resolution_is_preferred(trained: Path) -> None:
    for configuration in ("2d", "3d_lowres", "3d_cascade_fullres"):
        shutil.copytree(trained, trained.with_name(f"nnUNetTrainer__nnUNetPlans__{configuration}"))
    assert find_model_folder(trained.parent) == trained


def test_several_trainers_leave_a_choice(trained: Path) -> None:
    shutil.copytree(trained, trained.with_name("nnUNetTrainerNoMirroring__nnUNetPlans__3d_fullres"))
    with pytest.raises(IncompatibleModelError, match="several models"):
        find_model_folder(trained.parent)


def test_only_2d(trained: Path) -> None:
    trained.rename(trained.with_name("nnUNetTrainer__nnUNetPlans__2d"))
    with pytest.raises(IncompatibleModelError, match="no 3D model"):
        find_model_folder(trained.parent)


def test_no_model_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"plans\.json"):
        find_model_folder(tmp_path)


def test_folds_by_number(trained: Path) -> None:
    touch(
        trained,
        "fold_10/checkpoint_final.pth",
        "fold_2/checkpoint_best.pth",
        "fold_all/checkpoint_final.pth",
        "fold_x/checkpoint_final.pth",
    )
    (trained / "fold_3").mkdir()
    folds = find_folds(trained)
    assert [fold.name for fold in folds] == ["0", "2", "10"]
    assert folds[1].path.name == "checkpoint_best.pth"
    assert [fold.number for fold in chosen_folds(folds, (10, 0, 10), "m")] == [10, 0]
    with pytest.raises(ModelNotFoundError, match=r"no fold \[7\]; it has 0, 2, 10"):
        chosen_folds(folds, (7,), "m")


def test_fold_all_alone(trained: Path) -> None:
    (trained / "fold_0").rename(trained / "fold_all")
    assert [fold.name for fold in find_folds(trained)] == ["all"]


def test_no_fold(trained: Path) -> None:
    shutil.rmtree(trained / "fold_0")
    with pytest.raises(ModelNotFoundError, match="no fold with checkpoint_final"):
        find_folds(trained)


def test_the_first_stage_lies_beside(trained: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="copy nnUNetTrainer__nnUNetPlans__3d_lowres beside it"):
        previous_stage_folder(trained, "3d_lowres")
    first = trained.with_name("nnUNetTrainer__nnUNetPlans__3d_lowres")
    shutil.copytree(trained, first)
    assert previous_stage_folder(trained, "3d_lowres") == first
