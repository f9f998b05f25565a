"""Header fields that disagree within a series, are missing, or need care (rows 13-16 and 30-36)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from medseg.phantom.faults.fault import Action, Fault, FaultyScan, Option, Register
from medseg.phantom.faults.scene import LAB, Direction, even_offsets, rotated, stack
from medseg.phantom.faults.series import as_scan, changed, ct_series, renamed, uid

REGISTER = Register()
INCONSISTENT = "InconsistentSeriesError"


@REGISTER.add(
    "pixel-spacing-varies",
    "13",
    "R",
    "The upper half was reconstructed in a smaller field, 0.8 mm pixels instead of 1 mm: one spacing for all is 20 to 30 % off there.",
    codes=("MIXED_PIXEL_SPACING",),
    error=INCONSISTENT,
    options=(Option({"resample_mixed": True}, LAB.volume_ml, ("MIXED_SPACING_RESAMPLED",)),),
)
def _pixel_spacing_varies() -> FaultyScan:
    offsets = even_offsets()
    planes = [*stack(offsets[:40]), *stack(offsets[40:], spacing_mm=(0.85, 0.85))]
    return as_scan(ct_series("pixel-spacing-varies", planes))


@REGISTER.add(
    "orientation-varies",
    "14",
    "R",
    "The upper half is turned by 4 degrees: stacked on one direction the halves do not meet.",
    codes=("MIXED_ORIENTATION", "MIXED_SERIES"),
    error=INCONSISTENT,
)
def _orientation_varies() -> FaultyScan:
    offsets, turn = even_offsets(), rotated("z", 4)
    planes = [*stack(offsets[:40]), *stack(offsets[40:], row=turn[:, 0], column=turn[:, 1])]
    return as_scan(ct_series("orientation-varies", planes))


@REGISTER.add(
    "orientation-fans-out",
    "14",
    "R",
    "Each slice is turned by another 0.3 degrees, as in a fan: no grid holds them, and readers that trust the first one bend the organ.",
    codes=("MIXED_ORIENTATION", "MIXED_SERIES"),
    error=INCONSISTENT,
)
def _orientation_fans_out() -> FaultyScan:
    planes = []
    for k, offset in enumerate(even_offsets()):
        turn = rotated("x", 0.3 * (k - 40))
        planes += stack([offset], row=turn[:, 0], column=turn[:, 1], along=(0, 0, 1))
    return as_scan(ct_series("orientation-fans-out", planes))


@REGISTER.add(
    "size-differs",
    "15",
    "W",
    "Six slices above the organ have another matrix: a reader may stop, or drop the rest.",
    codes=("MIXED_SIZE", "SLICES_LEFT_OUT"),
)
def _size_differs() -> FaultyScan:
    offsets = even_offsets()
    planes = [*stack(offsets[:74]), *stack(offsets[74:], size=(96, 112))]
    return as_scan(ct_series("size-differs", planes))


@REGISTER.add(
    "frames-of-reference-mixed",
    "16",
    "R",
    "The patient was set up anew half-way (another frame of reference): positions of the halves cannot be compared.",
    codes=("MIXED_FRAME_OF_REFERENCE", "MIXED_SERIES"),
    error=INCONSISTENT,
)
def _frames_mixed() -> FaultyScan:
    name = "frames-of-reference-mixed"
    files = ct_series(name)
    return as_scan([changed(f, FrameOfReferenceUID=uid(name, "frame", 2)) if k >= 40 else f for k, f in enumerate(files)])


@REGISTER.add("instance-numbers-shuffled", "30", "C", "InstanceNumber is shuffled: stacked by it, the organ is minced.")
def _numbers_shuffled() -> FaultyScan:
    order = np.random.default_rng(5).permutation(80)
    files = ct_series("instance-numbers-shuffled")
    return as_scan(renamed([changed(files[i], InstanceNumber=n + 1) for n, i in enumerate(order)]))


@REGISTER.add("instance-numbers-equal", "30", "C", "InstanceNumber is 1 in every file: stacked by it, any order may come out.")
def _numbers_equal() -> FaultyScan:
    files = [changed(file, InstanceNumber=1) for file in ct_series("instance-numbers-equal")]
    order = np.random.default_rng(6).permutation(80)
    return as_scan(renamed([files[i] for i in order]))


@REGISTER.add(
    "positions-missing",
    "31",
    "R",
    "No file says where its slice lies: a distance of 1 mm by default loses 60 % of the organ.",
    codes=("MISSING_GEOMETRY",),
    error=INCONSISTENT,
    options=(Option({"spacing_mm": (1.0, 1.0, 2.5)}, LAB.volume_ml, ("SPACING_GIVEN",)),),
)
def _positions_missing() -> FaultyScan:
    files = [changed(file, without=["ImagePositionPatient", "SliceLocation"]) for file in ct_series("positions-missing")]
    return as_scan(files, has_place=False)


@REGISTER.add(
    "position-missing-in-one",
    "32",
    "R",
    "One file does not say where its slice lies: it must not be put somewhere, nor dropped in silence.",
    codes=("MISSING_GEOMETRY",),
    error=INCONSISTENT,
)
def _position_missing() -> FaultyScan:
    files = ct_series("position-missing-in-one")
    files[37] = changed(files[37], without=["ImagePositionPatient"])
    return as_scan(files)


@REGISTER.add("anisotropic-pixels", "33", "C", "Rows lie 0.8 mm apart, columns 1.25 mm: swapped, the organ is stretched and squeezed.")
def _anisotropic() -> FaultyScan:
    return as_scan(ct_series("anisotropic-pixels", stack(spacing_mm=(0.8, 1.25), size=(160, 104))))


def _oriented(name: str, row: Direction, column: Direction, **header: Any) -> FaultyScan:
    without = [key for key, value in header.items() if value is None]
    files = ct_series(name, stack(row=row, column=column), header={key: value for key, value in header.items() if value is not None})
    return as_scan([changed(file, without=without) for file in files])


def _oblique() -> FaultyScan:
    turn = rotated("z", 9) @ rotated("x", 17) @ rotated("y", -12)
    return _oriented("oblique", turn[:, 0], turn[:, 1])


def _add(name: str, row: str, sentence: str, directions: tuple[Direction, Direction], **header: Any) -> None:
    REGISTER.put(Fault(name, row, Action.CORRECT, sentence, lambda: _oriented(name, *directions, **header)))


REGISTER.add("oblique", "34", "C", "Slices turned about all three axes, not tilted: their distance lies along the normal, not along z.")(
    _oblique
)
_add("sagittal", "34", "Sagittal slices: sorted by the third coordinate, they all lie at one place.", ((0, 1, 0), (0, 0, -1)))
_add("coronal", "34", "Coronal slices: sorted by the third coordinate, they all lie at one place.", ((1, 0, 0), (0, 0, -1)))
_add(
    "feet-first-supine",
    "35",
    "Feet first, supine: positions say so already, turning once more mirrors the patient.",
    ((-1, 0, 0), (0, 1, 0)),
    PatientPosition="FFS",
)
_add(
    "head-first-prone",
    "35",
    "Head first, prone: positions say so already, turning once more mirrors the patient.",
    ((-1, 0, 0), (0, -1, 0)),
    PatientPosition="HFP",
)
_add(
    "decubitus-right",
    "35",
    "Head first, on the right side: rows run along the body's front-back axis.",
    ((0, -1, 0), (1, 0, 0)),
    PatientPosition="HFDR",
)
_add(
    "position-tag-contradicts",
    "35",
    "PatientPosition says feet first and prone, positions head first and supine: only positions count.",
    ((1, 0, 0), (0, 1, 0)),
    PatientPosition="FFP",
)
_add(
    "left-right",
    "36",
    "A sound series in DICOM's left-posterior axes: written to a right-anterior format unchanged, left becomes right.",
    ((1, 0, 0), (0, 1, 0)),
)


@REGISTER.add(
    "patient-position-missing",
    "35",
    "W",
    "PatientPosition is missing: volumes are right, positions count, but nothing confirms them.",
    codes=("PATIENT_POSITION_ABSENT",),
)
def _no_patient_position() -> FaultyScan:
    return _oriented("patient-position-missing", (1, 0, 0), (0, 1, 0), PatientPosition=None)


@REGISTER.add(
    "quadruped",
    "35",
    "R",
    "An animal on four legs: its axes are not a patient's, left and right or front and back mean something else.",
    codes=("QUADRUPED",),
    error=INCONSISTENT,
)
def _quadruped() -> FaultyScan:
    return _oriented("quadruped", (1, 0, 0), (0, 1, 0), AnatomicalOrientationType="QUADRUPED")


@REGISTER.add("names-without-order", "U", "C", "File names carry no order and no suffix: a reader that sorts by name minces the organ.")
def _names() -> FaultyScan:
    files = ct_series("names-without-order")
    return as_scan([replace(file, name=uid("file", k)[-12:]) for k, file in enumerate(files)])
