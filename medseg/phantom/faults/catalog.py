"""The rows of the catalogue, and every fault by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from medseg.core.errors import ParameterError
from medseg.phantom.faults import (
    encoding_faults,
    header_faults,
    intensity_faults,
    label_faults,
    mosaic_faults,
    multiframe_faults,
    nifti_faults,
    nrrd_faults,
    spacing_faults,
    stack_faults,
)
from medseg.phantom.faults.fault import Fault, merged

ROWS: Mapping[str, str] = MappingProxyType(
    {
        "1": "gantry tilt",
        "2": "slices missing in the middle",
        "3": "slices missing at the ends",
        "4": "exact duplicates under new UIDs",
        "5": "one UID more than once",
        "6": "several images at one position",
        "7": "two acquisitions, one shifted",
        "8": "uneven slice distances",
        "9": "slice thickness is not the distance",
        "10": "the tag SpacingBetweenSlices is wrong",
        "11": "a localizer in the series",
        "12": "derived or secondary images in the series",
        "13": "pixel spacing varies",
        "14": "orientation varies",
        "15": "rows and columns differ",
        "16": "frames of reference are mixed",
        "17": "rescale per slice",
        "18": "rescale missing in CT",
        "19": "rescale slope 0 or no number",
        "20": "padding",
        "21": "padding wrapped round in unsigned pixels",
        "22": "12-bit signed numbers without their sign",
        "23": "garbage in unused bits",
        "24": "MONOCHROME1",
        "25": "enhanced multi-frame",
        "26": "Siemens mosaic",
        "27": "compressed",
        "28": "byte order and deflated files",
        "29": "no preamble",
        "30": "instance numbers without order",
        "31": "positions missing everywhere",
        "32": "position missing in one file",
        "33": "anisotropic pixels",
        "34": "oblique, sagittal and coronal slices",
        "35": "patient positions",
        "36": "left and right",
        "N1": "sform and qform differ",
        "N2": "neither sform nor qform",
        "N3": "sheared affine",
        "N4": "units of length",
        "N5": "scaling of intensities",
        "N6": "impossible pixdim",
        "N7": "four dimensions",
        "N8": "NaN and infinity",
        "N9": "header of colours on grey data",
        "N10": "cut short or damaged",
        "N11": "wrong file name",
        "N12": "NRRD without directions",
        "N13": "NRRD with sheared directions",
        "N14": "NRRD with axes that are not space",
        "N15": "storage order of left and right",
        "L1": "labels that are not whole numbers",
        "L2": "labels on another grid",
        "U": "further cases",
    }
)

_MODULES = (
    spacing_faults,
    stack_faults,
    header_faults,
    intensity_faults,
    multiframe_faults,
    mosaic_faults,
    encoding_faults,
    nifti_faults,
    nrrd_faults,
    label_faults,
)


def _ordered() -> dict[str, Fault]:
    """Return the faults in the order of the rows."""
    places = list(ROWS)
    found = merged([module.REGISTER for module in _MODULES])
    return dict(sorted(found.items(), key=lambda item: places.index(item[1].row)))


FAULTS: Mapping[str, Fault] = MappingProxyType(_ordered())


def find_faults(wanted: str) -> tuple[Fault, ...]:
    """Return the faults that a text names: "all", a name, or a row such as "25" or "N4"; several with commas.

    Raises ParameterError where there is none.

    >>> [fault.name for fault in find_faults("5")]
    ['copied-files', 'uid-repeated-other-pixels', 'uid-shared-by-neighbours']
    """
    chosen: dict[str, Fault] = {}
    for part in (part.strip() for part in wanted.split(",")):
        found = {name: fault for name, fault in FAULTS.items() if part in ("all", name) or part.upper() == fault.row}
        if not found:
            raise ParameterError(f"no fault {part!r}: `medseg phantom --fault list` names them all, and their rows")
        chosen |= found
    return tuple(chosen.values())
