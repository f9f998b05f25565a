"""Bad input reaches the host as one sentence, and the worker lives on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume

GRID = Geometry((6, 5, 4), np.diag([1.0, 1.0, 2.0, 1.0]))
SCAN = Volume(np.arange(120, dtype=np.int16).reshape(6, 5, 4), GRID, "CT", "HU")
MASK = LabelMap((SCAN.array > 60).astype(np.uint8), GRID, (Segment(1, "bright"),))
OTSU = {"do": "segment", "method": "otsu", "parameters": {}}


def _saved(host: Any, array: np.ndarray, name: str) -> dict[str, Any]:
    path = host.folder / f"{name}.npy"
    np.save(path, array)
    return {"key": name, "array": str(path), "ijk_to_ras": np.eye(4).tolist()}


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((5, 5)), "2 axes"),
        (np.zeros((3, 5, 5, 4)), "give one frame"),
        (np.zeros((0, 5, 5)), "holds no voxel"),
        (np.zeros((3, 5, 5), complex), "real numbers"),
    ],
)
def test_an_array_that_is_no_scan(host: Any, array: np.ndarray, words: str) -> None:
    event = host.error(**OTSU, scan=_saved(host, array, f"bad{array.ndim}{array.size}{array.dtype.kind}"))
    assert words in event["message"]
    assert event["exit_code"] == 3


def test_files_that_are_gone_or_broken(host: Any) -> None:
    gone = {"key": "gone", "array": str(host.folder / "gone.npy"), "ijk_to_ras": np.eye(4).tolist()}
    assert "is gone" in host.error(**OTSU, scan=gone)["message"]
    whole = host.folder / "whole.npy"
    np.save(whole, SCAN.array)
    for number, content in enumerate((b"", b"\x93NUMPY", whole.read_bytes()[:200], b"text")):
        path = host.folder / f"broken{number}.npy"
        path.write_bytes(content)
        event = host.error(**OTSU, scan={**gone, "key": str(number), "array": str(path)})
        assert "cut short" in event["message"], content
        assert str(host.folder) not in event["message"]
    np.save(host.folder / "pickle.npy", np.array([{"a": 1}], object), allow_pickle=True)
    assert host.error(**OTSU, scan={**gone, "array": str(host.folder / "pickle.npy")})["kind"] == "UnreadableFileError"


def test_a_path_that_holds_no_scan(host: Any, tmp_path: Path) -> None:
    assert host.error(**OTSU, scan={"path": str(tmp_path / "nowhere")})["exit_code"] == 3
    audit = host.result(do="audit", scan={"path": str(tmp_path / "nowhere")})
    assert not audit["usable"]
    assert audit["reason"]
    assert audit["findings"][0]["severity"] == "error"


def test_a_matrix_without_volume(host: Any) -> None:
    flat = {**host.scan(SCAN), "key": "flat", "ijk_to_ras": np.diag([1.0, 1.0, 0.0, 1.0]).tolist()}
    assert host.error(**OTSU, scan=flat)["kind"] == "SingularAffineError"


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"method": "otsv"}, "UnknownMethodError", "did you mean"),
        ({"method": "gaussian"}, "ParameterError", "makes no segments"),
        ({"method": "threshold", "parameters": {}}, "ParameterError", "lower"),
        ({"method": "threshold", "parameters": {"lower": "much"}}, "ParameterError", "must be a number"),
        ({"method": "region-growing", "parameters": {"seeds": [[900, 0, 0]], "lower": 0, "upper": 9}}, "ParameterError", "outside"),
        ({"region": [0, 9, 0, 1, 0, 1]}, "InputError", "leaves the scan"),
        ({"region": [3, 1, 0, 1, 0, 1]}, "InputError", "empty"),
        ({"nested": {}}, "ParameterError", "nested-growing"),
        ({"out": "/nowhere/at/all"}, "OutputError", "folder of the job is gone"),
    ],
)
def test_wrong_wishes(host: Any, change: dict[str, Any], kind: str, words: str) -> None:
    event = host.error(**{**OTSU, "scan": host.scan(SCAN), **change})
    assert event["kind"] == kind
    assert words in event["message"]


def test_a_method_without_what_it_needs(host: Any) -> None:
    assert "choose the volume" in host.error(**OTSU)["message"]
    assert "choose the segmentation" in host.error(do="segment", method="smooth", scan=host.scan(SCAN))["message"]


def test_channels_on_another_grid(host: Any) -> None:
    other = Volume(np.zeros((6, 5, 5), np.int16), Geometry((6, 5, 5), GRID.affine))
    event = host.error(do="segment", method="k-means", parameters={}, scan=host.scan(SCAN), channels=[host.scan(other, "other")])
    assert event["kind"] in ("GeometryMismatchError", "ParameterError")


@pytest.mark.parametrize("job", ["measure", "lesions"])
def test_segments_on_another_grid(host: Any, job: str) -> None:
    moved = LabelMap(MASK.array, GRID.cropped((1, 0, 0), GRID.shape), MASK.segments)
    event = host.error(do=job, scan=host.scan(SCAN), labels=host.labels(moved))
    assert event["kind"] == "GeometryMismatchError"
    assert "resample" in event["message"]


def test_segments_on_another_grid_for_a_method(host: Any) -> None:
    moved = LabelMap(MASK.array, GRID.cropped((1, 0, 0), GRID.shape), MASK.segments)
    event = host.error(do="segment", method="refine-boundary", scan=host.scan(SCAN), labels=host.labels(moved))
    assert event["kind"] == "GeometryMismatchError"


def test_labels_that_contradict_themselves(host: Any) -> None:
    good = host.labels(MASK)
    for change, words in (
        ({"segments": []}, "number"),
        ({"segments": [{"number": 1}]}, "label"),
        ({"segments": [{"number": 1, "label": "a"}, {"number": 1, "label": "b"}]}, "unique"),
        ({"extent": [0, 3, 0, 4, 0, 3]}, "its extent holds"),
        ({"array": str(host.folder / "nowhere.npy")}, "is gone"),
    ):
        event = host.error(do="measure", labels={**good, **change})
        assert event["exit_code"] == 3, event
        assert words in event["message"], event
    np.save(host.folder / "negative.npy", -np.ones((4, 5, 6), np.int16))
    assert "whole numbers" in host.error(do="measure", labels={**good, "array": str(host.folder / "negative.npy")})["message"]


def test_signed_and_boolean_labels_are_taken(host: Any) -> None:
    expected = host.result(do="measure", labels=host.labels(MASK))["document"]
    for dtype in (np.int16, bool, np.uint32):
        np.save(host.folder / "typed.npy", MASK.array.T.astype(dtype))
        given = {**host.labels(MASK), "array": str(host.folder / "typed.npy")}
        assert host.result(do="measure", labels=given)["document"] == expected


def test_cropped_labels_are_those_of_the_whole_grid(host: Any) -> None:
    whole = host.labels(MASK)
    box = np.argwhere(MASK.array)
    (i0, j0, k0), (i1, j1, k1) = box.min(axis=0).tolist(), box.max(axis=0).tolist()
    np.save(host.folder / "cropped.npy", MASK.array.T[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1])
    cropped = {**whole, "array": str(host.folder / "cropped.npy"), "extent": [i0, i1, j0, j1, k0, k1]}
    ours, theirs = (host.result(do="measure", labels=labels)["document"] for labels in (cropped, whole))
    assert ours == theirs


def test_overlapping_segments_are_measured_each_in_its_layer(host: Any) -> None:
    first, second = np.zeros((4, 5, 6), np.uint8), np.zeros((4, 5, 6), np.uint8)
    first[1:3, 1:4, 1:5], second[2:4, 2:5, 3:6] = 1, 2
    layers = []
    for name, array in (("first", first), ("second", second)):
        np.save(host.folder / f"{name}.npy", array)
        layers.append({"array": str(host.folder / f"{name}.npy"), "extent": [0, 5, 0, 4, 0, 3]})
    labels = {**host.labels(MASK), "layers": layers, "segments": [{"number": 1, "label": "a"}, {"number": 2, "label": "b"}]}
    document = host.result(do="measure", scan=host.scan(SCAN), labels=labels)["document"]
    assert [one["voxel_count"] for one in document["segments"]] == [int((first > 0).sum()), int((second > 0).sum())]
    assert "OVERLAPPING_SEGMENTS" in [finding["code"] for finding in document["findings"]]
    event = host.error(do="segment", method="fill-holes", parameters={}, labels=labels)
    assert event["kind"] == "OverlappingSegmentsError"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": ["base"]}, "two scans at least"),
        ({"days": [0.0]}, "days are given once for each"),
        ({"registration": "rigid"}, "registration rigid needs the scans"),
        ({"registration": "elastic"}, "registration is one of"),
        ({"plane": "slanted"}, "plane is one of"),
    ],
)
def test_changes_that_cannot_be_told(host: Any, change: dict[str, Any], words: str) -> None:
    labels = [host.labels(MASK, name) for name in change.pop("labels", ["base", "next"])]
    assert words in host.error(do="change", labels=labels, **change)["message"]


def test_the_worker_lives_on_after_all_this(host: Any) -> None:
    assert host.worker.is_alive
    assert host.result(**OTSU, scan=host.scan(SCAN))["labels"]["array"]
