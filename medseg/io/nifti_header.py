"""The headers of NIfTI-1 and NIfTI-2 as they lie in a file, in either byte order.

Sources: nifti1.h (NIfTI-1.1, 2005) and nifti2.h (2011) of the NIfTI data format working group, https://nifti.nimh.nih.gov.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from medseg.core.errors import UnreadableFileError, UnsupportedFormatError
from medseg.core.finding import Finding, Severity
from medseg.io.stream import Stream

_NIFTI1 = np.dtype(
    [
        ("sizeof_hdr", "<i4"),
        ("data_type", "S10"),
        ("db_name", "S18"),
        ("extents", "<i4"),
        ("session_error", "<i2"),
        ("regular", "S1"),
        ("dim_info", "u1"),
        ("dim", "<i2", (8,)),
        ("intent_p", "<f4", (3,)),
        ("intent_code", "<i2"),
        ("datatype", "<i2"),
        ("bitpix", "<i2"),
        ("slice_start", "<i2"),
        ("pixdim", "<f4", (8,)),
        ("vox_offset", "<f4"),
        ("scl_slope", "<f4"),
        ("scl_inter", "<f4"),
        ("slice_end", "<i2"),
        ("slice_code", "u1"),
        ("xyzt_units", "u1"),
        ("cal_max", "<f4"),
        ("cal_min", "<f4"),
        ("slice_duration", "<f4"),
        ("toffset", "<f4"),
        ("glmax", "<i4"),
        ("glmin", "<i4"),
        ("descrip", "S80"),
        ("aux_file", "S24"),
        ("qform_code", "<i2"),
        ("sform_code", "<i2"),
        ("quatern", "<f4", (3,)),
        ("qoffset", "<f4", (3,)),
        ("srow", "<f4", (3, 4)),
        ("intent_name", "S16"),
        ("magic", "S4"),
    ]
)
_NIFTI2 = np.dtype(
    [
        ("sizeof_hdr", "<i4"),
        ("magic", "S8"),
        ("datatype", "<i2"),
        ("bitpix", "<i2"),
        ("dim", "<i8", (8,)),
        ("intent_p", "<f8", (3,)),
        ("pixdim", "<f8", (8,)),
        ("vox_offset", "<i8"),
        ("scl_slope", "<f8"),
        ("scl_inter", "<f8"),
        ("cal_max", "<f8"),
        ("cal_min", "<f8"),
        ("slice_duration", "<f8"),
        ("toffset", "<f8"),
        ("slice_start", "<i8"),
        ("slice_end", "<i8"),
        ("descrip", "S80"),
        ("aux_file", "S24"),
        ("qform_code", "<i4"),
        ("sform_code", "<i4"),
        ("quatern", "<f8", (3,)),
        ("qoffset", "<f8", (3,)),
        ("srow", "<f8", (3, 4)),
        ("slice_code", "<i4"),
        ("xyzt_units", "<i4"),
        ("intent_code", "<i4"),
        ("intent_name", "S16"),
        ("dim_info", "u1"),
        ("unused", "S15"),
    ]
)
_LAYOUTS = {348: _NIFTI1, 540: _NIFTI2}
_MAGIC2 = b"\r\n\x1a\n"  # follows the version in NIfTI-2; ruined by transfers that treat the file as text
_LARGEST_NIFTI1 = 32767
_MOST_EXTENSION_BYTES = 1 << 26

_DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_CODES = {np.dtype(dtype): code for code, dtype in _DTYPES.items()}
_COLOURS = {128: 3, 2304: 4}  # RGB24 and RGBA32: bytes that follow one another in each voxel
_REFUSED = {
    1: "one bit a voxel",
    32: "complex numbers",
    1536: "128-bit numbers",
    1792: "complex numbers",
    2048: "complex numbers",
}


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """The fields that matter for voxels and grid, as Python numbers; `dim` without its count, `dtype` in stored byte order.

    `components` are the numbers of one voxel: 1, or 3 and 4 for colours.
    """

    version: int
    in_one_file: bool
    dim: tuple[int, ...]
    dtype: np.dtype[Any]
    data_offset: int
    slope: float
    intercept: float
    spatial_unit: int
    qform_code: int
    sform_code: int
    pixdim: tuple[float, ...]  # pixdim[0] is the handedness of the qform
    quaternion: tuple[float, float, float]
    offset: tuple[float, float, float]
    srow: np.ndarray[Any, np.dtype[np.float64]]
    findings: tuple[Finding, ...] = ()
    components: int = 1

    @property
    def format(self) -> str:
        """ "NIfTI-1" or "NIfTI-2"."""
        return f"NIfTI-{self.version}"


def looks_like_nifti(start: bytes) -> bool:
    """Whether these first bytes (348 or more where the file has them) begin a NIfTI or ANALYZE header."""
    return len(start) >= 348 and (struct.unpack("<i", start[:4])[0] in _LAYOUTS or struct.unpack(">i", start[:4])[0] in _LAYOUTS)


def read_header(stream: Stream) -> NiftiHeader:
    """Read the header from the beginning of a stream, which then stands behind it (before any extension).

    Raises UnreadableFileError for what is no header, UnsupportedFormatError for ANALYZE and for voxels that are not
    real numbers.
    """
    name = stream.name
    start = stream.read(4)
    orders: tuple[Literal["<", ">"], ...] = ("<", ">")
    for order in orders:
        size = struct.unpack(f"{order}i", start)[0]
        if size in _LAYOUTS:
            raw = np.frombuffer(start + stream.read(size - 4), _LAYOUTS[size].newbyteorder(order))[0]
            with np.errstate(invalid="ignore"):  # NaN of the signalling kind, which no sound file holds
                return _checked_header(raw, 1 if size == 348 else 2, order, name)
    raise UnreadableFileError(f"{name} is not a NIfTI file: its header is damaged; copy or download the file again")


def _checked_header(raw: Any, version: int, order: Literal["<", ">"], name: str) -> NiftiHeader:
    magic = bytes(raw["magic"])
    if magic[:3] not in (b"n+1", b"ni1", b"n+2", b"ni2") or magic[2:3] != str(version).encode():
        if version == 1 and not magic.strip(b"\0"):
            raise UnsupportedFormatError(f"{name} is an ANALYZE 7.5 file, which does not say where left is; convert its source to NIfTI")
        raise UnreadableFileError(f"{name} is not a NIfTI file: its magic bytes are {magic[:4]!r}; copy or download the file again")
    if version == 2 and magic[4:8] != _MAGIC2:
        raise UnreadableFileError(f"{name} was changed by a transfer in text mode; copy it again in binary mode")
    in_one_file = magic[1:2] == b"+"
    dtype, findings = _dtype_of(raw, order, name)
    components = _COLOURS.get(int(raw["datatype"]), 1)
    slope, intercept, scaling = _scaling_of(raw, name) if components == 1 else (1.0, 0.0, [])  # colours are never scaled (nifti1.h)
    return NiftiHeader(
        version=version,
        in_one_file=in_one_file,
        dim=_dim_of(raw, name),
        dtype=dtype,
        data_offset=_data_offset(raw, in_one_file, version, name),
        slope=slope,
        intercept=intercept,
        spatial_unit=int(raw["xyzt_units"]) & 7,
        qform_code=int(raw["qform_code"]),
        sform_code=int(raw["sform_code"]),
        pixdim=tuple(float(value) for value in raw["pixdim"]),
        quaternion=_three(raw["quatern"]),
        offset=_three(raw["qoffset"]),
        srow=np.array(raw["srow"], dtype=np.float64),
        findings=(*findings, *scaling),
        components=components,
    )


def _three(values: Any) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third


def _dim_of(raw: Any, name: str) -> tuple[int, ...]:
    count = int(raw["dim"][0])
    extents = tuple(int(n) for n in raw["dim"][1 : count + 1]) if 1 <= count <= 7 else ()
    if not extents or min(extents) < 1:
        raise UnreadableFileError(f"{name}: its header declares impossible extents {raw['dim'].tolist()}; copy or download the file again")
    return extents


def _dtype_of(raw: Any, order: Literal["<", ">"], name: str) -> tuple[np.dtype[Any], list[Finding]]:
    code = int(raw["datatype"])
    if code in _REFUSED:
        raise UnsupportedFormatError(f"{name} holds {_REFUSED[code]}, not one real number a voxel; convert it first")
    if code not in _DTYPES and code not in _COLOURS:
        raise UnreadableFileError(f"{name}: its header names the unknown voxel type {code}; copy or download the file again")
    dtype = np.dtype(_DTYPES.get(code, "u1")).newbyteorder(order)
    bits, expected = int(raw["bitpix"]), dtype.itemsize * 8 * _COLOURS.get(code, 1)
    if bits == expected:
        return dtype, []
    message = f"the header says {bits} bits a voxel, but its type {dtype.name} has {expected}; the type was used"
    return dtype, [Finding("BITPIX_MISMATCH", Severity.WARNING, message, {"bitpix": bits, "dtype": dtype.name})]


def _scaling_of(raw: Any, name: str) -> tuple[float, float, list[Finding]]:
    """Slope 0 or NaN means "not scaled" (nifti1.h); the intercept then counts for nothing."""
    slope, intercept = float(raw["scl_slope"]), float(raw["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
        if np.isinf(slope) or (np.isfinite(intercept) and intercept != 0):
            message = f"slope {slope:g} with intercept {intercept:g} makes no scale: the stored numbers were used as they are"
            return 1.0, 0.0, [Finding("SCALE_IGNORED", Severity.WARNING, message, {"slope": repr(slope), "intercept": repr(intercept)})]
        return 1.0, 0.0, []
    if not np.isfinite(intercept):
        raise UnreadableFileError(f"{name}: slope {slope:g} comes with intercept {intercept:g}: write the file again")
    return slope, intercept, []


def _data_offset(raw: Any, in_one_file: bool, version: int, name: str) -> int:
    offset = float(raw["vox_offset"])
    least = (352 if version == 1 else 544) if in_one_file else 0
    if offset == 0:
        return least  # what SPM and FSL make of it
    if not np.isfinite(offset) or offset != int(offset) or not least <= offset <= _MOST_EXTENSION_BYTES:
        raise UnreadableFileError(f"{name}: its header puts the voxels at byte {offset:g}; copy or download the file again")
    return int(offset)


def header_bytes(shape: tuple[int, int, int], dtype: np.dtype[Any], fields: dict[str, Any]) -> bytes:
    """Return the header of a single-file NIfTI with its four bytes "no extension": NIfTI-1, or -2 for large extents.

    `fields` adds the grid: pixdim, quatern, qoffset, srow, qform_code, sform_code. Nothing else is filled in, so that
    no free text travels with the file.
    """
    version = 1 if max(shape) <= _LARGEST_NIFTI1 else 2
    layout = _NIFTI1 if version == 1 else _NIFTI2
    header = np.zeros((), layout)
    header["sizeof_hdr"] = layout.itemsize
    header["magic"] = b"n+1\0" if version == 1 else b"n+2\0" + _MAGIC2
    header["dim"] = (3, *shape, 1, 1, 1, 1)
    header["datatype"] = _CODES[dtype.newbyteorder("=")]
    header["bitpix"] = dtype.itemsize * 8
    header["vox_offset"] = layout.itemsize + 4
    header["scl_slope"] = 1
    header["xyzt_units"] = 2
    if version == 1:
        header["regular"] = b"r"
    for key, value in fields.items():
        header[key] = value
    return header.tobytes() + b"\0\0\0\0"


def can_hold(dtype: np.dtype[Any]) -> bool:
    """Whether NIfTI has a voxel type for this dtype."""
    return dtype.newbyteorder("=") in _CODES
