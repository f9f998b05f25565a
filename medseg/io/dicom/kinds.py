"""What kind of object a SOP class is (PS3.4, B.5)."""

from __future__ import annotations

import functools

# Kinds of object that hold no volume, by the beginning of their SOP class UID; the longest prefix wins
_OTHER_OBJECTS = {
    "1.2.840.10008.1.3.10": "DICOMDIR",
    "1.2.840.10008.5.1.4.1.1.9.": "waveform",
    "1.2.840.10008.5.1.4.1.1.11.": "presentation state",
    "1.2.840.10008.5.1.4.1.1.66.1": "spatial registration",
    "1.2.840.10008.5.1.4.1.1.66.2": "spatial fiducials",
    "1.2.840.10008.5.1.4.1.1.66.3": "deformable registration",
    "1.2.840.10008.5.1.4.1.1.66.4": "segmentation (SEG)",
    "1.2.840.10008.5.1.4.1.1.66.5": "surface segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "segmentation (SEG)",
    "1.2.840.10008.5.1.4.1.1.67": "real world value mapping",
    "1.2.840.10008.5.1.4.1.1.88.": "structured report (SR)",
    "1.2.840.10008.5.1.4.1.1.88.59": "key object selection (KO)",
    "1.2.840.10008.5.1.4.1.1.104.": "encapsulated document",
    "1.2.840.10008.5.1.4.1.1.481.2": "radiotherapy dose",
    "1.2.840.10008.5.1.4.1.1.481.3": "radiotherapy structure set (RTSTRUCT)",
    "1.2.840.10008.5.1.4.1.1.481.5": "radiotherapy plan",
}

# Classes whose geometry stands in functional groups, even where there is one frame only
ENHANCED_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.2.1",
        "1.2.840.10008.5.1.4.1.1.2.2",
        "1.2.840.10008.5.1.4.1.1.4.1",
        "1.2.840.10008.5.1.4.1.1.4.3",
        "1.2.840.10008.5.1.4.1.1.4.4",
        "1.2.840.10008.5.1.4.1.1.128.1",
        "1.2.840.10008.5.1.4.1.1.130",
    }
)


_SCAN_CLASSES = ENHANCED_CLASSES | {
    "1.2.840.10008.5.1.4.1.1.2",  # CT
    "1.2.840.10008.5.1.4.1.1.4",  # MR
    "1.2.840.10008.5.1.4.1.1.7",  # secondary capture
    "1.2.840.10008.5.1.4.1.1.20",  # nuclear medicine
    "1.2.840.10008.5.1.4.1.1.128",  # PET
}


def must_have_pixels(sop_class_uid: str) -> bool:
    """Whether a file of this class is cut short where it has neither rows nor pixels: a slice of a scan, or not even a class.

    >>> must_have_pixels("1.2.840.10008.5.1.4.1.1.2"), must_have_pixels("1.2.840.10008.5.1.4.1.1.66")
    (True, False)
    """
    return sop_class_uid in _SCAN_CLASSES or not sop_class_uid


@functools.lru_cache(maxsize=256)
def other_object(sop_class_uid: str) -> str:
    """Return what kind of non-image object a SOP class is, "" where it may be an image.

    >>> other_object("1.2.840.10008.5.1.4.1.1.88.59"), other_object("1.2.840.10008.5.1.4.1.1.2")
    ('key object selection (KO)', '')
    """
    matches = [prefix for prefix in _OTHER_OBJECTS if sop_class_uid == prefix or (prefix[-1] == "." and sop_class_uid.startswith(prefix))]
    return _OTHER_OBJECTS[max(matches, key=len)] if matches else ""
