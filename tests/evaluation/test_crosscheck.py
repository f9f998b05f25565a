"""What other packages say of the same masks, and that a difference does not stay hidden."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.evaluation import crosscheck
from medseg.evaluation.crosscheck import Checks
from medseg.evaluation.overlap import evaluate


def two_maps(affine):
    random = np.random.default_rng(2)
    grid = Geometry((20, 18, 10), affine)
    place = np.indices(grid.shape)
    segments = (Segment(1, "ball"), Segment(2, "box"), Segment(3, "missed"))
    array = (((place - np.array([6, 6, 4])[:, None, None, None]) ** 2).sum(axis=0) <= 12).astype(np.uint8)
    array[12:18, 10:16, 3:8] = 2
    other = np.roll(array, 2, axis=1) * (random.random(grid.shape) < 0.9)
    array[0, 0, 9] = 3
    return LabelMap(array, grid, segments), LabelMap(other.astype(np.uint8), grid, segments[:2])


def checked(reference, prediction, evaluation):
    checks = Checks.start()
    checks.add([reference], [prediction], evaluation)
    return {row["package"]: row for row in checks.to_list()}


def differences(row):
    return {one["score"]: one["largest_difference"] for one in row["differences"]}


def test_simpleitk_agrees_on_overlap(right_angled, monkeypatch):
    monkeypatch.setattr(crosscheck, "_is_installed", lambda name: False)
    reference, prediction = two_maps(right_angled)
    rows = checked(reference, prediction, evaluate(reference, prediction))
    assert rows["SimpleITK"]["segment_count"] == 2  # the missed one has nothing to compare
    found = differences(rows["SimpleITK"])
    assert found["dice"] < 1e-12
    assert found["iou"] < 1e-12
    assert rows["MONAI"]["note"] == "not installed"


def test_a_wrong_score_is_found(right_angled, monkeypatch):
    monkeypatch.setattr(crosscheck, "_is_installed", lambda name: False)
    reference, prediction = two_maps(right_angled)
    evaluation = evaluate(reference, prediction)
    first = evaluation.scores[0]
    wrong = replace(evaluation, scores=(replace(first, common_voxels=first.common_voxels - 5), *evaluation.scores[1:]))
    row = checked(reference, prediction, wrong)["SimpleITK"]
    assert differences(row)["dice"] == pytest.approx(first.dice - wrong.scores[0].dice)
    assert row["differences"][0]["segment"] == "ball"


def test_a_sheared_grid_is_left_out_of_distances(monkeypatch):
    monkeypatch.setattr(crosscheck, "_is_installed", lambda name: False)
    affine = np.diag([1.0, 1, 3, 1])
    affine[1, 2] = 1.0
    reference, prediction = two_maps(affine)
    row = checked(reference, prediction, evaluate(reference, prediction))["SimpleITK"]
    assert set(differences(row)) == {"dice", "iou"}
    assert "right angles" in row["note"]


def test_monai_agrees_by_its_own_definition(right_angled):
    pytest.importorskip("monai")
    reference, prediction = two_maps(right_angled)
    row = checked(reference, prediction, evaluate(reference, prediction, tolerances_mm=(1.0, 2.0)))["MONAI"]
    found = differences(row)
    assert {"nsd_1mm", "nsd_2mm", "percentile (voxel borders)", "hd_mm (voxel borders)"} <= set(found)
    assert all(found[key] < 1e-5 for key in found if key != "percentile")
