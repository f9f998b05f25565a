"""Scans in .zip, .tar and .tar.gz archives, unpacked member by member into a temporary folder.

Archives come from strangers: a member may be named `../../.bashrc`, be a link to another file, or unpack to terabytes.
Every name and size is checked before anything is written, the sizes again while it is written, and the checksums of .zip
and gzip are compared. Nothing but ordinary files and folders is ever made.
"""

from __future__ import annotations

import contextlib
import io
import lzma
import re
import shutil
import stat
import struct
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from medseg.core.errors import MedsegError, OutputError, UnreadableFileError, UnsupportedFormatError
from medseg.io.stream import CHUNK_BYTES, GZIP_MAGIC, Stream, open_file, open_stream

_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
_TAR_MAGIC = (257, b"ustar")
_ENCRYPTED = 1
_LONGEST_PART = 255
_ZIP_END_BYTES = (1 << 16) + 256
_IN_LONG_RECORD = 0xFFFFFFFF
_MOST_DIRECTORY_BYTES = 512  # of the list of a .zip, per member
_MOST_TAR_HEADER_BYTES = 1 << 22  # long names and attributes before a member
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")
_DAMAGE: tuple[type[Exception], ...] = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error)
_FOREIGN_ERRORS: tuple[type[Exception], ...] = (*_DAMAGE, OSError, EOFError, ValueError, RuntimeError, NotImplementedError, IndexError)
_IGNORED = ("__MACOSX", ".DS_Store", "Thumbs.db")


@dataclass(frozen=True)
class Caps:
    """How much an archive may hold: members, bytes unpacked, and bytes unpacked for one byte of the archive."""

    members: int = 200_000
    total_bytes: int = 1 << 36
    ratio: float = 250.0
    least_bytes: int = 1 << 30  # an archive that unpacks to less is no bomb, whatever its ratio


@dataclass
class _Budget:
    """What may still be unpacked."""

    name: str
    members: int
    bytes_left: int

    def take_member(self) -> None:
        self.members -= 1
        if self.members < 0:
            raise self.too_many()

    def too_many(self) -> UnreadableFileError:
        return UnreadableFileError(f"{self.name} holds more members than any study; unpack it yourself and give the folder")

    def take_bytes(self, count: int) -> None:
        self.check_total(count)
        self.bytes_left -= count

    def check_total(self, count: int) -> None:
        if count > self.bytes_left:
            raise UnreadableFileError(
                f"{self.name} unpacks to far more than its size allows for scans: it may be made to fill the disk; unpack it yourself"
            )


def is_archive(path: str | Path) -> bool:
    """Whether a file is a .zip, .tar or .tar.gz by its content; False for what cannot be read."""
    try:
        return _kind_of(Path(path)) is not None
    except MedsegError:
        return False


@contextlib.contextmanager
def unpacked(path: str | Path, caps: Caps | None = None) -> Iterator[Path]:
    """Unpack an archive into a temporary folder for as long as the context lasts, and yield the folder.

    Raises UnsupportedFormatError for other files and encrypted archives, UnreadableFileError for damaged archives and for
    members with absolute names, `..`, links, devices, or beyond `caps`; OutputError where the disk is full.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     archive = Path(folder, "study.zip")
    ...     with zipfile.ZipFile(archive, "w") as file:
    ...         file.writestr("series/1.dcm", b"...")
    ...     with unpacked(archive) as study:
    ...         sorted(str(item.relative_to(study)) for item in study.rglob("*"))
    ['series', 'series/1.dcm']
    """
    path = Path(path)
    kind = _kind_of(path)
    if kind is None:
        raise UnsupportedFormatError(f"{path} is no archive medseg unpacks (.zip, .tar, .tar.gz); unpack it and give the folder")
    caps = caps or Caps()
    packed = path.stat().st_size
    budget = _Budget(path.name, caps.members, int(min(caps.total_bytes, max(packed * caps.ratio, caps.least_bytes))))
    with tempfile.TemporaryDirectory(prefix="medseg-") as folder:
        try:
            (_unpack_zip if kind == "zip" else _unpack_tar)(path, Path(folder), budget)
        except MedsegError:
            raise
        except _FOREIGN_ERRORS as err:  # their texts may quote names of members, which may be names of patients
            raise UnreadableFileError(f"{path.name} is damaged ({type(err).__name__}); copy or download the archive again") from err
        yield Path(folder)


def _kind_of(path: Path) -> str | None:
    with open_file(path) as file:
        start = file.read(_TAR_MAGIC[0] + 8)
    if start.startswith(_ZIP_STARTS):
        return "zip"
    if start.startswith(GZIP_MAGIC):
        with open_stream(path, "gzip") as stream:
            start = stream.read_up_to(_TAR_MAGIC[0] + 8)
    return "tar" if start[_TAR_MAGIC[0] :].startswith(_TAR_MAGIC[1]) else None


def _unpack_zip(path: Path, folder: Path, budget: _Budget) -> None:
    with path.open("rb") as file:
        _check_directory(file, budget)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            targets = [_checked_zip_member(member, folder, budget) for member in members]
            total = sum(member.file_size for member in members)
            budget.check_total(total)
            _check_disk(folder, total, budget.name)
            for member, target in zip(members, targets, strict=True):
                if target is not None and not member.is_dir():
                    with archive.open(member) as source:  # compares the checksum at the end
                        _copy(source, target, budget, member.file_size)


def _check_directory(file: IO[bytes], budget: _Budget) -> None:
    """Refuse a list of members too long to be held in memory, before the library reads it."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _ZIP_END_BYTES))
    tail = file.read()
    file.seek(0)
    short, long = tail.rfind(b"PK\x05\x06"), tail.rfind(b"PK\x06\x06")
    sizes = [struct.unpack_from("<I", tail, short + 12)[0]] if 0 <= short <= len(tail) - 16 else []
    sizes += [struct.unpack_from("<Q", tail, long + 40)[0]] if 0 <= long <= len(tail) - 48 else []
    listed = max((directory for directory in sizes if directory != _IN_LONG_RECORD), default=0)
    if listed > budget.members * _MOST_DIRECTORY_BYTES:
        raise budget.too_many()


def _checked_zip_member(member: zipfile.ZipInfo, folder: Path, budget: _Budget) -> Path | None:
    budget.take_member()
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UnreadableFileError(f"{budget.name} holds a link or a device; unpack it yourself and give the folder")
    if member.flag_bits & _ENCRYPTED:
        raise UnsupportedFormatError(f"{budget.name} is encrypted; unpack it with its password and give the folder")
    return _target(folder, member.filename, budget.name)


def _unpack_tar(path: Path, folder: Path, budget: _Budget) -> None:
    with open_stream(path) as stream:
        source = _Readable(stream)
        with tarfile.open(fileobj=source, mode="r|") as archive:
            for member in archive:
                budget.take_member()
                if not (member.isreg() or member.isdir()) or member.issparse():
                    raise UnreadableFileError(
                        f"{path.name} holds a link, a device or a sparse file; unpack it yourself and give the folder"
                    )
                budget.check_total(member.size)
                target = _target(folder, member.name, path.name)
                source.limit = member.offset_data + member.size + _MOST_TAR_HEADER_BYTES
                content = archive.extractfile(member) if member.isreg() and target is not None else None
                if content is not None and target is not None:
                    _check_disk(folder, member.size, budget.name)
                    _copy(content, target, budget, member.size)
            source.check_end(archive.offset, budget)


class _Readable(io.RawIOBase):
    """A stream of ours as tarfile reads it, which remembers where the zeros at its end begin."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._position = 0
        self._zeros_from = 0
        self.limit = _MOST_TAR_HEADER_BYTES

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; a header between two members that does not end is refused before it fills the memory."""
        data = self._stream.read_up_to(min(size, CHUNK_BYTES) if size >= 0 else CHUNK_BYTES)
        content = len(data.rstrip(b"\0"))
        if content:
            self._zeros_from = self._position + content
        self._position += len(data)
        if self._position > self.limit:
            raise UnreadableFileError(f"{self._stream.name} has a member with an endless header; it is not to be trusted")
        return data

    def check_end(self, end: int, budget: _Budget) -> None:
        """Read on to the end, where checksums are compared: only zeros may follow the last member, and some must.

        The library takes a damaged or missing header for the end of the archive, and slices would be lost without a word.
        """
        self.limit = self._position + budget.bytes_left
        while self.read(CHUNK_BYTES):
            pass
        if self._zeros_from > end:
            raise UnreadableFileError(f"{self._stream.name} is damaged behind its first members; copy or download the archive again")
        if self._position < end + tarfile.BLOCKSIZE:
            raise UnreadableFileError(f"{self._stream.name} is cut short; copy or download the archive again")


def _target(folder: Path, name: str, archive: str) -> Path | None:
    """Where a member goes: inside the folder, under a name every system can hold; None for what file managers add."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or any(part in _IGNORED or part.startswith("._") for part in parts):
        return None
    if name.startswith(("/", "\\")) or ".." in parts or re.match(r"^[A-Za-z]:", name) or _UNSAFE.search(name):
        raise UnreadableFileError(f"{archive} holds a member whose name leads out of the archive; it is not to be trusted")
    if any(len(part.encode("utf-8", "surrogateescape")) > _LONGEST_PART for part in parts):
        raise UnreadableFileError(f"{archive} holds a member with a name too long for a file; unpack it yourself and give the folder")
    return folder.joinpath(*(unicodedata.normalize("NFC", part) for part in parts))


def _check_disk(folder: Path, needed: int, name: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"{name} unpacks to {needed / 1e9:,.1f} GB, but the folder for temporary files has {free / 1e9:,.1f} GB free; free some space"
        )


def _copy(source: IO[bytes], target: Path, budget: _Budget, size: int) -> None:
    """Copy a member to a new file; one that is there already is a second member of that name, and refused."""
    count = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sink = target.open("xb")
    except (FileExistsError, NotADirectoryError) as err:
        raise UnreadableFileError(f"{budget.name} holds two members of one name; unpack it yourself and give the folder") from err
    except OSError as err:
        raise OutputError(f"{budget.name} cannot be unpacked ({err.strerror}); check the folder for temporary files") from err
    with sink:
        while data := source.read(CHUNK_BYTES):
            budget.take_bytes(len(data))
            count += len(data)
            try:
                sink.write(data)
            except OSError as err:
                raise OutputError(f"{budget.name} cannot be unpacked ({err.strerror}); free some space for temporary files") from err
    if count != size:
        raise UnreadableFileError(f"{budget.name} is cut short; copy or download the archive again")
