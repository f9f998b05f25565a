"""NRRD: attached and detached headers; raw, gzip and bzip2."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medseg.core.errors import OutputVerificationError, UnreadableFileError, UnsupportedFormatError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.io.atomic import write_verified
from medseg.io.nrrd_header import NrrdHeader, data_path, geometry_of, header_text, read_header
from medseg.io.stored import StoredImage
from medseg.io.stream import GzipWriter, chunks_of, differs_from, open_file, open_stream
from medseg.io.values import Array
from medseg.io.voxels import count_voxels, padding_findings, read_array

_MOST_SKIPPED_LINES = 10_000
_COLOURS = frozenset({"rgb-color", "rgba-color", "3-color", "4-color", "hsv-color", "xyz-color", "complex"})


def read_stored(path: str | Path) -> StoredImage:
    """Read voxels and grid of a scalar NRRD; axes of length 1 that are not space are dropped.

    Raises UnreadableFileError (cut short, corrupted), UnsupportedFormatError (4D, colours), GeometryError (no directions).
    """
    path = Path(path)
    header = parse(path)
    geometry, axes, findings = geometry_of(header)
    others = [size for axis, size in enumerate(header.sizes) if axis not in axes]
    if any(size > 1 for size in others):
        kinds = [kind for axis, kind in enumerate(header.kinds) if axis not in axes]
        what = "colours or complex numbers" if _COLOURS & set(kinds) else "several values a voxel"
        raise UnsupportedFormatError(
            f"{path.name} holds {what} (sizes {header.sizes}, kinds {' '.join(header.kinds) or 'not given'}); "
            "split it into volumes, or read a segmentation with read_label_map"
        )
    array, padding = read_voxels(path, header)
    findings = (*findings, *padding_findings(padding))
    return StoredImage(path, "NRRD", array.reshape(geometry.shape, order="F"), geometry, findings)


def parse(path: Path) -> NrrdHeader:
    """Read the header of a file."""
    with open_file(path) as file:
        return read_header(file, path.name)


def read_voxels(path: Path, header: NrrdHeader) -> tuple[Array, int]:
    """Read all axes in file order (fastest first) and go to the end of the file; return how much padding follows, too."""
    dtype = header.dtype
    count = count_voxels(header.sizes, path.name)
    data = data_path(header, path)
    offset = _data_offset(header, data, path, count * dtype.itemsize)
    with open_stream(data, header.encoding, offset) as stream:
        if header.encoding != "raw":
            stream.skip(max(header.number("byte skip", 0), 0))
        array = read_array(stream, header.sizes, dtype)
        return array, stream.finish()


def _data_offset(header: NrrdHeader, data: Path, path: Path, needed: int) -> int:
    """Where the voxels begin: behind the header, then `line skip` lines, then `byte skip` bytes (-1: at the very end)."""
    byte_skip = header.number("byte skip", 0)
    line_skip = header.number("line skip", 0)
    if not 0 <= line_skip <= _MOST_SKIPPED_LINES or byte_skip < -1 or (byte_skip == -1 and header.encoding != "raw"):
        raise UnreadableFileError(
            f"{path.name}: line skip {line_skip} and byte skip {byte_skip} make no sense for encoding {header.encoding}"
        )
    with open_file(data) as file:
        if byte_skip == -1:
            size = file.seek(0, 2)
            if size < needed:
                raise UnreadableFileError(
                    f"{data.name} is cut short: it holds {size:,} of {needed:,} bytes; copy or download the file again"
                )
            return size - needed
        file.seek(header.data_offset if data == path else 0)
        for _ in range(line_skip):
            if not file.readline():
                raise UnreadableFileError(f"{data.name} is cut short: it has fewer than the {line_skip} lines to skip")
        return file.tell() + (byte_skip if header.encoding == "raw" else 0)


def write_nrrd(value: Volume | LabelMap, path: str | Path, overwrite: bool = False, keys: Mapping[str, str] | None = None) -> Path:
    """Write an NRRD (gzip, LPS space as 3D Slicer), read it back and compare every voxel; `keys` are key/value pairs."""
    path = Path(path)
    array = value.array.astype(np.float32) if value.array.dtype == np.float16 else value.array
    header = header_text(value.geometry, array.dtype, keys or {})

    def write(temporary: Path) -> None:
        with temporary.open("xb") as file:
            file.write(header)
            packed = GzipWriter(file)
            for chunk in chunks_of(array):
                packed.write(chunk)
            packed.close()

    def verify(temporary: Path) -> None:
        _verify(temporary, array, value.geometry, keys or {}, path)

    return write_verified(path, write, verify, overwrite)


def _verify(temporary: Path, array: Array, geometry: Geometry, keys: Mapping[str, str], path: Path) -> None:
    header = parse(temporary)
    got, _, _ = geometry_of(header)
    same = np.array_equal(got.affine, geometry.affine) and got.shape == geometry.shape and header.dtype.newbyteorder("=") == array.dtype
    with open_stream(temporary, header.encoding, header.data_offset) as stream:
        if not same or dict(header.keys) != dict(keys) or differs_from(stream, array):
            raise OutputVerificationError(f"{path}: what was read back is not what was written; check the disk and try again")
        stream.finish()
