"""Voxels from a stream straight into their final array, and the files they may lie in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medseg.core.errors import SeveralVolumesError, UnreadableFileError, UnsupportedFormatError
from medseg.core.finding import Finding, Severity
from medseg.io.byte_stream import Stream
from medseg.io.memory import check_memory, too_large
from medseg.io.values import Array

MOST_VOXELS = 1 << 33


def count_voxels(shape: Sequence[int], name: str) -> int:
    """Return the number of voxels; UnreadableFileError where there are more than any scan has."""
    count = 1
    for extent in shape:
        count *= int(extent)
    if count > MOST_VOXELS:
        raise UnreadableFileError(
            f"{name}: its header declares {count:,} voxels {tuple(shape)}, more than {MOST_VOXELS:,}; it is damaged, or crop the scan first"
        )
    return count


def check_enough(stream: Stream, needed: int) -> None:
    """Raise before any memory is taken where the file cannot hold what its header declares."""
    possible = stream.most_bytes_left()
    if needed > possible:
        raise UnreadableFileError(
            f"{stream.name} is cut short or its header is damaged: the header declares {needed:,} bytes of voxels, "
            f"the file can hold at most {possible:,}; copy or download the file again"
        )


def read_array(stream: Stream, shape: Sequence[int], dtype: np.dtype[Any], also_needed: int = 0) -> Array:
    """Read voxels, first axis fastest, into one array of native byte order; nothing else of their size is made.

    `also_needed` is the memory in bytes that will be taken afterwards, as for rescaled values.
    """
    needed = count_voxels(shape, stream.name) * dtype.itemsize
    check_enough(stream, needed)
    check_memory(stream.name, needed + also_needed)
    try:
        array = np.empty(tuple(shape), dtype, order="F")
    except (MemoryError, ValueError) as err:
        raise UnreadableFileError(too_large(stream.name, needed)) from err
    stream.fill(memoryview(array.T.reshape(-1).view(np.uint8)))  # type: ignore[arg-type]
    return array if dtype.isnative else array.byteswap(inplace=True).view(dtype.newbyteorder("="))


def check_choice(name: str, count: int, extents: Sequence[int], volume_index: int | None, what: str = "") -> int:
    """Return which of `count` volumes to read; SeveralVolumesError where there are more and none was chosen."""
    if count > 1 and volume_index is None:
        raise SeveralVolumesError(
            f"{name} holds {count} volumes (extents {tuple(extents)}): {what or 'time points, directions or channels'}; "
            f"choose one: --volume 0 to {count - 1} on the command line, volume_index in Python",
            count,
        )
    if not 0 <= (volume_index or 0) < count:
        raise UnsupportedFormatError(f"{name} holds {count} volume(s): choose one from 0 to {count - 1}, got {volume_index}")
    return volume_index or 0


def padding_findings(padding: int) -> tuple[Finding, ...]:
    """Note zeros behind the voxels."""
    if not padding:
        return ()
    return (Finding("TRAILING_PADDING", Severity.INFO, f"{padding:,} meaningless bytes follow the voxels", {"bytes": padding}),)


def detached_file(header: Path, target: str) -> Path:
    """Return the data file that a header names: beside it or below.

    Names that lead elsewhere are refused, so that a header from a stranger cannot make medseg read any other file.
    """
    parts = target.replace("\\", "/").split("/")
    if Path(target).is_absolute() or ".." in parts or not parts[0] or re.match(r"^[A-Za-z]:", target):
        raise UnsupportedFormatError(
            f"{header.name} points to a data file outside its folder; put the file beside the header and name it there"
        )
    data = header.parent.joinpath(*parts)
    if not data.is_file():
        raise UnreadableFileError(f"{header.name} needs a data file, which is not beside it under the name that it gives; copy both files")
    if not data.resolve().is_relative_to(header.parent.resolve()):
        raise UnsupportedFormatError(f"{header.name}: its data file is a link out of the folder; put the file itself there")
    return data
