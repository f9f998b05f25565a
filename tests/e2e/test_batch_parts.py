"""`medseg batch` in parts: stopped and gone on with, in shards, beside another; and `medseg verify` of what came out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from batch_folder import AFFINE, box_ml, write_pipeline, write_scan

from medseg.batch.records.layout import Layout
from medseg.batch.records.result import Output, read_result
from medseg.batch.run.claims import Claims

COUNT = 24


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "medseg", *map(str, arguments)]


def run_medseg(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, cwd=cwd, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def batch(output: str, *more: object) -> tuple[object, ...]:
    return ("batch", "studies", "-o", output, "--pipeline", "p.yaml", *more)


def written(layout: Layout) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in layout.results()}


def shared_files(layout: Layout) -> dict[str, bytes]:
    """What the cohort consists of; the lock and the tables hold no times."""
    return {path.name: path.read_bytes() for path in (layout.cohort, layout.cohort_wide, layout.lock, layout.flow, layout.qc)}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with studies, and `whole`, what an undisturbed run makes of them."""
    folder = tmp_path_factory.mktemp("parts")
    for number in range(COUNT):
        write_scan(folder / "studies" / f"{number:02}.nii.gz", 1 + number % 9)
    write_pipeline(folder / "p.yaml")
    assert run_medseg(*batch("whole"), cwd=folder).returncode == 0
    return folder


STOPS = [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow), (signal.SIGKILL, -9)]


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_a_run_that_is_stopped_goes_on_and_ends_in_the_same_table(place, number, code):
    layout = Layout(place / f"stopped{int(number)}")
    held = Claims(layout.claims)  # of these it waits for us, so that it cannot be over before it is stopped
    assert all(held.take(case_id) for case_id in sorted(written(Layout(place / "whole")))[::2])
    process = subprocess.Popen(
        command(*batch(layout.folder.name, "--workers", 1)), cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not any(layout.results()) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "Traceback" not in said
    held.close()
    before = written(layout)
    assert 0 < len(before) < COUNT
    if number != signal.SIGKILL:
        assert not layout.cohort.exists()
    done = run_medseg(*batch(layout.folder.name, "--json"), cwd=place)
    said = json.loads(done.stdout)
    assert (done.returncode, said["done_before"] + said["done"]) == (0, COUNT)
    # a worker whose parent was killed ends the case that it is at
    assert said["done_before"] == len(before) or (number == signal.SIGKILL and said["done_before"] > len(before))
    assert {case: written(layout)[case] for case in before} == before
    assert shared_files(layout) == shared_files(Layout(place / "whole"))
    assert not [path for path in layout.folder.rglob("*") if path.name.startswith(".tmp-")]


def test_shards_share_the_cases_and_the_report_counts_them(place):
    layout = Layout(place / "shards")
    first = run_medseg(*batch("shards", "--shard", "1/2"), cwd=place)
    assert (first.returncode, "shard" in first.stdout, "not run" in first.stdout) == (0, True, False)
    assert 0 < len(written(layout)) < COUNT
    assert not layout.cohort.exists()
    # the list of the first stands, and who asks for another choice of series is told so
    other = run_medseg(*batch("shards", "--shard", "1/2", "--select", "Kind=DICOM", "--json"), cwd=place)
    assert (json.loads(other.stdout)["found"], ["--rescan" in note for note in json.loads(other.stdout)["notes"]]) == (None, [True])
    done = run_medseg(*batch("shards", "--shard", "2/2", "--json"), cwd=place)
    said = json.loads(done.stdout)
    assert (done.returncode, said["found"]) == (0, None)  # the list of the first one is used
    assert len(written(layout)) == COUNT
    assert run_medseg("report", "shards", cwd=place).returncode == 0
    assert shared_files(layout) == shared_files(Layout(place / "whole"))


def test_two_that_join_do_each_case_once(place):
    layout = Layout(place / "joined")
    running = [subprocess.Popen(command(*batch("joined", "--join", "--workers", 1, "--quiet")), cwd=place) for _ in range(2)]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    finished = [json.loads(line) for path in layout.folder.glob("events*.jsonl") for line in path.read_text().splitlines()]
    done = [event["case_id"] for event in finished if event["event"] == "case_finished"]
    assert (len(done), len(set(done))) == (COUNT, COUNT)
    assert shared_files(layout) == shared_files(Layout(place / "whole"))


def test_verify_says_that_the_numbers_come_out_again_and_where_they_do_not(place, tmp_path):
    import shutil

    shutil.copytree(place, tmp_path / "moved")
    done = run_medseg("verify", "whole", "--sample", 3, "--seed", 1, cwd=place)
    assert (done.returncode, "3/3 identical (seed 1)" in done.stdout) == (0, True)
    done = run_medseg("verify", "whole", "--sample", COUNT + 1, cwd=place)
    assert f"{COUNT}/{COUNT} identical (only {COUNT} cases are done)" in done.stdout
    found = run_medseg("verify", "moved/whole", "--folder", "moved/studies", "--sample", "all", "--json", cwd=tmp_path)
    assert (found.returncode, json.loads(found.stdout)["identical"]) == (0, COUNT)
    write_scan(tmp_path / "moved" / "studies" / "03.nii.gz", 9)
    found = run_medseg("verify", "moved/whole", "--folder", "moved/studies", "--sample", "all", cwd=tmp_path)
    assert found.returncode == 1
    assert f"{COUNT - 1}/{COUNT} identical" in found.stdout
    assert "input changed" in found.stdout
    assert run_medseg("verify", "studies", cwd=place).returncode == 3


@pytest.mark.slow
def test_a_forged_result_is_found_out(place, tmp_path):
    """Another pipeline's labels in the folder of a case, with the hashes of what is there: only computing again can tell."""
    import shutil

    import nibabel
    import numpy as np

    from medseg.io.hashing import sha256_of

    shutil.copytree(place / "whole", tmp_path / "whole")
    folder = next(Layout(tmp_path / "whole").results()).parent
    image = nibabel.load(folder / "segmentation.nii.gz")
    array = np.asarray(image.dataobj).copy()
    array[0, 0, 0] = 1
    nibabel.save(nibabel.Nifti1Image(array, image.affine, image.header), folder / "segmentation.nii.gz")
    result = read_result(folder / "result.json")
    file = folder / "segmentation.nii.gz"
    outputs = {**result.outputs, file.name: Output(os.path.getsize(file), sha256_of(file))}
    (folder / "result.json").write_text(replace(result, outputs=outputs).to_json())
    found = json.loads(run_medseg("verify", tmp_path / "whole", "--sample", "all", "--json", cwd=place).stdout)
    assert (found["identical"], found["worst_case"]) == (COUNT - 1, folder.name)
    (case,) = [case for case in found["cases"] if case["outcome"] != "identical"]
    assert (case["difference"]["voxels"], case["difference"]["label"]) == (1, "box")
    np.testing.assert_allclose(case["difference"]["where_ras_mm"], AFFINE[:3, 3], atol=1e-6)
    assert box_ml(1) > 0
