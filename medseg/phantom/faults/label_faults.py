"""Label maps that lose labels or lie on another grid (rows L1 and L2)."""

from __future__ import annotations

import numpy as np

from medseg.phantom.faults.fault import FaultyScan, Kind, RawFile, Register
from medseg.phantom.faults.nifti_faults import header, lps_affine, qform_of_lps, voxels
from medseg.phantom.faults.scene import ABOVE_HU
from medseg.phantom.faults.series import as_scan

REGISTER = Register()
ORGAN_NUMBER = 2


@REGISTER.add(
    "labels-as-floats",
    "L1",
    "C",
    "Labels are stored as 1.9999999 instead of 2: cut off instead of rounded, the organ gets another organ's number.",
    kind=Kind.LABELS,
)
def _floats() -> FaultyScan:
    organ = voxels(lps_affine()) > ABOVE_HU
    stored = np.where(organ, np.float32(1.9999999), np.float32(0))
    content = header(lps_affine(), "float32") + stored.astype("<f4").tobytes()
    return as_scan([RawFile("labels.nii", content)], entry="labels.nii", above=ORGAN_NUMBER - 0.5, has_place=False)


@REGISTER.add(
    "labels-are-probabilities",
    "L1",
    "R",
    "A map of probabilities given as labels: cut off, only what is certain beyond all doubt remains.",
    kind=Kind.LABELS,
    error="SegmentError",
)
def _probabilities() -> FaultyScan:
    stored = np.where(voxels(lps_affine()) > ABOVE_HU, 0.93, 0.04).astype("<f4")
    content = header(lps_affine(), "float32") + stored.tobytes()
    return as_scan([RawFile("labels.nii", content)], entry="labels.nii", above=0.5, has_place=False)


@REGISTER.add(
    "labels-on-another-grid",
    "L2",
    "R",
    "The labels have the scan's extents, but lie 1 mm higher: laid over it as they are, they are another place's.",
    kind=Kind.PAIR,
    error="GeometryMismatchError",
)
def _another_grid() -> FaultyScan:
    affine = lps_affine()
    scan = header(affine, **qform_of_lps()) + voxels(affine).astype("<i2").tobytes()
    moved = affine.copy()
    moved[2, 3] += 1.0
    labels = (voxels(moved) > ABOVE_HU).astype(np.uint8) * ORGAN_NUMBER
    files = [RawFile("scan.nii", scan), RawFile("labels.nii", header(moved, "uint8") + labels.tobytes())]
    return as_scan(files, entry="labels.nii", scan_entry="scan.nii", above=ORGAN_NUMBER - 0.5, has_place=False)
