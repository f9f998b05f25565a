"""The index: rows as the results have them, whatever lay there before."""

from __future__ import annotations

import itertools
import math
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from medseg.batch.records.file_systems import file_system_of, is_on_network
from medseg.batch.records.index import Index, Row, row_of
from medseg.batch.records.layout import Layout
from medseg.batch.records.result import CaseResult
from medseg.core.errors import OutputError


def put(layout: Layout, number: int, code: str = "") -> str:
    """Write a result, as a worker would."""
    case_id = f"{number:02x}" + "0" * 14
    layout.case(case_id).mkdir(parents=True, exist_ok=True)
    result = CaseResult(case_id, "failed" if code else "done", "plan", code=code, seconds={"read": 1.0, "compute": 2.5})
    layout.result(case_id).write_text(result.to_json(), encoding="ascii")
    return case_id


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    for number in range(5):
        put(layout, number, "TIMEOUT" if number == 3 else "")
    return layout


def test_it_is_made_from_the_results(layout: Layout) -> None:
    index = Index(layout)
    rows = list(index.rows())
    assert [row.case_id[:2] for row in rows] == ["00", "01", "02", "03", "04"]
    assert (rows[3].status, rows[3].code, rows[3].seconds) == ("failed", "TIMEOUT", 3.5)
    assert index.counts() == {("done", ""): 4, ("failed", "TIMEOUT"): 1}
    assert index.rebuilt == ""
    index.close()


def test_files_that_lie_among_the_cases_are_passed_over(layout: Layout) -> None:
    """Of another program, with a name like that of a folder of ours."""
    (layout.cases / "ab").write_text("no folder")
    (layout.cases / "00" / "notes.txt").write_text("no case")
    index = Index(layout)
    assert index.counts() == {("done", ""): 4, ("failed", "TIMEOUT"): 1}
    index.close()


def test_what_changed_while_it_was_closed_is_put_right(layout: Layout) -> None:
    Index(layout).close()
    added, changed, deleted = put(layout, 9), put(layout, 2, "CRASH"), layout.result("01" + "0" * 14)
    later = layout.result(changed).stat().st_mtime_ns + 10**7  # the clock of a file system may tick slower than this test writes
    os.utime(layout.result(changed), ns=(later, later))
    deleted.unlink()
    broken = layout.result("04" + "0" * 14)
    broken.write_text("{}", encoding="ascii")
    index = Index(layout)
    rows = {row.case_id: row.code for row in index.rows()}
    assert rows == {"00" + "0" * 14: "", changed: "CRASH", "03" + "0" * 14: "TIMEOUT", added: ""}
    index.close()


def test_rows_are_replaced_and_stay(layout: Layout) -> None:
    index = Index(layout)
    changed = layout.result("00" + "0" * 14).stat().st_mtime_ns
    index.record(Row("00" + "0" * 14, "failed", "KILLED", "plan", 3, 1.0, changed))
    index.close()
    again = Index(layout)
    assert again.counts() == {("done", ""): 3, ("failed", "KILLED"): 1, ("failed", "TIMEOUT"): 1}
    again.close()


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000] + b"\xff" * 5000)


def no_database(path: Path) -> None:
    path.write_bytes(b"this is text" * 400)


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE other (name TEXT)")
    base.close()


def newer(path: Path) -> None:
    with sqlite3.connect(path) as base:
        base.execute("PRAGMA user_version = 99")
    base.close()


@pytest.mark.parametrize("spoil", [damaged, no_database, foreign, newer])
def test_one_that_cannot_be_used_is_set_aside(layout: Layout, spoil: object) -> None:
    """B51: what was there is kept beside it, the reason is known, and no row is lost."""
    index = Index(layout)
    path = index.path
    index.close()
    spoil(path)  # type: ignore[operator]
    spoilt = path.read_bytes()
    again = Index(layout)
    assert again.rebuilt
    assert again.counts() == {("done", ""): 4, ("failed", "TIMEOUT"): 1}
    assert path.with_name("index.sqlite.bad").read_bytes() == spoilt
    again.close()


def test_one_that_is_locked_is_set_aside(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.batch.records.index._WAIT_S", 0.1)
    index = Index(layout)
    index.close()
    holder = sqlite3.connect(index.path)
    holder.execute("BEGIN EXCLUSIVE")
    again = Index(layout)
    assert "locked" in again.rebuilt
    assert sum(again.counts().values()) == 5
    holder.close()
    again.close()


def test_where_the_folder_is_shared_it_is_temporary(layout: Layout) -> None:
    """Nothing of SQLite on network file systems: its log cannot work there."""
    index = Index(layout, is_shared=True)
    assert layout.state not in index.path.parents
    assert index.is_temporary
    index.record_result(CaseResult("00" + "0" * 14, "done", "plan"))
    assert index.counts() == {("done", ""): 1}
    index.close()
    assert not index.path.parent.exists()
    assert not layout.state.exists()


def _refusing(monkeypatch: pytest.MonkeyPatch, folder: Path, until: float = math.inf) -> None:
    """A disk below `folder` on which SQLite fails as on some network disks that say they are local."""
    calls = itertools.count()
    connect = sqlite3.connect

    def refused(path: Path, **options: Any) -> sqlite3.Connection:
        if folder in Path(path).parents and next(calls) < until:
            raise sqlite3.OperationalError("disk I/O error")
        return connect(path, **options)

    monkeypatch.setattr("medseg.batch.records.index.sqlite3.connect", refused)


def test_where_a_new_one_fails_too_it_is_temporary(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    Index(layout).close()
    _refusing(monkeypatch, layout.state)
    index = Index(layout)
    assert (index.is_temporary, index.rebuilt, index.counts()) == (True, "disk I/O error", {})
    index.record_result(CaseResult("00" + "0" * 14, "done", "plan"))
    assert index.counts() == {("done", ""): 1}
    index.close()
    assert not index.path.parent.exists()
    assert layout.state.is_dir()


def test_one_that_fails_once_is_made_again_in_its_place(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    _refusing(monkeypatch, layout.state, until=1)
    index = Index(layout)
    assert (index.is_temporary, sum(index.counts().values())) == (False, 5)
    index.close()


def test_one_that_gives_way_while_it_is_compared_is_left_for_a_temporary_one(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(index: Index, row: Row) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as context:
        context.setattr(Index, "record", full)
        index = Index(layout)
    assert (index.is_temporary, index.rebuilt) == (True, "database or disk is full")
    index.record_result(CaseResult("00" + "0" * 14, "done", "plan"))
    assert index.counts() == {("done", ""): 1}
    index.close()


def test_without_any_place_for_it_the_error_is_one_of_ours(tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.batch.records.index.tempfile.tempdir", str(tmp_path))
    _refusing(monkeypatch, tmp_path)
    for is_shared in (False, True):
        with pytest.raises(OutputError, match="TMPDIR"):
            Index(layout, is_shared=is_shared)
    assert not list(tmp_path.glob("medseg-index-*"))


def test_rows_tell_what_results_say() -> None:
    assert row_of(CaseResult("0" * 16, "done", "p", attempts=2, seconds={"a": 1.5}), 7) == Row("0" * 16, "done", "", "p", 2, 1.5, 7)


MOUNTS = """\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:40 / /data rw,relatime shared:5 master:1 - nfs4 server:/export rw
31 30 8:2 / /data/local\\040disk rw - xfs /dev/sdb rw
32 22 0:50 / /home rw - fuse.sshfs me@there: rw
33 22 0:51 / /scratch rw - lustre a@b:/c rw
34 33 0:52 / /scratch rw - tmpfs none rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "is_far"),
    [
        ("/", "ext4", False),
        ("/database", "ext4", False),
        ("/data", "nfs4", True),
        ("/data/x/y", "nfs4", True),
        ("/data/local disk/x", "xfs", False),
        ("/home/x", "fuse.sshfs", True),
        ("/scratch/x", "tmpfs", False),
    ],
)
def test_file_systems_are_told_apart(tmp_path: Path, path: str, kind: str, is_far: bool) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS, encoding="ascii")
    assert file_system_of(Path(path), mounts) == kind
    assert is_on_network(Path(path), mounts) is is_far


def test_a_system_that_does_not_say_has_local_disks(tmp_path: Path) -> None:
    assert not is_on_network(tmp_path, tmp_path / "no such file")
