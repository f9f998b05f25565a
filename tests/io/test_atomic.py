from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from medseg.core.errors import OutputError, OutputExistsError, OutputVerificationError, UnreadableFileError
from medseg.io import atomic
from medseg.io.atomic import check_folder, check_writable, give_name, remove_tree, write_bytes, write_text, write_verified


def fine(path: Path) -> None:
    """A verification that has nothing to say."""


def test_text_and_bytes_are_written_whole(tmp_path: Path) -> None:
    assert write_text(tmp_path / "new" / "a.txt", "grün\n").read_bytes() == "grün\n".encode()
    assert write_bytes(tmp_path / "b", b"\0\r\n").read_bytes() == b"\0\r\n"
    assert sorted(os.listdir(tmp_path)) == ["b", "new"]


def test_an_existing_file_is_kept_unless_overwriting_is_allowed(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a", "first")
    with pytest.raises(OutputExistsError, match=r"is there already.*--overwrite"):
        write_text(path, "second")
    assert path.read_text() == "first"
    assert write_text(path, "second", overwrite=True).read_text() == "second"
    assert os.listdir(tmp_path) == ["a"]


def test_the_temporary_file_keeps_the_suffix_and_is_beside_the_target(tmp_path: Path) -> None:
    seen: list[Path] = []

    def write(temporary: Path) -> None:
        seen.append(temporary)
        temporary.write_bytes(b"x")

    for name in ("a.b.nii.gz", "a.seg.nrrd", "a.dcm"):
        write_verified(tmp_path / name, write, fine)
    assert [path.parent for path in seen] == [tmp_path] * 3
    assert [path.name.split(".", 2)[2] for path in seen] == ["nii.gz", "seg.nrrd", "dcm"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), OutputError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (ValueError("a bug"), ValueError),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failing_write_leaves_nothing_and_touches_nothing(
    tmp_path: Path, error: BaseException, expected: type[BaseException], overwrite: bool
) -> None:
    path = tmp_path / "a"
    if overwrite:
        path.write_text("old")

    def write(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise error

    with pytest.raises(expected):
        write_verified(path, write, fine, overwrite)
    assert os.listdir(tmp_path) == (["a"] if overwrite else [])
    assert not overwrite or path.read_text() == "old"


@pytest.mark.parametrize("error", [UnreadableFileError("cut short"), OSError(5, "I/O error"), OutputVerificationError("differs")])
def test_what_cannot_be_read_back_does_not_get_its_name(tmp_path: Path, error: Exception) -> None:
    def verify(temporary: Path) -> None:
        assert temporary.read_bytes() == b"content"
        raise error

    with pytest.raises(OutputVerificationError):
        write_verified(tmp_path / "a", lambda temporary: temporary.write_bytes(b"content") and None, verify)
    assert os.listdir(tmp_path) == []


def test_a_message_never_shows_the_temporary_name(tmp_path: Path) -> None:
    def verify(temporary: Path) -> None:
        raise UnreadableFileError(f"{temporary} is cut short")

    with pytest.raises(OutputVerificationError, match=r"a\.nii is cut short") as caught:
        write_verified(tmp_path / "a.nii", lambda temporary: temporary.write_bytes(b"x") and None, verify)
    assert ".tmp-" not in str(caught.value)


def test_bytes_that_the_disk_changed_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"something else")
    with pytest.raises(OutputVerificationError, match="not what was written"):
        write_bytes(tmp_path / "a", b"content")
    assert os.listdir(tmp_path) == []


def test_a_file_made_meanwhile_by_another_process_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(OutputExistsError, match="meanwhile"):
        write_verified(path, lambda temporary: temporary.write_bytes(b"mine") and None, lambda _: path.write_bytes(b"theirs") and None)
    assert path.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_system_without_links_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    assert write_text(tmp_path / "a", "text").read_text() == "text"
    assert os.listdir(tmp_path) == ["a"]


def test_places_that_cannot_be_written_raise_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "a", tmp_path / ("n" * 300), tmp_path, tmp_path / "a\0b"):
        with pytest.raises(OutputError):
            write_text(path, "text")
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """/dev/full is the kernel's own full disk."""

    def write(temporary: Path) -> None:
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    with pytest.raises(OutputError, match="free some space"):
        write_verified(tmp_path / "a", write, fine)


def test_check_folder_makes_and_probes(tmp_path: Path) -> None:
    assert check_folder(tmp_path / "a" / "b").is_dir()
    assert os.listdir(tmp_path / "a" / "b") == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        check_folder(tmp_path / "file")


def test_checking_an_output_leaves_no_folder_behind(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        check_writable(tmp_path / "file" / "b")


def test_in_a_temporary_folder_files_get_their_names_at_once(tmp_path, monkeypatch):
    """They are flushed with their folder; what cannot be read back does not stay."""
    flushed = []
    monkeypatch.setattr(atomic, "_flush_file", flushed.append)
    folder = tmp_path / ".tmp-0123456789abcdef-t" / "pictures"
    write_text(folder / "a.txt", "text")
    assert [path.name for path in folder.iterdir()] == ["a.txt"]
    assert flushed == []

    def broken(temporary: Path) -> None:
        raise OutputVerificationError("another text")

    with pytest.raises(OutputVerificationError):
        write_verified(folder / "b.txt", lambda path: path.write_text("x") and None, broken)
    assert [path.name for path in folder.iterdir()] == ["a.txt"]
    give_name(tmp_path / ".tmp-0123456789abcdef-t", tmp_path / "final")
    assert [path.name for path in flushed] == ["a.txt"]
    assert (tmp_path / "final" / "pictures" / "a.txt").read_text() == "text"


@pytest.mark.parametrize("has_threads", [True, False])
@pytest.mark.parametrize("slow", ["", "a", "b", "c", "abc"])
def test_every_file_is_flushed_once_however_slow_the_disk(tmp_path, monkeypatch, slow, has_threads):
    """Also where memory is too short for a thread: what gets its name must be on the disk."""
    flushed = []

    def flush(path: Path) -> None:
        time.sleep(0.01 * (path.name in slow))
        flushed.append(path.name)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(atomic, "_flush_file", flush)
    folder = tmp_path / ".tmp-0123456789abcdef-t"
    for name in "abc":
        write_text(folder / name, name)
    if not has_threads:
        monkeypatch.setattr(threading.Thread, "start", refuse)
    give_name(folder, tmp_path / "final")
    assert sorted(flushed) == ["a", "b", "c"]
    assert sorted(path.name for path in (tmp_path / "final").iterdir()) == ["a", "b", "c"]


def test_a_disk_that_is_full_at_a_later_flush_is_an_output_error(tmp_path, monkeypatch):
    """The folder keeps its temporary name."""

    def full(path: Path) -> None:
        time.sleep(0.01)
        if path.name == "c":
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic, "_flush_file", full)
    folder = tmp_path / ".tmp-0123456789abcdef-t"
    for name in "abcd":
        write_text(folder / name, name)
    with pytest.raises(OutputError, match="No space left"):
        give_name(folder, tmp_path / "final")
    assert folder.is_dir()
    assert not (tmp_path / "final").exists()


def test_a_folder_takes_the_place_of_another_whole(tmp_path):
    """Nothing of the old one stays, beside or within the new one."""
    old, new = tmp_path / "case", tmp_path / ".tmp-case"
    old.mkdir()
    (old / "old").write_text("")
    new.mkdir()
    (new / "new").write_text("")
    give_name(new, old)
    assert [path.name for path in old.iterdir()] == ["new"]
    assert os.listdir(tmp_path) == ["case"]


def test_a_folder_that_cannot_get_its_name_stays(tmp_path):
    """The place is that of a folder that is not there."""
    new = tmp_path / ".tmp-case"
    new.mkdir()
    with pytest.raises(OutputError):
        give_name(new, tmp_path / "missing" / "case")
    assert new.is_dir()


def test_removing_follows_no_link(tmp_path):
    """A link is deleted, not what it leads to; what is not there is fine."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    for name in ("link", "nothing"):
        remove_tree(tmp_path / name)
    assert (tmp_path / "kept" / "file").is_file()
    assert not (tmp_path / "link").exists()
    remove_tree(tmp_path / "kept")
    assert os.listdir(tmp_path) == []


def test_a_folder_of_the_user_with_such_a_name_is_like_any_other(tmp_path: Path) -> None:
    """What lies there is not replaced unasked, and a file appears whole."""
    target = write_text(tmp_path / ".tmp-job" / "a.txt", "first")
    with pytest.raises(OutputExistsError):
        write_text(target, "second")
    named = write_text(tmp_path / ".tmp-0123456789abcdef-t" / "a.txt", "first")
    with pytest.raises(OutputExistsError):
        write_text(named, "second")
    assert target.read_text() == named.read_text() == "first"
