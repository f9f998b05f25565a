"""NIfTI files packed field by field with struct, so that no library decides what a faulty header looks like."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (6, 5, 4)
SPACING = (0.8, 1.1, 2.5)
AFFINE = np.array([[-0.8, 0, 0, 10], [0, 1.1, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1]])
VOXELS = np.arange(120, dtype=np.int16).reshape(SHAPE, order="F")

# field: place and type, NIfTI-1 and NIfTI-2
_PLACES = {
    "dim": ((40, "8h"), (16, "8q")),
    "datatype": ((70, "h"), (12, "h")),
    "bitpix": ((72, "h"), (14, "h")),
    "pixdim": ((76, "8f"), (104, "8d")),
    "vox_offset": ((108, "f"), (168, "q")),
    "scl_slope": ((112, "f"), (176, "d")),
    "scl_inter": ((116, "f"), (184, "d")),
    "xyzt_units": ((123, "B"), (500, "i")),
    "qform_code": ((252, "h"), (344, "i")),
    "sform_code": ((254, "h"), (348, "i")),
    "quatern": ((256, "3f"), (352, "3d")),
    "qoffset": ((268, "3f"), (376, "3d")),
    "srow": ((280, "12f"), (400, "12d")),
}
_DATATYPES = {"uint8": 2, "int16": 4, "int32": 8, "float32": 16, "float64": 64}


def header(version: int = 1, order: str = "<", pair: bool = False, **changes: Any) -> bytes:
    """A sound header of an int16 scan of SHAPE with equal sform and qform, and whatever fields are changed."""
    size = 348 if version == 1 else 540
    data = bytearray(size)
    struct.pack_into(order + "i", data, 0, size)
    magic = (b"ni" if pair else b"n+") + str(version).encode() + b"\0"
    struct.pack_into("4s" if version == 1 else "8s", data, 344 if version == 1 else 4, magic + (b"\r\n\x1a\n" if version == 2 else b""))
    fields: dict[str, Any] = {
        "dim": (3, *SHAPE, 1, 1, 1, 1),
        "datatype": 4,
        "bitpix": 16,
        "pixdim": (-1, *SPACING, 0, 0, 0, 0),  # the rotation below turns i over by turning j and k and flipping k back
        "vox_offset": 0 if pair else size + 4,
        "scl_slope": 1,
        "scl_inter": 0,
        "xyzt_units": 2,
        "qform_code": 1,
        "sform_code": 1,
        "quatern": (0.0, 1.0, 0.0),
        "qoffset": tuple(AFFINE[:3, 3]),
        "srow": tuple(AFFINE[:3].ravel()),
    }
    fields.update(changes)
    for name, value in fields.items():
        place, code = _PLACES[name][version - 1]
        struct.pack_into(order + code, data, place, *(value if isinstance(value, (tuple, list)) else (value,)))
    return bytes(data)


def saved(path: Path, voxels: np.ndarray[Any, Any] = VOXELS, version: int = 1, order: str = "<", **changes: Any) -> Path:
    """A file: .nii, .nii.gz, or .hdr with its .img beside it."""
    shape = (*voxels.shape, *([1] * (7 - voxels.ndim)))
    kind = {"dim": (voxels.ndim, *shape), "datatype": _DATATYPES[voxels.dtype.name], "bitpix": voxels.dtype.itemsize * 8}
    pair = path.suffix == ".hdr"
    start = header(version, order, pair, **{**kind, **changes})
    data = voxels.astype(voxels.dtype.newbyteorder(order)).tobytes(order="F")  # type: ignore[call-overload]
    if pair:
        path.with_suffix(".img").write_bytes(data)
        path.write_bytes(start)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(start + bytes(4) + data))
    else:
        path.write_bytes(start + bytes(4) + data)
    return path


def nrrd(path: Path, lines: str, data: bytes = VOXELS.tobytes(order="F"), gz: bool = False) -> Path:
    """An attached NRRD of int16 voxels with these further header lines."""
    encoding = "gzip" if gz else "raw"
    start = f"NRRD0005\ntype: short\nendian: little\nencoding: {encoding}\n{lines}\n\n"
    path.write_bytes(start.encode() + (gzip.compress(data) if gz else data))
    return path


def metaimage(path: Path, lines: str, data: bytes = VOXELS.tobytes(order="F")) -> Path:
    """A .mha of int16 voxels with these further header lines."""
    start = f"ObjectType = Image\nBinaryData = True\n{lines}\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    path.write_bytes(start.encode() + data)
    return path
