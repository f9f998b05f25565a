"""Starts of cases, as files: counted across processes, and told from results of an earlier run."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medseg.batch.cluster.starts import Starts
from medseg.core.errors import OutputError

CASE = "0123456789abcdef"


@pytest.fixture
def starts(tmp_path: Path) -> Starts:
    found = Starts(tmp_path / "state" / "dask-1")
    found.make()
    return found


def test_every_start_has_a_number_of_its_own_however_many_begin_at_once(starts, tmp_path):
    with ThreadPoolExecutor(16) as pool:
        numbers = list(pool.map(lambda _: starts.begin(CASE, tmp_path / "result.json"), range(64)))
    assert sorted(numbers) == list(range(1, 65))
    assert starts.count(CASE) == 64
    assert starts.count("f" * 16) == 0


def test_a_result_is_news_only_where_it_was_written_since_the_first_start(starts, tmp_path):
    result = tmp_path / "result.json"
    result.write_text("of last week")
    starts.begin(CASE, result)
    assert not starts.is_news(CASE, result)
    starts.begin(CASE, result)
    result.write_text("of now")
    assert starts.is_news(CASE, result)
    result.unlink()
    assert not starts.is_news(CASE, result)


def test_a_first_result_is_news(starts, tmp_path):
    assert not starts.is_news(CASE, tmp_path / "result.json")
    starts.begin(CASE, tmp_path / "result.json")
    (tmp_path / "result.json").write_text("of now")
    assert starts.is_news(CASE, tmp_path / "result.json")


def test_forgotten_and_removed(starts, tmp_path):
    for case_id in (CASE, "f" * 16):
        starts.begin(case_id, tmp_path / "result.json")
        starts.begin(case_id, tmp_path / "result.json")
    starts.forget(CASE)
    assert (starts.count(CASE), starts.count("f" * 16)) == (0, 2)
    starts.remove()
    assert not starts.folder.exists()
    starts.remove()


def test_a_folder_that_is_gone_is_a_fault_of_the_output(starts, tmp_path):
    starts.remove()
    with pytest.raises(OutputError, match="cannot be written"):
        starts.begin(CASE, tmp_path / "result.json")


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files in place of folders")
def test_a_folder_that_cannot_be_made_is_a_fault_of_the_output(tmp_path):
    (tmp_path / "state").write_text("a file")
    with pytest.raises(OutputError, match="cannot be made"):
        Starts(tmp_path / "state" / "dask-1").make()
