"""From the two grids of a NIfTI header to one affine, and back.

A header may hold a qform (rotation, spacing, handedness) and an sform (any affine). Readers disagree on which one counts:
nibabel, FSL and MONAI take the sform, ITK and so 3D Slicer mostly the qform. Where both are set and differ, there is no
right answer in the file, so medseg asks instead of choosing.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryError, SingularAffineError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.io.grid import Spacing, centred, grid_findings, grid_of, rounded, spacing_given, within_usual
from medseg.io.nifti_header import NiftiHeader

Xform = Literal["auto", "sform", "qform"]
FloatArray = npt.NDArray[np.float64]

XFORM_TOLERANCE_MM = 0.1  # corners of qform and sform further apart than this contradict each other
XFORM_TOLERANCE_VOLUME = 1e-3  # so do voxel volumes that differ by more than this share
_QFORM_TOLERANCE_MM = 0.01  # a grid whose corners a qform misses by more (shear) is written without one
_SPACING_TOLERANCE = 1e-3
_SMALLEST_DETERMINANT = 1e-6
_HALF_TURN = 1e-7  # a real part whose square is smaller is rounding, as in the reference implementation nifti1_io.c
_UNITS = {1: ("metres", 1000.0), 3: ("micrometres", 0.001)}


def geometry_of(
    header: NiftiHeader, shape: tuple[int, int, int], xform: Xform | None, name: str, spacing_mm: Spacing | None = None
) -> tuple[Geometry, tuple[Finding, ...]]:
    """Return the grid in RAS+ mm and what was odd about it; `spacing_mm` (i,j,k) stands in where the file has none.

    Raises GeometryError where qform and sform contradict each other (`xform` chooses one) or the unit is impossible,
    SingularAffineError where the spacing is zero or not a number.
    """
    xform = xform or "auto"
    try:
        findings = _check_spacing(header, xform, name)
        affine, chosen = _chosen(header, shape, xform, name)
    except SingularAffineError:
        if spacing_mm is None:
            raise
        return _with_spacing(header, shape, spacing_mm)
    if affine is None:
        i, j, k = (abs(step) for step in header.pixdim[1:4])
        affine = centred(shape, np.diag((-1.0, 1.0, 1.0)), (i, j, k)).affine
        findings.append(_unknown_orientation("the file does not say how the patient lies (qform and sform codes are 0)"))
    grid_of(shape, affine, name)
    affine, unit_findings = _in_mm(affine, header.spatial_unit, name)
    geometry = grid_of(shape, affine, name)
    return geometry, (*findings, *chosen, *unit_findings, *_grid_findings(geometry, header))


def _unknown_orientation(why: str) -> Finding:
    message = f"{why}: volumes are right, but left and right, front and back are a guess (first axis to the left, as nibabel guesses)"
    return Finding("ORIENTATION_UNKNOWN", Severity.WARNING, message)


def _with_spacing(header: NiftiHeader, shape: tuple[int, int, int], spacing_mm: Spacing) -> tuple[Geometry, tuple[Finding, ...]]:
    """The grid of a file without spacing: the given one, turned as the file says where it does, centred on the patient's origin."""
    direction = _direction(header)
    findings = [spacing_given(spacing_mm)]
    if direction is None:
        direction = np.diag((-1.0, 1.0, 1.0))
        findings.append(_unknown_orientation("the file says neither its spacing nor how the patient lies"))
    geometry = centred(shape, direction, spacing_mm)
    return geometry, (*findings, *grid_findings(geometry))


def _direction(header: NiftiHeader) -> FloatArray | None:
    """The unit columns of the first form that has sound ones, whatever its spacing."""
    if header.sform_code > 0:
        with np.errstate(all="ignore"):
            length = np.linalg.norm(header.srow[:, :3], axis=0)
            direction = header.srow[:, :3] / length
        if np.isfinite(direction).all() and abs(np.linalg.det(direction)) > _SMALLEST_DETERMINANT:
            return np.asarray(direction)
    if header.qform_code > 0 and _is_quaternion(header):
        return _rotation(header.quaternion) * (1, 1, -1 if header.pixdim[0] < 0 else 1)
    return None


def _chosen(header: NiftiHeader, shape: tuple[int, int, int], xform: Xform, name: str) -> tuple[FloatArray | None, list[Finding]]:
    """The affine of the header in its own unit, or None where it has none, and the choice where there was one to make."""
    has = {"sform": header.sform_code > 0, "qform": header.qform_code > 0}
    if xform != "auto" and not has[xform]:
        raise GeometryError(f"{name} has no {xform}; read it with the other one, or without a choice (xform='auto')")
    if xform == "auto" and all(has.values()):
        difference = _difference(header, shape, name)
        if difference is not None:
            raise GeometryError(
                f"{name}: its sform and qform contradict each other: {difference.words}; find out which one is right and read it with "
                "xform='sform' or xform='qform' (on the command line --nifti-xform)"
            )
    if xform == "qform" or not has["sform"]:
        return (_qform(header, name) if has["qform"] else None), _choice(header, shape, xform, name)
    return _sform(header), _choice(header, shape, xform, name)


def _choice(header: NiftiHeader, shape: tuple[int, int, int], xform: Xform, name: str) -> list[Finding]:
    """Record that `xform` was chosen where that made a difference."""
    if xform == "auto":
        return []
    details: dict[str, Any] = {"xform": xform}
    try:
        _check_spacing(header, "auto", name)
        difference = _difference(header, shape, name) if header.sform_code > 0 and header.qform_code > 0 else None
        if difference is None:
            return []
        details.update(corner_distance_mm=difference.distance_mm, volume_ratio=difference.ratio)
        why = difference.words
    except SingularAffineError:
        why = "the other one is not usable"
    message = f"sform and qform contradict each other; the {xform} was used because it was asked for: {why}"
    return [Finding("XFORM_CHOSEN", Severity.WARNING, message, details)]


def _check_spacing(header: NiftiHeader, xform: Xform, name: str) -> list[Finding]:
    spacing = np.array(header.pixdim[1:4])
    if (not np.isfinite(spacing).all() or (spacing == 0).any()) and xform != "sform":
        advice = "or read it with xform='sform' if you trust its sform" if header.sform_code > 0 else "or give the spacing (spacing_mm)"
        raise SingularAffineError(f"{name}: its header gives the spacing {spacing.tolist()}; correct pixdim in the file, {advice}")
    if (spacing < 0).any():
        message = f"the header gives a negative spacing {spacing.tolist()}; its size was used"
        return [Finding("NEGATIVE_SPACING", Severity.WARNING, message, {"pixdim": spacing.tolist()})]
    return []


def _sform(header: NiftiHeader) -> FloatArray:
    return np.vstack([header.srow, (0, 0, 0, 1)])


def _qform(header: NiftiHeader, name: str, shift: float = 0.0) -> FloatArray:
    """Return the qform; `shift` moves the square of the quaternion's real part, to see what rounding does to it."""
    if not _is_quaternion(header):
        raise SingularAffineError(f"{name}: its qform holds the impossible quaternion {header.quaternion}; read it with xform='sform'")
    spacing = np.abs(header.pixdim[1:4])
    spacing[2] *= -1 if header.pixdim[0] < 0 else 1
    affine = np.eye(4)
    affine[:3, :3] = _rotation(header.quaternion, shift) * spacing
    affine[:3, 3] = header.offset
    return affine


def _is_quaternion(header: NiftiHeader) -> bool:
    square = sum(value * value for value in header.quaternion)
    return bool(square <= 1 + 1e-4)  # false for NaN


def _rotation(quaternion: tuple[float, float, float], shift: float = 0.0) -> FloatArray:
    """nifti1.h, METHOD 2: the rotation of the unit quaternion (a,b,c,d) of which a file holds b, c and d."""
    b, c, d = quaternion
    real_square = 1 - b * b - c * c - d * d + shift
    a = float(np.sqrt(max(real_square, 0.0)))
    if real_square < _HALF_TURN:
        a = 0.0
        b, c, d = np.array(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )


def _qform_uncertainty_mm(header: NiftiHeader, shape: tuple[int, int, int], name: str) -> float:
    """How far rounding to single precision may move corners: near half a turn, small errors of b, c, d are large ones of a."""
    rounding = 2 * sum(abs(value) for value in header.quaternion) * 2.0**-24
    low, high = (grid_of(shape, _qform(header, name, shift), name) for shift in (-rounding, rounding))
    return low.distance_mm(high)


class _Difference(NamedTuple):
    """Largest distance of corners, and the voxel volume of the sform as a multiple of that of the qform."""

    distance_mm: float
    ratio: float
    words: str


def _difference(header: NiftiHeader, shape: tuple[int, int, int], name: str) -> _Difference | None:
    """What sets sform and qform apart; None where they agree."""
    sform, qform = grid_of(shape, _sform(header), name), grid_of(shape, _qform(header, name), name)
    distance = sform.distance_mm(qform)
    ratio = sform.voxel_volume_mm3 / qform.voxel_volume_mm3
    is_near = distance <= XFORM_TOLERANCE_MM or distance <= XFORM_TOLERANCE_MM + _qform_uncertainty_mm(header, shape, name)
    if is_near and abs(ratio - 1) <= XFORM_TOLERANCE_VOLUME:
        return None
    words = (
        f"corners up to {distance:.3g} mm apart, voxels of {sform.voxel_volume_mm3:.6g} mm³ ({sform.orientation}, sform) and "
        f"{qform.voxel_volume_mm3:.6g} mm³ ({qform.orientation}, qform), a ratio of {ratio:.4g}"
    )
    return _Difference(distance, ratio, words)


def _in_mm(affine: FloatArray, unit: int, name: str) -> tuple[FloatArray, list[Finding]]:
    if unit not in _UNITS:
        return affine, []
    unit_name, factor = _UNITS[unit]
    scaled = affine.copy()
    scaled[:3] *= factor
    stored, spacing = (np.linalg.norm(matrix[:3, :3], axis=0) for matrix in (affine, scaled))
    if not within_usual(spacing) and within_usual(stored):
        raise GeometryError(
            f"{name}: its header says {unit_name}, which makes voxels of {spacing.round(6).tolist()} mm, while the numbers read like "
            "millimetres; correct xyzt_units in the file"
        )
    message = f"the file is in {unit_name}; its grid was converted to mm"
    return scaled, [Finding("UNIT_CONVERTED", Severity.INFO, message, {"unit": unit_name})]


def _grid_findings(geometry: Geometry, header: NiftiHeader) -> list[Finding]:
    found = grid_findings(geometry)
    spacing = np.array(geometry.spacing_mm)
    with np.errstate(invalid="ignore", over="ignore"):
        stored = np.abs(header.pixdim[1:4]) * _UNITS.get(header.spatial_unit, ("", 1.0))[1]
        differs = bool((~(np.abs(stored - spacing) <= _SPACING_TOLERANCE * spacing)).any())
    if differs:
        message = f"pixdim gives the spacing {rounded(stored)} mm, the affine {rounded(spacing)} mm; the affine was used"
        details = {"pixdim": rounded(stored), "affine": rounded(spacing)}
        found.append(Finding("SPACING_MISMATCH", Severity.WARNING, message, details))
    return found


def header_fields(geometry: Geometry) -> dict[str, Any]:
    """Return the header fields of a grid: sform always, qform where it can hold the grid (not where it is sheared)."""
    affine = geometry.affine
    quaternion, handedness = _quaternion_of(geometry.direction)
    fields: dict[str, Any] = {
        "pixdim": (handedness, *geometry.spacing_mm, 0, 0, 0, 0),
        "sform_code": 1,
        "srow": affine[:3],
        "qform_code": 1,
        "quatern": quaternion,
        "qoffset": affine[:3, 3],
    }
    if _qform_error_mm(geometry, quaternion, handedness) > _QFORM_TOLERANCE_MM:
        fields.update(qform_code=0, quatern=(0, 0, 0), qoffset=(0, 0, 0))
    return fields


def _quaternion_of(direction: FloatArray) -> tuple[tuple[float, float, float], int]:
    """The nearest rotation as the quaternion's b, c, d, and +1 or -1 where the third axis has to be turned round."""
    left, _, right = np.linalg.svd(direction)
    rotation = left @ right
    handedness = 1 if np.linalg.det(rotation) > 0 else -1
    rotation[:, 2] *= handedness
    r = rotation
    # the eigenvector of the largest eigenvalue of this matrix is the quaternion (Bar-Itzhack 2000, doi:10.2514/2.4654)
    matrix = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], 0, 0, 0],
            [r[1, 0] + r[0, 1], r[1, 1] - r[0, 0] - r[2, 2], 0, 0],
            [r[2, 0] + r[0, 2], r[2, 1] + r[1, 2], r[2, 2] - r[0, 0] - r[1, 1], 0],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], r[0, 0] + r[1, 1] + r[2, 2]],
        ]
    )
    _, vectors = np.linalg.eigh(matrix / 3, UPLO="L")
    b, c, d, _ = vectors[:, -1] if vectors[3, -1] >= 0 else -vectors[:, -1]
    return (float(b), float(c), float(d)), handedness


def _qform_error_mm(geometry: Geometry, quaternion: tuple[float, float, float], handedness: int) -> float:
    """How far the corners move when the grid is stored as a qform in single precision."""
    b, c, d = (float(np.float32(value)) for value in quaternion)
    affine = geometry.affine.copy()
    affine[:3, :3] = _rotation((b, c, d)) * geometry.spacing_mm * (1, 1, handedness)
    return geometry.distance_mm(Geometry(geometry.shape, affine))
