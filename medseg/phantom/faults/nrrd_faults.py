"""NRRD files made as text and bytes (rows N12 to N15). Source: "Definition of NRRD File Format", teem library."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.phantom.faults.fault import FaultyScan, Option, RawFile, Register
from medseg.phantom.faults.nifti_faults import Matrix, lps_affine, sheared_affine, voxels
from medseg.phantom.faults.scene import LAB
from medseg.phantom.faults.series import as_scan

REGISTER = Register()
_SIZES = "128 128 80"


def directions(affine: Matrix, space: str = "left-posterior-superior") -> dict[str, str]:
    """Return the fields that place an affine, in the axes of a space."""
    signs = np.array([-1.0, -1.0, 1.0] if space == "left-posterior-superior" else [1.0, 1.0, 1.0])
    columns = affine[:3] * signs[:, None]
    vectors = [f"({','.join(f'{value:.12g}' for value in columns[:, axis])})" for axis in range(4)]
    return {"space": space, "space directions": " ".join(vectors[:3]), "space origin": vectors[3]}


def nrrd(name: str, array: npt.NDArray[Any], **fields: str | None) -> FaultyScan:
    """Return a scan of one NRRD file of int16 voxels; a field that is None is left out."""
    given = {"type": "short", "dimension": "3", "sizes": _SIZES, "endian": "little", "encoding": "raw", **_spaced(fields)}
    lines = ["NRRD0004", *(f"{key}: {value}" for key, value in given.items() if value is not None)]
    content = "\n".join(lines).encode() + b"\n\n" + array.astype("<i2").tobytes()
    file = RawFile(f"{name}.nrrd", content)
    return as_scan([file], entry=file.name)


def _spaced(fields: dict[str, str | None]) -> dict[str, str | None]:
    return {key.replace("_", " "): value for key, value in fields.items()}


def _placed(affine: Matrix, space: str = "left-posterior-superior") -> dict[str, str]:
    return {key.replace(" ", "_"): value for key, value in directions(affine, space).items()}


@REGISTER.add(
    "nrrd-no-space",
    "N12",
    "R",
    "The file gives neither directions nor spacings: 1 mm in their place loses 60 %.",
    error="GeometryError",
    options=(Option({"spacing_mm": (1.0, 1.0, 2.5)}, LAB.volume_ml, ("SPACING_GIVEN",)),),
)
def _no_space() -> FaultyScan:
    return nrrd("nrrd-no-space", voxels(lps_affine()))


@REGISTER.add(
    "nrrd-only-spacings",
    "N12",
    "W",
    "The file gives spacings but no directions: volumes are right, but which side is left is everyone's own guess.",
    codes=("ORIENTATION_UNKNOWN",),
)
def _only_spacings() -> FaultyScan:
    scan = nrrd("nrrd-only-spacings", voxels(lps_affine()), spacings="1 1 2.5")
    return as_scan(scan.files, entry=scan.entry, has_place=False)


@REGISTER.add(
    "nrrd-sheared", "N13", "C", "Directions sheared by 20 degrees: the product of the spacings is 6.4 % too large.", codes=("SHEARED_GRID",)
)
def _sheared() -> FaultyScan:
    return nrrd("nrrd-sheared", voxels(sheared_affine()), kinds="domain domain domain", **_placed(sheared_affine()))


def _with_list(name: str, components: int, kind: str) -> FaultyScan:
    affine = lps_affine()
    first, second = voxels(affine), voxels(affine, LAB.scaled(0.9))
    array = first[..., None] if components == 1 else np.stack([first, second], axis=-1)
    placed = _placed(affine)
    placed["space_directions"] = "none " + placed["space_directions"]
    scan = nrrd(name, array, dimension="4", sizes=f"{components} {_SIZES}", kinds=f"{kind} domain domain domain", **placed)
    scenes = (LAB,) if components == 1 else (LAB, LAB.scaled(0.9))
    return as_scan(scan.files, scenes=scenes, entry=scan.entry)


REGISTER.add("nrrd-list-of-one", "N14", "C", "The first axis is a list of one value, not space: taken for space, the grid is nonsense.")(
    lambda: _with_list("nrrd-list-of-one", 1, "list")
)
REGISTER.add(
    "nrrd-list-of-two",
    "N14",
    "C",
    "The first axis is a list of two time points: mixed voxel by voxel, they are one scan of twice the width.",
    error="UnsupportedFormatError",
    may_ask=True,
    options=(Option({"volume_index": 0}, LAB.volume_ml), Option({"volume_index": 1}, LAB.scaled(0.9).volume_ml)),
)(lambda: _with_list("nrrd-list-of-two", 2, "list"))


@REGISTER.add("nrrd-right-anterior", "N15", "C", "Directions in right-anterior-superior axes: read as left-posterior, left becomes right.")
def _right_anterior() -> FaultyScan:
    affine = lps_affine()
    return nrrd("nrrd-right-anterior", voxels(affine), kinds="domain domain domain", **_placed(affine, "right-anterior-superior"))
