"""Batches on a real SLURM of one node: arrays that are killed, signalled and submitted again, and a pool of dask made of jobs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml

from medseg.batch.batch import Request, plan_of, run_batch
from medseg.batch.cluster.slurm import SlurmOptions
from medseg.batch.cluster.slurm_run import SlurmRun
from medseg.batch.records.case import case_id_of
from medseg.batch.records.layout import Layout
from medseg.batch.records.result import read_result
from medseg.batch.run.claims import Claims
from medseg.batch.run.run_options import RunOptions, Summary
from medseg.pipeline import Pipeline

SMALL_JOB = ("--mem=500", "--time=5")
WAIT_S = 300.0  # only for what must come

pytestmark = pytest.mark.slow  # processes start, die and start again


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder of 24 tiny scans."""
    root = tmp_path / "it's a $TUDY"
    root.mkdir()
    for number in range(24):
        array = np.zeros((24, 24, 24), np.int16)
        array[2 : 5 + number % 7, 2:8, 2:8] = 500
        nibabel.save(nibabel.Nifti1Image(array, np.diag([2.0, 2.0, 3.0, 1.0])), root / f"scan {number:02d}.nii.gz")
    return root


class Batch:
    """A batch on the array, as the command line makes it."""

    def __init__(self, scans: Path, pipeline: Path, output: Path) -> None:
        self.request = Request(scans, output, Pipeline.model_validate(yaml.safe_load(pipeline.read_text())))
        self.layout = Layout(output)
        # one worker a task, so that the tasks take a while
        self.arguments = (str(scans), "-o", str(output), "--pipeline", str(pipeline), "--workers", "1")
        self.said: list[dict[str, Any]] = []

    def run(self, observe: Callable[[dict[str, Any]], None] = lambda event: None, **options: Any) -> Summary:
        settings = SlurmOptions(options.pop("shards", 3), None, SMALL_JOB)
        execute = SlurmRun(self.arguments, settings, Path.cwd(), wait=options.pop("wait", True))

        def both(event: dict[str, Any]) -> None:
            self.said.append(event)
            observe(event)

        return run_batch(self.request, RunOptions(), execute=execute, observe=both).summary

    def log(self) -> str:
        return "\n".join(path.read_text() for path in sorted((self.layout.private / "slurm").glob("*.log")))

    def hold(self, scans: Path, count: int) -> Claims:
        """Claim the last cases, so that a task that waits for them cannot end by itself before `close`."""
        claims = Claims(self.layout.claims)
        assert all(claims.take(case_id_of([path.name])) for path in sorted(scans.iterdir())[-count:])
        return claims

    def results(self) -> dict[str, int]:
        """The results that are there, and when each was written."""
        return {path.parent.name: path.stat().st_mtime_ns for path in self.layout.results()}


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stdout


def wait_until(met: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not met():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def undisturbed(scans: Path, pipeline: Path, output: Path) -> Path:
    command = [sys.executable, "-m", "medseg", "batch", str(scans), "-o", str(output), "--pipeline", str(pipeline), "--quiet"]
    subprocess.run(command, check=True)
    return output


def test_an_array_gives_the_table_of_a_run_on_one_machine(slurm, tmp_path, scans, pipeline):
    batch = Batch(scans, pipeline, tmp_path / "out put")
    summary = batch.run()
    assert (summary.done, summary.failed, summary.exit_code) == (24, 0, 0), batch.log()
    alone = undisturbed(scans, pipeline, tmp_path / "alone")
    assert batch.layout.cohort.read_bytes() == (alone / "cohort.csv").read_bytes()
    logs = sorted(batch.layout.folder.glob("events-*.jsonl"))
    assert len(logs) == 3  # one a task
    finished = [json.loads(line)["case_id"] for log in logs for line in log.read_text().splitlines() if '"case_finished"' in line]
    assert sorted(finished) == sorted(batch.results())  # every case once
    public = [path for path in batch.layout.folder.rglob("*") if path.is_file() and batch.layout.private not in path.parents]
    assert [path for path in public if b"TUDY" in path.read_bytes()] == []


def test_a_killed_task_is_submitted_again_and_nothing_is_lost_or_done_twice(slurm, tmp_path, scans, pipeline):
    batch = Batch(scans, pipeline, tmp_path / "out")
    before: dict[str, int] = {}
    held = batch.hold(scans, 12)

    def kill_the_first_task(event: dict[str, Any]) -> None:
        if event["event"] == "submitted":
            wait_until(lambda: len(batch.results()) >= 2)
            ask("scancel", "--signal=KILL", "--full", f"{event['array_job']}_1")
            wait_until(lambda: f"{event['array_job']}_1" not in ask("squeue", "--noheader", "--array", "--format=%i", "--states=R,CG"))
            before.update(batch.results())

    first = batch.run(kill_the_first_task, shards=1)
    assert 2 <= first.done < 24, batch.log()
    assert (first.done + first.failed, dict(first.by_code)) == (24, {"NOT_RUN": 24 - first.done})
    assert first.exit_code == 1
    held.close()
    second = batch.run()
    assert (second.done, second.failed) == (24, 0), batch.log()
    after = batch.results()
    assert {case_id: after[case_id] for case_id in before} == before
    alone = undisturbed(scans, pipeline, tmp_path / "alone")
    assert batch.layout.cohort.read_bytes() == (alone / "cohort.csv").read_bytes()


def test_the_signal_before_the_time_limit_ends_a_task_in_order(slurm, tmp_path, scans, pipeline):
    """What SLURM sends with --signal=B:USR1@60, here sent by scancel: no case is left half-done or claimed."""
    batch = Batch(scans, pipeline, tmp_path / "out")
    held = batch.hold(scans, 12)

    def signal_the_task(event: dict[str, Any]) -> None:
        if event["event"] == "submitted":
            wait_until(lambda: len(batch.results()) >= 1)
            ask("scancel", "--signal=USR1", "--batch", f"{event['array_job']}_1")

    summary = batch.run(signal_the_task, shards=1)
    assert 1 <= summary.done < 24, batch.log()
    (log,) = batch.layout.folder.glob("events-*.jsonl")
    last = json.loads(log.read_text().splitlines()[-1])
    assert (last["event"], last["exit_code"], last["failed"]) == ("run_finished", 143, 0)
    assert list(batch.layout.folder.rglob(".tmp-*")) == []
    held.close()
    assert batch.run().done == 24


def test_without_waiting_the_numbers_of_the_jobs_are_said(slurm, tmp_path, scans, pipeline):
    batch = Batch(scans, pipeline, tmp_path / "out")
    summary = batch.run(wait=False)
    assert (summary.stopped, summary.exit_code, summary.done) == ("SUBMITTED", 0, 0)
    (event,) = [event for event in batch.said if event["event"] == "submitted"]
    assert event["array_job"] in summary.message
    wait_until((batch.layout.private / "slurm" / f"collected-{event['collect_job']}").exists)
    assert len(batch.results()) == 24
    assert batch.layout.cohort.exists()


def test_a_pool_of_dask_made_of_jobs(slurm, tmp_path, scans, pipeline):
    """Two jobs of SLURM become workers over TLS; both are killed while they work, and other jobs take their place."""
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed: pip install 'medseg[cluster]'")
    from medseg.batch.cases.case_files import count_cases, read_cases
    from medseg.batch.cluster.dask_clusters import DaskPool
    from medseg.batch.cluster.dask_pool import run_cases_dask

    alone = undisturbed(scans, pipeline, tmp_path / "alone")
    layout, request = Layout(tmp_path / "out"), Batch(scans, pipeline, tmp_path / "out").request
    plan = plan_of(request)
    pool = DaskPool("", "slurm", 2, {"cores": ("1",), "memory": ("1GB",), "interface": ("lo",), "walltime": ("00:05:00",)})
    cases = list(read_cases(Layout(alone)))
    killed: list[str] = []

    def kill_a_job(event: dict[str, Any]) -> None:
        if event["event"] == "case_finished" and not killed:
            killed.extend(ask("squeue", "--noheader", "--format=%i", "--states=R").split())
            ask("scancel", "--signal=KILL", "--full", *killed)

    summary = run_cases_dask(
        plan, cases, total=count_cases(Layout(alone)), root=scans, layout=layout, pool=pool, options=RunOptions(), observe=kill_a_job
    )
    assert killed
    assert (summary.done, summary.failed) == (24, 0)
    for case in cases:
        mine, theirs = (read_result(Layout(folder).result(case.case_id)) for folder in (tmp_path / "out", alone))
        assert mine is not None
        assert theirs is not None
        assert mine.key == theirs.key
        assert mine.outputs["segmentation.nii.gz"] == theirs.outputs["segmentation.nii.gz"]
    assert list((layout.private / "dask").glob("tls-*")) == []  # the keys of this run are gone
    wait_until(lambda: ask("squeue", "--noheader") == "")


def test_a_job_that_slurm_refuses_ends_the_pool_with_its_words(slurm, tmp_path, scans, pipeline):
    """dask only logs a refusal and waits for a worker that never comes."""
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed: pip install 'medseg[cluster]'")
    from medseg.batch.cluster.cluster_error import ClusterError
    from medseg.batch.cluster.dask_clusters import DaskPool
    from medseg.batch.cluster.dask_pool import run_cases_dask
    from medseg.batch.records.case import Case, case_id_of

    request = Batch(scans, pipeline, tmp_path / "out").request
    pool = DaskPool("", "slurm", 1, {"cores": ("1",), "memory": ("1GB",), "interface": ("lo",), "queue": ("nowhere",)})
    cases = [Case(case_id_of(["a"]), "NIfTI", ("scan 00.nii.gz",))]
    with pytest.raises(ClusterError, match="Invalid partition"):
        run_cases_dask(
            plan_of(request), cases, total=1, root=scans, layout=request.layout, pool=pool, options=RunOptions(), observe=lambda event: None
        )
