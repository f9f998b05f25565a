"""Writes that are whole or not there at all, and the marker that says a model is all there."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.core.errors import ChecksumError, OutputError

MARKER = ".complete"
MARKER_SCHEMA = "medseg.model-files/1"
_CHUNK = 1 << 22
_LARGEST_JSON = 8 << 20


@dataclass(frozen=True)
class FileHash:
    """Size and SHA-256 of one file."""

    bytes: int
    sha256: str


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def hash_files(folder: Path) -> dict[str, FileHash]:
    """Return size and hash of every file below a folder but the marker, by its relative name."""
    return {name: FileHash((folder / name).stat().st_size, sha256_of(folder / name)) for name in _names(folder)}


def hash_of_hashes(files: Mapping[str, FileHash]) -> str:
    """Return one SHA-256 for a whole folder: that of its lines `sha256  name`, in the order of the names (as sha256sum writes them)."""
    lines = "".join(f"{files[name].sha256}  {name}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def write_marker(folder: Path, files: Mapping[str, FileHash]) -> None:
    """Write `.complete` with the hashes of the files: the last file of a model."""
    entries = {name: {"bytes": files[name].bytes, "sha256": files[name].sha256} for name in sorted(files)}
    write_json(folder / MARKER, {"schema": MARKER_SCHEMA, "files": entries})


def read_marker(folder: Path) -> dict[str, FileHash]:
    """Return what the marker of a folder says; raises ChecksumError where it is missing or damaged."""
    try:
        entries = read_json(folder / MARKER)["files"]
        return {name: FileHash(int(entry["bytes"]), str(entry["sha256"])) for name, entry in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise ChecksumError(f"{folder} was not installed to its end: remove it and add the model again") from err


def check_files(folder: Path) -> None:
    """Compare every file of an installed model with its hash; raises ChecksumError naming the first five that differ."""
    expected, there = read_marker(folder), set(_names(folder))
    faults = [f"{name} is missing" for name in expected if name not in there]
    faults += [f"{name} was added later" for name in sorted(there - set(expected))]
    for name, entry in expected.items():
        if name in there and ((folder / name).stat().st_size != entry.bytes or sha256_of(folder / name) != entry.sha256):
            faults.append(f"{name} has changed")
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise ChecksumError(f"{folder} is not what was installed: {'; '.join(faults[:5])}{more}. Remove it and add the model again")


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object; raises OSError, ValueError for anything else."""
    with path.open("rb") as stream:
        content = stream.read(_LARGEST_JSON + 1)
    if len(content) > _LARGEST_JSON:
        raise ValueError("too large")
    entries = json.loads(content)
    if not isinstance(entries, dict):
        raise ValueError("no JSON object")
    return entries


def write_json(path: Path, entries: Mapping[str, Any]) -> None:
    """Write a JSON file under another name first, so that it is whole or not there."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("x", encoding="utf-8") as stream:
            json.dump(entries, stream, indent=2, ensure_ascii=False, allow_nan=False)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def make_final(temporary: Path, final: Path) -> None:
    """Give a finished folder its name in one step; raises FileExistsError where the name is taken, OutputError else."""
    for folder, _, _ in os.walk(temporary, topdown=False):
        sync_folder(Path(folder))
    if final.exists():  # an empty folder would be replaced silently by rename
        raise FileExistsError(final)
    try:
        os.rename(temporary, final)
    except OSError as err:
        if final.exists():
            raise FileExistsError(final) from err
        raise OutputError(f"{final} cannot be written: {err.strerror}") from err
    sync_folder(final.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def _names(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / MARKER:
            yield path.relative_to(folder).as_posix()
