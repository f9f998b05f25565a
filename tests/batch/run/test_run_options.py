"""How many workers a run has, with how many threads, and the exit code of its end."""

from __future__ import annotations

from typing import Any

import pytest

from medseg.batch.records.plan import Plan
from medseg.batch.run import run_options
from medseg.batch.run.run_options import RunOptions, Summary, capped, core_count, worker_devices, worker_environment
from medseg.pipeline import parse_pipeline

PIPELINE = "schema: medseg.pipeline/1\nname: tiny\nsegment: {method: threshold, parameters: {lower: 0}}\n"
GIB = 1 << 30


def plan(**values: Any) -> Plan:
    return Plan(parse_pipeline(PIPELINE, "tiny"), "0", **values)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with 16 cores and 20 GiB of free memory."""
    monkeypatch.setattr(run_options, "core_count", lambda: 16)
    monkeypatch.setattr(run_options, "free_memory_bytes", lambda: 20 * GIB)


@pytest.mark.usefixtures("machine")
def test_as_many_workers_as_cores_and_memory_allow() -> None:
    assert worker_devices(RunOptions(), plan()) == ["cpu"] * 10
    assert worker_devices(RunOptions(memory_gb=1.0), plan()) == ["cpu"] * 16
    assert worker_devices(RunOptions(memory_gb=100.0), plan()) == ["cpu"]
    assert worker_devices(RunOptions(workers=3), plan()) == ["cpu"] * 3


@pytest.mark.usefixtures("machine")
def test_a_network_has_the_cores_or_a_device_for_itself() -> None:
    network = plan(models={"spleen": "0" * 64})
    assert worker_devices(RunOptions(), network) == ["cpu"]
    assert worker_devices(RunOptions(devices=("cuda:0", "cuda:1")), network) == ["cuda:0", "cuda:1"]


@pytest.mark.usefixtures("machine")
def test_threads_are_the_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "99")
    monkeypatch.setenv("KEPT", "yes")
    environment = worker_environment(RunOptions(), 5)
    assert environment["NUMBA_NUM_THREADS"] == environment["OMP_NUM_THREADS"] == "3"
    assert environment["KEPT"] == "yes"
    assert worker_environment(RunOptions(), 100)["OMP_NUM_THREADS"] == "1"
    assert worker_environment(RunOptions(threads=7), 5)["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize(
    "wrong", [{"shard": (0, 4)}, {"shard": (5, 4)}, {"devices": ()}, {"workers": 0}, {"timeout_s": 0.0}, {"memory_gb": -1.0}]
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        RunOptions(**wrong)


@pytest.mark.parametrize(
    ("summary", "code"),
    [
        (Summary(done=3, skipped=2), 0),
        (Summary(done=3, failed=1), 1),
        (Summary(skipped=3, failed_before=1), 1),
        (Summary(stopped="MODEL"), 4),
        (Summary(done=1, stopped="OUTPUT"), 5),
        (Summary(failed=1, stopped="SIGINT"), 130),
        (Summary(stopped="SIGTERM"), 143),
    ],
)
def test_exit_codes_are_those_of_the_list(summary: Summary, code: int) -> None:
    assert summary.exit_code == code


def test_cores_are_those_that_may_be_used() -> None:
    assert core_count() >= 1


@pytest.mark.usefixtures("machine")
def test_a_worker_on_a_processor_is_capped_at_most_of_what_is_free() -> None:
    assert capped(RunOptions()).memory_gb == pytest.approx(0.9 * 20 * GIB / 1e9, abs=0.1)
    assert capped(RunOptions(memory_gb=3.0)).memory_gb == 3.0
    assert capped(RunOptions(devices=("cuda:0",))).memory_gb is None
