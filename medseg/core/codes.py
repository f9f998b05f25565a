"""Coded terms: what a segment is, in words that other systems understand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """A coded term: scheme designator ("SCT" for SNOMED CT, "DCM", "UCUM"), value and meaning (DICOM PS3.3, 8.8).

    >>> Code("SCT", "10200004", "Liver").value
    '10200004'
    """

    scheme: str
    value: str
    meaning: str

    def to_dict(self) -> dict[str, str]:
        """Return the JSON form."""
        return {"scheme": self.scheme, "value": self.value, "meaning": self.meaning}


def code_from_dict(entry: dict[str, str]) -> Code:
    """Return the code of a JSON form made by `Code.to_dict`."""
    return Code(entry["scheme"], entry["value"], entry["meaning"])


# Categories of DICOM PS3.16 CID 7150
ANATOMICAL_STRUCTURE = Code("SCT", "123037004", "Anatomical Structure")
TISSUE = Code("SCT", "85756007", "Tissue")
MORPHOLOGICALLY_ABNORMAL_STRUCTURE = Code("SCT", "49755003", "Morphologically Altered Structure")
BODY_SUBSTANCE = Code("SCT", "91720002", "Body Substance")

# Laterality, DICOM PS3.16 CID 244
RIGHT = Code("SCT", "24028007", "Right")
LEFT = Code("SCT", "7771000", "Left")
RIGHT_AND_LEFT = Code("SCT", "51440002", "Right and left")
