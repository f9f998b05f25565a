"""What is unusual about a grid that came without a DICOM audit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry

USUAL_SPACING_MM = (0.01, 50.0)  # scans of people and animals lie inside; other spacings point to a wrong unit


def is_usual_spacing(spacing_mm: npt.ArrayLike) -> bool:
    """Whether every spacing is one that scans have."""
    spacing = np.asarray(spacing_mm)
    return bool(((spacing >= USUAL_SPACING_MM[0]) & (spacing <= USUAL_SPACING_MM[1])).all())


def grid_findings(geometry: Geometry) -> list[Finding]:
    """Say what is unusual about a grid: shear, odd spacing, one slice."""
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
    if not is_usual_spacing(geometry.spacing_mm):
        message = f"a spacing of {spacing} mm is unusual for a scan; check the unit"
        found.append(Finding("UNUSUAL_SPACING", Severity.WARNING, message, {"spacing_mm": spacing}))
    if min(geometry.shape) == 1:
        message = f"the grid {geometry.shape} has a single slice: a volume from it rests on the spacing alone"
        found.append(Finding("SINGLE_SLICE", Severity.WARNING, message))
    return found


def rounded(values: npt.ArrayLike) -> list[float]:
    """Six digits, for messages."""
    return [float(f"{value:.6g}") for value in np.asarray(values)]
