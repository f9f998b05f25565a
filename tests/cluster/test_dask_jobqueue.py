"""Pools of jobs where the scheduler is played by a program that runs the job script at once: PBS, LSF and SGE by their own commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed: pip install 'medseg[cluster]'")

from medseg.batch.cluster.cluster_error import ClusterError
from medseg.batch.cluster.dask_clusters import DaskPool, _job_settings
from medseg.batch.cluster.dask_pool import run_cases_dask
from medseg.batch.records.layout import Layout
from medseg.batch.run.run_options import RunOptions

# what dask-jobqueue calls is given a file that it deletes afterwards, or the script itself on standard input
SUBMIT = """
import subprocess, sys
from pathlib import Path
files = [argument for argument in sys.argv[1:] if Path(argument).is_file()]
script = Path(files[-1]).read_text() if files else sys.stdin.read()
Path({record!r}).write_text(script)
nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
job = subprocess.Popen(["bash", "-c", script], start_new_session=True, **nowhere)
print("{said}".format(job.pid))
"""
CANCEL = """
import os, signal, sys
for number in sys.argv[1:]:
    if number.isdigit():
        os.killpg(int(number), signal.SIGKILL)
"""
PROGRAMS = {
    "pbs": ("qsub", "qdel", "{}.server", "#PBS"),
    "lsf": ("bsub", "bkill", "Job <{}> is submitted to queue <normal>.", "#BSUB"),
    "sge": ("qsub", "qdel", 'Your job {} (\\"dask-worker\\") has been submitted', "#$"),
}
JOB = {"cores": ("1",), "memory": ("1GB",), "interface": ("lo",), "walltime": ("00:05",)}


def program(path: Path, text: str) -> None:
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pbs", "lsf", "sge"])
def test_each_scheduler_is_asked_in_its_own_words(kind, tmp_path, study, plan, monkeypatch):
    submit, cancel, said, directive = PROGRAMS[kind]
    programs = tmp_path / "programs"
    programs.mkdir()
    program(programs / submit, SUBMIT.format(record=str(tmp_path / "script"), said=said))
    program(programs / cancel, CANCEL)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    pool = DaskPool("", kind, 1, JOB)
    layout = Layout(tmp_path / "out")
    cases = study.cases[:2]
    summary = run_cases_dask(
        plan, cases, total=2, root=study.root, layout=layout, pool=pool, options=RunOptions(), observe=lambda event: None
    )
    assert (summary.done, summary.failed) == (2, 0)
    script = (tmp_path / "script").read_text()
    assert directive in script
    assert "tls://" in script
    assert "--nthreads 1" in script
    assert "export NUMBA_NUM_THREADS=1" in script
    assert list((layout.private / "dask").glob("tls-*")) == []


def test_jobs_of_devices_have_one_and_every_job_its_threads():
    pool = DaskPool("", "slurm", 1, {**JOB, "cores": ("8",), "processes": ("2",), "worker_extra_args": ("--lifetime", "55m")})
    settings = _job_settings(pool, RunOptions(devices=("cuda",)))
    assert settings["worker_extra_args"] == ["--nthreads", "1", "--lifetime", "55m", "--resources", "GPU=1"]
    assert "export OMP_NUM_THREADS=4" in settings["job_script_prologue"]
    assert "GPU=1" not in _job_settings(pool, RunOptions())["worker_extra_args"]


def test_a_path_that_a_job_script_cannot_hold_is_refused(tmp_path, study, plan):
    pool = DaskPool("", "slurm", 1, JOB)
    layout = Layout(tmp_path / "out put")
    with pytest.raises(ClusterError, match="spaces"):
        run_cases_dask(plan, [], total=0, root=study.root, layout=layout, pool=pool, options=RunOptions(), observe=lambda event: None)


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("slurm", {"cores": ("1",)}, "--dask-option memory=16GB"),
        ("pbs", {**JOB, "job_mem": ("1GB",)}, "the option job_mem for pbs"),
    ],
)
def test_options_that_a_scheduler_does_not_take_are_said(tmp_path, study, plan, kind, options, said):
    pool = DaskPool("", kind, 1, options)
    with pytest.raises(ClusterError, match=said):
        run_cases_dask(
            plan, [], total=0, root=study.root, layout=Layout(tmp_path), pool=pool, options=RunOptions(), observe=lambda event: None
        )
    assert list((tmp_path / "private" / "dask").glob("tls-*")) == []


@pytest.mark.parametrize("given", [{}, {"address": "tcp://a:1", "jobqueue": "slurm"}, {"jobqueue": "slurm", "jobs": 0}])
def test_a_pool_is_at_an_address_or_made_of_jobs(given):
    with pytest.raises(ValueError, match="a pool"):
        DaskPool(**given)
