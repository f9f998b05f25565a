"""Where slices lie along the stack: tilt, missing slices, uneven distances, and tags that say otherwise (rows 1-3, 8-10)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import cos, radians

import numpy as np

from medseg.phantom.faults.fault import Action, Fault, FaultyScan, Option, Register
from medseg.phantom.faults.scene import ABOVE_HU, LAB, STEP_MM, even_offsets, image, rotated, stack
from medseg.phantom.faults.series import SIGNED_HU, Storage, as_scan, ct_series

REGISTER = Register()
INCONSISTENT = "InconsistentSeriesError"
_HOLES = (24, 33, 41, 47, 54)  # away from the tips of the organ, where its sections change fastest


def _tilted(name: str, degrees: float, storage: Storage) -> FaultyScan:
    """Slices turned about the patient's left-right axis, the table moving along the body."""
    turn = rotated("x", degrees)
    planes = stack(row=turn[:, 0], column=turn[:, 1], along=(0, 0, 1))
    return as_scan(ct_series(name, planes, storage=storage, header={"GantryDetectorTilt": degrees}))


def _add_tilt(degrees: float, name: str, sentence: str, storage: Storage) -> None:
    REGISTER.put(Fault(name, "1", Action.CORRECT, sentence, lambda: _tilted(name, degrees, storage), codes=("GANTRY_TILT",)))


for _degrees in (5, 10, 20, 30, -20):
    _add_tilt(
        _degrees,
        f"gantry-tilt-{_degrees}".replace("--", "-minus-"),
        f"A gantry tilt of {_degrees} degrees: taking the table step for the distance of the slices makes every volume "
        f"{100 / cos(radians(_degrees)) - 100:.1f} % too large.",
        SIGNED_HU,
    )
_add_tilt(
    20,
    "gantry-tilt-unsigned",
    "A gantry tilt of 20 degrees in unsigned pixels, which some converters correct only for signed ones: volumes 6.4 % too large.",
    Storage(),
)


def _missing(name: str, holes: Sequence[int]) -> FaultyScan:
    files = ct_series(name)
    return as_scan([file for k, file in enumerate(files) if k not in holes])


def _add_missing(name: str, holes: Sequence[int], sentence: str) -> None:
    REGISTER.put(
        Fault(
            name,
            "2",
            Action.REFUSE,
            sentence,
            lambda: _missing(name, holes),
            codes=("MISSING_SLICES",),
            error=INCONSISTENT,
            options=(Option({"allow_gaps": True}, LAB.volume_ml, ("GAPS_INTERPOLATED",)),),
        )
    )


_add_missing("slice-missing", (44,), "One slice is missing inside the organ: stacked without a look at positions, 2 to 3 % are lost.")
_add_missing(
    "slices-missing", _HOLES, "Five single slices are missing: stacked as if nothing were missing, up to 16 % of the organ are lost."
)
_add_missing(
    "block-missing", (39, 40, 41), "Three slices in a row are missing in the middle: the organ is stacked together around the hole."
)


def _end_missing(name: str, announced: bool) -> FaultyScan:
    """The top of the organ is not there; what remains is a lower bound."""
    last = 58
    planes = stack()[:last]
    files = ct_series(name, planes, header={"ImagesInAcquisition": 80} if announced else {})
    top = planes[-1].position[2] + STEP_MM / 2
    return as_scan(files, volumes_ml=[_below_ml(top)], is_cut=True)


def _below_ml(height_mm: float) -> float:
    """Volume of the organ below a height, by the integral of its sections."""
    a, b, c = LAB.semi_axes_mm
    t = (height_mm - LAB.organ_mm[2]) / c
    return np.pi * a * b * c * (t - t**3 / 3 + 2 / 3) / 1000


REGISTER.put(
    Fault(
        "ends-missing",
        "3",
        Action.WARN,
        "The upper slices, and the top of the organ with them, are missing; only the announced number of images tells. "
        "The volume of what is there is a lower bound.",
        lambda: _end_missing("ends-missing", True),
        codes=("ENDS_MAY_BE_MISSING",),
    )
)
REGISTER.put(
    Fault(
        "ends-missing-unannounced",
        "3",
        Action.CORRECT,
        "The upper slices are missing and no header field tells: the organ touches the last slice, so that a measurement must be "
        "called a lower bound.",
        lambda: _end_missing("ends-missing-unannounced", False),
    )
)


def _uneven(name: str, offsets: Sequence[float]) -> FaultyScan:
    return as_scan(ct_series(name, stack(offsets)))


def _growing() -> list[float]:
    steps = np.linspace(1.3, 4.2, 72)
    places = np.concatenate([[0], np.cumsum(steps)])
    return list(np.round(places - places[-1] / 2, 3))


def _sparse_half() -> list[float]:
    """Fine slices below the organ, coarse ones through it: two protocols in one series."""
    return [*np.arange(-95, -60, 1.25), *np.arange(-60, 100, 4.0)]


def _two_spacings() -> list[float]:
    return [*np.arange(-95, -15, 1.5), *np.arange(-15, 100, 4.0)]


def _add_uneven(name: str, offsets: Callable[[], list[float]], sentence: str) -> None:
    REGISTER.put(Fault(name, "8", Action.WARN, sentence, lambda: _uneven(name, offsets()), codes=("UNEVEN_SPACING",)))


_add_uneven("uneven-growing", _growing, "The distance of the slices grows from 1.3 to 4.2 mm: any single spacing is wrong somewhere.")
_add_uneven(
    "uneven-sparse-organ",
    _sparse_half,
    "Slices every 1.25 mm below the organ and every 4 mm in it: the first or the mean distance makes the organ far too small.",
)
_add_uneven(
    "uneven-two-spacings", _two_spacings, "The distance changes from 1.5 to 4 mm within the organ: a part of it gets the wrong one."
)


def _thick(name: str, thickness: float) -> FaultyScan:
    return as_scan(ct_series(name, header={"SliceThickness": thickness}))


def _add_thickness(name: str, thickness: float, sentence: str) -> None:
    REGISTER.put(Fault(name, "9", Action.WARN, sentence, lambda: _thick(name, thickness), codes=("SLICE_THICKNESS_DIFFERS",)))


_add_thickness("thickness-overlaps", 5.0, "Slices 5 mm thick every 2.5 mm: with the thickness as distance every volume doubles.")
_add_thickness("thickness-gaps", 1.25, "Slices 1.25 mm thick every 2.5 mm: with the thickness as distance every volume is halved.")


def _between(name: str, value: float) -> FaultyScan:
    return as_scan(ct_series(name, header={"SpacingBetweenSlices": value}))


def _add_between(name: str, value: float, sentence: str) -> None:
    REGISTER.put(Fault(name, "10", Action.WARN, sentence, lambda: _between(name, value), codes=("SPACING_BETWEEN_SLICES_WRONG",)))


_add_between("spacing-tag-wrong", 5.0, "SpacingBetweenSlices says 5 mm, the positions 2.5 mm: trusting the tag doubles every volume.")
_add_between("spacing-tag-negative", -2.5, "SpacingBetweenSlices is negative: trusting it turns the patient upside down.")
_add_between("spacing-tag-zero", 0.0, "SpacingBetweenSlices is 0: trusting it makes voxels without volume.")


@REGISTER.add("jitter", "U", "C", "Positions are rounded to 0.02 mm, as scanners write them: no reason to refuse or to resample.", codes=())
def _jitter() -> FaultyScan:
    shake = np.random.default_rng(3).uniform(-0.02, 0.02, 80)
    return as_scan(ct_series("jitter", stack(np.round(even_offsets() + shake, 3))))


@REGISTER.add(
    "reversed", "U", "C", "Slices are numbered from head to foot: stacked by number, the volume is left-handed and may be mirrored."
)
def _reversed() -> FaultyScan:
    return as_scan(ct_series("reversed", stack()[::-1]))


@REGISTER.add(
    "single-slice",
    "U",
    "R",
    "A single image: with its thickness as depth it gives a volume that nobody measured.",
    codes=("TOO_FEW_SLICES",),
    error=INCONSISTENT,
)
def _single() -> FaultyScan:
    return as_scan(ct_series("single-slice", stack()[40:41]), has_place=False)


def _few(name: str, count: int) -> FaultyScan:
    planes = stack()[40 : 40 + count]
    sections = [float((image(plane, LAB, k) > ABOVE_HU).sum()) for k, plane in enumerate(planes)]
    return as_scan(ct_series(name, planes), volumes_ml=[sum(sections) * STEP_MM / 1000], is_cut=True, has_place=False)


for _count in (2, 3):
    REGISTER.put(
        Fault(
            f"only-{_count}-slices",
            "U",
            Action.WARN,
            f"Only {_count} slices: the two outer ones make up most of the volume, which is rough at best.",
            partial(_few, f"only-{_count}-slices", _count),
            codes=("TOO_FEW_SLICES",),
        )
    )
