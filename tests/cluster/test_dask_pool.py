"""Cases on a real pool of dask: workers that are killed, cases that always kill their worker, hang, or come twice."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed", reason="dask is not installed: pip install 'medseg[cluster]'")

from medseg.batch.cluster.cluster_error import ClusterError
from medseg.batch.cluster.dask_clusters import DaskPool
from medseg.batch.cluster.dask_pool import run_cases_dask
from medseg.batch.records.layout import Layout
from medseg.batch.records.plan import Plan
from medseg.batch.records.result import CaseResult, read_result
from medseg.batch.run.run_options import RunOptions, Summary
from medseg.io.atomic import TEMPORARY_PREFIX

pytestmark = pytest.mark.slow  # processes start, die and start again


def run(
    cluster: Any, study: Any, plan: Plan, output: Path, observe: Callable[[dict[str, Any]], None] | None = None, **options: Any
) -> Summary:
    pool = DaskPool(address=cluster.scheduler_address)
    return run_cases_dask(
        plan,
        study.cases,
        total=len(study.cases),
        root=study.root,
        layout=Layout(output),
        pool=pool,
        options=RunOptions(**options),
        observe=observe or (lambda event: None),
    )


def volumes_ml(output: Path, study: Any) -> dict[str, float]:
    """What was measured, read from the results of the cases."""
    layout, found = Layout(output), {}
    for case in study.cases:
        path = layout.case(case.case_id) / "measurements.json"
        if path.exists():
            found[case.case_id] = json.loads(path.read_bytes())["segments"][0]["volume_ml"]
    return found


def result_of(output: Path, case_id: str) -> CaseResult:
    result = read_result(Layout(output).result(case_id))
    assert result is not None
    return result


def events(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "events.jsonl").read_text(encoding="ascii").splitlines()]


def test_all_cases_are_done_once_and_a_second_run_does_nothing(tmp_path, study, plan, local_pool):
    output = tmp_path / "out put"
    with local_pool() as cluster:
        summary = run(cluster, study, plan, output)
        assert (summary.done, summary.failed, summary.exit_code, summary.message) == (6, 0, 0, "")
        assert volumes_ml(output, study) == pytest.approx(study.volumes_ml)
        times = {path: path.stat().st_mtime_ns for path in Layout(output).results()}
        again = run(cluster, study, plan, output)
    assert (again.done, again.skipped) == (0, 6)
    assert {path: path.stat().st_mtime_ns for path in Layout(output).results()} == times
    said = events(output)
    assert sum(event["event"] == "case_started" for event in said) == sum(event["event"] == "case_finished" for event in said) == 6
    text = (output / "events.jsonl").read_text()
    assert [name for name in ("TUDY", "ller", "127.0.0.1") if name in text] == []
    assert list(output.rglob(f"{TEMPORARY_PREFIX}*")) == []
    assert list((output / "state").glob("dask-*")) == []


def test_a_worker_that_is_killed_costs_nothing(tmp_path, study, plan, local_pool, orders):
    """SIGKILL while cases run: the case is run again, the others do not notice."""
    orders({case.case_id: "slow" for case in study.cases})
    killed: list[int] = []

    def observe(event: dict[str, Any]) -> None:
        if event["event"] == "worker_started" and not killed:
            killed.append(event["pid"])
            os.kill(event["pid"], signal.SIGKILL)

    with local_pool() as cluster:
        summary = run(cluster, study, plan, tmp_path / "out", observe)
    assert killed
    assert (summary.done, summary.failed) == (6, 0)
    assert volumes_ml(tmp_path / "out", study) == pytest.approx(study.volumes_ml)
    assert any(event["event"] == "worker_died" for event in events(tmp_path / "out"))
    assert list((tmp_path / "out").rglob(f"{TEMPORARY_PREFIX}*")) == []


@pytest.mark.parametrize("allowed_failures", [0, 3])
def test_a_case_that_always_kills_its_worker_fails_alone(tmp_path, study, plan, local_pool, orders, allowed_failures):
    """Three deaths and it is a CRASH; dask blames every task of a dead process (KilledWorker), the innocent are run all the same."""
    import dask

    guilty = study.cases[2].case_id
    orders({guilty: "kill"})
    with dask.config.set({"distributed.scheduler.allowed-failures": allowed_failures}), local_pool() as cluster:
        summary = run(cluster, study, plan, tmp_path / "out")
        assert (summary.done, summary.failed, dict(summary.by_code), summary.exit_code) == (5, 1, {"CRASH": 1}, 1)
        result = result_of(tmp_path / "out", guilty)
        assert result.code == "CRASH"
        assert "3 times" in result.message
        again = run(cluster, study, plan, tmp_path / "out")
        assert (again.done, again.failed, again.failed_before, again.skipped) == (0, 0, 1, 5)
        orders({})
        healed = run(cluster, study, plan, tmp_path / "out", retry_failed=True)
    assert (healed.done, healed.failed) == (1, 0)
    assert volumes_ml(tmp_path / "out", study) == pytest.approx(study.volumes_ml)


def test_a_case_that_hangs_is_ended_by_its_worker(tmp_path, study, plan, local_pool, orders):
    hanging = study.cases[0].case_id
    with local_pool() as cluster:
        orders({hanging: "hang"})
        summary = run(cluster, study, plan, tmp_path / "out", timeout_s=5)
    assert (summary.done, dict(summary.by_code)) == (5, {"TIMEOUT": 1})
    result = result_of(tmp_path / "out", hanging)
    assert result.code == "TIMEOUT"
    assert "to compute it took longer than 5 s" in result.message


def test_a_library_that_keeps_the_interpreter_is_ended_too(tmp_path, study, plan, local_pool, orders):
    """Neither a timer nor the heartbeat of dask runs meanwhile; three tries, as for a crash."""
    hanging = study.cases[0].case_id
    with local_pool() as cluster:
        orders({hanging: "hang in C"})
        summary = run(cluster, study, plan, tmp_path / "out", timeout_s=4)
    assert (summary.done, dict(summary.by_code)) == (5, {"CRASH": 1})


@pytest.mark.parametrize("allowed_failures", [0, 3])
def test_a_process_whose_gpu_is_lost_ends_and_the_next_one_goes_on(tmp_path, study, plan, local_pool, orders, allowed_failures):
    """In the process of such an error every further computation fails (played): one worker, and no other case may fail with it."""
    import dask

    unlucky, hopeless = (study.cases[number].case_id for number in (0, 2))
    orders({unlucky: "lose device once", hopeless: "lose device"})
    with dask.config.set({"distributed.scheduler.allowed-failures": allowed_failures}), local_pool(1) as cluster:
        summary = run(cluster, study, plan, tmp_path / "out")
    assert (summary.done, dict(summary.by_code)) == (5, {"DEVICE_LOST": 1})
    result = result_of(tmp_path / "out", hopeless)
    assert (result.code, result.attempts) == ("DEVICE_LOST", 3)
    said = events(tmp_path / "out")
    retried = [event["case_id"] for event in said if event["event"] == "case_retried"]
    assert sorted(retried) == sorted([unlucky, hopeless, hopeless])
    started, died = ([event["worker"] for event in said if event["event"] == kind] for kind in ("worker_started", "worker_died"))
    assert len(set(died)) == len(died) == 4  # once, and each of the three times
    assert set(died) <= set(started)  # the run may end before the one after the last is seen
    assert volumes_ml(tmp_path / "out", study) == pytest.approx({k: v for k, v in study.volumes_ml.items() if k != hopeless})


def test_data_that_cannot_be_used_fail_without_a_second_try(tmp_path, study, plan, local_pool):
    broken = study.root / study.cases[3].files[0]
    broken.write_bytes(broken.read_bytes()[:-40])
    with local_pool(1) as cluster:
        summary = run(cluster, study, plan, tmp_path / "out")
    assert (summary.done, summary.failed) == (5, 1)
    result = result_of(tmp_path / "out", study.cases[3].case_id)
    assert result.attempts == 1
    assert "ller" not in result.message


def test_names_that_are_no_text_reach_the_worker(tmp_path, study, plan, local_pool):
    """A name in Latin-1 is no UTF-8; Python keeps its byte as a lone surrogate, which no JSON or msgpack in UTF-8 takes."""
    name = os.fsdecode(b"M\xfcller.nii.gz")
    os.rename(study.root / study.cases[0].files[0], study.root / name)
    cases = (replace(study.cases[0], files=(name,)),)
    with local_pool(1) as cluster:
        summary = run(cluster, replace(study, cases=cases), plan, tmp_path / "out")
    assert summary.done == 1


def test_another_version_of_medseg_on_the_workers_stops_the_run(tmp_path, study, plan, local_pool):
    with local_pool(1) as cluster:
        summary = run(cluster, study, replace(plan, version="0.0.1"), tmp_path / "out")
    assert (summary.exit_code, summary.done) == (4, 0)
    assert "same version" in summary.message


def test_a_full_output_stops_the_run(tmp_path, study, plan, local_pool):
    """The folder of the cases cannot be made: nothing is handed out any more, and nothing is called a failure of a case."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "cases").write_text("a file where the folder should be")
    with local_pool(1) as cluster:
        summary = run(cluster, study, plan, tmp_path / "out")
    assert (summary.exit_code, summary.stopped, summary.done, summary.failed) == (5, "OUTPUT", 0, 0)


def test_an_interrupt_lets_the_running_finish_and_the_next_run_goes_on(tmp_path, study, plan, local_pool, orders):
    orders({case.case_id: "slow" for case in study.cases})

    def observe(event: dict[str, Any]) -> None:
        if event["event"] == "case_started":
            os.kill(os.getpid(), signal.SIGINT)

    with local_pool(1) as cluster:
        first = run(cluster, study, plan, tmp_path / "out", observe_once(observe), grace_s=60)
        assert (first.stopped, first.exit_code) == ("SIGINT", 130)
        assert 1 <= first.done < 6
        assert first.failed == 0
        second = run(cluster, study, plan, tmp_path / "out")
    assert (second.done, second.skipped) == (6 - first.done, first.done)


def observe_once(act: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """Let an observer act on the first case that starts, and no more."""
    seen: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        if event["event"] == "case_started" and not seen:
            seen.append(event["case_id"])
            act(event)

    return observe


def test_tasks_of_a_device_run_only_where_one_is(tmp_path, study, plan):
    """Two workers, one with the resource GPU: every case of device cuda begins there (a threshold needs no real device)."""
    from distributed import Client, Nanny, Scheduler, SpecCluster

    settings = {
        "host": "127.0.0.1",
        "nthreads": 1,
        "memory_limit": None,
        "local_directory": str(tmp_path),
        "env": {"NUMBA_NUM_THREADS": "1"},
    }
    workers = {
        0: {"cls": Nanny, "options": settings},
        1: {"cls": Nanny, "options": {**settings, "resources": {"GPU": 1}}},
    }
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "dashboard_address": ":0"}}
    with SpecCluster(workers=workers, scheduler=scheduler, silence_logs=50) as cluster:
        with Client(cluster, set_as_default=False) as client:
            pids = client.run(os.getpid)
            (equipped,) = [address for address, held in client.run(held_resources).items() if held]
        summary = run(cluster, study, plan, tmp_path / "out", devices=("cuda",))
    assert summary.done == 6
    assert len(pids) == 2
    assert {event["pid"] for event in events(tmp_path / "out") if event["event"] == "worker_started"} == {pids[equipped]}


def held_resources(dask_worker: Any) -> dict[str, float]:
    return dict(dask_worker.state.total_resources)


def test_a_scheduler_that_is_not_there_is_said(tmp_path, study, plan, monkeypatch):
    monkeypatch.setattr("medseg.batch.cluster.dask_clusters._CONNECT_S", 1)

    class Nowhere:
        scheduler_address = "tcp://127.0.0.1:9"

    with pytest.raises(ClusterError, match="cannot be reached"):
        run(Nowhere, study, plan, tmp_path / "out")


def test_a_pool_does_not_share_its_output(tmp_path, study, plan):
    class Nowhere:
        scheduler_address = "tcp://127.0.0.1:9"

    with pytest.raises(ClusterError, match="--join"):
        run(Nowhere, study, plan, tmp_path / "out", join=True)


def test_a_pool_has_one_kind_of_device(tmp_path, study, plan):
    class Nowhere:
        scheduler_address = "tcp://127.0.0.1:9"

    with pytest.raises(ClusterError, match=r"not 2 \(cuda:0, cuda:1\).*one worker for each GPU.*CUDA_VISIBLE_DEVICES=0 dask"):
        run(Nowhere, study, plan, tmp_path / "out", devices=("cuda:0", "cuda:1"))
    assert not (tmp_path / "out").exists()
