"""Volumes, places, border contact and intensities against analytic answers and SimpleITK."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from medseg.core.errors import GeometryMismatchError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.measurement import Status
from medseg.core.model_spread import ModelSpread
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.measurement.measure import measure

TILTED = np.array([[-0.8, 0, 0, 10], [0, 0.7, 1.2, -20], [0, 0.1, 2.9, 30], [0, 0, 0, 1]])


def box(shape, start, stop, affine, number=1, label="box"):
    array = np.zeros(shape, np.uint8)
    array[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = number
    return LabelMap(array, Geometry(shape, affine), (Segment(number, label),))


def test_the_volume_of_a_tilted_box_is_its_determinant():
    label_map = box((10, 12, 9), (2, 3, 4), (5, 7, 8), TILTED)
    row = measure(label_map).rows[0]
    expected_ml = 3 * 4 * 4 * abs(np.linalg.det(TILTED[:3, :3])) / 1000
    assert row.measurements["volume"].value == pytest.approx(expected_ml, rel=1e-12)
    np.testing.assert_allclose(row.centroid_mm, (TILTED @ [3, 4.5, 5.5, 1])[:3])
    assert row.bounding_box == ((2, 3, 4), (4, 6, 7))
    assert row.status is Status.MEASURED


@pytest.mark.parametrize(
    ("start", "stop", "side"),
    [
        ((0, 3, 3), (4, 6, 6), "right"),
        ((5, 3, 3), (10, 6, 6), "left"),
        ((3, 0, 3), (6, 4, 6), "posterior"),
        ((3, 8, 3), (6, 12, 6), "anterior"),
        ((3, 3, 0), (6, 6, 4), "inferior"),
        ((3, 3, 6), (6, 6, 9), "superior"),
    ],
)
def test_a_segment_at_the_border_names_the_patient_side(start, stop, side):
    # i runs to the patient's left in this grid
    row = measure(box((10, 12, 9), start, stop, np.diag([-1.0, 1, 1, 1]))).rows[0]
    assert row.status is Status.CUT_BY_FIELD_OF_VIEW
    assert row.touches == (side,)
    assert side in row.reason
    assert row.measurements["volume"].value == pytest.approx(np.prod(np.subtract(stop, start)) / 1000)


def test_an_absent_segment_has_no_volume_and_says_why():
    label_map = LabelMap(np.zeros((4, 4, 4), np.uint8), Geometry((4, 4, 4), np.eye(4)), (Segment(7, "tumour"),))
    row = measure(label_map, Volume(np.ones((4, 4, 4)), label_map.geometry)).rows[0]
    assert (row.status, row.measurements["volume"].value, row.centroid_mm) == (Status.ABSENT, None, None)
    assert row.reason


def test_intensities_agree_with_simpleitk():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, (20, 21, 22)).astype(np.uint8)
    image = rng.normal(40, 30, labels.shape).astype(np.float32)
    grid = Geometry(labels.shape, np.diag([0.7, 0.8, 2.5, 1]))
    table = measure(LabelMap(labels, grid, tuple(Segment(n, f"s{n}") for n in (1, 2, 3))), Volume(image, grid), percentiles=(50,))
    peer = sitk.LabelStatisticsImageFilter()
    peer.SetUseHistograms(False)
    peer.Execute(sitk.GetImageFromArray(image), sitk.GetImageFromArray(labels))
    for n in (1, 2, 3):
        values = image[labels == n].astype(np.float64)
        assert table[f"s{n}", "mean"].value == pytest.approx(peer.GetMean(n), rel=1e-9)
        assert table[f"s{n}", "min"].value == peer.GetMinimum(n)
        assert table[f"s{n}", "max"].value == peer.GetMaximum(n)
        assert table[f"s{n}", "std"].value == pytest.approx(values.std(), rel=1e-9)
        assert table[f"s{n}", "median"].value == pytest.approx(np.median(values), rel=1e-6)


def test_non_finite_voxels_are_left_out_and_counted():
    label_map = box((6, 6, 6), (1, 1, 1), (4, 4, 4), np.eye(4))
    image = np.full((6, 6, 6), 5.0)
    image[1, 1, 1], image[2, 2, 2] = np.nan, np.inf
    mean = measure(label_map, Volume(image, label_map.geometry))["box", "mean"]
    assert mean.value == 5
    assert "2 voxels" in mean.reason
    nothing = measure(label_map, Volume(np.full((6, 6, 6), np.nan), label_map.geometry))["box", "mean"]
    assert nothing.value is None
    assert nothing.status is Status.FAILED


def test_the_document_is_valid_json_without_nan():
    label_map = box((6, 6, 6), (1, 1, 1), (4, 4, 4), np.eye(4))
    document = measure(label_map, Volume(np.full((6, 6, 6), np.nan), label_map.geometry)).to_dict()
    text = json.dumps(document, allow_nan=False)
    row = json.loads(text)["segments"][0]
    assert {"number", "label", "volume_ml", "volume_interval_ml", "status"} <= set(row)
    assert row["mean"] is None
    assert row["mean_reason"]


def test_another_grid_and_impossible_percentiles_are_refused():
    label_map = box((6, 6, 6), (1, 1, 1), (4, 4, 4), np.eye(4))
    with pytest.raises(GeometryMismatchError, match="mm apart"):
        measure(label_map, Volume(np.zeros((6, 6, 6)), Geometry((6, 6, 6), np.diag([1, 1, 1.01, 1]))))
    with pytest.raises(ParameterError):
        measure(label_map, percentiles=(101,))


def test_every_organ_of_a_real_scan(shared_data):
    case = shared_data / "ct_totalseg_organs"
    expected = json.loads((case / "expected.json").read_text())["labels_fast"]["labels"]
    nifti = nibabel.load(case / "labels_fast.nii.gz")
    array = np.asarray(nifti.dataobj).astype(np.uint8)
    segments = tuple(Segment(int(number), entry["name"]) for number, entry in expected.items())
    table = measure(LabelMap(array, Geometry(array.shape, nifti.affine), segments))
    for row, entry in zip(table, expected.values(), strict=True):
        assert row.measurements["volume"].value == pytest.approx(entry["volume_ml"], rel=1e-3)
        np.testing.assert_allclose(row.centroid_mm, entry["centroid_ras_mm"], atol=2e-3)
        assert [list(corner) for corner in row.bounding_box] == entry["bbox_ijk"]


def test_the_passes_of_a_network_widen_the_interval():
    grid = Geometry((20, 20, 20), np.diag([1.0, 1.0, 1.0, 1.0]))
    array = np.zeros((20, 20, 20), np.uint8)
    array[5:15, 5:15, 5:15] = 1
    array[1:3, 1:3, 1:3] = 2
    segments = (Segment(1, "organ"), Segment(2, "other"))
    plain = measure(LabelMap(array, grid, segments))["organ", "volume"]
    spread = ModelSpread(("fold 0", "fold 1", "fold 2"), {"organ": (0.9, 1.0, 1.1)})
    table = measure(LabelMap(array, grid, segments, model_spread=spread))
    volume = table["organ", "volume"]
    assert volume.parts["model"] == pytest.approx(0.1)
    assert volume.value == plain.value
    assert volume.interval[1] - volume.interval[0] > plain.interval[1] - plain.interval[0]
    assert "model" not in table["other", "volume"].parts


def test_replicates_that_are_given_stand_before_the_passes_of_the_network():
    grid = Geometry((4, 4, 4), np.eye(4))
    one, two = np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)
    one[1:3, 1:3, 1:3], two[1:3, 1:3, 1:4] = 1, 1
    segment = (Segment(1, "organ"),)
    spread = ModelSpread(("a", "b"), {"organ": (0.0, 1.0)})
    found = measure(
        LabelMap(one, grid, segment, model_spread=spread), replicates=[LabelMap(one, grid, segment), LabelMap(two, grid, segment)]
    )
    assert found["organ", "volume"].parts["model"] == pytest.approx(np.std([0.008, 0.012], ddof=1))
