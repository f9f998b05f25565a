"""What a bundle says about itself."""

from __future__ import annotations

from typing import Any

import pytest

from medseg.core.errors import IncompatibleModelError
from medseg.segmentation.learned.bundle.metadata import read_metadata


def outputs(channels: Any, **entries: Any) -> Any:
    return read_metadata({"network_data_format": {"outputs": {"pred": {"channel_def": channels}}}, **entries}, "x")


def test_labels_and_masks() -> None:
    """Where the largest output wins the channel's number is the label's; masks are numbered from 1 without a background."""
    found = outputs({"1": "liver", "0": "background", "2": "liver"})
    assert [(one.number, one.label) for one in found.segments_of_labels(3)] == [(1, "liver"), (2, "liver (2)")]
    assert [(one.number, one.label) for one in found.segments_of_masks(3)] == [(1, "liver"), (2, "liver (2)")]
    regions = outputs({"0": "Tumor core", "1": "Whole tumor"})
    assert [(one.number, one.label) for one in regions.segments_of_masks(2)] == [(1, "Tumor core"), (2, "Whole tumor")]
    assert [(one.number, one.label) for one in regions.segments_of_labels(3)] == [(1, "Tumor core"), (2, "Whole tumor")]


@pytest.mark.parametrize(("names", "channels"), [({"0": "background", "1": "a"}, 3), ({"0": "a", "1": "b", "2": "c"}, 2)])
def test_counts_that_do_not_fit(names: dict[str, str], channels: int) -> None:
    """More or fewer names than outputs: which is which is unknown."""
    with pytest.raises(IncompatibleModelError, match="which label is which"):
        outputs(names).segments_of_labels(channels)


@pytest.mark.parametrize(
    "entries", [{}, {"network_data_format": 3}, {"network_data_format": {"inputs": [], "outputs": {"pred": None}}}, {"version": ["x"]}]
)
def test_odd_entries(entries: dict[str, Any]) -> None:
    """Entries of another kind count as not given."""
    found = read_metadata(entries, "name")
    assert (found.title, found.modality, found.outputs, found.version) == ("name", "", (), "")
    assert [one.label for one in found.segments_of_labels(2)] == ["label 1"]


@pytest.mark.parametrize(("text", "expected"), [("CT", "CT"), ("MRI", "MR"), ("mr", "MR"), ("T2 MRI", ""), ("n/a", ""), ("PET", "PT")])
def test_modality(text: str, expected: str) -> None:
    """The modality is given in DICOM's letters, or not at all."""
    assert read_metadata({"network_data_format": {"inputs": {"image": {"modality": text}}}}, "x").modality == expected
