"""Siemens mosaics: all slices of a volume in one picture, placed by a private header (row 26).

The CSA header is written as nibabel's documentation of the format describes it (type 2, "SV10").
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from math import ceil, sqrt
from typing import Any

import numpy as np

from medseg.phantom.faults.fault import DicomFile, FaultyScan, Option, Register
from medseg.phantom.faults.scene import LAB, STEP_MM, Plane, Scene, image, stack
from medseg.phantom.faults.series import MR, MR_OFFSET, as_scan, changed, mr_above, mr_series, uid

REGISTER = Register()
SMALL = LAB.scaled(0.9)
_MOSAIC_TYPE = ["ORIGINAL", "PRIMARY", "M", "ND", "NORM", "MOSAIC"]


def csa_header(tags: Sequence[tuple[str, str, Sequence[str]]]) -> bytes:
    """Return a CSA header of type 2: tags (name, VR, values), each value a text."""
    out = b"SV10\4\3\2\1" + struct.pack("<II", len(tags), 77)
    for name, kind, values in tags:
        count = max(len(values), 6)
        out += struct.pack("<64si4siii", name.encode(), len(values), kind.encode().ljust(4, b"\0"), 0, count, 77)
        for n in range(count):
            data = (values[n].encode() + b"\0") if n < len(values) else b""
            out += struct.pack("<iiii", len(data), len(data), 77, len(data)) + data.ljust(-(-len(data) // 4) * 4, b"\0")
    return out + b"\0" * 4


def mosaic(name: str, planes: Sequence[Plane], scene: Scene = LAB, time: int = 1) -> DicomFile:
    """Return one mosaic of planes in the order of its tiles, with Siemens' private headers."""
    side = ceil(sqrt(len(planes)))
    rows, columns = planes[0].size
    picture = np.zeros((side * rows, side * columns), np.uint16)
    for k, plane in enumerate(planes):
        top, left = (k // side) * rows, (k % side) * columns
        picture[top : top + rows, left : left + columns] = MR.store(image(plane, scene, k) + MR_OFFSET)
    (file,) = mr_series(name, planes[:1])
    first, second = planes[0], planes[1]
    normal = np.subtract(second.position, first.position) / STEP_MM
    # Siemens places the picture so that its middle is where the middle of the first slice is
    right, down = np.asarray(first.row) * first.spacing_mm[1], np.asarray(first.column) * first.spacing_mm[0]
    corner = np.asarray(first.position) - right * columns * (side - 1) / 2 - down * rows * (side - 1) / 2
    csa = csa_header(
        [
            ("NumberOfImagesInMosaic", "US", [str(len(planes))]),
            ("SliceNormalVector", "FD", [f"{value:.8f}" for value in normal]),
            ("ImageNumber", "IS", [str(time)]),
            ("PhaseEncodingDirectionPositive", "IS", ["1"]),
            ("SliceThickness", "DS", [f"{STEP_MM:.8f}"]),
            ("ImageOrientationPatient", "DS", [f"{value:.8f}" for value in first.orientation]),
        ]
    )
    series_csa = csa_header([("MrPhoenixProtocol", "UN", [_protocol(planes)]), ("UsedPatientWeight", "IS", ["70"])])
    private: dict[str, Any] = {
        "0019,0010 LO": "SIEMENS MR HEADER",
        "0019,100A US": len(planes),
        "0029,0010 LO": "SIEMENS CSA HEADER",
        "0029,1008 CS": "IMAGE NUM 4",
        "0029,1010 OB": csa,
        "0029,1018 CS": "MR",
        "0029,1020 OB": series_csa,
    }
    header = {
        **file.header,
        **private,
        "Manufacturer": "SIEMENS",
        "ImageType": _MOSAIC_TYPE,
        "ImagePositionPatient": [round(float(value), 6) for value in corner],
        "Rows": side * rows,
        "Columns": side * columns,
        "SOPInstanceUID": uid(name, "mosaic", time),
        "InstanceNumber": time,
        "AcquisitionNumber": time,
        "AcquisitionTime": f"1200{2 * time:02d}",
        "ContentTime": f"1200{2 * time:02d}",
    }
    return replace(file, name=f"IM{time:04d}.dcm", header=header, pixels=picture)


def _protocol(planes: Sequence[Plane]) -> str:
    """Return the part of the protocol that places slices: the middle of each, in LPS mm."""
    lines = ["### ASCCONV BEGIN ###", f"sSliceArray.lSize = {len(planes)}"]
    for k, plane in enumerate(planes):
        half = (plane.size[1] - 1) / 2 * plane.spacing_mm[1], (plane.size[0] - 1) / 2 * plane.spacing_mm[0]
        middle = np.asarray(plane.position) + half[0] * np.asarray(plane.row) + half[1] * np.asarray(plane.column)
        normal = np.cross(plane.row, plane.column)
        for axis, place, way in zip(("dSag", "dCor", "dTra"), middle, normal, strict=True):
            lines += [f"sSliceArray.asSlice[{k}].sPosition.{axis} = {place:.6f}", f"sSliceArray.asSlice[{k}].sNormal.{axis} = {way:.6f}"]
    return "\n".join([*lines, "### ASCCONV END ###", ""])


def _tiles() -> list[Plane]:
    """64 slices that hold the organ and the marker; an 8 by 8 mosaic."""
    return stack()[10:74]


REGISTER.add(
    "mosaic",
    "26",
    "C",
    "All slices of a volume lie in one picture: read as a picture, 64 small organs lie side by side in one slice.",
)(lambda: as_scan([mosaic("mosaic", _tiles())], above=mr_above()))
REGISTER.add(
    "mosaic-head-to-foot",
    "26",
    "C",
    "The tiles run from head to foot, as the private normal says: stacked the usual way, the patient stands on the head.",
)(lambda: as_scan([mosaic("mosaic-head-to-foot", _tiles()[::-1])], above=mr_above()))
REGISTER.add(
    "mosaic-not-full",
    "26",
    "C",
    "60 slices in a picture of 64 tiles: the four empty tiles are no slices.",
)(lambda: as_scan([mosaic("mosaic-not-full", _tiles()[2:62])], above=mr_above()))


def _times(name: str) -> FaultyScan:
    return as_scan([mosaic(name, _tiles()), mosaic(name, _tiles(), SMALL, time=2)], scenes=(LAB, SMALL), above=mr_above())


REGISTER.add(
    "mosaic-two-times",
    "26",
    "C",
    "Two mosaics are two time points at one place: stacked, they are a volume of two pictures.",
    codes=("MIXED_SERIES",),
    error="InconsistentSeriesError",
    may_ask=True,
    options=(Option({"volume_index": 0}, LAB.volume_ml), Option({"volume_index": 1}, SMALL.volume_ml)),
)(lambda: _times("mosaic-two-times"))


@REGISTER.add(
    "mosaic-without-header",
    "26",
    "R",
    "A mosaic whose private header was removed: how many slices it holds and where they lie is not known any more.",
    codes=("MOSAIC",),
    error="UnsupportedFormatError",
)
def _without_header() -> FaultyScan:
    file = mosaic("mosaic-without-header", _tiles())
    private = [key for key in file.header if key[:4] in ("0019", "0029")]
    return as_scan([changed(file, without=private)], above=mr_above())


@REGISTER.add(
    "mosaic-only-in-name",
    "26",
    "C",
    "Plain slices whose ImageType still says MOSAIC, as Siemens XA30 writes: cut into tiles, or refused, they are lost.",
)
def _only_in_name() -> FaultyScan:
    return as_scan(mr_series("mosaic-only-in-name", header={"ImageType": _MOSAIC_TYPE, "Manufacturer": "SIEMENS"}), above=mr_above())
