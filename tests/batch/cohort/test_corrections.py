"""Which corrections lie in the folder, and which of them cannot be used."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from medseg.batch.cohort.corrections import Correction, find_corrections, measured_correction
from medseg.batch.records.layout import Layout
from medseg.core.errors import UnreadableFileError

ONE, TWO, THREE = ("0" * 16, "1" * 16, "2" * 16)


def test_corrections_are_known_by_their_names_alone(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert find_corrections(layout) == {}
    layout.corrections.mkdir()
    for name in (f"{ONE}.seg.nrrd", f"{TWO}.nii.gz", f"{TWO}.seg.nrrd", f"{THREE}.nrrd", "notes.txt", f"{ONE}.measurements.json"):
        (layout.corrections / name).write_text(name)
    (layout.corrections / f"{THREE}.nii.gz").mkdir()
    found = find_corrections(layout)
    first = layout.corrections / f"{ONE}.seg.nrrd"
    assert found[ONE] == Correction(first, hashlib.sha256(first.read_bytes()).hexdigest())
    assert "two corrections" in found[TWO].problem
    assert found[THREE].problem.startswith(f"corrections/{THREE}.nii.gz cannot be read")
    assert set(found) == {ONE, TWO, THREE}
    for case_id in (TWO, THREE):
        with pytest.raises(UnreadableFileError, match="corrections"):
            measured_correction(layout, case_id, found[case_id], {"segments": []})


def test_a_correction_of_a_case_without_a_segmentation_cannot_be_measured(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.corrections.mkdir()
    (layout.corrections / f"{ONE}.seg.nrrd").write_text("no image")
    with pytest.raises(UnreadableFileError, match="has no segmentation") as refusal:
        measured_correction(layout, ONE, find_corrections(layout)[ONE], {"segments": [{"number": 1, "label": "liver"}]})
    assert str(tmp_path) not in str(refusal.value)
    assert list(layout.corrections.iterdir()) == [layout.corrections / f"{ONE}.seg.nrrd"]
