"""NRRD: attached and detached headers; raw, gzip and bzip2."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medseg.core.errors import OutputVerificationError, UnreadableFileError, UnsupportedFormatError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.io.atomic import write_verified
from medseg.io.grid import Spacing, settled
from medseg.io.nrrd_header import NrrdHeader, data_path, geometry_of, header_text, read_header
from medseg.io.stored import StoredImage
from medseg.io.stream import differs_from, open_file, open_stream, write_gzipped
from medseg.io.values import Array
from medseg.io.voxels import check_choice, check_enough, count_voxels, padding_findings, read_array

_MOST_SKIPPED_LINES = 10_000
_COUNTING = frozenset({"list", "time", "???", "none", "space", "domain", ""})  # kinds of an axis that counts volumes
_CHANNELS = frozenset({"rgb-color", "rgba-color", "3-color", "4-color", "hsv-color", "xyz-color", "vector"})  # channels


def read_stored(
    path: str | Path, *, volume_index: int | None = None, xform: str | None = None, spacing_mm: Spacing | None = None
) -> StoredImage:
    """Read voxels and grid of an NRRD; axes of length 1 that are not space are dropped.

    `volume_index` chooses a volume along a list, time, colour or channel axis, `spacing_mm` (i,j,k) stands in where the file
    has no spacing; `xform` says nothing to a format with one grid. Raises UnreadableFileError (cut short, corrupted),
    SeveralVolumesError, UnsupportedFormatError (complex numbers, matrices), GeometryError (no spacing).
    """
    path = Path(path)
    header = parse(path)
    geometry, axes, findings = geometry_of(header, spacing_mm)
    geometry, settling = settled(geometry, spacing_mm, path.name)
    others = _other_axes(header, axes)
    what = "colours or channels" if _kinds(header, others) & _CHANNELS else ""
    index = check_choice(path.name, _count(header, others), header.sizes, volume_index, what)
    if others and min(others) > max(axes):  # the volumes lie one behind the other
        array, padding = read_voxels(path, header, index)
    else:
        array, padding = read_voxels(path, header)
        places = np.unravel_index(index, [header.sizes[axis] for axis in others], order="F") if others else ()
        array = array[tuple(int(places[others.index(axis)]) if axis in others else slice(None) for axis in range(array.ndim))]
    findings = (*findings, *settling, *padding_findings(padding))
    return StoredImage(path, "NRRD", np.asfortranarray(array.reshape(geometry.shape, order="F")), geometry, findings)


def volume_count(path: str | Path) -> int:
    """Return how many volumes a file holds (1 but for list and time axes), from its header alone."""
    header = parse(Path(path))
    axes = geometry_of(header, (1.0, 1.0, 1.0))[1]
    return _count(header, _other_axes(header, axes))


def _other_axes(header: NrrdHeader, axes: tuple[int, ...]) -> list[int]:
    """The axes that are not space; those of complex numbers and matrices are refused, where they are longer than 1."""
    others = [axis for axis in range(len(header.sizes)) if axis not in axes]
    kinds = _kinds(header, others)
    if not kinds <= _COUNTING | _CHANNELS:
        what = "complex numbers" if "complex" in kinds else "several values a voxel"
        raise UnsupportedFormatError(
            f"{header.name} holds {what} (sizes {header.sizes}); split it into volumes, or read a segmentation with read_label_map"
        )
    return others


def _kinds(header: NrrdHeader, others: list[int]) -> set[str]:
    return {header.kinds[axis] if axis < len(header.kinds) else "" for axis in others if header.sizes[axis] > 1}


def _count(header: NrrdHeader, others: list[int]) -> int:
    count_voxels(header.sizes, header.name)
    return math.prod(header.sizes[axis] for axis in others)


def parse(path: Path) -> NrrdHeader:
    """Read the header of a file."""
    with open_file(path) as file:
        return read_header(file, path.name)


def read_voxels(path: Path, header: NrrdHeader, volume_index: int | None = None) -> tuple[Array, int]:
    """Read all axes in file order (fastest first) and go to the end of the file; return how much padding follows, too.

    With `volume_index`, read only the first three axes at that place of all the others.
    """
    dtype = header.dtype
    sizes = header.sizes if volume_index is None else header.sizes[:3]
    whole, part = (count_voxels(extents, path.name) * dtype.itemsize for extents in (header.sizes, sizes))
    before = part * (volume_index or 0)
    data = data_path(header, path)
    offset = _data_offset(header, data, path, whole)
    with open_stream(data, header.encoding, offset) as stream:
        if header.encoding != "raw":
            stream.skip(max(header.number("byte skip", 0), 0))
        check_enough(stream, whole)
        stream.skip(before)
        array = read_array(stream, sizes, dtype)
        stream.skip(whole - before - part)
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
            write_gzipped(file, b"", array)

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
