"""Going through a folder: what is opened, what is passed over, and under which names files are kept."""

from __future__ import annotations

import os
import socket
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from found_cases import found_in
from made_studies import STUDY, write_slices

from medseg.batch.cases.find_cases import find_cases
from medseg.batch.cases.scan_store import ScanStore
from medseg.batch.records.case import Case
from medseg.core.errors import InputError, OutputError, UnreadableFileError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.io.options import ReadOptions
from medseg.io.read import read_files
from medseg.io.write import write


def scan() -> Volume:
    return Volume(np.zeros((6, 5, 7), np.int16), Geometry((6, 5, 7), np.eye(4)), "CT")


def test_what_is_no_image_is_counted(tmp_path: Path) -> None:
    write_slices(tmp_path)
    for name in ("Thumbs.db", ".DS_Store", "._1_001.dcm", "notes.txt", "report.pdf", "photo.jpg", "DICOMDIR"):
        (tmp_path / name).write_bytes(b"%PDF-1.7 something")
    cases, left_out, counts = found_in(tmp_path)
    assert (len(cases), left_out) == (1, [])
    assert counts["passed_over"] == {"no image": 6, "DICOMDIR": 1}


def test_links_pipes_and_sockets_are_not_opened(tmp_path: Path) -> None:
    write_slices(tmp_path / "a")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "link.dcm").symlink_to(tmp_path / "a" / "1_001.dcm")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "a" / "pipe.dcm")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tmp_path)  # the name of a socket must be short
        try:
            server.bind("s.dcm")
        finally:
            os.chdir(here)
        (case,), left_out, counts = found_in(tmp_path)
    assert len(case.files) == 5
    assert counts["passed_over"] == {"no ordinary file": 2, "symbolic link": 3}
    assert not left_out


def test_names_are_kept_to_the_byte(tmp_path: Path) -> None:
    base = os.fsencode(tmp_path)
    names = [b"caf\xe9", "café".encode(), unicodedata.normalize("NFD", "café").encode(), b"x" * 246, b"a b;c,'\"\n"]
    content = write_slices(tmp_path / "made", count=1)[0].read_bytes()
    write(scan(), tmp_path / "a.nii")
    content = (tmp_path / "a.nii").read_bytes()
    for name in names:
        with open(os.path.join(base, name + b".nii"), "wb") as stream:
            stream.write(content)
    cases, _, _ = found_in(tmp_path)
    assert {os.fsencode(case.files[0]) for case in cases} == {name + b".nii" for name in names} | {b"a.nii"}
    for case in cases:
        assert Case.from_dict(case.to_dict()) == case
        assert read_files([tmp_path / case.files[0]], ReadOptions()).geometry.shape == (6, 5, 7)


def test_closed_folders_and_files_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_slices(tmp_path / "a")
    write_slices(tmp_path / "a" / "closed", first=5)
    write_slices(tmp_path / "b" / "closed", f"{STUDY}.2", StudyInstanceUID="1.2.3")
    write_slices(tmp_path / "c", f"{STUDY}.3", StudyInstanceUID="1.2.4")
    (tmp_path / "d").mkdir()
    for name in ("c/1_shut", "d/notes", "d/scan.nii"):
        (tmp_path / name).write_bytes(b"closed")

    def refuse(real: Callable[..., Any]) -> Callable[..., Any]:
        def opened(path: Any, *args: Any, **options: Any) -> Any:
            name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
            if name.endswith(("/closed", "/1_shut", "/notes", "/scan.nii")):
                raise PermissionError(13, "Permission denied", name)
            return real(path, *args, **options)

        return opened

    monkeypatch.setattr(os, "scandir", refuse(os.scandir))
    monkeypatch.setattr(os, "open", refuse(os.open))
    cases, left_out, _ = found_in(tmp_path)
    assert sorted(case.files[-1] for case in cases) == ["a/closed", "c/1_shut", "d/scan.nii"]
    assert [(one.reason, one.files) for one in left_out] == [
        ("a file that cannot be opened", ("d/notes",)),
        ("a folder that cannot be opened", ("b/closed",)),
    ]
    monkeypatch.undo()
    with pytest.raises(InputError, match="closed"):  # a folder beside slices may hold others of them
        read_files([tmp_path / name for case in cases if case.files[-1] == "a/closed" for name in case.files], ReadOptions())


def test_folders_that_medseg_wrote_are_not_searched(tmp_path: Path) -> None:
    for name, content in (("run", '{"medseg": 1}'), ("other", '{"tool": "else"}')):
        write_slices(tmp_path / name, f"{STUDY}.{len(name)}", StudyInstanceUID=f"1.2.{len(name)}")
        (tmp_path / name / "provenance.json").write_text(content)
    write_slices(tmp_path / "batch" / "cases")
    (tmp_path / "batch" / "batch.json").write_text('{"schema": "medseg.batch/1"}')
    write_slices(tmp_path / "out" / "x", f"{STUDY}.7", StudyInstanceUID="1.2.77")
    (case,), _, counts = found_in(tmp_path, output=tmp_path / "out")
    assert case.files[0].startswith("other/")
    assert counts["passed_over"] == {"folder that medseg wrote": 2, "no image": 1}


def test_search_says_how_far_it_is(tmp_path: Path) -> None:
    told: list[int] = []
    write_slices(tmp_path, count=5)
    found_in(tmp_path, progress=told.append)
    assert told == [5]


def test_what_cannot_be_searched_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(UnreadableFileError, match="no folder"):
            find_cases(path, salt=b"")
    assert found_in(tmp_path)[2]["found"] == 0


def test_a_full_disk_for_temporary_files_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_slices(tmp_path, count=5)
    made = ScanStore.__init__

    def small(store: ScanStore) -> None:
        made(store)
        (pages,) = store.database.execute("PRAGMA page_count").fetchone()
        store.database.execute(f"PRAGMA max_page_count={pages}")

    monkeypatch.setattr(ScanStore, "__init__", small)
    with pytest.raises(OutputError, match="temporary files"):
        find_cases(tmp_path, salt=b"")
