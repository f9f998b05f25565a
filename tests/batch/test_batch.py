"""A run and others beside it: whose plan counts, from the first look at the folder to the last line of the cohort."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medseg.batch.batch import Request, plan_of, run_batch
from medseg.batch.cohort.write_cohort import write_cohort
from medseg.batch.records.batch_file import read_batch
from medseg.batch.run.run_lock import BusyOutputError, RunLock
from medseg.batch.run.run_options import RunOptions, Summary
from medseg.core.errors import InputError, UnreadableFileError
from medseg.pipeline import parse_pipeline
from medseg.reporting.flow import CountsError

HOLD = """
import sys, time
from pathlib import Path
from medseg.batch.run.{module} import {name}
with {name}(Path(sys.argv[1])) as one:
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def request_of(tiny_batch: Callable[..., Any]) -> Request:
    batch = tiny_batch(2)
    return Request(batch.root, batch.layout.folder, batch.plan.pipeline, pictures="none")


def other_plan(request: Request) -> Request:
    text = "schema: medseg.pipeline/1\nname: tiny\nmodality: CT\nsegment: {method: threshold, parameters: {lower: 50}}\n"
    return replace(request, pipeline=parse_pipeline(text, "tiny"))


def run(request: Request, **options: Any) -> Any:
    said: list[str] = []
    done = run_batch(request, RunOptions(workers=1, threads=1, **options), observe=lambda event: None, say=said.append)
    return done, said


@contextmanager
def held(program: str, folder: Path) -> Iterator[None]:
    """Another process that holds something in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield
    finally:
        process.kill()
        process.communicate()


def test_the_folder_is_taken_from_the_search_to_the_cohort(request_of: Request) -> None:
    refused = []

    def try_it(*said: Any) -> None:
        with pytest.raises(BusyOutputError), RunLock(request_of.layout.state):
            pass
        refused.append(said[0])

    def execute(plan: Any, cases: Any, *, observe: Any, **more: Any) -> Summary:
        from medseg.batch.run.runner import run_cases

        try_it("run")
        return run_cases(plan, cases, observe=observe, **more)

    run_batch(
        request_of,
        RunOptions(workers=1, threads=1),
        execute=execute,
        observe=lambda event: try_it(event["event"]),
        progress=try_it,
    )
    assert {"run", "found", "run_started", "run_finished"} <= set(refused)
    with RunLock(request_of.layout.state):
        pass


@pytest.mark.parametrize(("module", "name", "place"), [("run_lock", "RunLock", "state"), ("claims", "Claims", "claims")])
def test_beside_a_run_by_another_plan_none_begins(request_of: Request, module: str, name: str, place: str) -> None:
    """Where a run has the folder for itself, who joins must have its plan; beside tasks that share it, who takes it must too."""
    run(request_of)
    layout = request_of.layout
    files = {path: path.read_bytes() for path in (layout.batch, layout.case_list, layout.case_table, layout.found)}
    (request_of.folder / "a1.nii.gz").unlink()  # another search would find less
    program = HOLD.format(module=module, name=name)
    if name == "Claims":
        program = program.replace("with Claims(Path(sys.argv[1])) as one:", "one = Claims(Path(sys.argv[1]))\nif one:")
    with held(program, getattr(request_of.layout, place)):
        for options in ({"join": True}, {"shard": (1, 2)}, *([{}] if name == "Claims" else [])):
            with pytest.raises(BusyOutputError, match=r"by another plan \(.*lower"):
                run(other_plan(request_of), **options)
        with pytest.raises(BusyOutputError):
            run(replace(other_plan(request_of), rescan=True), join=True)
        assert files == {path: path.read_bytes() for path in files}
        assert run(request_of, join=True)[0].summary.exit_code == 0
    done, said = run(other_plan(request_of))
    assert (done.summary.done, "another plan" in said[0]) == (1, True)


def test_one_that_is_refused_leaves_the_lock_of_the_other_alone(request_of: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both saw no folder, and the first one searches it now."""
    layout, exists = request_of.layout, Path.exists
    with held(HOLD.format(module="run_lock", name="RunLock"), layout.state):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "exists", lambda path: path not in (layout.state, layout.folder) and exists(path))
            with pytest.raises(BusyOutputError):
                run(request_of)
        assert (layout.state / "lock").is_file()


def test_a_cohort_of_another_plan_is_not_that_of_this_run(request_of: Request) -> None:
    run(request_of)
    layout = request_of.layout
    with pytest.raises(CountsError, match="another plan meanwhile"):
        write_cohort(layout, plan_key=plan_of(other_plan(request_of)).key)
    batch = read_batch(layout)
    assert batch is not None
    write_cohort(layout, plan_key=batch.plan.key)
    with layout.cohort.open(newline="") as file:
        assert [row["case_status"] for row in csv.DictReader(file)] == ["done", "done"]


def test_decisions_that_cannot_be_read_are_said_before_anything_is_computed(request_of: Request) -> None:
    request_of.layout.folder.mkdir(parents=True, exist_ok=True)
    request_of.layout.review.write_text('{"schema": "medseg.review/1", "decisions": [')
    with pytest.raises(UnreadableFileError, match=r"review\.json is no JSON"):
        run(request_of)
    assert not request_of.layout.case_list.exists()
    assert not request_of.layout.cases.exists()
    assert request_of.layout.review.read_text().endswith("[")


def test_a_search_that_finds_nothing_leaves_nothing(request_of: Request, tmp_path: Path) -> None:
    for scan in request_of.folder.iterdir():
        scan.unlink()
    with pytest.raises(InputError, match="nothing to run"):
        run(replace(request_of, output=tmp_path / "new" / "out"))
    assert not (tmp_path / "new").exists()
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="nothing to run"):
        run(replace(request_of, output=tmp_path / "there"))
    assert (tmp_path / "there").is_dir()
