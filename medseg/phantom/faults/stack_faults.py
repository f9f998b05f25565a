"""Several stacks, copies and strangers in one series (rows 4-7, 11 and 12)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medseg.phantom.faults.fault import Action, DicomFile, Fault, FaultyScan, Option, Register
from medseg.phantom.faults.scene import ABOVE_HU, LAB, Scene, even_offsets, stack
from medseg.phantom.faults.series import as_scan, changed, ct_series, mr_above, mr_series, renamed, uid

REGISTER = Register()
INCONSISTENT = "InconsistentSeriesError"
SMALL = LAB.scaled(0.9)  # the organ at another time or in another breath: 73 % of its volume
_CHOSEN = ("STACK_SELECTED",)


def _both(*stacks: Sequence[DicomFile], slice_by_slice: bool) -> list[DicomFile]:
    """Join stacks under one series: numbered slice by slice, as a scanner that visits each position several times, or in turn."""
    pairs = zip(*stacks, strict=True) if slice_by_slice else stacks
    together = [file for files in pairs for file in files]
    first = together[0].header
    shared = {key: first[key] for key in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    return renamed([changed(file, **shared, InstanceNumber=n) for n, file in enumerate(together, start=1)])


@REGISTER.add(
    "duplicates",
    "4",
    "C",
    "Ten slices are there twice under new UIDs: counted twice, the organ grows by up to 31 %.",
    codes=("DUPLICATE_SLICES",),
)
def _duplicates() -> FaultyScan:
    name = "duplicates"
    files = ct_series(name)
    copies = [changed(files[k], SOPInstanceUID=uid(name, "copy", k), InstanceNumber=100 + k) for k in range(35, 45)]
    return as_scan(renamed([*files, *copies]))


@REGISTER.add(
    "copied-files",
    "5",
    "C",
    "All files are there twice, byte for byte: stacked, the organ doubles or is halved.",
    codes=("DUPLICATE_SLICES",),
)
def _copied_files() -> FaultyScan:
    files = ct_series("copied-files")
    return as_scan([*files, *[replace(file, name=f"copy_of_{file.name}") for file in files]])


@REGISTER.add(
    "uid-repeated-other-pixels",
    "5",
    "R",
    "One UID stands for two different images at one place: which of them belongs to the scan nobody can tell.",
    codes=("REPEATED_UID", "AMBIGUOUS_SERIES"),
    error=INCONSISTENT,
)
def _uid_repeated() -> FaultyScan:
    files = ct_series("uid-repeated-other-pixels")
    other = replace(files[40], pixels=np.asarray(files[40].pixels)[::-1].copy(), name="IM0081.dcm")
    return as_scan([*files, other])


@REGISTER.add(
    "uid-shared-by-neighbours",
    "5",
    "R",
    "Ten slices carry the UID of the slice before: readers that drop repeated UIDs lose them, and 11 % of the organ.",
    codes=("REPEATED_UID",),
    error=INCONSISTENT,
)
def _uid_shared() -> FaultyScan:
    files = ct_series("uid-shared-by-neighbours")
    uids = [file.header["SOPInstanceUID"] for file in files]
    return as_scan([changed(file, SOPInstanceUID=uids[k - 1]) if 30 <= k < 50 and k % 2 else file for k, file in enumerate(files)])


@dataclass(frozen=True)
class _Pair:
    """What the headers of two stacks say, and how the files are made and numbered."""

    one: Mapping[str, Any]
    other: Mapping[str, Any]
    is_mr: bool = False
    slice_by_slice: bool = False


def _phases(name: str, pair: _Pair) -> FaultyScan:
    make = mr_series if pair.is_mr else ct_series
    second = [changed(file, SOPInstanceUID=uid(name, 2, k)) for k, file in enumerate(make(name, scene=SMALL, header=pair.other))]
    files = _both(make(name, header=pair.one), second, slice_by_slice=pair.slice_by_slice)
    return as_scan(files, scenes=(LAB, SMALL), above=mr_above() if pair.is_mr else ABOVE_HU)


def _add(name: str, sentence: str, pair: _Pair, field: str) -> None:
    """A series of two stacks that a header field tells apart; `field` chooses the second by what it says."""
    choices = (("1", LAB), ("2", SMALL), (field, SMALL))
    REGISTER.put(
        Fault(
            name,
            "6",
            Action.CORRECT,
            sentence,
            lambda: _phases(name, pair),
            codes=("MIXED_SERIES",),
            error=INCONSISTENT,
            may_ask=True,
            options=tuple(Option({"select": select}, scene.volume_ml, _CHOSEN) for select, scene in choices),
        )
    )


_add(
    "phases-by-trigger-time",
    "Two cardiac phases share every position, told apart by TriggerTime: mixed, the organ is neither the full nor the empty one.",
    _Pair({"TriggerTime": 0}, {"TriggerTime": 350}, slice_by_slice=True),
    "TriggerTime=350",
)
_add(
    "phases-by-temporal-position",
    "Two time points share every position: mixed, the volume is that of no moment.",
    _Pair(
        {"TemporalPositionIdentifier": 1, "NumberOfTemporalPositions": 2},
        {"TemporalPositionIdentifier": 2, "NumberOfTemporalPositions": 2},
        is_mr=True,
    ),
    "TemporalPositionIdentifier=2",
)
_add(
    "echoes",
    "Two echoes of an MR series share every position: mixed, fat and water take turns from slice to slice.",
    _Pair({"EchoTime": 2.46, "EchoNumbers": 1}, {"EchoTime": 4.92, "EchoNumbers": 2}, is_mr=True, slice_by_slice=True),
    "EchoTime=4.92",
)
_add(
    "b-values",
    "Two diffusion weightings share every position: mixed, bright and dark slices take turns.",
    _Pair({"DiffusionBValue": 0.0}, {"DiffusionBValue": 800.0}, is_mr=True),
    "DiffusionBValue=800",
)
_add(
    "contrast-phases",
    "A native and an arterial scan share every position, told apart by AcquisitionNumber: mixed, the volume is that of neither.",
    _Pair({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}),
    "AcquisitionNumber=2",
)
_add(
    "kernels",
    "A soft and a sharp reconstruction share every position: mixed, slices of two kinds take turns.",
    _Pair({"ConvolutionKernel": "B30f"}, {"ConvolutionKernel": "B70f"}),
    "ConvolutionKernel=B70f",
)


@REGISTER.add(
    "phases-unmarked",
    "6",
    "R",
    "Two different images lie at every position and no header field tells them apart: any choice is a guess.",
    codes=("AMBIGUOUS_SERIES",),
    error=INCONSISTENT,
)
def _unmarked() -> FaultyScan:
    scan = _phases("phases-unmarked", _Pair({}, {}))
    files = [changed(file, without=["InstanceNumber"]) for file in scan.files if isinstance(file, DicomFile)]
    return as_scan(files, scenes=(LAB, SMALL))


def _combs(name: str, header: Mapping[str, Any]) -> list[DicomFile]:
    """Two scans whose slices lie 0.9 mm apart, as two breath-holds do."""
    second: Scene = SMALL
    later = ct_series(name, stack(even_offsets() + 0.9), scene=second, header=header)
    return _both(ct_series(name), [changed(file, SOPInstanceUID=uid(name, 2, k)) for k, file in enumerate(later)], slice_by_slice=False)


REGISTER.put(
    Fault(
        "two-acquisitions",
        "7",
        Action.CORRECT,
        "Two scans in two breaths, one shifted by 0.9 mm, share a series: stacked together the organ loses up to 40 %.",
        lambda: as_scan(_combs("two-acquisitions", {"AcquisitionNumber": 2}), scenes=(LAB, SMALL)),
        codes=("MIXED_SERIES",),
        error=INCONSISTENT,
        may_ask=True,
        options=(Option({"select": "1"}, LAB.volume_ml, _CHOSEN), Option({"select": "2"}, SMALL.volume_ml, _CHOSEN)),
    )
)


@REGISTER.add(
    "two-acquisitions-unmarked",
    "7",
    "R",
    "Two scans, one shifted by 0.9 mm, and no field tells them apart: what looks like uneven slices is two different breaths.",
    codes=("AMBIGUOUS_SERIES", "MIXED_SERIES", "UNEVEN_SPACING"),
    error=INCONSISTENT,
)
def _combs_unmarked() -> FaultyScan:
    files = [changed(file, without=["InstanceNumber"]) for file in _combs("two-acquisitions-unmarked", {})]
    return as_scan(files, scenes=(LAB, SMALL))


def _strangers(name: str, extra: Sequence[DicomFile]) -> FaultyScan:
    files = ct_series(name)
    return as_scan(renamed([*[changed(file, InstanceNumber=200 + n) for n, file in enumerate(extra)], *files]))


@REGISTER.add(
    "localizer", "11", "C", "The scout lies in the series: stacked with the slices, the organ grows by 3 %.", codes=("LOCALIZER",)
)
def _localizer() -> FaultyScan:
    name = "localizer"
    (scout,) = ct_series(name, stack([0], row=(1, 0, 0), column=(0, 0, -1)), header={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]})
    return _strangers(name, [changed(scout, SOPInstanceUID=uid(name, "scout"))])


@REGISTER.add(
    "localizers-unmarked",
    "11",
    "C",
    "Two scouts lie in the series and do not call themselves so: only their direction tells.",
    codes=("LOCALIZER", "SLICES_LEFT_OUT"),
)
def _scouts() -> FaultyScan:
    name = "localizers-unmarked"
    scouts = [
        *ct_series(name, stack([0], row=(1, 0, 0), column=(0, 0, -1))),
        *ct_series(name, stack([0], row=(0, 1, 0), column=(0, 0, -1))),
    ]
    return _strangers(name, [changed(scout, SOPInstanceUID=uid(name, "scout", n)) for n, scout in enumerate(scouts)])


@REGISTER.add(
    "derived-slices",
    "12",
    "C",
    "Thick averages of the scan lie in its series: stacked with the slices, the organ grows by up to 50 %.",
    codes=("DERIVED_SLICES", "SLICES_LEFT_OUT", "MIXED_SERIES"),
    error=INCONSISTENT,
    may_ask=True,
    options=(Option({"select": "largest"}, LAB.volume_ml),),
)
def _derived() -> FaultyScan:
    name = "derived-slices"
    header = {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"], "SliceThickness": 10}
    extra = ct_series(name, stack(np.arange(-35, 40, 10.0) + 1.25), header=header)
    return _strangers(name, [changed(file, SOPInstanceUID=uid(name, "thick", n)) for n, file in enumerate(extra)])


@REGISTER.add(
    "screenshots",
    "12",
    "C",
    "Two screenshots of the workstation lie in the series: they have a place in no stack.",
    codes=("OTHER_OBJECTS", "SLICES_LEFT_OUT", "DERIVED_SLICES"),
)
def _screenshots() -> FaultyScan:
    name = "screenshots"
    header = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7",
        "ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"],
        "ConversionType": "WSD",
        "BurnedInAnnotation": "YES",
    }
    extra = ct_series(name, stack([12.5, 15.0]), header=header)
    return _strangers(name, [changed(file, SOPInstanceUID=uid(name, "screen", n)) for n, file in enumerate(extra)])
