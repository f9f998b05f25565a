"""NIfTI files, header bytes and all, made with struct (rows N1 to N11 and N15). Layout: nifti1.h."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping, Sequence
from math import cos, radians, sin
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.phantom.faults.fault import FaultyScan, Option, RawFile, Register
from medseg.phantom.faults.scene import LAB, SIZE, SLICES, STEP_MM, Plane, Scene, image
from medseg.phantom.faults.series import as_scan

REGISTER = Register()
Matrix = npt.NDArray[np.float64]

# byte offset and struct format of the fields used (348 bytes, little endian)
_FIELDS = {
    "sizeof_hdr": (0, "<i"),
    "dim": (40, "<8h"),
    "datatype": (70, "<h"),
    "bitpix": (72, "<h"),
    "pixdim": (76, "<8f"),
    "vox_offset": (108, "<f"),
    "scl_slope": (112, "<f"),
    "scl_inter": (116, "<f"),
    "xyzt_units": (123, "<B"),
    "qform_code": (252, "<h"),
    "sform_code": (254, "<h"),
    "quatern": (256, "<3f"),
    "qoffset": (268, "<3f"),
    "srow": (280, "<12f"),
    "magic": (344, "<4s"),
}
_TYPES = {"int16": (4, 16), "float32": (16, 32), "uint8": (2, 8), "rgb24": (128, 24)}


def lps_affine(lead: Sequence[float] = (-1.0, -1.0, 1.0)) -> Matrix:
    """Return index to RAS+ mm of the lab scan; `lead` are the signs of the axes (left-posterior-superior by default)."""
    step = np.array([1.0, 1.0, STEP_MM]) * lead
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = -step * (np.array([SIZE, SIZE, SLICES]) - 1) / 2
    return affine


def sheared_affine(degrees: float = 20.0) -> Matrix:
    """Return the affine of a tilted scan: k runs along the table, j is turned away from it."""
    affine = lps_affine()
    affine[:3, 1] = (0.0, -cos(radians(degrees)), sin(radians(degrees)))
    affine[:3, 3] = -affine[:3, :3] @ ((np.array([SIZE, SIZE, SLICES]) - 1) / 2)
    return affine


def voxels(affine: Matrix, scene: Scene = LAB) -> npt.NDArray[np.int16]:
    """Return the lab scan on a grid, (k,j,i) in HU."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    right, down = np.linalg.norm(lps[:3, 0]), np.linalg.norm(lps[:3, 1])
    slices = []
    for k in range(SLICES):
        position = lps[:3, 3] + k * lps[:3, 2]
        plane = Plane(_triple(position), _triple(lps[:3, 0] / right), _triple(lps[:3, 1] / down), (float(down), float(right)))
        slices.append(image(plane, scene, k))
    return np.stack(slices)


def _triple(values: Matrix) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z


def header(affine: Matrix, kind: str = "int16", **fields: Any) -> bytes:
    """Return a sound header with an sform of `affine` (no qform) and the 4 bytes "no extension"; `fields` replace others."""
    code, bits = _TYPES[kind]
    values: dict[str, Any] = {
        "sizeof_hdr": 348,
        "dim": (3, SIZE, SIZE, SLICES, 1, 1, 1, 1),
        "datatype": code,
        "bitpix": bits,
        "pixdim": (1.0, *np.linalg.norm(affine[:3, :3], axis=0), 0.0, 0.0, 0.0, 0.0),
        "vox_offset": 352.0,
        "scl_slope": 1.0,
        "scl_inter": 0.0,
        "xyzt_units": 2,
        "sform_code": 1,
        "srow": tuple(affine[:3].ravel()),
        "magic": b"n+1\0",
        **fields,
    }
    raw = bytearray(348)
    for name, value in values.items():
        offset, form = _FIELDS[name]
        struct.pack_into(form, raw, offset, *(value if isinstance(value, tuple) else (value,)))
    return bytes(raw) + b"\0\0\0\0"


def qform_of_lps(**fields: Any) -> dict[str, Any]:
    """Return the qform fields of `lps_affine`: half a turn about the third axis."""
    offset = tuple(float(value) for value in lps_affine()[:3, 3])
    return {"qform_code": 1, "quatern": (0.0, 0.0, 1.0), "qoffset": offset, **fields}


def _scan(name: str, content: bytes, suffix: str = ".nii", **more: Any) -> FaultyScan:
    return as_scan([RawFile(name + suffix, content)], entry=name + suffix, **more)


def nifti(name: str, affine: Matrix | None = None, stored: npt.NDArray[Any] | None = None, **fields: Any) -> FaultyScan:
    """Return a scan of one NIfTI file of the lab organ."""
    grid = lps_affine() if affine is None else affine
    array = voxels(grid) if stored is None else stored
    return _scan(name, header(grid, array.dtype.name, **fields) + array.astype(array.dtype.newbyteorder("<")).tobytes())


def _add(name: str, row: str, action: str, sentence: str, fields: Mapping[str, Any], **more: Any) -> None:
    REGISTER.add(name, row, action, sentence, **more)(lambda: nifti(name, **fields))


_add(
    "nifti-xforms-mirrored",
    "N1",
    "R",
    "The qform mirrors left and right against the sform: one half of all readers puts the organ on the other side.",
    {"qform_code": 1, "quatern": (1.0, 0.0, 0.0), "qoffset": (-63.5, 63.5, -98.75), "pixdim": (-1.0, 1.0, 1.0, 2.5, 0.0, 0.0, 0.0, 0.0)},
    error="GeometryError",
    options=(Option({"nifti_xform": "sform"}, LAB.volume_ml, ("XFORM_CHOSEN",)),),
)
_add(
    "nifti-xforms-scaled",
    "N1",
    "R",
    "The qform has slices of 2.5 mm, the sform of 4.32 mm: readers of the one and the other differ by 73 %.",
    {
        **qform_of_lps(),
        "srow": (-1.0, 0.0, 0.0, 63.5, 0.0, -1.0, 0.0, 63.5, 0.0, 0.0, 4.32, -170.64),
    },
    error="GeometryError",
    options=(Option({"nifti_xform": "qform"}, LAB.volume_ml, ("XFORM_CHOSEN",)),),
)


@REGISTER.add(
    "nifti-no-xform",
    "N2",
    "W",
    "Both codes are 0: volumes are right, but which side is left is everyone's own guess.",
    codes=("ORIENTATION_UNKNOWN",),
)
def _no_xform() -> FaultyScan:
    array = voxels(lps_affine())
    content = header(lps_affine(), sform_code=0) + array.astype("<i2").tobytes()
    return _scan("nifti-no-xform", content, has_place=False)


REGISTER.add(
    "nifti-sheared",
    "N3",
    "W",
    "The affine is sheared by 20 degrees, as converters write tilted scans: the product of the spacings is 6.4 % too large.",
    codes=("SHEARED_GRID",),
)(lambda: nifti("nifti-sheared", sheared_affine()))


def _scaled(factor: float) -> Matrix:
    affine = lps_affine()
    affine[:3] *= factor
    return affine


def _in_unit(name: str, factor: float, code: int) -> FaultyScan:
    grid = _scaled(factor)
    content = header(grid, xyzt_units=code) + voxels(lps_affine()).astype("<i2").tobytes()
    return _scan(name, content)


def _add_unit(name: str, factor: float, code: int, action: str, sentence: str, **more: Any) -> None:
    REGISTER.add(name, "N4", action, sentence, **more)(lambda: _in_unit(name, factor, code))


_add_unit(
    "nifti-metres",
    1e-3,
    1,
    "C",
    "Lengths in metres, as the header says: read as mm, the organ is a billion times too small.",
    codes=("UNIT_CONVERTED",),
)
_add_unit(
    "nifti-micrometres",
    1e3,
    3,
    "C",
    "Lengths in micrometres, as the header says: read as mm, the organ is a billion times too large.",
    codes=("UNIT_CONVERTED",),
)
_add_unit("nifti-unit-unknown", 1.0, 0, "C", "The header names no unit: mm are meant, as everywhere.")
_add_unit(
    "nifti-metres-wrong",
    1.0,
    1,
    "R",
    "The header says metres, the numbers are mm: no voxel is a metre wide, so one of the two is wrong.",
    error="GeometryError",
)
_add_unit(
    "nifti-metres-untold",
    1e-3,
    2,
    "R",
    "The numbers are metres, the header says mm: an organ of half a cubic millimetre.",
    error="GeometryError",
)

_SCALE = ("SCALE_IGNORED",)
_NO_SCALE = "it means no scaling; readers that use the intercept alone, or multiply by it, move or lose every intensity."
_add("nifti-slope-zero", "N5", "W", f"Slope 0 with intercept 250: {_NO_SCALE}", {"scl_slope": 0.0, "scl_inter": 250.0}, codes=_SCALE)
_add("nifti-slope-infinite", "N5", "W", f"An infinite slope: {_NO_SCALE}", {"scl_slope": float("inf")}, codes=_SCALE)
_add(
    "nifti-slope-nan",
    "N5",
    "W",
    f"A slope that is no number, with intercept 250: {_NO_SCALE}",
    {"scl_slope": float("nan"), "scl_inter": 250.0},
    codes=_SCALE,
)


@REGISTER.add(
    "nifti-scaled",
    "N5",
    "C",
    "Stored numbers with slope 0.5 and intercept -600: read as they are, the whole body lies above the threshold.",
)
def _scaled_values() -> FaultyScan:
    stored = (voxels(lps_affine()).astype(np.int16) + 600) * 2
    return nifti("nifti-scaled", stored=stored.astype(np.int16), scl_slope=0.5, scl_inter=-600.0)


_SFORM = (Option({"nifti_xform": "sform"}, LAB.volume_ml, ("XFORM_CHOSEN",)),)
for _name, _value, _what in (("zero", 0.0, "0"), ("nan", float("nan"), "no number")):
    _add(
        f"nifti-pixdim-{_name}",
        "N6",
        "R",
        f"The slice distance in pixdim is {_what}: readers put 1 mm in its place and lose 60 %.",
        {"pixdim": (1.0, 1.0, 1.0, _value, 0.0, 0.0, 0.0, 0.0), **qform_of_lps()},
        error="SingularAffineError",
        options=_SFORM,
    )
_add(
    "nifti-pixdim-negative",
    "N6",
    "W",
    "The slice distance in pixdim is negative: its sign means nothing, and a reader that uses it mirrors the scan.",
    {"pixdim": (1.0, 1.0, 1.0, -2.5, 0.0, 0.0, 0.0, 0.0), **qform_of_lps()},
    codes=("NEGATIVE_SPACING",),
)
_add(
    "nifti-4d-of-one",
    "N7",
    "C",
    "Four dimensions, the last of length 1: one volume all the same.",
    {"dim": (4, SIZE, SIZE, SLICES, 1, 1, 1, 1)},
)


@REGISTER.add(
    "nifti-4d",
    "N7",
    "C",
    "Two time points in one file: which one is meant has to be said.",
    error="SeveralVolumesError",
    may_ask=True,
    options=(Option({"volume_index": 0}, LAB.volume_ml), Option({"volume_index": 1}, LAB.scaled(0.9).volume_ml)),
)
def _four_dimensions() -> FaultyScan:
    grid, small = lps_affine(), LAB.scaled(0.9)
    both = voxels(grid).astype("<i2").tobytes() + voxels(grid, small).astype("<i2").tobytes()
    content = header(grid, dim=(4, SIZE, SIZE, SLICES, 2, 1, 1, 1)) + both
    return _scan("nifti-4d", content, scenes=(LAB, small))


def _with_nan(name: str, share: float) -> FaultyScan:
    array = voxels(lps_affine()).astype(np.float32)
    organ = np.flatnonzero(array.ravel() > 50)
    chosen = np.random.default_rng(4).choice(organ, int(len(organ) * share), replace=False)
    array.ravel()[chosen[::2]] = np.nan
    array.ravel()[chosen[1::2]] = np.inf
    return nifti(name, stored=array)


REGISTER.add(
    "nifti-few-nan",
    "N8",
    "W",
    "Some voxels hold no number: means over them are no numbers either, and networks spread them over everything.",
    codes=("NON_FINITE_VOXELS",),
)(lambda: _with_nan("nifti-few-nan", 0.002))
REGISTER.add(
    "nifti-many-nan",
    "N8",
    "R",
    "A third of the organ holds no numbers: what is left is no volume of anything.",
    error="InputError",
)(lambda: _with_nan("nifti-many-nan", 0.33))


@REGISTER.add(
    "nifti-rgb-header",
    "N9",
    "R",
    "The header says colours of 24 bits, the data are 16-bit numbers: read as colours they are noise.",
    error="UnsupportedFormatError",
)
def _rgb() -> FaultyScan:
    content = header(lps_affine(), "rgb24") + voxels(lps_affine()).astype("<i2").tobytes()
    return _scan("nifti-rgb-header", content)


def _whole() -> bytes:
    return header(lps_affine(), **qform_of_lps()) + voxels(lps_affine()).astype("<i2").tobytes()


def _add_damage(name: str, suffix: str, sentence: str, damage: Any) -> None:
    REGISTER.add(name, "N10", "R", sentence, error="UnreadableFileError")(lambda: _scan(name, damage(_whole()), suffix))


def _flipped(content: bytes) -> bytes:
    packed = bytearray(gzip.compress(content, 1, mtime=0))
    packed[len(packed) * 57 // 130] ^= 1  # inside the organ: what is copied from there later is wrong, too
    return bytes(packed)


def _bad_sum(content: bytes) -> bytes:
    packed = bytearray(gzip.compress(content, 1, mtime=0))
    packed[-8] ^= 0xFF  # CRC-32, then the length
    return bytes(packed)


_add_damage(
    "nifti-cut-short",
    ".nii",
    "Half of the voxels are missing: filled with background, half of the organ is gone.",
    lambda c: c[: len(c) // 2],
)
_add_damage(
    "nifti-gz-cut-short",
    ".nii.gz",
    "Half of the compressed file is missing: filled with background, half of the organ is gone.",
    lambda content: (packed := gzip.compress(content, 1, mtime=0))[: len(packed) // 2],
)
_add_damage(
    "nifti-gz-bit-flipped",
    ".nii.gz",
    "One bit of the compressed file is wrong: everything behind it may be, and only the checksum tells.",
    _flipped,
)
_add_damage(
    "nifti-gz-wrong-checksum", ".nii.gz", "The checksum at the end does not fit: readers that stop before it see nothing.", _bad_sum
)
REGISTER.add("nifti-gz-named-nii", "N11", "C", "A compressed file without .gz in its name.", codes=("WRONG_SUFFIX",))(
    lambda: _scan("nifti-gz-named-nii", gzip.compress(_whole(), 1, mtime=0))
)
REGISTER.add("nifti-named-gz", "N11", "C", "A file called .nii.gz that is not compressed.", codes=("WRONG_SUFFIX",))(
    lambda: _scan("nifti-named-gz", _whole(), ".nii.gz")
)
REGISTER.add(
    "nifti-radiological", "N15", "C", "Stored from right to left, radiological order: the picture looks mirrored, the patient is not."
)(lambda: nifti("nifti-radiological", lps_affine((-1.0, 1.0, 1.0))))
REGISTER.add(
    "nifti-neurological", "N15", "C", "Stored from left to right, neurological order: the picture looks mirrored, the patient is not."
)(lambda: nifti("nifti-neurological", lps_affine((1.0, 1.0, 1.0))))
