"""Jobs about lesions on a small phantom: as medseg gives them in process, and after registration where the patient lay elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import medseg
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.phantom.example_scans import example_scan


@pytest.fixture(scope="module")
def scan() -> Volume:
    return example_scan("ct").volume


def test_lesions_and_change(host: Any) -> None:
    maps = example_scan("ct").label_maps
    scan = example_scan("ct").volume
    first = host.result(do="lesions", scan=host.scan(scan), labels=host.labels(maps["lesions"]), whole=True)
    expected = medseg.lesions(maps["lesions"], scan, connectivity=None)
    assert [one["id"] for one in first["document"]["lesions"]] == [one.id for one in expected]
    assert [one["volume_ml"] for one in first["document"]["lesions"]] == pytest.approx(
        [one.row.measurements["volume"].value for one in expected]
    )
    assert host.array(first["labels"]).any()
    moved = host.result(
        do="change",
        labels=[host.labels(maps["lesions"], "a"), host.labels(maps["lesions"], "b")],
        days=[0, 90],
        whole=True,
        registration="none",
    )
    assert {one["status"] for one in moved["document"]["lesions"]} == {"stable"}


def test_change_registers_scans_of_a_patient_who_lay_elsewhere(host: Any, scan: Volume) -> None:
    """The follow-up lies 40 mm further to the left: only after registration are its lesions those of base."""
    grid = scan.geometry
    i, j, k = np.ogrid[tuple(slice(size) for size in grid.shape)]
    middle = [size // 2 for size in grid.shape]
    ball = (i - middle[0]) ** 2 + (j - middle[1]) ** 2 + (k - middle[2]) ** 2 <= 9
    lesions = LabelMap(ball.astype(np.uint8), grid, (Segment(1, "tumour"),))
    moved = Geometry(grid.shape, np.array([[1, 0, 0, -40.0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ grid.affine)
    noise = np.random.default_rng(5).normal(0, 5, scan.array.shape).astype(scan.array.dtype)
    later = scan.with_array(scan.array + noise, moved)
    job = {
        "scans": [host.scan(scan, "base"), host.scan(later, "later")],
        "labels": [host.labels(lesions, "one"), host.labels(lesions.with_array(lesions.array, moved), "two")],
        "days": [0, 60],
    }
    unregistered = host.result(do="change", **job, registration="none")["document"]["lesions"]
    assert {"new", "gone"} <= {one["status"] for one in unregistered}
    host.events.clear()
    registered = host.result(do="change", **job, registration="rigid")["document"]["lesions"]
    assert {one["status"] for one in registered} == {"stable"}
    assert [event for event in host.events if event["event"] == "progress" and event["text"] == "registering follow-up 1"]


def test_lesions_are_told_from_organs_by_their_names(host: Any) -> None:
    truth = example_scan("ct").label_maps["truth"]
    names = [segment.label for segment in truth.segments]
    assert "tumour" in names
    found = host.result(do="lesions", labels=host.labels(truth))["document"]
    assert {one["segment"] for one in found["lesions"]} == {"tumour"}
    assert {one["organ"] for one in found["lesions"]} <= set(names) - {"tumour"}
    assert "LESION_SEGMENTS_CHOSEN" in [finding["code"] for finding in found["findings"]]
    chosen = host.result(do="lesions", labels=host.labels(truth), chosen=["liver"], whole=True)["document"]
    assert {one["segment"] for one in chosen["lesions"]} == {"liver"}
    parts = LabelMap(truth.array, truth.geometry, tuple(Segment(one.number, f"part {one.number}") for one in truth.segments))
    unnamed = host.result(do="lesions", labels=host.labels(parts), whole=True)["document"]
    assert {one["segment"] for one in unnamed["lesions"]} == {segment.label for segment in parts.segments}
    assert "LESION_SEGMENTS_UNNAMED" in [finding["code"] for finding in unnamed["findings"]]


def test_no_lesion_is_an_empty_table(host: Any) -> None:
    empty = LabelMap(np.zeros((4, 4, 4), np.uint8), Geometry((4, 4, 4), np.eye(4)), (Segment(1, "tumour"),))
    result = host.result(do="lesions", labels=host.labels(empty))
    assert result["document"]["lesions"] == []
    assert result["labels"] is None
