"""Unpacks an archive of somebody else: every name, type and size is checked before and while a byte is written."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from medseg.core.errors import ChecksumError, IncompatibleModelError, ModelNotFoundError, OutputError, UnsafeModelError
from medseg.method.settings import Progress, no_progress

_CHUNK = 1 << 20
_GET_IT_AGAIN = "copy or download it again from its source, and compare the SHA-256"
_RESERVED_NAMES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
_LONGEST_NAME = 240
_LARGEST_TAR_HEADER = 1 << 20
_LARGEST_TAR_PADDING = 16 << 20
# what the readers of archives raise over damaged ones (RuntimeError: what zipfile does not know)
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, RuntimeError, ValueError, struct.error)
_IGNORED = ("__MACOSX", ".DS_Store", "Thumbs.db")  # what desktops add to archives


@dataclass(frozen=True)
class Limits:
    """The most an archive may hold: bytes and files in all, and bytes for each byte of the archive beyond the first ones."""

    total_bytes: int = 40 << 30
    files: int = 20_000
    ratio: int = 100  # weights shrink by a tenth, text by up to 20; a bomb gives 1,000 for one
    ratio_free_bytes: int = 64 << 20

    def most_bytes(self, archive_bytes: int) -> int:
        """Return how much an archive of this size may unpack to."""
        return min(self.total_bytes, self.ratio_free_bytes + self.ratio * archive_bytes)


@dataclass(frozen=True)
class _Member:
    parts: tuple[str, ...]
    size: int
    source: Any


def unpack(source: Path, target: Path, limits: Limits | None = None, progress: Progress = no_progress) -> None:
    """Write what a zip, tar or tar.gz archive or a plain folder holds below the new folder `target`.

    Refused, before anything counts as unpacked: absolute names, `..`, links and devices, two members of one name (also
    where they differ in case only), encrypted members, and more than `limits`. Files are written without the right to
    run. Raises UnsafeModelError, ChecksumError for a damaged archive, OutputError where the disk is full,
    IncompatibleModelError where `source` is no archive, ModelNotFoundError where it is missing.
    """
    limits = limits or Limits()
    try:
        target.mkdir(parents=True)
        if source.is_dir():
            _copy_folder(source, _Writer(source, target, limits, limits.total_bytes, progress))
            return
        writer = _Writer(source, target, limits, limits.most_bytes(source.stat().st_size), progress)
        if _starts_with(source, b"PK"):
            _unpack_zip(source, writer)
        else:
            _unpack_tar(source, writer)
    except _DAMAGED as err:
        raise ChecksumError(f"{source} is damaged, cut short or packed in a way medseg does not read: {_GET_IT_AGAIN}") from err
    except FileNotFoundError as err:
        raise ModelNotFoundError(f"{source} is missing") from err
    except OSError as err:
        raise OutputError(f"{source} cannot be unpacked into {target.parent}: {err.strerror or 'the disk refused'}") from err


def safe_parts(name: str, where: str) -> tuple[str, ...]:
    """Return the folders and the file of a member's name; raises UnsafeModelError for a name that could lead elsewhere.

    >>> safe_parts("model/fold_0/checkpoint.pth", "example")
    ('model', 'fold_0', 'checkpoint.pth')
    """
    shown = ascii(name[:80])
    if name.startswith("/") or "\\" in name or ":" in name or any(unicodedata.category(c) == "Cc" for c in name):
        raise UnsafeModelError(f"{where} has a member {shown} that points outside of the archive: nothing was installed")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    for part in parts:
        if part == ".." or part.endswith((".", " ")) or part.split(".")[0].lower() in _RESERVED_NAMES:
            raise UnsafeModelError(f"{where} has a member {shown} that is no plain name: nothing was installed")
    if not parts or len(name) > _LONGEST_NAME:
        raise UnsafeModelError(f"{where} has a member whose name is empty or longer than {_LONGEST_NAME} letters: nothing was installed")
    return parts


class _Writer:
    """Writes members below one folder and keeps count; the bytes written count, not what the archive claims."""

    def __init__(self, source: Path, target: Path, limits: Limits, most_bytes: int, progress: Progress) -> None:
        self.source, self.target, self.limits, self.most_bytes, self.progress = source, target, limits, most_bytes, progress
        self.taken: dict[tuple[str, ...], tuple[tuple[str, ...], bool]] = {}
        self.files: set[tuple[str, ...]] = set()
        self.written = 0

    def check_claims(self, members: list[_Member]) -> None:
        """Refuse too many or too large members before the first is written."""
        total = sum(member.size for member in members)
        if len(members) > self.limits.files:
            raise self._too_much(f"{len(members)} files")
        if total > self.most_bytes:
            raise self._too_much(f"{total} bytes")
        free = shutil.disk_usage(self.target).free
        if total > free:
            raise OutputError(
                f"{self.source} needs {total >> 20} MB, {self.target.parent} has {free >> 20} MB free: make room, or use --store"
            )

    def write(self, parts: tuple[str, ...], stream: IO[bytes], total: int = 0) -> None:
        """Write one file; raises UnsafeModelError where the name was there before or the limits are passed."""
        if parts[0] in _IGNORED or parts[-1] in _IGNORED:
            return
        self._claim(parts)
        if len(self.files) > self.limits.files:
            raise self._too_much(f"more than {self.limits.files} files")
        path = self.target.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0), 0o644)
        with os.fdopen(handle, "wb") as file:
            while chunk := stream.read(_CHUNK):
                self.written += len(chunk)
                if self.written > self.most_bytes:
                    raise self._too_much(f"more than {self.most_bytes} bytes")
                file.write(chunk)
                self.progress("unpacking", self.written >> 20, max(total, self.written) >> 20)
            file.flush()
            os.fsync(file.fileno())

    def _claim(self, parts: tuple[str, ...]) -> None:
        """Take a name for a file and its folders for folders; names that some file systems take for one are one."""
        for depth in range(1, len(parts) + 1):
            place = tuple(unicodedata.normalize("NFC", part).casefold() for part in parts[:depth])
            is_file = depth == len(parts)
            before = self.taken.setdefault(place, (parts[:depth], is_file))
            if before != (parts[:depth], is_file) or (is_file and place in self.files):
                raise UnsafeModelError(f"{self.source} holds {'/'.join(parts)!a} twice (or but for its case): nothing was installed")
            if is_file:
                self.files.add(place)

    def _too_much(self, what: str) -> UnsafeModelError:
        size = self.source.stat().st_size >> 10
        return UnsafeModelError(f"{self.source} ({size} kB) would unpack to {what}: no model does that; nothing was installed")


def _unpack_zip(source: Path, writer: _Writer) -> None:
    with zipfile.ZipFile(source) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir() or not _is_plain(info)]
        members = []
        for info in infos:
            parts = safe_parts(info.filename, str(source))
            if not _is_plain(info):
                raise UnsafeModelError(f"{source} holds a link or device {info.filename[:80]!a}: nothing was installed")
            if info.flag_bits & 0x1:
                raise IncompatibleModelError(f"{source} is encrypted: unpack it yourself and add the folder")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise IncompatibleModelError(f"{source} is packed in a way medseg does not read: unpack it yourself and add the folder")
            members.append(_Member(parts, info.file_size, info))
        writer.check_claims(members)
        total = sum(member.size for member in members)
        for member in members:
            with archive.open(member.source) as stream:
                writer.write(member.parts, stream, total)


def _starts_with(file: Path, start: bytes) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(start)) == start


def _is_plain(info: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(info.external_attr >> 16)
    return kind in (0, stat.S_IFDIR) if info.is_dir() else kind in (0, stat.S_IFREG)


class _CarefulTarInfo(tarfile.TarInfo):
    """A header of tar that does not read gigabytes of names into memory."""

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        if not self.isreg() and not self.isdir() and self.size > _LARGEST_TAR_HEADER:
            raise UnsafeModelError(f"the archive has a header of {self.size} bytes: nothing was installed")
        return super()._proc_member(tar)  # type: ignore[misc]


def _unpack_tar(source: Path, writer: _Writer) -> None:
    opened: Any = gzip.open if _starts_with(source, b"\x1f\x8b") else open
    with opened(source, "rb") as stream:
        try:
            archive = tarfile.TarFile(fileobj=stream, mode="r", tarinfo=_CarefulTarInfo)
        except (tarfile.ReadError, gzip.BadGzipFile) as err:
            raise IncompatibleModelError(f"{source} is no .zip, .tar or .tar.gz archive, and no folder: give one of these") from err
        with archive:
            for member in _tar_members(archive, source, writer):
                content = archive.extractfile(member.source)
                if content is not None:
                    writer.write(member.parts, content)
        _read_to_the_end(stream, source)


def _read_to_the_end(stream: IO[bytes], source: Path) -> None:
    """Read the padding after the last member: gzip compares its checksum at the end."""
    left = _LARGEST_TAR_PADDING
    while chunk := stream.read(_CHUNK):
        left -= len(chunk)
        if left < 0:
            raise UnsafeModelError(f"{source} goes on for long after its last member: nothing was installed")


def _tar_members(archive: tarfile.TarFile, source: Path, writer: _Writer) -> Iterator[_Member]:
    count = 0
    for info in archive:
        count += 1
        writer.check_claims([_Member((), info.size, None)])  # a member that claims too much is not even begun
        if count > writer.limits.files * 2:
            raise UnsafeModelError(f"{source} has more than {count - 1} members: nothing was installed")
        if info.isdir():
            continue
        parts = safe_parts(info.name, str(source))
        if not info.isreg() or info.issparse():
            raise UnsafeModelError(f"{source} holds a link, a device or a file with holes, {info.name[:80]!a}: nothing was installed")
        yield _Member(parts, info.size, info)


def _copy_folder(source: Path, writer: _Writer) -> None:
    members = []
    for folder, folders, files in os.walk(source):
        folders.sort()
        for name in (*folders, *files):
            path = Path(folder) / name
            mode = os.lstat(path).st_mode
            if stat.S_ISDIR(mode):
                continue
            parts = safe_parts(path.relative_to(source).as_posix(), str(source))
            if not stat.S_ISREG(mode):
                raise UnsafeModelError(f"{path} is a link or no ordinary file: put the file itself there and try again")
            members.append(_Member(parts, path.stat().st_size, path))
        if len(members) > writer.limits.files:
            break
    writer.check_claims(members)
    total = sum(member.size for member in members)
    for member in members:
        with member.source.open("rb") as stream:
            writer.write(member.parts, stream, total)
