"""Borders of poor segments decided anew: nearer to the truth on every grid, with every rule, and on a real scan."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.postprocessing.postprocess import postprocess
from medseg.preprocessing.orientation import reoriented

SHAPE = (50, 40, 24)
RULES = ("statistics", "random-walker", "watershed")
TWO = (Segment(1, "one"), Segment(2, "two"))


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def scene(affine: np.ndarray, noise: float = 10.0) -> tuple[Volume, LabelMap, np.ndarray]:
    """Two balls side by side in a scan with a gradient, drawn one too small and one too large, and the truth."""
    grid = Geometry(SHAPE, affine)
    points = grid.index_to_world(np.stack(np.indices(SHAPE), axis=-1)) - grid.index_to_world((25, 20, 12))
    along = grid.direction[:, 0] * 10.5
    one, two = np.linalg.norm(points - along, axis=-1), np.linalg.norm(points + along, axis=-1)
    truth = np.where(one < 9, 1, np.where(two < 9, 2, 0))
    scan = np.choose(truth, [-60.0, 120.0, 60.0]) + 0.5 * points[..., 2] + np.random.default_rng(5).normal(0, noise, SHAPE)
    labels = np.where(one < 7.2, 1, np.where(two < 10.4, 2, 0)).astype(np.uint8)
    return Volume(scan.astype(np.int16), grid, "CT", "HU"), LabelMap(labels, grid, TWO), truth


@pytest.mark.parametrize("rule", RULES)
def test_borders_off_by_two_millimetres_end_near_the_truth(affine: np.ndarray, rule: str) -> None:
    scan, labels, truth = scene(affine)
    found = postprocess(labels, "refine-boundary", volume=scan, rule=rule, band_mm=3.5)
    for number, label in ((1, "one"), (2, "two")):
        before, after = dice(labels.mask(label), truth == number), dice(found.mask(label), truth == number)
        assert before < 0.85
        assert after > 0.95
        assert found.mask(label).sum() == pytest.approx((truth == number).sum(), rel=0.06)
    (finding,) = found.findings
    assert finding.code == "BOUNDARY_REFINED"
    first, second = finding.details["volumes_ml"]["one"]
    voxel_ml = scan.geometry.voxel_volume_mm3 / 1000
    assert (first, second) == pytest.approx((labels.mask("one").sum() * voxel_ml, found.mask("one").sum() * voxel_ml))


@pytest.mark.parametrize("rule", RULES)
def test_nothing_moves_farther_than_the_band(affine: np.ndarray, rule: str) -> None:
    scan, labels, _ = scene(affine)
    found = postprocess(labels, "refine-boundary", volume=scan, rule=rule, band_mm=2.0)
    inner, outer = (postprocess(labels, "margin", margin_mm=margin) for margin in (-4.0, 4.0))
    for label in ("one", "two"):
        assert (found.mask(label) >= inner.mask(label)).all()
        assert not (found.mask(label) & ~outer.mask(label) & (labels.array == 0)).any()
    assert (found.array != labels.array).any()


@pytest.mark.parametrize("rule", RULES)
def test_segments_that_are_not_selected_keep_every_voxel(rule: str) -> None:
    scan, labels, truth = scene(np.diag([0.8, 1.1, 1.6, 1.0]))
    found = postprocess(labels, "refine-boundary", volume=scan, segments=["one"], rule=rule, band_mm=3.5)
    assert np.array_equal(found.mask("two"), labels.mask("two"))
    assert dice(found.mask("one"), truth == 1) > dice(labels.mask("one"), truth == 1) + 0.05


@pytest.mark.parametrize("rule", RULES)
def test_a_border_that_noise_hides_stays(rule: str) -> None:
    scan, labels, truth = scene(np.diag([0.9, 1.1, 1.3, 1.0]))
    faint = np.random.default_rng(1).normal(0, 40, SHAPE) + np.where(truth == 1, 30, 0)
    found = postprocess(labels, "refine-boundary", volume=scan.with_array(faint.astype(np.int16)), rule=rule)
    assert np.array_equal(found.array, labels.array)


def test_how_the_scan_is_stored_hardly_matters(affine: np.ndarray) -> None:
    """Sums are rounded in another order: a voxel in ten thousand may differ."""
    scan, labels, _ = scene(affine)
    one = reoriented(postprocess(labels, "refine-boundary", volume=scan), "SRP")
    other = postprocess(reoriented(labels, "SRP"), "refine-boundary", volume=reoriented(scan, "SRP"))
    assert np.mean(one.array != other.array) < 1e-4
    assert np.mean(one.array != reoriented(labels, "SRP").array) > 0.005


def test_the_scan_is_needed_and_must_be_finite() -> None:
    scan, labels, _ = scene(np.eye(4))
    with pytest.raises(ParameterError, match="--image"):
        postprocess(labels, "refine-boundary")
    with pytest.raises(InputError, match="NaN"):
        postprocess(labels, "refine-boundary", volume=scan.with_array(np.full(SHAPE, np.nan)))
    empty = labels.with_array(np.zeros(SHAPE, np.uint8))
    assert not postprocess(empty, "refine-boundary", volume=scan).array.any()


@pytest.mark.parametrize("rule", ["statistics", "random-walker"])
def test_a_coarse_mask_of_a_real_spleen_gets_nearer_to_its_reference(ct: Volume, organs: LabelMap, rule: str) -> None:
    """The reference drawn on voxels three times as large, as a network at 4.5 mm gives it, is brought back to the border of the scan."""
    spleen = organs.array == 1
    index = [np.minimum(np.arange(n) // 3 * 3 + 1, n - 1) for n in spleen.shape]
    coarse = spleen[np.ix_(*index)].astype(np.uint8)
    rough = LabelMap(coarse, organs.geometry, (Segment(1, "spleen"),))
    found = postprocess(rough, "refine-boundary", volume=ct, rule=rule, band_mm=5.0)
    assert dice(found.array > 0, spleen) > dice(coarse > 0, spleen) + 0.015


def test_the_stiffest_border_stays_without_a_warning() -> None:
    """exp(100) is beyond float32."""
    scan, labels, _ = scene(np.diag([0.9, 1.1, 1.3, 1.0]))
    soft, stiff = (postprocess(labels, "refine-boundary", volume=scan, rule="random-walker", stiffness=value) for value in (1, 100))
    moved = [int((found.array != labels.array).sum()) for found in (soft, stiff)]
    assert moved[1] < 0.1 * moved[0]
