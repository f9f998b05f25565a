"""`verify` says identical only for what is, and for every way of not being it what, where and how much."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medseg.batch.case_difference import difference_between
from medseg.batch.cases.case_files import save_cases
from medseg.batch.cases.find_cases import find_cases
from medseg.batch.records.batch_file import keep_salt, read_batch, write_batch, write_source
from medseg.batch.records.environment import environment
from medseg.batch.records.layout import Layout
from medseg.batch.records.plan import Plan
from medseg.batch.records.result import Output, read_result
from medseg.batch.verify import verify
from medseg.batch.worker.case_run import CaseRunner
from medseg.core.errors import InputError, UnreadableFileError
from medseg.io.hashing import sha256_of
from medseg.pipeline import parse_pipeline

AFFINE = np.array([[-1.0, 0, 0, 30], [0, 1.5, 0, -20], [0, 0, 2.5, 5], [0, 0, 0, 1]])
VOXEL_ML = 3.75 / 1000
COUNT = 4


def plan(lower: float = 0) -> Plan:
    text = (
        "schema: medseg.pipeline/1\nname: p\nsegment: {method: threshold, parameters: {lower: %g, label: bright}}\n" % lower  # noqa: UP031
    )
    return Plan(parse_pipeline(text, "p.yaml"), "1.0", pictures="none")


def scan(path: Path, size: int = 6) -> Path:
    array = np.full((16, 18, 12), -1000, np.int16)
    array[5 : 5 + size, 6:14, 3:7] = 60
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)
    return path


@pytest.fixture
def out(tmp_path: Path) -> Layout:
    """A folder with done cases, made by the code of the workers."""
    (tmp_path / "studies").mkdir()
    for number in range(COUNT):
        scan(tmp_path / "studies" / f"{number}.nii.gz", 4 + number)
    layout = Layout(tmp_path / "out")
    write_batch(layout, plan(), None, environment())
    keep_salt(layout, b"salt" * 4)
    write_source(layout, tmp_path / "studies")
    runner = CaseRunner(plan(), tmp_path / "studies", layout, token="t")
    with find_cases(tmp_path / "studies", output=layout.folder) as found:
        save_cases(layout, found)
        assert [runner.run(case).status for case in found.cases()] == ["done"] * COUNT
    return layout


def first_case(layout: Layout) -> Path:
    return next(layout.results()).parent


def forge(folder: Path, change) -> None:
    """Change a segmentation and its measurements, and record the hashes of what is there then: only computing again can tell."""
    image = nibabel.load(folder / "segmentation.nii.gz")
    array = np.asarray(image.dataobj).copy()
    change(array)
    nibabel.save(nibabel.Nifti1Image(array, image.affine, image.header), folder / "segmentation.nii.gz")
    table = json.loads((folder / "measurements.json").read_text())
    table["segments"][0]["volume_ml"] = float((array == 1).sum() * VOXEL_ML)
    (folder / "measurements.json").write_text(json.dumps(table))
    result = read_result(folder / "result.json")
    outputs = {name: Output((folder / name).stat().st_size, sha256_of(folder / name)) for name in result.outputs}
    (folder / "result.json").write_text(replace(result, outputs=outputs).to_json())


def test_what_was_not_touched_is_identical(out):
    found = verify(out.folder, sample=None)
    assert (found.identical, len(found.cases), found.is_identical, found.worst) == (COUNT, COUNT, True, None)
    assert {case.case_id for case in found.cases} == {path.parent.name for path in out.results()}
    assert found.changed_libraries == ()


def test_a_seed_draws_the_same_sample_and_another_one_another(out):
    drawn = [tuple(case.case_id for case in verify(out.folder, sample=2, seed=seed).cases) for seed in (1, 1, 2, 3, 4, 5)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1
    assert all(len(set(sample)) == 2 for sample in drawn)


def test_a_difference_is_told_in_ml_with_its_place(out):
    folder = first_case(out)

    def cut(array):
        array[5, 6, 3:7] = 0  # four voxels of a column

    forge(folder, cut)
    found = verify(out.folder, sample=None)
    assert (found.identical, found.is_identical) == (COUNT - 1, False)
    worst = found.worst
    assert worst.case_id == folder.name
    assert (worst.difference.label, worst.difference.voxels) == ("bright", 4)
    assert worst.difference.volume_ml == pytest.approx(4 * VOXEL_ML)
    np.testing.assert_allclose(worst.difference.where_ras_mm, (AFFINE @ [5, 6, 4, 1])[:3], atol=2.5)
    assert "R 25.0, A -11.0" in worst.message
    assert json.loads(json.dumps(found.to_dict()))["worst_case"] == folder.name


def test_voxels_that_moved_without_changing_the_volume_are_found(out):
    def move(array):
        array[5, 6, 3] = 0
        array[0, 0, 0] = 1

    forge(first_case(out), move)
    worst = verify(out.folder, sample=None).worst
    assert (worst.difference.voxels, worst.difference.volume_ml) == (2, 0)
    assert "2 voxels differ" in worst.message


def test_a_measurement_alone_is_compared_too(out):
    folder = first_case(out)
    table = json.loads((folder / "measurements.json").read_text())
    table["segments"][0]["mean"] = 61.0
    (folder / "measurements.json").write_text(json.dumps(table))
    forge(folder, lambda array: None)
    worst = verify(out.folder, sample=None).worst
    assert (worst.difference.quantity, worst.difference.before, worst.difference.now) == ("mean", 61.0, 60.0)


def test_a_changed_output_and_a_changed_or_missing_input_are_said_and_not_computed(out, tmp_path):
    for number, path in enumerate(list(out.results())[:2]):
        (path.parent / "measurements.csv").write_text("changed" * number)
    verified = {case.case_id: case for case in verify(out.folder, sample=None).cases}
    assert sorted(case.outcome for case in verified.values()) == ["identical"] * 2 + ["output changed"] * 2
    scan(tmp_path / "studies" / "2.nii.gz", 2)
    (tmp_path / "studies" / "3.nii.gz").unlink()

    def never(case, layout, device):
        raise AssertionError("computed although it cannot be the same")

    outcomes = [case.outcome for case in verify(out.folder, sample=None, recompute=None).cases]
    assert {"input changed", "input gone"} & set(outcomes)
    (tmp_path / "studies" / "0.nii.gz").unlink()
    (tmp_path / "studies" / "1.nii.gz").unlink()
    outcomes = [case.outcome for case in verify(out.folder, sample=None, recompute=never).cases]
    assert "identical" not in outcomes
    assert not any("nii" in case.message and "studies" in case.message for case in verify(out.folder, sample=None, recompute=never).cases)


def test_results_of_an_earlier_search_are_in_no_table_and_not_drawn(out, tmp_path):
    (tmp_path / "studies" / "0.nii.gz").rename(tmp_path / "0.nii.gz")
    with find_cases(tmp_path / "studies", output=out.folder) as found:
        save_cases(out, found)
    done = verify(out.folder, sample=None)
    assert (done.is_identical, len(done.cases), done.not_listed) == (True, COUNT - 1, 1)
    assert done.to_dict()["not_listed"] == 1


def test_results_that_cannot_be_read_are_counted_and_not_drawn(out):
    first, *others = out.results()
    first.write_text("{ cut sho")
    done = verify(out.folder, sample=None)
    assert (done.is_identical, len(done.cases), done.unreadable) == (True, COUNT - 1, 1)
    assert done.to_dict()["unreadable"] == 1
    for path in others:
        path.write_text("")
    with pytest.raises(InputError, match=f"{COUNT} have a result that cannot be read: run medseg batch again"):
        verify(out.folder, sample=None)


def test_a_result_in_the_place_of_another_one_is_not_drawn(out):
    first, second, *_ = (path.parent for path in out.results())
    shutil.rmtree(second)
    shutil.copytree(first, second)
    done = verify(out.folder, sample=None)
    assert (done.is_identical, len(done.cases), done.unreadable) == (True, COUNT - 1, 1)


def test_scans_that_were_moved_are_found_where_they_are_now(out, tmp_path):
    (tmp_path / "studies").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="--folder"):
        verify(out.folder)
    assert verify(out.folder, sample=2, folder=tmp_path / "elsewhere").is_identical
    out.source.unlink()
    with pytest.raises(InputError, match="cannot be read: private/"):
        verify(out.folder)


def test_a_case_that_fails_now_is_no_success(out):
    def failing(case, layout, device):
        from dataclasses import replace

        return replace(read_result(out.result(case.case_id)), status="failed", code="TIMEOUT", message="too slow")

    found = verify(out.folder, sample=1, recompute=failing)
    assert (found.cases[0].outcome, found.is_identical) == ("failed", False)
    assert "TIMEOUT" in found.cases[0].message


def test_cases_of_another_plan_are_counted_and_not_drawn(out):
    write_batch(out, plan(5), read_batch(out), environment())
    with pytest.raises(InputError, match=f"{COUNT} were made by another plan"):
        verify(out.folder)


def test_a_folder_that_is_no_batch_is_refused(tmp_path):
    with pytest.raises(UnreadableFileError, match="not the output of medseg batch"):
        verify(tmp_path)


def test_segments_are_compared_by_name_whatever_their_numbers(tmp_path):
    """One segment by two numbers in the files is the same; two that swapped their names are not."""
    from medseg.core.geometry import Geometry
    from medseg.core.label_map import LabelMap
    from medseg.core.segment import Segment
    from medseg.io.write import write

    array = np.zeros((4, 5, 6), np.uint8)
    array[1, 2, 3], array[2, 2, 3] = 1, 2
    grid = Geometry(array.shape, AFFINE)
    swapped = np.choose(array, [0, 2, 1]).astype(np.uint8)
    for name, voxels, labels in (("a", array, "xy"), ("b", swapped, "yx"), ("c", array, "yx")):
        (tmp_path / name).mkdir()
        write(
            LabelMap(voxels, grid, tuple(Segment(n + 1, label) for n, label in enumerate(labels))),
            tmp_path / name / "segmentation.seg.nrrd",
        )
        rows = [{"label": label, "volume_ml": VOXEL_ML} for label in "xy"]
        (tmp_path / name / "measurements.json").write_text(json.dumps({"segments": rows}))
    names = ["measurements.json", "segmentation.seg.nrrd"]
    assert difference_between(tmp_path / "a", tmp_path / "b", names) is None
    assert difference_between(tmp_path / "a", tmp_path / "c", names).voxels == 2
