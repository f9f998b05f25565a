from __future__ import annotations

import os
import random
import shutil
import tarfile
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.core.errors import ChecksumError, IncompatibleModelError, ModelError, ModelNotFoundError, OutputError, UnsafeModelError
from medseg.segmentation.learned.store import unpack as module
from medseg.segmentation.learned.store.unpack import Limits, safe_parts, unpack

FILES = {"model.json": b"{}", "fold_0/weights.bin": os.urandom(3 << 20), "fold_0/deep/empty.txt": b"", "Läsion.txt": b"a" * 100}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "model"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def packed(source: Path, kind: str, folder: Path) -> Path:
    if kind == "folder":
        return source
    file = folder / f"model.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in FILES:
                archive.write(source / name, name)
            archive.writestr("__MACOSX/._model.json", "x")
    else:
        with tarfile.open(file, "w:gz" if kind == "tar.gz" else "w") as tar:
            tar.add(source, ".")
    return file


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "folder"])
def test_every_byte_arrives_and_nothing_may_run(kind: str, source: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    target = tmp_path / "out" / "here"
    unpack(packed(source, kind, tmp_path), target, progress=lambda *step: seen.append(step))
    assert {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()} == FILES
    assert not any(path.stat().st_mode & 0o111 for path in target.rglob("*") if path.is_file())
    assert seen
    assert seen[-1][0] == "unpacking"


def test_limits_are_those_given(source: Path, tmp_path: Path) -> None:
    file = packed(source, "zip", tmp_path)
    with pytest.raises(UnsafeModelError, match=r"[45] files"):
        unpack(file, tmp_path / "a", Limits(files=3))
    for number, kind in enumerate(("zip", "tar", "tar.gz", "folder")):
        with pytest.raises(UnsafeModelError, match="bytes"):
            unpack(packed(source, kind, tmp_path), tmp_path / f"b{number}", Limits(total_bytes=1 << 20))
    unpack(file, tmp_path / "c", Limits(files=5, total_bytes=4 << 20))


def test_a_full_disk_is_said_before_it_is_full(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(100, 100, 1 << 20))
    for number, kind in enumerate(("zip", "tar", "folder")):
        with pytest.raises(OutputError, match="MB free"):
            unpack(packed(source, kind, tmp_path), tmp_path / f"out{number}")


def test_an_error_of_the_system_becomes_an_output_error(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        unpack(source, tmp_path / "out")


def test_what_is_no_archive_or_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(IncompatibleModelError, match=r"no \.zip"):
        unpack(tmp_path / "text.zip", tmp_path / "a")
    with pytest.raises(ModelNotFoundError):
        unpack(tmp_path / "absent.zip", tmp_path / "b")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_flipped_bit_is_noticed(kind: str, source: Path, tmp_path: Path) -> None:
    file = packed(source, kind, tmp_path)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(bytes(content))
    with pytest.raises(ChecksumError):
        unpack(file, tmp_path / "out")


@given(st.text(max_size=30) | st.lists(st.sampled_from(["..", ".", "a", "", "/", "\\", "C:", "nul", "b."]), max_size=6).map("/".join))
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    """Whatever is accepted lies below the folder it is joined to, for the rules of this system and of Windows."""
    import ntpath

    try:
        parts = safe_parts(name, "test")
    except UnsafeModelError:
        return
    assert os.path.normpath(os.path.join("/store", *parts)).startswith("/store/")
    assert ntpath.normpath(ntpath.join("C:\\store", *parts)).startswith("C:\\store\\")


@pytest.mark.parametrize(
    "name", ["../a", "a/../../b", "/a", "C:/a", "a\\b", "a/..", "con", "a/NUL.txt", "a.", "a /b", "", "a\0b", "\x1b[2J", "a" * 300]
)
def test_names_that_mean_something_else_are_refused(name: str) -> None:
    with pytest.raises(UnsafeModelError):
        safe_parts(name, "test")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_mutilated_archives_end_in_a_sentence_and_write_nothing_elsewhere(kind: str, tmp_path: Path) -> None:
    """80 random changes: no other exception, and no file but below the target."""
    small = tmp_path / "small"
    (small / "fold").mkdir(parents=True)
    (small / "fold" / "a.json").write_text("{}" * 50)
    (small / "b.txt").write_text("text")
    good = Path(shutil.make_archive(str(tmp_path / "good"), {"tar.gz": "gztar"}.get(kind, kind), small)).read_bytes()
    chance = random.Random(3)
    place = tmp_path / "inner" / "place"
    refused = 0
    for number in range(80):
        content = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        if number % 5 == 0:
            del content[chance.randrange(len(content)) :]
        file = tmp_path / "bad"
        file.write_bytes(content)
        try:
            unpack(file, place / "out")
        except (ModelError, OutputError):
            refused += 1
        assert [path.name for path in (tmp_path / "inner").iterdir()] == ["place"]
        assert [path.name for path in place.iterdir()] == ["out"]
        shutil.rmtree(place)
    assert refused > 8
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("good")) == ["bad", "inner", "small"]
