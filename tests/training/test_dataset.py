"""dataset.json of the Decathlon and of nnU-Net, and everything that can be wrong with one."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medseg.core.errors import InputError
from medseg.training.dataset import read_case, read_dataset


def test_the_hippocampus_folder_is_read_as_it_is(shared_data: Path) -> None:
    dataset = read_dataset(shared_data / "msd_task04_hippocampus")
    assert (len(dataset.cases), dataset.modality, dataset.channels) == (198, "MR", ("MRI",))
    assert dataset.labels == {1: "Anterior", 2: "Posterior"}
    assert dataset.licence == "CC-BY-SA 4.0"
    assert dataset.reference.startswith("Vanderbilt")
    assert all(path.is_file() for case in dataset.cases for path in (*case.images, case.label))


def test_nnunet_raw_channels_are_files_and_labels_are_named_first(tmp_path: Path) -> None:
    grid = np.eye(4)
    for n in range(2):
        for channel in range(2):
            path = tmp_path / "imagesTr" / f"x_{n}_{channel:04d}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(np.full((3, 4, 5), 10 * n + channel, np.float32), grid), path)
        (tmp_path / "labelsTr").mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(np.ones((3, 4, 5), np.uint8), grid), tmp_path / "labelsTr" / f"x_{n}.nii.gz")
    entries = {
        "channel_names": {"0": "CT", "1": "PET"},
        "labels": {"background": 0, "tumour": 1, "ignore": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (tmp_path / "dataset.json").write_text(json.dumps(entries))
    dataset = read_dataset(tmp_path)
    assert [case.id for case in dataset.cases] == ["x_0", "x_1"]
    assert (dataset.labels, dataset.ignore_label, dataset.modality) == ({1: "tumour"}, 2, "CT")
    images, label = read_case(dataset.cases[1], dataset)
    assert [float(image.array[0, 0, 0]) for image in images] == [10.0, 11.0]
    assert images[0].modality == "CT"
    assert label.array.max() == 1


def test_channels_of_a_4d_file_are_volumes(make_dataset, tmp_path: Path) -> None:
    folder = make_dataset(2, modality={"0": "FLAIR", "1": "T1w"})
    both = np.stack([np.full((4, 5, 6), 1.0), np.full((4, 5, 6), 2.0)], axis=-1).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(both, np.eye(4)), folder / "imagesTr" / "c0.nii.gz")
    dataset = read_dataset(folder)
    images, _ = read_case(dataset.cases[0], dataset)
    assert [float(image.array.mean()) for image in images] == [1.0, 2.0]
    with pytest.raises(InputError, match=r"holds 1 channel\(s\), dataset\.json names 2"):
        read_case(dataset.cases[1], dataset)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modality": None}, "name the channels"),
        ({"modality": {"1": "CT"}}, "without gaps"),
        ({"labels": {"0": "background"}}, "0 labels besides the background"),
        ({"labels": {"whole": [1, 2], "core": 2}}, "region of several numbers"),
        ({"labels": {"1": "a", "2": "a"}}, "name of its own"),
        ({"labels": {"a": 1.5}}, "not a whole number"),
        ({"training": [{"image": "../x.nii.gz", "label": "y.nii.gz"}]}, "leads out of the folder"),
        ({"training": [{"image": "x.nii.gz"}, "y"]}, r"training\[0\] needs .*training\[1\] needs"),
        ({"training": [{"image": "a.nii", "label": "b.nii"}]}, "1 training case"),
        ({"training": [{"image": "a.nii", "label": "b.nii"}] * 2}, "listed more than once: b"),
        ({"training": None}, "2 training|lists no|holds no"),
    ],
)
def test_a_wrong_dataset_json_is_refused_with_what_is_wrong(make_dataset, changes: dict, message: str) -> None:
    if changes == {"training": None}:  # the layout of nnU-Net then, whose files are named otherwise: labels are found all the same
        assert [case.images[0].name for case in read_dataset(make_dataset(2, **changes)).cases] == ["c0_0000.nii.gz", "c1_0000.nii.gz"]
        return
    with pytest.raises(InputError, match=message):
        read_dataset(make_dataset(2, **changes))


def test_no_or_broken_dataset_json(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no dataset\.json"):
        read_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text('{"labels": ')
    with pytest.raises(InputError, match="no valid JSON"):
        read_dataset(tmp_path)


def test_leaving_cases_out_is_recorded_and_leaves_two(make_dataset) -> None:
    dataset = read_dataset(make_dataset(3))
    fewer = dataset.without({"c1": ("broken",)})
    assert ([case.id for case in fewer.cases], dict(fewer.left_out)) == (["c0", "c2"], {"c1": ("broken",)})
    with pytest.raises(InputError, match="training needs two"):
        fewer.without({"c0": ("broken too",)})
