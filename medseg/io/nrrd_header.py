"""The text header of NRRD files: fields, key/value pairs, axes.

Source: "Definition of NRRD File Format", teem library, https://teem.sourceforge.net/nrrd/format.html.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryError, UnreadableFileError, UnsupportedFormatError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.io.grid import Spacing, grid_findings, grid_of, spacing_given
from medseg.io.voxels import detached_file

_MOST_HEADER_BYTES = 1 << 26
_MOST_AXES = 16
_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_DTYPES = {name: dtype for dtype, names in _TYPES.items() for name in names}
TYPE_NAMES = {np.dtype(dtype): max(names[:2], key=len) for dtype, names in _TYPES.items()} | {
    np.dtype("i1"): "signed char",
    np.dtype("i2"): "short",
    np.dtype("u2"): "unsigned short",
    np.dtype("i4"): "int",
    np.dtype("i8"): "long long int",
    np.dtype("u8"): "unsigned long long int",
}
_ENCODINGS = {"raw": "raw", "gz": "gzip", "gzip": "gzip", "bz2": "bzip2", "bzip2": "bzip2"}
_TEXT_ENCODINGS = frozenset({"ascii", "text", "txt", "hex"})
# signs that turn the axes of a space into RAS+
_SPACES = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
}
_LPS = (-1, -1, 1)
_WITH_TIME = {"rast": "ras", "last": "las", "lpst": "lps"}
_SPACE_KINDS = ("domain", "space")
_MAYBE_SPACE = frozenset(("domain", "space", "???", "none", ""))  # an axis of any other kind is not, whatever its direction
_UNITS_MM = {"m": 1000.0, "cm": 10.0, "mm": 1.0, "um": 1e-3, "µm": 1e-3, "micron": 1e-3, "microns": 1e-3}
Step = npt.NDArray[np.float64] | None
_VECTOR = re.compile(r"none|\([^()]*\)", re.IGNORECASE)
_OTHER_NAMES = {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip"}


@dataclass(frozen=True)
class NrrdHeader:
    """Fields (names in lower case) and key/value pairs of a header; voxels of an attached header begin at `data_offset`."""

    name: str
    fields: Mapping[str, str]
    keys: Mapping[str, str]
    data_offset: int

    def need(self, field: str) -> str:
        """Return a field that every file must have."""
        if field not in self.fields:
            raise UnreadableFileError(f"{self.name} is no complete NRRD file: its header has no field '{field}'")
        return self.fields[field]

    def number(self, field: str, default: int) -> int:
        """Return a whole number."""
        try:
            return int(self.fields.get(field, default))
        except ValueError as err:
            raise UnreadableFileError(f"{self.name}: the field '{field}' is not a whole number") from err

    @property
    def sizes(self) -> tuple[int, ...]:
        """Extents of the axes, fastest first."""
        try:
            sizes = tuple(int(part) for part in self.need("sizes").split())
            dimension = int(self.need("dimension"))
        except ValueError as err:
            raise UnreadableFileError(f"{self.name}: its dimension and sizes are not whole numbers") from err
        if len(sizes) != dimension or not 1 <= dimension <= _MOST_AXES or min(sizes) < 1:
            raise UnreadableFileError(f"{self.name}: dimension {dimension} and sizes {sizes} do not fit together")
        return sizes

    @property
    def dtype(self) -> np.dtype[Any]:
        """The voxel type in stored byte order."""
        name = self.need("type").lower()
        if name not in _DTYPES:
            kind = "blocks (type block)" if name == "block" else "voxels of a type that NRRD does not know"
            raise UnsupportedFormatError(f"{self.name} holds {kind}, not real numbers; convert it first")
        dtype = np.dtype(_DTYPES[name])
        if dtype.itemsize == 1:
            return dtype
        endian = self.fields.get("endian", "").lower()
        if endian not in ("little", "big"):
            raise UnreadableFileError(f"{self.name} does not say in which byte order its voxels are (field 'endian'); add it to the header")
        return dtype.newbyteorder("<" if endian == "little" else ">")

    @property
    def encoding(self) -> str:
        """ "raw", "gzip" or "bzip2"."""
        name = self.need("encoding").lower()
        if name not in _ENCODINGS:
            what = f"the encoding {name}" if name in _TEXT_ENCODINGS else "an unknown encoding"
            raise UnsupportedFormatError(f"{self.name} has {what}; medseg reads raw, gzip and bzip2: write it as one of them")
        return _ENCODINGS[name]

    @property
    def kinds(self) -> tuple[str, ...]:
        """What the axes are, in lower case; empty where the file does not say."""
        return tuple(self.fields.get("kinds", "").lower().split())

    @property
    def space(self) -> str:
        """The name of the space in lower case, without its time axis."""
        name = self.fields.get("space", "").lower().removesuffix("-time")
        return _WITH_TIME.get(name, name)

    def directions(self) -> list[Step]:
        """Return the step of each axis in the file's space; None for axes that are not space."""
        parts = _VECTOR.findall(self.fields.get("space directions", ""))
        steps = [None if part.lower() == "none" else _in_space(_vector(part, self.name), self) for part in parts]
        if len(steps) != len(self.sizes):
            raise UnreadableFileError(f"{self.name}: {len(steps)} space directions for {len(self.sizes)} axes")
        return [None if kind not in _MAYBE_SPACE else step for step, kind in zip(steps, self._kind_of_each(), strict=True)]

    def spacings(self) -> list[Step]:
        """Return the step of each axis along an axis of its own, of a file that has spacings without directions.

        The axes of space are those with a spacing and no other kind; more than three are left for the caller to refuse.
        """
        try:
            lengths = [float(part) for part in self.fields["spacings"].split()]
        except ValueError as err:
            raise UnreadableFileError(f"{self.name}: its spacings are not numbers") from err
        if len(lengths) != len(self.sizes):
            raise UnreadableFileError(f"{self.name}: {len(lengths)} spacings for {len(self.sizes)} axes")
        return self.along_axes(
            [np.nan if kind not in _MAYBE_SPACE else step for step, kind in zip(lengths, self._kind_of_each(), strict=True)]
        )

    def along_axes(self, lengths: Sequence[float]) -> list[Step]:
        """Return a step along an axis of its own for every length that is a number."""
        axes = iter(np.eye(max(3, len(lengths))))
        return [None if np.isnan(length) else next(axes)[:3] * length for length in lengths]

    def unnamed_axes(self) -> list[int]:
        """Return the axes that can be space in a file that says nothing about it: by their kinds, else the first three."""
        named = [axis for axis, kind in enumerate(self._kind_of_each()) if kind in _SPACE_KINDS]
        return named if self.kinds else list(range(len(self.sizes)))[:3]

    def _kind_of_each(self) -> tuple[str, ...]:
        return self.kinds if len(self.kinds) == len(self.sizes) else ("",) * len(self.sizes)


def read_header(file: BinaryIO, name: str) -> NrrdHeader:
    """Read the header from the beginning of a file, which then stands behind its empty line."""
    if not file.readline(16).startswith(b"NRRD000"):
        raise UnreadableFileError(f"{name} is not an NRRD file: it does not begin with NRRD000")
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    while True:
        line = file.readline(_MOST_HEADER_BYTES)
        if not line.strip(b"\r\n") or file.tell() > _MOST_HEADER_BYTES:
            break
        _parse_line(line, fields, keys, name)
    return NrrdHeader(name, fields, keys, file.tell())


def _parse_line(line: bytes, fields: dict[str, str], keys: dict[str, str], name: str) -> None:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        text = line.decode("latin-1")
    text = text.rstrip("\r\n")
    if text.startswith("#"):
        return
    field, colon, value = text.partition(":")
    if not colon:
        raise UnreadableFileError(f"{name}: its header has a line without a colon; copy or download the file again")
    if value.startswith("="):
        keys[field] = unescaped(value[1:])
    else:
        field = field.strip().lower()
        fields[_OTHER_NAMES.get(field, field)] = value.strip()


def _vector(text: str, name: str) -> npt.NDArray[np.float64]:
    try:
        return np.array([float(part) for part in text.strip("() \t").split(",")])
    except ValueError as err:
        raise UnreadableFileError(f"{name}: its header has numbers in brackets that are no vector") from err


def geometry_of(header: NrrdHeader, spacing_mm: Spacing | None = None) -> tuple[Geometry, tuple[int, ...], tuple[Finding, ...]]:
    """Return the grid in RAS+ mm, the numbers of the three axes that are space, and what was odd.

    `spacing_mm` stands in where the file has neither directions nor spacings. Raises GeometryError where the file does not
    say how large its voxels are, UnsupportedFormatError for 2D.
    """
    name = header.name
    steps, findings = _steps_of(header, spacing_mm)
    axes = tuple(axis for axis, step in enumerate(steps) if step is not None)
    columns = [step for step in steps if step is not None]
    if len(axes) != 3 or any(step.shape != (3,) for step in columns):
        raise UnsupportedFormatError(f"{name} has {len(axes)} axes in space; give a 3D volume")
    signs, factor, more = _space_of(header)
    findings += more
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack(columns)
    affine[:3, 3] = _origin_of(header, findings)
    with np.errstate(over="ignore", invalid="ignore"):  # what leaves the range of numbers is refused below
        affine[:3] *= (1.0 if _is_given(findings) else factor) * np.array(signs, dtype=float)[:, None]
    sizes = header.sizes
    geometry = grid_of((sizes[axes[0]], sizes[axes[1]], sizes[axes[2]]), affine, name)
    return geometry, axes, (*findings, *grid_findings(geometry))


def _is_given(findings: list[Finding]) -> bool:
    return any(finding.code == "SPACING_GIVEN" for finding in findings)


def _steps_of(header: NrrdHeader, spacing_mm: Spacing | None) -> tuple[list[Step], list[Finding]]:
    """The steps of the axes: from space directions, else from spacings, else along the axes with the user's spacing."""
    if "space directions" in header.fields:
        return header.directions(), []
    message = "the file has no space directions: volumes are right, but left and right, front and back are a guess (LPS, as ITK guesses)"
    unknown = Finding("ORIENTATION_UNKNOWN", Severity.WARNING, message)
    if "spacings" in header.fields:
        return header.spacings(), [unknown]
    if spacing_mm is None:
        raise GeometryError(
            f"{header.name} has no space directions and no spacings: the size of its voxels is unknown, and with it every volume; "
            "write it again with them, or give the spacing in mm (--spacing I,J,K; spacing_mm in Python)"
        )
    lengths = np.full(len(header.sizes), np.nan)
    axes = header.unnamed_axes()
    if len(axes) == 3:
        lengths[axes] = spacing_mm
    return header.along_axes(lengths.tolist()), [spacing_given(spacing_mm), unknown]


def _origin_of(header: NrrdHeader, findings: list[Finding]) -> npt.NDArray[np.float64]:
    """The place of the first voxel in the file's space; a finding where there is none."""
    if "space origin" not in header.fields:
        if not any(finding.code == "ORIENTATION_UNKNOWN" for finding in findings):
            findings.append(Finding("ORIGIN_UNKNOWN", Severity.WARNING, "the file has no space origin; its first voxel was put at 0, 0, 0"))
        return np.zeros(3)
    origin = _vector(header.fields["space origin"], header.name)
    if origin.shape == (4,) and _has_time(header):
        origin = origin[:3]
    if origin.shape != (3,):
        raise UnreadableFileError(f"{header.name}: its space origin has {origin.size} numbers instead of 3")
    return origin


def _has_time(header: NrrdHeader) -> bool:
    name = header.fields.get("space", "").lower()
    return name.endswith("-time") or name in _WITH_TIME


def _in_space(step: npt.NDArray[np.float64], header: NrrdHeader) -> Step:
    """A step without its part in time; None for the axis of time and for steps that are no numbers."""
    if step.shape == (4,) and _has_time(header):
        step = step[:3]
        if not step.any():
            return None
    return step if np.isfinite(step).all() else None


def _space_of(header: NrrdHeader) -> tuple[tuple[int, int, int], float, list[Finding]]:
    """Signs to RAS+, millimetres per unit, findings; a space without a patient counts as LPS, as in ITK and 3D Slicer."""
    space = header.space
    findings = []
    if space not in _SPACES and "space directions" in header.fields:
        said = "the file names a space that is not the patient's" if space else "the file names no space"
        message = f"{said}: volumes are right, but left and right, front and back are a guess (LPS, as 3D Slicer guesses)"
        findings.append(Finding("ORIENTATION_UNKNOWN", Severity.WARNING, message))
    field = "space units" if "space units" in header.fields else "units"
    units = {unit.lower() for unit in re.findall(r'"([^"]*)"', header.fields.get(field, ""))} & set(_UNITS_MM)
    if len(units) > 1:
        raise GeometryError(f"{header.name}: its axes have different units {sorted(units)}; correct the {field} in the file")
    unit = units.pop() if units else "mm"
    if unit != "mm":
        findings.append(Finding("UNIT_CONVERTED", Severity.INFO, f"the file is in {unit}; its grid was converted to mm", {"unit": unit}))
    return _SPACES.get(space, _LPS), _UNITS_MM[unit], findings


def data_path(header: NrrdHeader, path: Path) -> Path:
    """Return the file that holds the voxels: the file itself, or one beside or below a detached header."""
    target = header.fields.get("data file")
    if target is None:
        return path
    if target.split()[:1] == ["LIST"] or re.search(r"%\d*d", target):
        raise UnsupportedFormatError(f"{header.name} spreads its voxels over several files; join them into one NRRD file")
    return detached_file(path, target)


def header_text(geometry: Geometry, dtype: np.dtype[Any], keys: Mapping[str, str]) -> bytes:
    """Return an attached header as 3D Slicer writes it: LPS space, gzip, numbers with all their digits."""
    lps = geometry.affine * np.array([-1.0, -1.0, 1.0, 1.0])[:, None] + 0.0
    vectors = [f"({','.join(repr(float(value)) for value in lps[:3, axis])})" for axis in range(4)]
    lines = [
        "NRRD0004",
        f"type: {TYPE_NAMES[dtype.newbyteorder('=')]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(n) for n in geometry.shape)}",
        f"space directions: {' '.join(vectors[:3])}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {vectors[3]}",
        *(f"{key}:={escaped(value)}" for key, value in keys.items()),
    ]
    return ("\n".join(lines) + "\n\n").encode("utf-8", "replace")


def escaped(value: str) -> str:
    """Return a value on one line (NRRD: backslash n is a line end, two backslashes one)."""
    return value.replace("\\", "\\\\").replace("\r", " ").replace("\n", "\\n")


def unescaped(value: str) -> str:
    """Undo `escaped`."""
    return re.sub(r"\\([\\n])", lambda match: "\n" if match[1] == "n" else "\\", value)
