"""Claims: one process has a case, whoever is gone or silent loses it, and of several that take over one succeeds."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from medseg.batch.records.identity import Identity
from medseg.batch.run.claims import Claims
from medseg.core.errors import OutputError

CASE = "0123456789abcdef"


def other(**changes: object) -> Identity:
    """A process on another machine, which cannot be asked whether it lives."""
    return dataclasses.replace(Identity.of_this_process(), **{"host": "far-away", "machine": "m", **changes})  # type: ignore[arg-type]


@pytest.fixture(params=["links", "no links"])
def folder(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file system with hard links, and one without."""
    if request.param == "no links":

        def refuse(*names: object, **options: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    return tmp_path / "claims"


@pytest.fixture
def ended() -> Identity:
    """A process of this machine that has ended."""
    program = "from medseg.batch.records.identity import Identity; print(Identity.of_this_process().to_bytes().decode())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    return Identity(**json.loads(done.stdout))


def age(folder: Path, name: str, seconds: float) -> None:
    past = time.time() - seconds
    os.utime(folder / name, (past, past))


def test_one_process_has_a_case(folder: Path) -> None:
    first, second = Claims(folder), Claims(folder, identity=other())
    assert first.take(CASE)
    assert not first.take(CASE)
    assert not second.take(CASE)
    assert not second.take_over(CASE)
    assert second.holder(CASE) == first.identity
    second.release(CASE)  # it is not its own
    assert first.is_live(CASE)
    first.release(CASE)
    assert second.take(CASE)


def test_of_threads_of_one_process_one_has_a_case(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a thread comes while another one has just made the file, which both find to be theirs."""
    claims = Claims(folder)
    place = claims._place
    second: list[bool] = []

    def placed(path: Path) -> bool:
        is_placed = place(path)
        if not second:
            second.append(True)
            second.append(claims.take("case"))  # what the other thread would do now
        return is_placed

    monkeypatch.setattr(claims, "_place", placed)
    assert claims.take("case")
    assert second == [True, False]


def test_while_a_thread_takes_over_no_other_one_has_the_case(folder: Path, ended: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    Claims(folder, identity=ended).take("case")
    claims = Claims(folder)
    replace, second = os.replace, []

    def replaced(*paths: Path) -> None:
        replace(*paths)
        second.extend((claims.take("case"), claims.take_over("case")))  # what other threads would do now

    monkeypatch.setattr(os, "replace", replaced)
    assert claims.take_over("case")
    assert second == [False, False]


def test_closing_leaves_nothing(folder: Path) -> None:
    claims = Claims(folder)
    claims.take(CASE)
    claims.close()
    assert list(folder.iterdir()) == []


def test_a_process_that_has_ended_loses_its_claims_at_once(folder: Path, ended: Identity) -> None:
    assert ended.is_gone
    Claims(folder, identity=ended).take(CASE)
    ours = Claims(folder)
    assert not ours.take(CASE)
    assert ours.take_over(CASE)
    assert ours.holder(CASE) == ours.identity
    assert not list(folder.glob("*.taking"))


def test_a_number_that_another_process_has_now_is_no_life(ended: Identity) -> None:
    assert dataclasses.replace(ended, pid=os.getpid()).is_gone
    assert not Identity.of_this_process().is_gone


def test_a_machine_that_was_started_again_has_no_old_processes() -> None:
    here = Identity.of_this_process()
    assert dataclasses.replace(here, boot="another", machine="m").is_gone is False  # another machine of this name
    if here.machine:
        assert dataclasses.replace(here, boot="another").is_gone


def test_another_machine_is_believed_until_it_is_silent(folder: Path) -> None:
    theirs, ours = Claims(folder, identity=other()), Claims(folder, timeout_s=600)
    theirs.take(CASE)
    age(folder, CASE, 500)
    assert not ours.take_over(CASE)
    age(folder, CASE, 700)
    theirs.beat()  # one touch keeps all its claims
    assert not ours.take_over(CASE)
    age(folder, CASE, 700)
    assert ours.take_over(CASE)
    theirs.release(CASE)  # it comes back, and must not take it away again
    assert ours.holder(CASE) == ours.identity


def test_a_claim_from_the_future_is_no_longer_believed(folder: Path) -> None:
    """The clock was a day ahead when it was made, and was set right since."""
    gone, mine = Claims(folder, identity=other()), Claims(folder)
    assert gone.take(CASE)
    age(folder, CASE, -30)
    assert not mine.take_over(CASE)  # clocks of a file server and of its clients may differ a little
    age(folder, CASE, -86_400)
    assert mine.take_over(CASE)


def test_of_many_that_take_over_one_succeeds(folder: Path, ended: Identity) -> None:
    Claims(folder, identity=ended).take(CASE)
    many = [Claims(folder, identity=other(host=f"h{number}", token=f"t{number}")) for number in range(8)]
    barrier, won = threading.Barrier(len(many)), []

    def take(claims: Claims) -> None:
        barrier.wait()
        if claims.take_over(CASE):
            won.append(claims)

    threads = [threading.Thread(target=take, args=(claims,)) for claims in many]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert won[0].holder(CASE) == won[0].identity


def test_a_guard_of_a_killed_process_is_no_obstacle_for_long(folder: Path, ended: Identity) -> None:
    dead = Claims(folder, identity=ended)
    dead.take(CASE)
    (folder / f"{CASE}.taking").write_bytes(ended.to_bytes())
    ours = Claims(folder)
    assert not ours.take_over(CASE)
    assert ours.take_over(CASE)


def test_what_is_no_claim_is_believed_until_it_is_silent(folder: Path) -> None:
    ours = Claims(folder, timeout_s=600)
    (folder / CASE).write_bytes(b'{"host": 1}')
    assert not ours.take_over(CASE)
    age(folder, CASE, 700)
    assert ours.take_over(CASE)


def test_what_dead_processes_left_is_removed(folder: Path, ended: Identity) -> None:
    Claims(folder, identity=ended).take(CASE)
    theirs, ours = Claims(folder, identity=other()), Claims(folder)
    theirs.take("f" * 16)
    assert ours.is_live_owner(theirs.identity.token)
    assert not ours.is_live_owner(ended.token)
    ours.remove_dead(".owner-*")
    assert (folder / CASE).exists()
    ours.remove_dead()
    assert not (folder / CASE).exists()
    assert (folder / ("f" * 16)).exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        Claims(tmp_path / "file" / "claims")
