"""What counts as done, how failures are written, and what is swept."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from medseg.batch.records.plan import Plan
from medseg.batch.records.result import read_result
from medseg.batch.records.results import close_folder, is_done, open_folder, seen_inputs, signature_of, sweep, write_failure
from medseg.batch.worker.case_run import CaseRunner
from medseg.core.errors import OutputError
from medseg.io.options import ReadOptions

Make = Callable[..., object]


def _done(tiny_batch: Make):
    batch = tiny_batch(1)
    runner = CaseRunner(batch.plan, batch.root, batch.layout, token="me")
    runner.run(batch.cases[0])
    return batch, batch.cases[0]


def test_a_finished_case_is_done_and_stays_so(tiny_batch: Make) -> None:
    """Asking twice changes nothing, and touching nothing reads nothing again."""
    batch, case = _done(tiny_batch)
    for quick in (False, True):
        assert is_done(batch.layout, case, batch.plan, batch.root, quick=quick).status == "done"


def test_a_case_that_was_never_run_is_missing(tiny_batch: Make) -> None:
    """Without a folder there is nothing to look at."""
    batch = tiny_batch(1)
    assert is_done(batch.layout, batch.cases[0], batch.plan, batch.root).status == "missing"


def test_another_plan_makes_a_result_stale(tiny_batch: Make) -> None:
    """Each part of the plan counts: version, formats, reading, models."""
    batch, case = _done(tiny_batch)
    for change in ({"version": "9"}, {"formats": ("nrrd",)}, {"reading": ReadOptions(allow_gaps=True)}, {"models": {"m": "1" * 64}}):
        other = Plan(**{"pipeline": batch.plan.pipeline, "version": batch.plan.version, "pictures": "none", **change})
        assert is_done(batch.layout, case, other, batch.root).status == "stale", change


def test_a_touched_but_equal_input_is_still_done(tiny_batch: Make) -> None:
    """A new time stamp leads to hashing, and the hash is the same."""
    batch, case = _done(tiny_batch)
    file = batch.root / case.files[0]
    before = signature_of([file])
    os.utime(file, (1, 1))
    assert signature_of([file]) != before
    assert is_done(batch.layout, case, batch.plan, batch.root).status == "done"


def test_another_content_is_stale_even_with_the_same_size_and_time(tiny_batch: Make) -> None:
    """The change time of the file cannot be set back, so the content is looked at."""
    batch, case = _done(tiny_batch)
    file = batch.root / case.files[0]
    found, content = file.stat(), bytearray(file.read_bytes())
    content[9] ^= 1
    file.write_bytes(bytes(content))
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    standing = is_done(batch.layout, case, batch.plan, batch.root)
    assert (standing.status, standing.reason) == ("stale", "its files have changed")


def test_a_done_case_survives_its_input(tiny_batch: Make) -> None:
    """A share that is not connected must not turn results into failures."""
    batch, case = _done(tiny_batch)
    (batch.root / case.files[0]).unlink()
    assert is_done(batch.layout, case, batch.plan, batch.root).status == "done"


@pytest.mark.parametrize("name", ["segmentation.nii.gz", "measurements.json", "segmentation.labels.csv"])
def test_an_output_that_changed_is_noticed(tiny_batch: Make, name: str) -> None:
    """A missing file and one of another size always, one of the same size where hashes are compared."""
    batch, case = _done(tiny_batch)
    file = batch.layout.case(case.case_id) / name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    assert is_done(batch.layout, case, batch.plan, batch.root).status == "stale"
    assert is_done(batch.layout, case, batch.plan, batch.root, quick=True).status == "done"
    file.write_bytes(bytes(content[:-1]))
    assert is_done(batch.layout, case, batch.plan, batch.root, quick=True).status == "stale"
    file.unlink()
    assert is_done(batch.layout, case, batch.plan, batch.root, quick=True).status == "stale"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"schema": "medseg.result/1"}', b'{"schema": "other"}', b"\xff\xfe", b"[" * 100_000]
)
def test_a_broken_result_is_run_again(tiny_batch: Make, content: bytes) -> None:
    """Whatever lies there in place of a result."""
    batch, case = _done(tiny_batch)
    batch.layout.result(case.case_id).write_bytes(content)
    assert is_done(batch.layout, case, batch.plan, batch.root).status == "stale"


@pytest.mark.parametrize(
    ("written", "edited"),
    [('"status": "done"', '"status": "failed"'), ('"threshold": 1', '"threshold": 7'), ('"attempts": 1', '"attempts": 2')],
)
def test_an_edited_result_is_run_again(tiny_batch: Make, written: str, edited: str) -> None:
    """Whatever was edited: the cohort takes states, codes and checks from it."""
    batch, case = _done(tiny_batch)
    file = batch.layout.result(case.case_id)
    text = file.read_text(encoding="ascii")
    assert written in text
    file.write_text(text.replace(written, edited, 1), encoding="ascii")
    assert is_done(batch.layout, case, batch.plan, batch.root).status == "stale"
    file.write_text(text, encoding="ascii")
    assert is_done(batch.layout, case, batch.plan, batch.root).status == "done"


def test_the_result_of_another_case_does_not_count(tiny_batch: Make) -> None:
    """A folder that was copied to the place of another case."""
    batch = tiny_batch(2)
    runner = CaseRunner(batch.plan, batch.root, batch.layout, token="me")
    runner.run(batch.cases[0])
    final = batch.layout.case(batch.cases[1].case_id)
    final.parent.mkdir(exist_ok=True)
    batch.layout.case(batch.cases[0].case_id).rename(final)
    assert is_done(batch.layout, batch.cases[1], batch.plan, batch.root).status == "stale"


def test_a_failure_stands_until_its_input_changes(tiny_batch: Make) -> None:
    """It is written by who saw the worker die, with what can be said of the inputs without reading them."""
    batch = tiny_batch(1)
    case = batch.cases[0]
    result = write_failure(batch.layout, case, batch.plan, "CRASH", "the worker died", attempts=1, token="parent", root=batch.root)
    assert read_result(batch.layout.result(case.case_id)) == result
    assert (result.status, result.key, result.inputs) == ("failed", "", seen_inputs([batch.root / case.files[0]]))
    assert [file.name for file in batch.layout.case(case.case_id).iterdir()] == ["result.json"]
    standing = is_done(batch.layout, case, batch.plan, batch.root)
    assert (standing.status, standing.reason) == ("failed", "the worker died")
    (batch.root / case.files[0]).write_bytes(b"other")
    assert is_done(batch.layout, case, batch.plan, batch.root).status == "stale"


@pytest.mark.parametrize("code", ["INPUT_CHANGED", "INPUT_GONE"])
def test_what_could_not_be_read_is_tried_by_the_next_run(tiny_batch: Make, code: str) -> None:
    """These failures are about a moment, not about the scan."""
    batch = tiny_batch(1)
    write_failure(batch.layout, batch.cases[0], batch.plan, code, "gone", attempts=1, token="me", root=batch.root)
    assert is_done(batch.layout, batch.cases[0], batch.plan, batch.root).status == "missing"


def test_a_failure_takes_the_place_of_a_stale_result_whole(tiny_batch: Make) -> None:
    """Nothing of the old outputs stays beside the reason."""
    batch, case = _done(tiny_batch)
    write_failure(batch.layout, case, batch.plan, "TIMEOUT", "too long", attempts=2, token="me", root=batch.root)
    assert [file.name for file in batch.layout.case(case.case_id).iterdir()] == ["result.json"]
    assert sorted(batch.layout.cases.rglob(".tmp-*")) == []


def test_two_writers_of_one_case_leave_the_first_result(tiny_batch: Make) -> None:
    """The second finds the same key done and lets its own go; the file keeps its time."""
    batch, case = _done(tiny_batch)
    before = batch.layout.result(case.case_id).stat()
    again = CaseRunner(batch.plan, batch.root, batch.layout, token="other").run(case)
    after = batch.layout.result(case.case_id).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert again == read_result(batch.layout.result(case.case_id))
    assert sorted(batch.layout.cases.rglob(".tmp-*")) == []


def test_sweep_removes_what_the_dead_left_and_nothing_else(tiny_batch: Make) -> None:
    """Live writers keep their folders; what was set aside without a successor goes back."""
    batch, case = _done(tiny_batch)
    live = open_folder(batch.layout, case.case_id, "live")
    dead = open_folder(batch.layout, case.case_id, "dead")
    (dead / "segmentation.nii.gz").write_bytes(b"half")
    stray = dead.with_name(".tmp-0123.nii.gz")
    stray.write_bytes(b"half")
    other = "f" * 16
    aside = batch.layout.temporary(other, "dead").with_name(f".tmp-{other}-dead.old")
    aside.mkdir(parents=True)
    (aside / "result.json").write_text("{}")
    gone = batch.layout.temporary(case.case_id, "dead").with_name(f".tmp-{case.case_id}-dead.old")
    gone.mkdir()
    assert sweep(batch.layout, lambda token: token == "live") == 3
    assert live.is_dir()
    assert not any(path.exists() for path in (dead, stray, gone))
    assert batch.layout.result(other).read_text() == "{}"
    assert is_done(batch.layout, case, batch.plan, batch.root).status == "done"


def test_what_cannot_go_back_to_its_place_now_is_kept(tiny_batch: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be the only copy of a result: a share that stumbles must not cost it."""
    batch, _ = _done(tiny_batch)
    other = "f" * 16
    aside = batch.layout.temporary(other, "dead").with_name(f".tmp-{other}-dead.old")
    aside.mkdir(parents=True)
    (aside / "result.json").write_text("{}")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", lambda *paths: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        sweep(batch.layout, lambda token: False)
    assert (aside / "result.json").read_text() == "{}"
    sweep(batch.layout, lambda token: False)
    assert batch.layout.result(other).read_text() == "{}"


def test_nothing_is_left_where_the_disk_is_full(tiny_batch: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC while the files are flushed: an OutputError, no stub, no temporary folder."""
    import errno

    from medseg.io import atomic

    batch = tiny_batch(1)

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic, "_flush_file", full)
    with pytest.raises(OutputError, match="No space left"):
        CaseRunner(batch.plan, batch.root, batch.layout, token="me").run(batch.cases[0])
    assert [path for path in batch.layout.cases.rglob("*") if path.is_file() or path.name.startswith(".tmp-")] == []


def test_a_folder_that_cannot_be_written_is_an_output_error(tiny_batch: Make) -> None:
    """A file stands where the folder of cases should be."""
    batch = tiny_batch(1)
    batch.layout.folder.mkdir()
    batch.layout.cases.write_text("")
    with pytest.raises(OutputError):
        CaseRunner(batch.plan, batch.root, batch.layout, token="me").run(batch.cases[0])


def test_the_folder_gets_its_name_only_with_everything_flushed(tiny_batch: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file was flushed after it was written and before the rename, the folder too, and its parent after it."""
    from medseg.io import atomic

    batch = tiny_batch(1)
    told: list[tuple[str, str]] = []
    flush_file, flush_folder, rename = atomic._flush_file, atomic._flush_folder, os.rename

    def note(what: str, path: Path, then: Callable[[Path], None]) -> None:
        told.append((what, Path(path).name))
        then(path)

    def renamed(old: Path, new: Path) -> None:
        told.append(("rename", Path(new).name))
        rename(old, new)

    monkeypatch.setattr(atomic, "_flush_file", lambda path: note("file", path, flush_file))
    monkeypatch.setattr(atomic, "_flush_folder", lambda path: note("folder", path, flush_folder))
    monkeypatch.setattr(os, "rename", renamed)
    case = batch.cases[0]
    result = CaseRunner(batch.plan, batch.root, batch.layout, token="me").run(case)
    at = told.index(("rename", case.case_id))
    assert {name for what, name in told[:at] if what == "file"} == {*result.outputs, "result.json"}
    assert [name for what, name in told[at:] if what == "folder"] == [case.case_id[:2]]
    assert len(told) == len(result.outputs) + 1 + 3


def test_the_outputs_are_those_of_the_folder(tiny_batch: Make) -> None:
    """Sizes and hashes agree with an independent look."""
    import hashlib

    batch, case = _done(tiny_batch)
    folder = batch.layout.case(case.case_id)
    entries = json.loads((folder / "result.json").read_text())["outputs"]
    found = {
        file.name: {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        for file in folder.iterdir()
        if file.name != "result.json"
    }
    assert entries == found


def test_close_folder_without_files_writes_a_failure_only(tiny_batch: Make) -> None:
    """What write_failure stands on."""
    batch, case = _done(tiny_batch)
    done = read_result(batch.layout.result(case.case_id))
    assert done is not None
    open_folder(batch.layout, "a" * 16, "me")
    from dataclasses import replace

    closed = close_folder(batch.layout, replace(done, case_id="a" * 16, status="failed", outputs={}), "me")
    assert closed.outputs == {}
