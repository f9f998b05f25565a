"""Whether a lesion is measurable by RECIST 1.1 (Eisenhauer et al. 2009, doi:10.1016/j.ejca.2008.10.026), and why."""

from __future__ import annotations

import re

from medseg.core.measurement import SegmentRow, Status
from medseg.core.segment import Segment
from medseg.measurement.diameters import Diameters

LESION_MM = 10.0  # longest diameter of a lesion, CT or MR
NODE_MM = 15.0  # short axis of a lymph node
THICK_SLICES_MM = 5.0  # beyond this, twice the slice thickness
_LYMPH_NODE = "59441001"  # SNOMED CT
_NODE_WORDS = re.compile(r"lymph[\s_-]*node|(?:^|[\s_-])ln(?:$|[\s_\d-])", re.IGNORECASE)
_NOT_ANATOMICAL = {"PT": "PET", "NM": "nuclear medicine", "US": "ultrasound"}


def is_lymph_node(segment: Segment) -> bool:
    """Whether a segment's type or name says that it is a lymph node.

    >>> is_lymph_node(Segment(1, "lymph node 4R")), is_lymph_node(Segment(2, "lung nodule"))
    (True, False)
    """
    return (segment.type is not None and segment.type.value == _LYMPH_NODE) or bool(_NODE_WORDS.search(segment.label))


def least_mm(is_node: bool, slice_distance_mm: float) -> float:
    """Return the size from which a lesion counts as measurable: 10 mm (nodes 15 mm), or twice the distance of slices beyond 5 mm.

    >>> least_mm(False, 3.0), least_mm(False, 6.5), least_mm(True, 5.0)
    (10.0, 13.0, 15.0)
    """
    least = NODE_MM if is_node else LESION_MM
    return max(least, 2 * slice_distance_mm) if slice_distance_mm > THICK_SLICES_MM else least


def measurable(row: SegmentRow, diameters: Diameters, is_node: bool, slice_distance_mm: float, modality: str) -> tuple[bool, str]:
    """Return whether RECIST 1.1 calls a lesion measurable, and a sentence that says why.

    The distance of the slices stands for their thickness. A lesion that the border of the scan cuts is not: its true size
    is not known. Nor is one on PET or ultrasound, which the rule does not measure on.
    """
    size = diameters.perpendicular.length_mm if is_node else diameters.longest.length_mm
    name = "short axis" if is_node else "longest diameter"
    least = least_mm(is_node, slice_distance_mm)
    rule = f"twice the slice distance of {slice_distance_mm:.1f} mm" if least > (NODE_MM if is_node else LESION_MM) else "RECIST 1.1"
    rule += ", lymph node" if is_node else ""
    if row.status is Status.CUT_BY_FIELD_OF_VIEW:
        return False, f"cut by the border of the scan ({', '.join(row.touches)}): {name} of the visible part {size:.1f} mm"
    if modality in _NOT_ANATOMICAL:
        return False, f"RECIST 1.1 measures on CT or MR, not on {_NOT_ANATOMICAL[modality]} ({name} here {size:.1f} mm)"
    if size < least:
        return False, f"{name} {size:.1f} mm is below {least:.1f} mm ({rule})"
    return True, f"{name} {size:.1f} mm is at least {least:.1f} mm ({rule})"
