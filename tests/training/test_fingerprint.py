"""Numbers of a dataset against nibabel and numpy; every bad pair named at once."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medseg.core.errors import InputError
from medseg.training.dataset import read_dataset
from medseg.training.fingerprint import take_fingerprint


def rewrite(path: Path, change) -> None:
    image = nibabel.load(path)
    array, affine = change(np.asarray(image.dataobj), image.affine.copy())
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def test_hippocampus_against_nibabel_and_numpy(shared_data: Path) -> None:
    dataset = read_dataset(shared_data / "msd_task04_hippocampus")
    few = dataset.without({case.id: ("not in this test",) for case in dataset.cases[12:]})
    found = take_fingerprint(few)
    intensities, volumes = [], []
    for case in few.cases:
        values, labels = (np.asarray(nibabel.load(path).dataobj) for path in (case.images[0], case.label))
        intensities.append(values[labels > 0].astype(np.float64))
        volumes.append((labels == 1).sum() / 1000)  # voxels of 1 mm3
    pooled = np.concatenate(intensities)  # every case is below the sampling limit, so percentiles are exact
    channel = found.channels["MRI"]
    assert channel.voxels == pooled.size
    np.testing.assert_allclose([channel.mean, channel.std], [pooled.mean(), pooled.std()], rtol=1e-9)
    expected = np.percentile(pooled, (0.5, 50, 99.5))
    np.testing.assert_allclose([channel.percentile_00_5, channel.median, channel.percentile_99_5], expected, rtol=1e-5)
    np.testing.assert_allclose([case.volumes_ml[1] for case in found.cases], volumes, rtol=1e-9)
    assert {case.orientation for case in found.cases} == {"RAS"}
    assert len(json.dumps(found.to_dict())) < 10_000


def test_every_fault_of_every_case_is_listed_at_once(make_dataset) -> None:
    folder = make_dataset(8)
    (folder / "imagesTr" / "c0.nii.gz").unlink()
    (folder / "labelsTr" / "c0.nii.gz").unlink()
    rewrite(folder / "labelsTr" / "c1.nii.gz", lambda a, m: (a[:-1], m))
    rewrite(folder / "labelsTr" / "c2.nii.gz", lambda a, m: (a, m + np.eye(4, k=3) * 1.5))
    rewrite(folder / "labelsTr" / "c3.nii.gz", lambda a, m: (np.where(a == 1, 7, a).astype(np.uint8), m))
    rewrite(folder / "labelsTr" / "c4.nii.gz", lambda a, m: (a * 0.5, m))
    rewrite(folder / "imagesTr" / "c5.nii.gz", lambda a, m: (np.full_like(a, 3.0), m))
    path = folder / "imagesTr" / "c6.nii.gz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError) as raised:
        take_fingerprint(read_dataset(folder))
    text = str(raised.value)
    for part in (
        "7 of 8 cases",
        "c0: missing file imagesTr/c0.nii.gz",
        "c0: missing file labelsTr/c0.nii.gz",
        "c1: the image has 16×18×10 voxels, the label map 15×18×10",
        "c2: image and label map lie up to 1.5 mm apart",
        "c3: the label map holds 7, which dataset.json does not name (it names 0, 1, 2)",
        "c4: the label map holds fractions",
        "c5: the image has one intensity only (3)",
        "c6: ",
        "--skip-bad",
    ):
        assert part in text, part
    assert "c7" not in text


def test_bad_cases_can_be_left_out_and_are_named(make_dataset) -> None:
    folder = make_dataset(4)
    (folder / "labelsTr" / "c2.nii.gz").unlink()
    found = take_fingerprint(read_dataset(folder), skip_bad=True)
    assert [case.id for case in found.cases] == ["c0", "c1", "c3"]
    assert found.to_dict()["left_out"] == {"c2": ["missing file labelsTr/c2.nii.gz"]}


def test_a_label_no_case_has_counts_as_0_ml_and_a_float_label_map_of_whole_numbers_is_fine(make_dataset) -> None:
    folder = make_dataset(2, labels={"0": "background", "1": "first", "2": "second", "5": "absent"})
    rewrite(folder / "labelsTr" / "c0.nii.gz", lambda a, m: (a.astype(np.float32), m))
    entry = take_fingerprint(read_dataset(folder)).to_dict()["labels"]
    assert entry["5"] == {"name": "absent", "cases": 0, "volume_ml": {"median": 0.0, "least": 0.0, "largest": 0.0}}
    assert entry["1"]["volume_ml"]["median"] == pytest.approx(4**3 * 2 / 1000)


def test_nothing_labelled_is_nothing_to_learn(make_dataset) -> None:
    folder = make_dataset(2)
    for n in range(2):
        rewrite(folder / "labelsTr" / f"c{n}.nii.gz", lambda a, m: (np.zeros_like(a), m))
    with pytest.raises(InputError, match="no case has a labelled voxel"):
        take_fingerprint(read_dataset(folder))
