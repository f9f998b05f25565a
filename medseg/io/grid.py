"""What is unusual about a grid that came without a DICOM audit, and the spacing a user gives where a file has none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryError, SingularAffineError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry

Spacing = tuple[float, float, float]

POSSIBLE_SPACING_MM = (0.01, 50.0)  # scans of people and animals lie inside; a wrong unit, a factor of 1000, lies outside
USUAL_SPACING_MM = (0.05, 20.0)
_LONGEST_EXTENT_MM = 2500.0  # a whole body; no lower limit, as crops of small organs are usual
_SAME_SPACING = 1e-3
_LARGEST_NUMBER = 1e9  # in any unit; squares of larger ones leave the range of numbers sooner or later


def within_usual(spacing_mm: npt.ArrayLike, limits: tuple[float, float] = POSSIBLE_SPACING_MM) -> bool:
    """Whether every spacing lies between the limits."""
    spacing = np.asarray(spacing_mm)
    return bool(((spacing >= limits[0]) & (spacing <= limits[1])).all())


def is_usual_spacing(geometry: Geometry) -> bool:
    """Whether the spacing can be that of a scan; along an axis of one voxel anything can."""
    return within_usual([step for step, extent in zip(geometry.spacing_mm, geometry.shape, strict=True) if extent > 1])


def grid_of(shape: tuple[int, int, int], affine: npt.NDArray[np.float64], name: str) -> Geometry:
    """Return the grid that a file describes; SingularAffineError with the file's name where no scan can lie on it."""
    with np.errstate(invalid="ignore"):
        if not (np.abs(affine) <= _LARGEST_NUMBER).all():  # also false for NaN
            raise SingularAffineError(
                f"{name}: its grid holds NaN, infinity or numbers beyond any scan: where its voxels lie is unknown; write it again from "
                "its source"
            )
    try:
        return Geometry(shape, affine)
    except SingularAffineError as err:
        raise SingularAffineError(f"{name}: {err}") from err


def settled(geometry: Geometry, spacing_mm: Spacing | None, name: str) -> tuple[Geometry, list[Finding]]:
    """Return the grid as it will be used: with its own spacing where a scan can have that, else with the user's, centred.

    Raises GeometryError where its spacing is impossible, a unit wrong by a factor of 1000 or so, and none was given.
    """
    if is_usual_spacing(geometry):
        return geometry, spacing_not_used(geometry, spacing_mm)
    if spacing_mm is None:
        raise GeometryError(
            f"{name}: a spacing of {rounded(geometry.spacing_mm)} mm is impossible for a scan, so every volume would be wrong: the unit "
            "in the file is missing or false; correct it, or give the spacing in mm (--spacing I,J,K; spacing_mm in Python)"
        )
    return centred(geometry.shape, geometry.direction, spacing_mm), [spacing_given(spacing_mm)]


def centred(shape: tuple[int, int, int], direction: npt.NDArray[np.float64], spacing_mm: Spacing) -> Geometry:
    """Return the grid of these directions and spacing whose middle is 0, 0, 0."""
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(spacing_mm)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Geometry(shape, affine)


def spacing_given(spacing_mm: Spacing) -> Finding:
    """Record that the user's spacing stands in for one that the file does not have."""
    spacing = [float(step) for step in spacing_mm]
    message = (
        f"the file has no usable spacing; the given {' × '.join(f'{step:g}' for step in spacing)} mm were used: every volume rests on "
        "them, and where the scan lies in the patient is unknown"
    )
    return Finding("SPACING_GIVEN", Severity.WARNING, message, {"spacing_mm": spacing})


def spacing_not_used(geometry: Geometry, spacing_mm: Spacing | None) -> list[Finding]:
    """Record that the user gave another spacing than the sound one of the file, which was kept."""
    if spacing_mm is None or np.allclose(spacing_mm, geometry.spacing_mm, rtol=_SAME_SPACING, atol=0):
        return []
    given, own = [float(step) for step in spacing_mm], rounded(geometry.spacing_mm)
    message = f"the file has a spacing of its own, {own} mm, which was kept; the given {given} mm is for files without one"
    return [Finding("SPACING_NOT_USED", Severity.WARNING, message, {"given_mm": given, "spacing_mm": own})]


def grid_findings(geometry: Geometry) -> list[Finding]:
    """Say what is unusual about a grid: shear, odd spacing, great length, one slice."""
    found = []
    spacing = rounded(geometry.spacing_mm)
    if geometry.is_sheared:
        excess = float(np.prod(geometry.spacing_mm) / geometry.voxel_volume_mm3 - 1)
        message = (
            f"the axes are {geometry.shear_degrees:.2f}° off a right angle (gantry tilt); the volume of a voxel is taken from the "
            f"affine, the product of the spacings would be {100 * excess:.2f} % too large"
        )
        found.append(
            Finding("SHEARED_GRID", Severity.WARNING, message, {"shear_degrees": geometry.shear_degrees, "product_excess": excess})
        )
    if not within_usual(geometry.spacing_mm, USUAL_SPACING_MM):
        message = f"a spacing of {spacing} mm is unusual for a scan; check the unit"
        found.append(Finding("UNUSUAL_SPACING", Severity.WARNING, message, {"spacing_mm": spacing}))
    extent = np.array(geometry.spacing_mm) * geometry.shape
    if extent.max() > _LONGEST_EXTENT_MM:
        message = f"the grid is {rounded(extent)} mm large, more than a patient; check spacing and unit"
        found.append(Finding("UNUSUAL_EXTENT", Severity.WARNING, message, {"extent_mm": rounded(extent)}))
    if min(geometry.shape) == 1:
        message = f"the grid {geometry.shape} has a single slice: a volume from it rests on the spacing alone"
        found.append(Finding("SINGLE_SLICE", Severity.WARNING, message))
    return found


def rounded(values: npt.ArrayLike) -> list[float]:
    """Six digits, for messages."""
    return [float(f"{value:.6g}") for value in np.asarray(values)]
