"""Archives from strangers: what they may hold, and what never reaches the disk."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from medseg.core.errors import InputError, MedsegError, OutputError, UnreadableFileError, UnsupportedFormatError
from medseg.io import archive as archives
from medseg.io.archive import Caps, is_archive, unpacked

CONTENT = bytes(range(256)) * 200
NAMES = ("study/ct/1.dcm", "study/ct/2.dcm", "study/Bericht ü.txt", "empty.bin")
BAD_NAMES = (
    "../evil",
    "a/../../evil",
    "/tmp/evil",
    "..",
    "a/..",
    "..\\evil",
    "\\evil",
    "C:/evil",
    "c:evil",
    "a\x1b[2Jb",
    "a\nb",
    "x" * 300,
)


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is unpacked lies here, so that a test can say that nothing is left."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def zipped(path: Path, members: dict[str, bytes], **changes: Any) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            for key, value in changes.items():
                setattr(info, key, value)
            file.writestr(info, data)
    return path


def tarred(path: Path, members: dict[str, bytes], mode: str = "w", **changes: Any) -> Path:
    with tarfile.open(path, mode) as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in changes.items():
                setattr(info, key, value)
            file.addfile(info, io.BytesIO(data))
    return path


def made(tmp_path: Path, kind: str, members: dict[str, bytes]) -> Path:
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        return zipped(path, members)
    return tarred(path, members, "w:gz" if kind == "tar.gz" else "w")


def leftovers(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "temporary"))


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_a_study_is_unpacked_and_taken_away_again(tmp_path: Path, kind: str) -> None:
    path = made(tmp_path, kind, dict.fromkeys(NAMES[:3], CONTENT) | {NAMES[3]: b""})
    path = path.rename(tmp_path / "without_a_suffix")
    assert is_archive(path)
    with unpacked(path) as folder:
        files = {str(item.relative_to(folder)): item.read_bytes() for item in folder.rglob("*") if item.is_file()}
        assert files == dict.fromkeys(NAMES[:3], CONTENT) | {NAMES[3]: b""}
        assert all(os.access(item, os.W_OK) for item in folder.rglob("*"))
    assert leftovers(tmp_path) == []


def test_what_file_managers_add_is_passed_over(tmp_path: Path) -> None:
    with unpacked(zipped(tmp_path / "x.zip", {"__MACOSX/._a": b"x", "a/.DS_Store": b"x", "a/b": b"y", "a/._b": b"x"})) as folder:
        assert [str(item.relative_to(folder)) for item in folder.rglob("*")] == ["a", "a/b"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_names_that_lead_out_or_make_no_file_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    """Nothing is written outside, and the name, which may be a patient's, is in no message."""
    path = made(tmp_path, kind, {"good": b"x", name: b"evil"})
    with pytest.raises(UnreadableFileError, match=r"leads out of|too long") as caught, unpacked(path):
        pass
    assert "evil" not in str(caught.value)
    assert leftovers(tmp_path) == []
    assert sorted(os.listdir(tmp_path)) == ["temporary", path.name]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE]
)
def test_links_devices_and_sparse_files_of_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    path = tarred(tmp_path / "x.tar", {"link": b""}, type=kind, linkname="/etc/passwd")
    with pytest.raises(UnreadableFileError, match=r"link|damaged"), unpacked(path):
        pass
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("kind", [0o120777, 0o020666, 0o060666, 0o010666])
def test_links_and_devices_of_zip_are_refused(tmp_path: Path, kind: int) -> None:
    path = zipped(tmp_path / "x.zip", {"link": b"/etc/passwd"}, external_attr=kind << 16)
    with pytest.raises(UnreadableFileError, match="link"), unpacked(path):
        pass


def test_encrypted_archives_are_named(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a": b"x"})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(data))
    with pytest.raises(UnsupportedFormatError, match="encrypted"), unpacked(path):
        pass


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("caps", [Caps(members=2), Caps(total_bytes=60_000), Caps(ratio=1.01, least_bytes=0)])
def test_caps_hold(tmp_path: Path, kind: str, caps: Caps) -> None:
    path = made(tmp_path, kind, dict.fromkeys(NAMES, bytes(30_000)))
    if kind == "tar" and caps.least_bytes == 0:
        return  # a plain tar unpacks to less than its size
    with pytest.raises(UnreadableFileError, match=r"more members|far more"), unpacked(path, caps):
        pass
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_refused_before_it_takes_the_disk(tmp_path: Path, kind: str) -> None:
    """200 MB of zeros in 200 kB, with the usual ratio and a low limit for small archives."""
    path = made(tmp_path, kind, {"bomb": bytes(200_000_000)})
    with pytest.raises(UnreadableFileError, match="far more"), unpacked(path, Caps(least_bytes=1 << 20)):
        pass
    assert leftovers(tmp_path) == []


def test_a_zip_that_lies_about_its_sizes_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a": bytes(1_000_000)})
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 1000)
    path.write_bytes(bytes(data))
    with pytest.raises(UnreadableFileError), unpacked(path):
        pass


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = archives.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    for kind in ("zip", "tar"):
        with pytest.raises(OutputError, match="free some space"), unpacked(made(tmp_path, kind, {"a": CONTENT})):
            pass


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as file:
        for data in (b"one", b"two"):
            info = tarfile.TarInfo("a")
            info.size = 3
            file.addfile(info, io.BytesIO(data))
    with pytest.raises(UnreadableFileError, match="two members"), unpacked(path):
        pass


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_an_archive_cut_short_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    """tarfile itself takes a missing header for the end, and slices would be lost without a word."""
    whole = made(tmp_path, kind, {f"{n}.dcm": CONTENT[: 600 * n] for n in range(1, 6)}).read_bytes()
    end = len(whole.rstrip(b"\0")) if kind == "tar" else len(whole)
    path = tmp_path / "cut"
    for length in {*range(0, end, max(1, end // 120)), *range(512, end, 512), end - 1}:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError), unpacked(path):
            pass
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_flipped_bytes_never_change_a_file(tmp_path: Path, kind: str) -> None:
    members = {f"{n}.dcm": CONTENT[: 600 * n] for n in range(1, 4)}
    whole = made(tmp_path, kind, members).read_bytes()
    path = tmp_path / "flipped"
    for position in range(0, len(whole), max(1, len(whole) // 250)):
        broken = bytearray(whole)
        broken[position] ^= 0x10
        path.write_bytes(bytes(broken))
        try:
            with unpacked(path) as folder:
                assert set(members.values()) == {item.read_bytes() for item in folder.rglob("*") if item.is_file()}
        except MedsegError:
            pass


def test_headers_of_tar_that_do_not_end_take_no_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x" * 100)
    info.type = tarfile.XHDTYPE
    info.size = 300_000_000
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf() + bytes(300_000_000), 1))
    with pytest.raises(UnreadableFileError, match=r"endless header|damaged"), unpacked(path):
        pass


def test_foreign_bytes_behind_a_tar_are_refused(tmp_path: Path) -> None:
    path = made(tmp_path, "tar", {"a": CONTENT})
    path.write_bytes(path.read_bytes() + b"junk")
    with pytest.raises(UnreadableFileError, match="damaged"), unpacked(path):
        pass


def test_other_files_are_no_archives(tmp_path: Path) -> None:
    for name, data in (("a.zip", b"no zip"), ("b.tar.gz", gzip.compress(b"no tar")), ("c", b""), ("d.gz", b"\x1f\x8bno")):
        (tmp_path / name).write_bytes(data)
        assert not is_archive(tmp_path / name)
    assert not is_archive(tmp_path / "missing")
    with pytest.raises(UnsupportedFormatError, match="no archive"), unpacked(tmp_path / "a.zip"):
        pass


def test_errors_inside_the_context_are_the_callers(tmp_path: Path) -> None:
    def use() -> None:
        with unpacked(made(tmp_path, "zip", {"a": b"x"})):
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        use()
    assert leftovers(tmp_path) == []
