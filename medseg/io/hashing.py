"""Content hashes of files, for provenance: by what a file holds, never by its name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from medseg.core.errors import UnreadableFileError
from medseg.io.byte_stream import CHUNK_BYTES, open_file, size_of


def sha256_of(paths: str | Path | Iterable[str | Path]) -> str:
    """Return the SHA-256 of a file; of several, that of their sorted digests, so that names and order do not matter.

    Raises UnreadableFileError where a file cannot be read.

    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "a").write_bytes(b""), (folder / "b").write_bytes(b"b")
    >>> sha256_of(folder / "a")[:8], sha256_of([folder / "a", folder / "b"]) == sha256_of([folder / "b", folder / "a"])
    ('e3b0c442', True)
    """
    if isinstance(paths, (str, Path)):
        return _digest(paths)
    digests = sorted(_digest(path) for path in paths)
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode("ascii")).hexdigest()


def _digest(path: str | Path) -> str:
    digest = hashlib.sha256()
    with open_file(path) as file:
        try:
            buffer = memoryview(bytearray(max(1, min(CHUNK_BYTES, size_of(file)))))
            while count := file.readinto(buffer):  # type: ignore[attr-defined]
                digest.update(buffer[:count])
        except OSError as err:
            raise UnreadableFileError(f"{path}: reading failed ({err.strerror or err}); check the disk") from err
    return digest.hexdigest()
