"""What the basic profile of PS3.15, Annex E does to each attribute, and what its options keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib import import_module
from typing import Any

from medseg.core.errors import MissingDependencyError

# Table E.1-1 as dicom-anonymizer carries it, made by its authors from the edition 2026c of the standard
_TABLE = "dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c"


class Action(str, Enum):
    """One letter of Table E.1-1; of several letters (X/Z, Z/D ...) the one that every kind of object may hold."""

    KEEP = "K"
    REMOVE = "X"
    EMPTY = "Z"
    DUMMY = "D"
    NEW_UID = "U"
    SHIFT_DATE = "M"  # the option Retain Longitudinal Temporal Information with Modified Dates


# Lists of the table's module → what is done. X/Z becomes Z; X/D, Z/D and X/Z/D become D: where an attribute may be
# needed it stays, without its content. X/Z/U* are references to images: they stay, with the new UIDs.
_GROUPS = {
    "D_TAGS": Action.DUMMY,
    "Z_TAGS": Action.EMPTY,
    "X_TAGS": Action.REMOVE,
    "U_TAGS": Action.NEW_UID,
    "Z_D_TAGS": Action.DUMMY,
    "X_Z_TAGS": Action.EMPTY,
    "X_D_TAGS": Action.DUMMY,
    "X_Z_D_TAGS": Action.DUMMY,
    "X_Z_U_STAR_TAGS": Action.NEW_UID,
}

DEVICE = frozenset(
    {
        0x00080055, 0x00081010, 0x00181000, 0x00181002, 0x00181003, 0x00181004, 0x00181005, 0x00181007, 0x00181008, 0x00181009,
        0x0018100A, 0x0018700A, 0x00400001, 0x00400010, 0x00400011, 0x00400241, 0x00400242, 0x00400243, 0x00500020, 0x00500021,
    }
)  # fmt: skip
INSTITUTION = frozenset({0x00080080, 0x00080081, 0x00080082, 0x00081040, 0x00081041})
# coded or numeric ones only: free text about the patient is never kept
CHARACTERISTICS = frozenset({0x00100040, 0x00101010, 0x00101020, 0x00101030, 0x00102160, 0x001021A0, 0x001021C0, 0x00102203})

_BIRTH = frozenset({0x00100030, 0x00100032})  # never kept, whatever becomes of the other dates

# (private creator, group) → element bytes whose meaning its maker published and that describe the picture alone (Table E.3.10-1)
SAFE_PRIVATE: Mapping[tuple[str, int], frozenset[int]] = {
    ("SIEMENS MR HEADER", 0x0019): frozenset({0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x27, 0x28, 0x29}),
    ("GEMS_PARM_01", 0x0043): frozenset({0x39, 0x6F}),
    ("GEMS_ACQU_01", 0x0019): frozenset({0xBB, 0xBC, 0xBD}),
    ("Philips PET Private Group", 0x7053): frozenset({0x00, 0x09}),
}

# Codes of context group 7050 for (0012,0064)
_METHODS = {
    "basic": ("113100", "Basic Application Confidentiality Profile"),
    "full dates": ("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
    "shifted dates": ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    "characteristics": ("113108", "Retain Patient Characteristics Option"),
    "device": ("113109", "Retain Device Identity Option"),
    "uids": ("113110", "Retain UIDs Option"),
    "private": ("113111", "Retain Safe Private Option"),
    "institution": ("113112", "Retain Institution Identity Option"),
}


@dataclass(frozen=True)
class DeidOptions:
    """Which options of the profile are used; without any the basic profile alone. `dates` is removed, shifted or full."""

    dates: str = "removed"
    retain_uids: bool = False
    retain_device: bool = False
    retain_institution: bool = False
    retain_patient_characteristics: bool = False
    retain_safe_private: bool = False

    def methods(self) -> tuple[tuple[str, str], ...]:
        """Return the codes (value, meaning) that a file so treated carries."""
        used = ["basic"]
        used += [f"{self.dates} dates"] if self.dates != "removed" else []
        chosen = {
            "characteristics": self.retain_patient_characteristics,
            "device": self.retain_device,
            "uids": self.retain_uids,
            "private": self.retain_safe_private,
            "institution": self.retain_institution,
        }
        return tuple(_METHODS[name] for name in (*used, *(name for name, is_on in chosen.items() if is_on)))


def action_for(tag: int, vr: str, options: DeidOptions) -> Action:
    """Return what happens to a standard attribute of this tag (group << 16 | element) and value representation.

    >>> action_for(0x00100010, "PN", DeidOptions()).name, action_for(0x00200032, "DS", DeidOptions()).name
    ('EMPTY', 'KEEP')
    """
    exact, masked = _table()
    action = exact.get(tag)
    if action is None:
        action = next((found for (value, mask), found in masked.items() if tag & mask == value), None)
    if action is None:
        # what the standard does not know cannot be judged, and names of people have no place anywhere
        return Action.REMOVE if vr in ("UN", "PN") else Action.KEEP
    return _option_for(tag, vr, action, options)


def _option_for(tag: int, vr: str, action: Action, options: DeidOptions) -> Action:
    if vr in ("DA", "DT", "TM") and options.dates != "removed" and tag not in _BIRTH:
        return Action.KEEP if options.dates == "full" or vr == "TM" else Action.SHIFT_DATE
    if options.retain_uids and action is Action.NEW_UID:
        return Action.KEEP
    is_kept = (
        (options.retain_device and tag in DEVICE)
        or (options.retain_institution and tag in INSTITUTION)
        or (options.retain_patient_characteristics and tag in CHARACTERISTICS)
    )
    return Action.KEEP if is_kept else action


@cache
def _table() -> tuple[dict[int, Action], dict[tuple[int, int], Action]]:
    try:
        module: Any = import_module(_TABLE)
    except ImportError as err:
        raise MissingDependencyError("the table of the profile comes with dicom-anonymizer: pip install 'medseg[deid]'") from err
    exact: dict[int, Action] = {}
    masked: dict[tuple[int, int], Action] = {}
    for name, action in _GROUPS.items():
        for tag in getattr(module, name):
            if len(tag) == 2:
                exact[tag[0] << 16 | tag[1]] = action
            else:  # repeating groups: (group, element, mask of the group, mask of the element)
                mask = tag[2] << 16 | tag[3]
                masked[((tag[0] << 16 | tag[1]) & mask, mask)] = action
    return exact, masked
