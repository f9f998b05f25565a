"""`medseg batch` with its options for clusters, as a user types them."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import pytest

from medseg.cli.main import run

SMALL_JOB = ["--slurm-option", "--mem=500", "--slurm-option=--time=5"]


def volumes_ml(output: Path) -> list[float]:
    with (output / "cohort.csv").open(newline="") as file:
        return sorted(float(row["volume_ml"]) for row in csv.DictReader(file))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--slurm", "--dask", "tcp://127.0.0.1:1"], "--slurm and --dask do not go together"),
        (["--slurm-wait"], "--slurm-wait belongs to --slurm"),
        (["--slurm-option", "--mem=4G"], "--slurm-option belongs to --slurm"),
        (["--dask-jobs", "2"], "--dask-jobs belongs to --dask-jobqueue"),
        (["--dask", "tcp://127.0.0.1:1", "--dask-option", "cores=2"], "--dask-option belongs to --dask-jobqueue"),
        (["--slurm", "--shard", "1/2"], "leave out --shard and --join"),
        (["--dask-jobqueue", "slurm", "--join"], "leave out --shard and --join"),
        (["--slurm", "--slurm-option", "gpu"], "not an option of sbatch"),
        (["--dask-jobqueue", "slurm", "--dask-option", "cores"], "NAME=VALUE"),
        (["--dask-jobqueue", "slurm", "--dask-option", "cores=many"], "whole number"),
        (["--dask-jobqueue", "slurm", "--dask-option", "colour=red"], "'colour' is no option"),
        (["--dask", "tcp://127.0.0.1:1", "--device", "cuda:0", "--device", "cuda:1"], "one worker for each GPU"),
        (["--dask-jobqueue", "slurm", "--device", "cuda", "--device", "cpu"], "one worker for each GPU"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_runs(tmp_path, study, pipeline, capsys, options, said):
    code = run(["batch", str(study.root), "-o", str(tmp_path / "out"), "--pipeline", str(pipeline), *options])
    assert code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_slurm_the_scripts_stay_and_the_exit_code_is_4(tmp_path, study, pipeline, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    given = [study.root.name, "-o", "out", "--pipeline", str(pipeline), "--workers", "1"]
    assert run(["batch", *given, "--slurm", "--slurm-shards", "2", "--slurm-wait", "--rescan"]) == 4
    assert "this machine has no SLURM" in capsys.readouterr().err
    last = (tmp_path / "out" / "private" / "slurm" / "array.sh").read_text().splitlines()[-1]
    assert last.endswith(f"batch --shard \"$SLURM_ARRAY_TASK_ID/2\" 'it'\"'\"'s a $TUDY' -o out --pipeline {pipeline} --workers 1")


def test_without_dask_the_extra_is_named(tmp_path, study, pipeline, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    code = run(["batch", str(study.root), "-o", str(tmp_path / "out"), "--pipeline", str(pipeline), "--dask", "tcp://127.0.0.1:1"])
    assert code == 4
    assert "pip install 'medseg[cluster]'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_running_dask_gives_the_cohort_of_one_machine(tmp_path, study, pipeline, local_pool, capsys):
    with local_pool() as cluster:
        given = [str(study.root), "-o", str(tmp_path / "out"), "--pipeline", str(pipeline), "--json"]
        assert run(["batch", *given, "--dask", cluster.scheduler_address]) == 0
    assert json.loads(capsys.readouterr().out)["done"] == 6
    assert volumes_ml(tmp_path / "out") == pytest.approx(sorted(study.volumes_ml.values()))
    assert run(["batch", str(study.root), "-o", str(tmp_path / "alone"), "--pipeline", str(pipeline), "--quiet"]) == 0
    assert (tmp_path / "out" / "cohort.csv").read_bytes() == (tmp_path / "alone" / "cohort.csv").read_bytes()


@pytest.mark.slow
def test_an_array_that_is_waited_for(slurm, tmp_path, study, pipeline, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # relative paths are meant from here, in every task too
    given = [study.root.name, "-o", "out", "--pipeline", os.path.relpath(pipeline), "--json"]
    assert run(["batch", *given, "--slurm", "--slurm-shards", "2", "--slurm-wait", *SMALL_JOB]) == 0
    assert json.loads(capsys.readouterr().out)["done"] == 6
    assert volumes_ml(tmp_path / "out") == pytest.approx(sorted(study.volumes_ml.values()))


@pytest.mark.slow
def test_jobs_that_become_workers(slurm, tmp_path, study, pipeline, capsys):
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed: pip install 'medseg[cluster]'")
    options = [f"--dask-option={option}" for option in ("cores=1", "memory=1GB", "interface=lo", "walltime=00:05:00")]
    given = [str(study.root), "-o", str(tmp_path / "out"), "--pipeline", str(pipeline), "--json"]
    assert run(["batch", *given, "--dask-jobqueue", "slurm", *options]) == 0
    assert json.loads(capsys.readouterr().out)["done"] == 6
    assert volumes_ml(tmp_path / "out") == pytest.approx(sorted(study.volumes_ml.values()))
