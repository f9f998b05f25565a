"""The protocol: what is a job, what is none, and which sentence says so."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.slicer_bridge.job_fields import JobFormatError
from medseg.slicer_bridge.jobs import KINDS, Cancel, Job, LabelsRef, ScanRef, check_request, parse_event, parse_request, to_line

EYE = np.eye(4).tolist()
SCAN: dict[str, Any] = {"key": "a", "array": "a.npy", "ijk_to_ras": EYE}
LABELS: dict[str, Any] = {
    "array": "l.npy",
    "extent": [1, 2, 0, 3, 0, 0],
    "shape": [4, 5, 6],
    "ijk_to_ras": EYE,
    "segments": [{"number": 1, "label": "liver"}],
}
SEGMENT: dict[str, Any] = {"id": "j", "do": "segment", "method": "otsu", "scan": SCAN, "out": "folder"}


def test_references_survive_their_json_form() -> None:
    scan = ScanRef.from_json({**SCAN, "parent_to_world": EYE, "modality": "CT", "unit": "HU", "series": None})
    assert ScanRef.from_json(json.loads(to_line(scan.to_json()))) == scan
    several = {**LABELS, "layers": [{"array": "l.npy", "extent": [0, 0, 0, 0, 0, 0]}, {"array": "", "extent": [0, -1, 0, -1, 0, -1]}]}
    for entry in (LABELS, several):
        labels = LabelsRef.from_json(entry)
        assert LabelsRef.from_json(json.loads(to_line(labels.to_json()))) == labels
    assert len(LabelsRef.from_json(several).layers) == 2


def test_a_job_has_its_checked_fields() -> None:
    job = parse_request(json.dumps({**SEGMENT, "parameters": {"a": 1}, "region": [0, 1, 0, 1, 0, 1], "labels": None}))
    assert isinstance(job, Job)
    assert job.scan() == ScanRef.from_json(SCAN)
    assert job.labels() is None
    assert job["region"] == (0, 1, 0, 1, 0, 1)
    assert job.get("device", "auto") == "auto"
    assert parse_request('{"cancel": "j"}') == Cancel("j")


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"do": "doctor"}, "a job needs an id"),
        ({"id": "../x", "do": "doctor"}, "a job needs an id"),
        ({"id": "a" * 65, "do": "doctor"}, "a job needs an id"),
        ({"id": "j"}, "there is no job None"),
        ({"id": "j", "do": "fly"}, "there is no job 'fly': known are describe, segment"),
        ({"id": "j", "do": ["segment"]}, "there is no job"),
        ({"id": "j", "do": "segment"}, "segment needs method: the name of the method"),
        ({**SEGMENT, "speed": 9}, "segment has no field 'speed'"),
        ({**SEGMENT, "method": 3}, "method must be text, not 3"),
        ({**SEGMENT, "parameters": [1]}, "parameters must be a JSON object"),
        ({**SEGMENT, "scan": "a.npy"}, "scan must be a JSON object"),
        ({**SEGMENT, "scan": {**SCAN, "path": "b"}}, "scan needs either `array`"),
        ({**SEGMENT, "scan": {"key": "a"}}, "scan needs either `array`"),
        ({**SEGMENT, "scan": {"array": "a.npy"}}, "scan.ijk_to_ras is missing"),
        ({**SEGMENT, "scan": {**SCAN, "ijk_to_ras": [[1, 2], [3, 4]]}}, "scan.ijk_to_ras must be a 4×4 matrix"),
        ({**SEGMENT, "scan": {**SCAN, "ijk_to_ras": [["1", 0, 0, 0]] * 4}}, "scan.ijk_to_ras must be a 4×4 matrix"),
        ({**SEGMENT, "scan": {**SCAN, "colour": 1}}, "scan has no field 'colour'"),
        ({**SEGMENT, "channels": SCAN}, "channels must be a list"),
        ({**SEGMENT, "channels": [SCAN, 5]}, "channels 2 must be a JSON object"),
        ({**SEGMENT, "region": [0, 1, 2]}, "region must be six whole numbers"),
        ({**SEGMENT, "region": [0, 1, 0, 1, 0, 1.5]}, "region must be six whole numbers"),
        ({**SEGMENT, "labels": {**LABELS, "extent": [0, 6, 0, 0, 0, 0]}}, "leaves the grid of 6×5×4 voxels"),
        ({**SEGMENT, "labels": {**LABELS, "extent": [-1, 2, 0, 0, 0, 0]}}, "leaves the grid"),
        ({**SEGMENT, "labels": {**LABELS, "shape": [4, 5, 0]}}, "labels.shape must be three whole numbers above 0"),
        ({**SEGMENT, "labels": {**LABELS, "segments": {}}}, "labels.segments must be a list"),
        ({**SEGMENT, "labels": {**LABELS, "array": None}}, "labels.array must be text"),
        ({**SEGMENT, "labels": {**LABELS, "ijk_to_ras": None}}, "labels.ijk_to_ras is missing"),
        ({"id": "j", "do": "export", "format": "stl", "labels": LABELS, "path": "p"}, "format must be one of seg.nrrd"),
        ({"id": "j", "do": "export", "format": "csv", "labels": LABELS, "path": "p", "overwrite": 1}, "overwrite must be true or false"),
        ({"id": "j", "do": "lesions", "labels": LABELS, "out": "o", "keep_at_least_mm3": "3"}, "keep_at_least_mm3 must be a number"),
        ({"cancel": 5}, "a job needs an id"),
    ],
)
def test_each_fault_has_its_sentence(entry: dict[str, Any], sentence: str) -> None:
    with pytest.raises(JobFormatError) as caught:
        check_request(entry)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    known = entry.get("id") if entry.get("id") == "j" else ""
    assert caught.value.id == known


def test_unknown_jobs_are_not_quoted_at_length() -> None:
    with pytest.raises(JobFormatError) as caught:
        check_request({"id": "j", "do": "x" * 5000})
    assert len(str(caught.value)) < 300


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(
    do=st.sampled_from(sorted(KINDS)),
    names=st.lists(st.sampled_from(["scan", "labels", "method", "out", "region", "path", "days"])),
    value=_VALUES,
)
def test_no_value_raises_anything_else(do: str, names: list[str], value: Any) -> None:
    """Whatever a field holds, the answer is a job or one sentence."""
    with contextlib.suppress(JobFormatError):
        assert isinstance(check_request({"id": "j", "do": do, **dict.fromkeys(names, value)}), Job)


@given(st.text() | st.dictionaries(st.sampled_from(["id", "do", "cancel", "scan"]), _VALUES).map(json.dumps))
def test_no_line_raises_anything_else(line: str) -> None:
    with contextlib.suppress(JobFormatError):
        assert isinstance(parse_request(line), Job | Cancel)


def test_a_line_nested_too_deep_is_no_json() -> None:
    with pytest.raises(JobFormatError, match="not JSON"):
        parse_request("[" * 200_000)


def test_events_are_lines_of_ascii_and_nan_is_null() -> None:
    line = to_line({"event": "log", "text": "0.5 µm\n", "values": [float("nan"), float("inf"), 1.5, {"a": (float("-inf"),)}]})
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert parse_event(line) == {"event": "log", "text": "0.5 µm\n", "values": [None, None, 1.5, {"a": [None]}]}
    for wrong in (b"", b"noise", b"[1]", b'{"id": 1}', b'{"event": 5}', b"\xff\xff", b"[" * 100_000):
        assert parse_event(wrong) is None
