"""`medseg batch` as a user types it: from a folder to a cohort table, again, after changes, and where nothing can be done."""

from __future__ import annotations

import csv
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from batch_folder import CANARY, SIZES, box_ml, write_pipeline, write_scan, write_studies

from medseg.batch.records.layout import Layout
from medseg.batch.run.run_lock import RunLock


def run_medseg(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "medseg", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def rows_of(layout: Layout) -> list[dict[str, str]]:
    with layout.cohort.open(newline="") as file:
        return list(csv.DictReader(file))


def written(layout: Layout) -> dict[str, int]:
    """When each result was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in layout.results()}


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A folder with studies/, p.yaml, and out/ as one run made it; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("batch")
    write_studies(folder / "studies")
    write_pipeline(folder / "p.yaml")
    done = run_medseg("batch", "studies", "-o", "out", "--pipeline", "p.yaml", "--json", cwd=folder)
    (folder / "said.json").write_text(done.stdout)
    (folder / "err.txt").write_text(done.stderr)
    assert done.returncode == 1, done.stderr  # one scan is broken
    return folder


@pytest.fixture
def work(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, in which the test stands."""
    shutil.copytree(finished, tmp_path / "work")
    (tmp_path / "work" / "out" / "private" / "folder.json").write_text(json.dumps({"folder": str(tmp_path / "work" / "studies")}))
    return tmp_path / "work"


def again(work: Path, *more: object) -> tuple[int, dict]:
    done = run_medseg("batch", "studies", "-o", "out", "--pipeline", "p.yaml", "--json", *more, cwd=work)
    return done.returncode, json.loads(done.stdout)


def test_every_scan_is_a_row_with_its_volume_or_its_reason(finished):
    layout, said = Layout(finished / "out"), json.loads((finished / "said.json").read_text())
    rows = rows_of(layout)
    done = sorted(float(row["volume_ml"]) for row in rows if row["case_status"] == "done")
    assert done == pytest.approx([box_ml(size) for size in SIZES])
    (failed,) = [row for row in rows if row["case_status"] == "failed"]
    assert (failed["case_code"], failed["volume_ml"]) == ("UNREADABLE_FILE", "")
    assert "cut short" in failed["case_message"]
    assert (said["done"], said["failed"], said["by_code"], said["exit_code"]) == (len(SIZES), 1, {"UNREADABLE_FILE": 1}, 1)
    assert said["found"]["cases"] == len(SIZES) + 1 == said["done"] + said["failed"]
    for name in ("cohort", "cohort_wide", "qc", "flow", "lock", "events"):
        assert Path(said["files"][name]).stat().st_size > 0, name


def test_only_the_private_part_names_folders_and_files(finished):
    layout = Layout(finished / "out")
    named = []
    for path in (path for path in layout.folder.rglob("*") if path.is_file()):
        text = path.read_bytes().decode("latin-1").lower()
        if CANARY.lower() in text or CANARY.lower() in path.name.lower() or str(finished).lower() in text:
            named.append(path.relative_to(layout.folder).parts[0])
    assert set(named) == {"private"}
    assert stat.S_IMODE(layout.private.stat().st_mode) == 0o700
    said = json.loads((finished / "said.json").read_text())
    assert CANARY not in json.dumps({name: value for name, value in said.items() if name != "files"})
    assert CANARY not in (finished / "err.txt").read_text()


def test_every_case_folder_is_whole_and_nothing_else_lies_there(finished):
    layout = Layout(finished / "out")
    for path in layout.results():
        result = json.loads(path.read_text())
        names = {file.relative_to(path.parent).as_posix() for file in path.parent.rglob("*") if file.is_file()}
        assert names == {*result["outputs"], "result.json"}
        expected = {"segmentation.nii.gz", "measurements.csv", "measurements.json", "provenance.json", "thumbnail.png"}
        assert expected <= names if result["status"] == "done" else names == {"result.json"}
    assert not [path for path in layout.folder.rglob("*") if path.name.startswith(".tmp-")]


def test_the_same_again_does_nothing_twice_and_gives_the_same_table(work):
    layout = Layout(work / "out")
    before, table, lock = written(layout), layout.cohort.read_bytes(), layout.lock.read_bytes()
    code, said = again(work)
    assert (code, said["done"], said["done_before"], said["failed_before"]) == (1, 0, len(SIZES), 1)
    assert written(layout) == before
    assert (layout.cohort.read_bytes(), layout.lock.read_bytes()) == (table, lock)
    assert said["notes"] == []


def test_only_what_has_changed_is_done_again(work):
    layout = Layout(work / "out")
    before = written(layout)
    write_scan(work / "studies" / f"{CANARY} patient 0" / "study" / f"{CANARY}_scan.nii.gz", 8)
    damaged = next(path.parent for path in layout.results() if (path.parent / "measurements.csv").exists() and box_of(path) == 6)
    (damaged / "measurements.csv").write_text("")
    write_scan(work / "studies" / "new.nii.gz", 2)
    (work / "studies" / f"{CANARY} broken.nii.gz").unlink()
    code, said = again(work)
    assert (code, said["done"], said["done_before"], said["failed"], said["failed_before"]) == (0, 3, 2, 0, 0)
    after = written(layout)
    assert sum(after[case] == before[case] for case in before) == 3  # two that are done, and the failure of the scan that is gone
    volumes = sorted(float(row["volume_ml"]) for row in rows_of(layout))
    assert volumes == pytest.approx([box_ml(size) for size in (2, 4, 5, 6, 8)])


def box_of(result: Path) -> int:
    (row,) = json.loads((result.parent / "measurements.json").read_text())["segments"]
    return round(row["volume_ml"] / box_ml(1))


def write_list(work: Path) -> Path:
    """A table of the one scan that is broken: nothing is computed."""
    (row,) = [row for row in rows_of(Layout(work / "out")) if row["case_status"] == "failed"]
    with Layout(work / "out").case_table.open(newline="") as file:
        (path,) = [one["path"] for one in csv.DictReader(file) if one["case_id"] == row["case_id"]]
    (work / "list.csv").write_text(f"path\n{path}\n")
    return work / "list.csv"


def test_another_plan_is_said_and_its_cases_are_done_again(work):
    write_pipeline(work / "p.yaml", lower=50)
    code, said = again(work)
    assert (code, said["done"], said["done_before"], said["failed"]) == (1, len(SIZES), 0, 1)
    (note,) = said["notes"]
    assert "pipeline.segment.parameters.lower: 0, now 50" in note
    code, said = again(work, "--retry-failed")
    assert (code, said["done"], said["done_before"], said["failed"], said["failed_before"]) == (1, 0, len(SIZES), 1, 0)
    notes = again(work, "--format", "dcm", "--cases", write_list(work))[1]["notes"]
    assert any("segmentation.dcm names patient" in note for note in notes)


def test_scans_that_were_moved_are_known_again_and_the_move_is_said(work):
    layout = Layout(work / "out")
    before = written(layout)
    (work / "studies").rename(work / "moved")
    done = run_medseg("batch", "moved", "-o", "out", "--pipeline", "p.yaml", "--json", cwd=work)
    said = json.loads(done.stdout)
    assert (said["done"], said["done_before"], written(layout)) == (0, len(SIZES), before)
    assert "in another folder before" in said["notes"][0]
    assert run_medseg("verify", "out", "--sample", 1, cwd=work).returncode == 0


def test_changed_libraries_are_said_and_change_no_result(work):
    layout = Layout(work / "out")
    before = written(layout)
    content = json.loads(layout.batch.read_text())
    numpy = content["environments"][0]["libraries"]["numpy"]
    content["environments"][0]["libraries"]["numpy"] = "1.0.0"
    layout.batch.write_text(json.dumps(content))
    _, said = again(work)
    assert f"numpy 1.0.0, now {numpy}" in said["notes"][0]
    assert (written(layout), said["done"]) == (before, 0)
    assert len(json.loads(layout.lock.read_text())["environments"]) == 2


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(work):
    (work / "new").mkdir()
    assert again(work, "--dry-run", "--retry-failed")[1]["would"] == {"done": len(SIZES), "retried": 1}
    parts = [again(work, "--dry-run", "--shard", f"{number}/2")[1] for number in (1, 2)]
    assert [part["shard"] for part in parts] == ["1/2", "2/2"]
    ids = [{case["case_id"] for case in part["cases"]} for part in parts]
    assert (len(ids[0] | ids[1]), ids[0] & ids[1]) == (len(SIZES) + 1, set())
    assert all(sum(part["would"].values()) == len(part["cases"]) for part in parts)
    code, said = again(work, "--dry-run")
    assert (code, said["would"], said["counts"]["passed_over"]) == (0, {"done": len(SIZES), "failed": 1}, {"no image": 1})
    files = {path: path.stat().st_mtime_ns for path in (work / "out").rglob("*")}
    done = run_medseg("batch", "studies", "-o", "fresh", "--pipeline", "p.yaml", "--dry-run", "--cases-out", "c.csv", cwd=work)
    assert done.returncode == 0
    assert f"{len(SIZES) + 1} cases" in done.stdout
    assert CANARY not in done.stdout
    assert CANARY in run_medseg("batch", "studies", "-o", "fresh", "--pipeline", "p.yaml", "--dry-run", "--identify", cwd=work).stdout
    assert not (work / "fresh").exists()
    assert files == {path: path.stat().st_mtime_ns for path in (work / "out").rglob("*")}
    assert stat.S_IMODE((work / "c.csv").stat().st_mode) == 0o600


def test_a_table_of_cases_that_was_edited_decides(work):
    assert again(work, "--dry-run", "--cases-out", "c.csv")[0] == 0
    with (work / "c.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["use"] = "yes" if "patient 2" in row["path"] else "no"
    with (work / "edited.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    done = run_medseg("batch", "studies", "-o", "some", "--pipeline", "p.yaml", "--cases", "edited.csv", "--json", cwd=work)
    assert (done.returncode, json.loads(done.stdout)["done"]) == (0, 1)
    (row,) = rows_of(Layout(work / "some"))
    assert float(row["volume_ml"]) == pytest.approx(box_ml(5))
    refused = run_medseg("batch", "studies", "-o", "out", "--pipeline", "p.yaml", "--dry-run", "--cases-out", "c.csv", cwd=work)
    assert (refused.returncode, "give another name" in refused.stderr) == (5, True)


def test_results_inside_the_folder_of_the_scans_are_not_taken_for_scans(work):
    for _ in range(2):
        done = run_medseg("batch", "studies", "-o", "studies/out", "--pipeline", "p.yaml", "--json", cwd=work)
        assert json.loads(done.stdout)["found"]["cases"] == len(SIZES) + 1
    for output, folder in ((".", "studies"), ("studies", "studies")):
        done = run_medseg("batch", folder, "-o", output, "--pipeline", "p.yaml", cwd=work)
        assert (done.returncode, "around the scans" in done.stderr) == (2, True)


def test_what_cannot_be_meant_is_said_before_anything_is_searched(work):
    (work / "wrong.yaml").write_text(PIPELINE_WITH_A_SLIP)
    (work / "empty").mkdir()
    (work / "empty" / "notes.txt").write_text("x")
    cases = [
        (3, "looks for DICOM", ["empty", "-o", "no", "--pipeline", "p.yaml"]),
        (3, "not a folder", ["nowhere", "-o", "no", "--pipeline", "p.yaml"]),
        (4, "lowest", ["studies", "-o", "no", "--pipeline", "wrong.yaml"]),
        (4, "no pipeline is called", ["studies", "-o", "no", "--pipeline", "unknown"]),
        (2, "SliceThicknes", ["studies", "-o", "no", "--pipeline", "p.yaml", "--select", "SliceThicknes<=3"]),
        (2, "1/4", ["studies", "-o", "no", "--pipeline", "p.yaml", "--shard", "5/4"]),
        (2, "cuda:0", ["studies", "-o", "no", "--pipeline", "p.yaml", "--device", "gpu"]),
        (2, "-o", ["studies", "--pipeline", "p.yaml"]),
        (3, "not written as jpg", ["studies", "-o", "no", "--pipeline", "p.yaml", "--format", "jpg"]),
        (2, "one of the two", ["studies", "-o", "no", "--pipeline", "p.yaml", "--json", "--json-events"]),
    ]
    for code, said, arguments in cases:
        done = run_medseg("batch", *arguments, cwd=work)
        assert (done.returncode, said in done.stderr) == (code, True), (arguments, done.stderr)
    assert not (work / "no").exists()


PIPELINE_WITH_A_SLIP = "schema: medseg.pipeline/1\nname: p\nsegment: {method: threshold, parameters: {lowest: 0}}\n"


def test_a_second_run_is_refused_and_changes_nothing(work):
    layout = Layout(work / "out")
    before = {path: path.stat().st_mtime_ns for path in layout.folder.rglob("*") if path.is_file() and "state" not in path.parts}
    write_pipeline(work / "p.yaml", lower=50)
    with RunLock(layout.state):
        done = run_medseg("batch", "studies", "-o", "out", "--pipeline", "p.yaml", cwd=work)
    assert done.returncode == 2
    assert f"process {os.getpid()}" in done.stderr
    assert "--join" in done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_programs_get_events_and_nothing_else_and_quiet_is_quiet(work):
    done = run_medseg("batch", "studies", "-o", "fresh", "--pipeline", "p.yaml", "--json-events", cwd=work)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    names = [event["event"] for event in events]
    assert (names[0], names[1], names[-1]) == ("found", "run_started", "run_finished")
    assert names.count("case_finished") == len(SIZES) + 1
    assert (done.returncode, done.stderr) == (1, "")
    assert CANARY not in done.stdout
    assert run_medseg("batch", "studies", "-o", "fresh", "--pipeline", "p.yaml", "--quiet", cwd=work).stdout == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
@pytest.mark.parametrize("options", [(), ("--json",), ("--json-events",)])
def test_a_run_goes_on_where_nobody_takes_what_it_says(work, options):
    """A full disk behind the log is said at the end, a reader that has gone is nobody's fault: the cohort is written."""
    command = [sys.executable, "-m", "medseg", "batch", "studies", "-o", "fresh", "--pipeline", "p.yaml", *options]
    with open("/dev/full", "w") as full:
        assert subprocess.run(command, cwd=work, stdout=full, stderr=full, check=False).returncode == 5
    whole = Layout(work / "fresh").cohort.read_bytes()
    assert whole == Layout(work / "out").cohort.read_bytes()
    shutil.rmtree(work / "fresh")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, cwd=work, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == 1, done.stderr  # as one scan is broken
    assert Layout(work / "fresh").cohort.read_bytes() == whole


def test_the_parent_imports_nothing_that_decodes_or_computes(work):
    code = (
        "import sys; from medseg.cli.main import run\n"
        "assert run(['batch', 'studies', '-o', 'light', '--pipeline', 'p.yaml', '--quiet']) == 1\n"
        "print([name for name in ('torch', 'numba', 'SimpleITK', 'pydicom', 'nibabel', 'scipy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=work, check=True)
    assert done.stdout.strip() == "[]"
