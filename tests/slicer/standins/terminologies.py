"""Tiny terminology lists under the names that Slicer's logic looks for: slicer-core ships the logic without its lists."""

from __future__ import annotations

import json
from pathlib import Path

SNOMED = "SCT"


def _code(value: str, meaning: str) -> dict[str, str]:
    return {"CodingSchemeDesignator": SNOMED, "CodeValue": value, "CodeMeaning": meaning}


def _types(name: str) -> dict[str, object]:
    tissue = {**_code("85756007", "Tissue"), "recommendedDisplayRGBValue": [128, 174, 128]}
    liver = {**_code("10200004", "Liver"), "recommendedDisplayRGBValue": [221, 130, 101]}
    return {
        "SegmentationCategoryTypeContextName": name,
        "@schema": "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/schemas/segment-context-schema.json#",
        "SegmentationCodes": {
            "Category": [
                {**_code("85756007", "Tissue"), "showAnatomy": True, "Type": [tissue]},
                {**_code("123037004", "Anatomical Structure"), "showAnatomy": False, "Type": [liver]},
            ]
        },
    }


def write(folder: Path) -> None:
    """Writes the three lists into the folder."""
    files = {
        "SegmentationCategoryTypeModifier-SlicerGeneralAnatomy": _types("Segmentation category and type - 3D Slicer General Anatomy list"),
        "SegmentationCategoryTypeModifier-DICOM-Master": _types("Segmentation category and type - DICOM master list"),
        "AnatomicRegionAndModifier-DICOM-Master": {
            "AnatomicContextName": "Anatomic codes - DICOM master list",
            "@schema": "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/schemas/anatomic-context-schema.json#",
            "AnatomicCodes": {"AnatomicRegion": [_code("10200004", "Liver")]},
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.term.json").write_text(json.dumps(content), encoding="utf-8")
