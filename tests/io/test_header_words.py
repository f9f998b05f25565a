"""What a header holds is a stranger's text, which may name a patient: no message and no finding repeats it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import medseg
from medseg.core.errors import MedsegError

CANARY = "ZZCANARY^NAME"
NRRD = {
    "type": "short",
    "dimension": "3",
    "sizes": "6 5 4",
    "space": "left-posterior-superior",
    "space directions": "(1,0,0) (0,1,0) (0,0,1)",
    "space origin": "(0,0,0)",
    "endian": "little",
    "encoding": "raw",
}
META = {"ObjectType": "Image", "NDims": "3", "DimSize": "6 5 4", "ElementSpacing": "1 1 1", "ElementType": "MET_SHORT"}
VOXELS = np.arange(120, dtype="<i2").tobytes()


def _said(path: Path) -> str:
    """Everything that is said of a file, whether it can be read or not."""
    try:
        volume = medseg.read(path)
    except MedsegError as err:
        return f"{err} {[finding.to_dict() for finding in getattr(err, 'findings', ())]}"
    return str([finding.to_dict() for finding in volume.findings])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((field, CANARY) for field in (*NRRD, "space units", "line skip", "data file", "spacings")),
        ("sizes", f"6 5 {CANARY}"),
        ("kinds", f"{CANARY} domain domain"),
        ("space directions", f"(1,0,0) (0,1,0) ({CANARY},0,1)"),
        ("space origin", f"({CANARY},0,0)"),
        ("data file", f"../{CANARY}"),
    ],
)
def test_no_field_of_an_nrrd_header_is_repeated(tmp_path: Path, field: str, value: str) -> None:
    """In any case, for some fields are compared in small letters."""
    header = "".join(f"{name}: {text}\n" for name, text in {**NRRD, field: value}.items())
    (tmp_path / "scan.nrrd").write_bytes(f"NRRD0004\n{header}\n".encode() + VOXELS)
    assert "zzcanary" not in _said(tmp_path / "scan.nrrd").lower()


def test_no_line_of_an_nrrd_header_that_is_none_is_repeated(tmp_path: Path) -> None:
    """It has no colon, and can be anything."""
    (tmp_path / "scan.nrrd").write_bytes(f"NRRD0004\n{CANARY} 19010203\n".encode())
    said = _said(tmp_path / "scan.nrrd")
    assert "without a colon" in said
    assert CANARY not in said


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((field, CANARY) for field in (*META, "ElementNumberOfChannels", "TransformMatrix", "Offset", "BinaryData", "HeaderSize")),
        ("DimSize", f"6 -5 {CANARY}"),
        ("AnatomicalOrientation", CANARY),
    ],
)
def test_no_field_of_a_metaimage_header_is_repeated(tmp_path: Path, field: str, value: str) -> None:
    """Numbers, types and names."""
    header = "".join(f"{name} = {text}\n" for name, text in {**META, field: value}.items())
    (tmp_path / "scan.mha").write_bytes(f"{header}ElementDataFile = LOCAL\n".encode() + VOXELS)
    assert "zzcanary" not in _said(tmp_path / "scan.mha").lower()


def test_the_name_of_a_data_file_that_is_missing_is_not_repeated(tmp_path: Path) -> None:
    """It lies in the folder of the patient, and is often called so."""
    header = "".join(f"{name} = {text}\n" for name, text in META.items())
    (tmp_path / "scan.mhd").write_text(f"{header}ElementDataFile = {CANARY}.raw\n")
    said = _said(tmp_path / "scan.mhd")
    assert "data file" in said
    assert CANARY not in said
