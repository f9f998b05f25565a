"""MetaImage (.mha, .mhd with a data file): the format of ITK.

Source: MetaIO documentation, https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from medseg.core.errors import GeometryError, OutputVerificationError, UnreadableFileError, UnsupportedFormatError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.io.atomic import write_verified
from medseg.io.grid import Spacing, grid_findings, grid_of, settled, spacing_given
from medseg.io.stored import StoredImage
from medseg.io.stream import GZIP_MAGIC, differs_from, open_file, open_stream, write_zlibbed
from medseg.io.values import Array
from medseg.io.voxels import check_choice, check_enough, count_voxels, detached_file, padding_findings, read_array

_MOST_LINES = 1000
_DTYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items() if "LONG" not in name or dtype[1] == "8"}
_OTHER_NAMES = {
    "position": "offset",
    "origin": "offset",
    "orientation": "transformmatrix",
    "rotation": "transformmatrix",
    "elementbyteordermsb": "binarydatabyteordermsb",
}
_MOST_CHANNELS = 64
_TO_RAS = np.array([-1.0, -1.0, 1.0])


def read_stored(
    path: str | Path, *, volume_index: int | None = None, xform: str | None = None, spacing_mm: Spacing | None = None
) -> StoredImage:
    """Read voxels and grid.

    `volume_index` chooses a volume of a 4D file, or a channel, `spacing_mm` (i,j,k) stands in where the file has no spacing; `xform` says
    nothing to a format with one grid. Raises UnreadableFileError (cut short, corrupted), SeveralVolumesError,
    UnsupportedFormatError (2D), GeometryError (no spacing).
    """
    path = Path(path)
    fields, offset = _read_fields(path)
    sizes = _sizes_of(fields, path.name)
    geometry, findings = _geometry_of(fields, path.name, spacing_mm)
    geometry, settling = settled(geometry, spacing_mm, path.name)
    channels = _channels_of(fields, path.name)
    index = check_choice(path.name, math.prod(sizes[3:]) * channels, sizes, volume_index, "colours or channels" if channels > 1 else "")
    index, channel = divmod(index, channels)
    dtype = _dtype_of(fields, path.name)
    whole, part = (count_voxels(extents, path.name) * channels * dtype.itemsize for extents in (sizes, geometry.shape))
    data, offset = _data_place(fields, offset, path, whole)
    with open_stream(data, _encoding_of(fields, data, offset), offset) as stream:
        check_enough(stream, whole)
        stream.skip(part * index)
        if channels == 1:
            array = read_array(stream, geometry.shape, dtype)
        else:  # the channels of a voxel follow one another
            array = np.asfortranarray(read_array(stream, (channels, *geometry.shape), dtype)[channel])
        stream.skip(whole - part * (index + 1))
        findings += [*settling, *padding_findings(stream.finish())]
    return StoredImage(path, "MetaImage", array, geometry, tuple(findings))


def volume_count(path: str | Path) -> int:
    """Return how many volumes a file holds (1 but for 4D, colours and channels), from its header alone."""
    path = Path(path)
    fields = _read_fields(path)[0]
    return math.prod(_sizes_of(fields, path.name)[3:]) * _channels_of(fields, path.name)


def _channels_of(fields: Mapping[str, str], name: str) -> int:
    """How many numbers a voxel has: 1, or those of colours and channels."""
    text = fields.get("elementnumberofchannels", "1")
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MOST_CHANNELS:
        count = text if text.isascii() and text.isdigit() else "no number of"
        raise UnsupportedFormatError(f"{name} holds {count} values a voxel; medseg reads 1 to {_MOST_CHANNELS}: split it first")
    return int(text)


def _sizes_of(fields: Mapping[str, str], name: str) -> tuple[int, ...]:
    """The extents; 2D and 5D are refused."""
    axes = fields.get("ndims", "?")
    if axes not in ("3", "4"):
        count = axes if axes.isascii() and axes.isdigit() else "?"
        raise UnsupportedFormatError(f"{name} holds {count}D; medseg reads 3D and 4D volumes: split it first")
    sizes = _numbers(fields, "dimsize", int(axes), name)
    if not all(size >= 1 and size == int(size) for size in sizes):
        raise UnreadableFileError(f"{name}: its header declares impossible extents (DimSize)")
    extents = tuple(int(size) for size in sizes)
    count_voxels(extents, name)
    return extents


def _encoding_of(fields: Mapping[str, str], data: Path, offset: int) -> str:
    if not _is_true(fields, "compresseddata"):
        return "raw"
    with open_file(data) as file:
        file.seek(offset)
        return "gzip" if file.read(2) == GZIP_MAGIC else "zlib"  # ITK reads both


def _read_fields(path: Path) -> tuple[dict[str, str], int]:
    """The fields, names in lower case without underscores, and where the header ends."""
    fields: dict[str, str] = {}
    with open_file(path) as file:
        for _ in range(_MOST_LINES):
            name, equals, value = file.readline(1 << 16).decode("latin-1").partition("=")
            if not equals:
                break
            key = name.strip().lower().replace("_", "")
            fields[_OTHER_NAMES.get(key, key)] = value.strip()
            if key == "elementdatafile":
                return fields, file.tell()
    raise UnreadableFileError(f"{path.name} is no complete MetaImage file: its header has no ElementDataFile")


def _numbers(fields: Mapping[str, str], key: str, count: int, name: str) -> list[float]:
    try:
        values = [float(part) for part in fields[key].split()]
    except (KeyError, ValueError) as err:
        raise UnreadableFileError(f"{name}: the header field {key} is missing or holds no numbers") from err
    if len(values) != count:
        raise UnreadableFileError(f"{name}: the header field {key} holds {len(values)} numbers instead of {count}")
    return values


def _geometry_of(fields: Mapping[str, str], name: str, spacing_mm: Spacing | None = None) -> tuple[Geometry, list[Finding]]:
    sizes = _sizes_of(fields, name)
    axes = len(sizes)
    findings = []
    if "elementspacing" in fields:
        spacing = _numbers(fields, "elementspacing", axes, name)[:3]
    elif spacing_mm is not None:
        spacing = list(spacing_mm)
        findings.append(spacing_given(spacing_mm))
    else:
        raise GeometryError(
            f"{name} has no ElementSpacing: the size of its voxels is unknown, and with it every volume; write it again with its "
            "spacing, or give it in mm (--spacing I,J,K; spacing_mm in Python)"
        )
    matrix = np.eye(3)
    if "transformmatrix" in fields:
        matrix = _in_space(np.array(_numbers(fields, "transformmatrix", axes * axes, name)).reshape(axes, axes), name)
    else:
        message = "the file has no TransformMatrix: volumes are right, but left and right, front and back are a guess (LPS, as ITK guesses)"
        findings.append(Finding("ORIENTATION_UNKNOWN", Severity.WARNING, message))
    affine = np.eye(4)
    # a row of the TransformMatrix is the direction of an axis: the transpose of ITK's direction
    with np.errstate(over="ignore", invalid="ignore"):  # what leaves the range of numbers is refused below
        affine[:3, :3] = matrix.T * spacing * _TO_RAS[:, None]
    affine[:3, 3] = np.array(_numbers(fields, "offset", axes, name)[:3] if "offset" in fields else (0, 0, 0)) * _TO_RAS
    geometry = grid_of((sizes[0], sizes[1], sizes[2]), affine, name)
    return geometry, [*findings, *grid_findings(geometry)]


def _in_space(matrix: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
    """The three axes of space; GeometryError where a fourth axis leans into them."""
    if len(matrix) == 4 and (matrix[3, :3].any() or matrix[:3, 3].any()):
        raise GeometryError(f"{name}: its TransformMatrix mixes the fourth axis with the patient's; split it into 3D volumes")
    return matrix[:3, :3]


def _dtype_of(fields: Mapping[str, str], name: str) -> np.dtype[Any]:
    if not _is_true(fields, "binarydata", "true"):
        raise UnsupportedFormatError(f"{name} holds its voxels as text; write it as binary data")
    kind = fields.get("elementtype", "")
    if kind not in _DTYPES:
        known = kind if re.fullmatch(r"MET_[A-Z_]{1,24}", kind) else "unknown"
        raise UnsupportedFormatError(f"{name} holds voxels of type {known}; medseg reads real numbers: convert it first")
    return np.dtype(_DTYPES[kind]).newbyteorder(">" if _is_true(fields, "binarydatabyteordermsb") else "<")


def _is_true(fields: Mapping[str, str], key: str, default: str = "false") -> bool:
    return fields.get(key, default).lower() in ("true", "1", "yes")


def _data_place(fields: Mapping[str, str], offset: int, path: Path, needed: int) -> tuple[Path, int]:
    """The file and byte where the voxels begin; files elsewhere than beside or below the header are refused."""
    target = fields["elementdatafile"]
    if target.upper() == "LOCAL":
        return path, offset
    if target.upper().startswith("LIST") or "%" in target:
        raise UnsupportedFormatError(f"{path.name} spreads its voxels over several files; join them into one file")
    data = detached_file(path, target)
    header_size = int(_numbers(fields, "headersize", 1, path.name)[0]) if "headersize" in fields else 0
    if header_size == -1:  # the voxels are the last bytes of the file
        header_size = data.stat().st_size - needed
    if header_size < 0:
        raise UnreadableFileError(f"{data.name} is cut short: it holds fewer than {needed:,} bytes; copy or download the file again")
    return data, header_size


def write_metaimage(value: Volume | LabelMap, path: str | Path, overwrite: bool = False) -> Path:
    """Write a compressed .mha, read it back and compare every voxel."""
    path = Path(path)
    array = value.array.astype(np.float32) if value.array.dtype == np.float16 else value.array
    before, after = _header(value.geometry, array.dtype)

    def write(temporary: Path) -> None:
        with temporary.open("xb") as file:
            _write(file, before, after, array)

    def verify(temporary: Path) -> None:
        stored_fields, offset = _read_fields(temporary)
        got, _ = _geometry_of(stored_fields, path.name)
        same = np.array_equal(got.affine, _as_written(value.geometry)) and got.shape == value.geometry.shape
        with open_stream(temporary, "zlib", offset) as stream:
            if not same or _dtype_of(stored_fields, path.name).newbyteorder("=") != array.dtype or differs_from(stream, array):
                raise OutputVerificationError(f"{path}: what was read back is not what was written; check the disk and try again")
            stream.finish()

    return write_verified(path, write, verify, overwrite)


def _write(file: BinaryIO, before: bytes, after: bytes, array: Array) -> None:
    """The size of the compressed voxels stands before them, so it is filled in at the end."""
    file.write(before + b" " * 20 + after)
    write_zlibbed(file, array)
    size = file.tell() - len(before) - 20 - len(after)
    file.seek(len(before))
    file.write(f"{size:<20}".encode("ascii"))


def _header(geometry: Geometry, dtype: np.dtype[Any]) -> tuple[bytes, bytes]:
    matrix, spacing, offset = _parts(geometry)
    lines = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        "CompressedData = True",
        "CompressedDataSize = ",
        f"TransformMatrix = {_joined(matrix.ravel())}",
        f"Offset = {_joined(offset)}",
        "CenterOfRotation = 0 0 0",
        f"ElementSpacing = {_joined(spacing)}",
        f"DimSize = {' '.join(str(n) for n in geometry.shape)}",
        f"ElementType = {_NAMES[dtype.newbyteorder('=')]}",
        "ElementDataFile = LOCAL",
    ]
    before = "\n".join(lines[:6])
    return before.encode("ascii"), ("\n" + "\n".join(lines[6:]) + "\n").encode("ascii")


def _joined(values: Any) -> str:
    return " ".join(repr(float(value)) for value in values)


def _parts(geometry: Geometry) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    matrix = (geometry.direction * _TO_RAS[:, None]).T + 0.0
    return matrix, np.array(geometry.spacing_mm), np.array(geometry.origin_mm) * _TO_RAS + 0.0


def _as_written(geometry: Geometry) -> np.ndarray[Any, Any]:
    """The affine as direction times spacing, which may differ from it in the last bit."""
    matrix, spacing, offset = _parts(geometry)
    affine = np.eye(4)
    affine[:3, :3] = matrix.T * spacing * _TO_RAS[:, None]
    affine[:3, 3] = offset * _TO_RAS
    return affine
