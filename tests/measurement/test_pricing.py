"""The price of a fault against volumes known from formulas: balls and wedges on stacks with holes, uneven and leaning."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medseg.core.errors import GeometryError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.measurement.pricing import SliceStack, count_slices, price_complete, price_grid, price_native

ONE = [Segment(1, "tumour")]
PIXEL_MM2 = 0.01  # small: areas are then as good as those of the formula
ALL = np.arange(-40.0, 41.0, 2.0)  # 41 slices, 2 mm apart


def ball(positions: np.ndarray) -> np.ndarray:
    """The pixels of a ball of 20 mm on slices at these positions: (1, n)."""
    return np.rint(math.pi * np.clip(400 - positions**2, 0, None) / PIXEL_MM2).astype(np.int64)[None]


@pytest.mark.parametrize("missing", [(15, 16, 17, 18, 19), (21, 22, 23, 24, 25)])
def test_a_ball_with_five_slices_missing(missing):
    """MONAI and SimpleITK spread the slices evenly: 25.24 ml of 33.23 on such a series; dcm2niix keeps the usual step: 22.08."""
    places = np.delete(ALL, missing)
    (price,) = price_native(ball(places), ONE, SliceStack(tuple(places), PIXEL_MM2))
    full = ball(ALL).sum() * PIXEL_MM2 * 2 / 1000
    assert full == pytest.approx(4 / 3 * math.pi * 20**3 / 1000, rel=3e-3)
    assert price.stacked_ml / full == pytest.approx(25.24 / 33.23, rel=2e-3)
    assert price.readers_ml["usual distance"] / full == pytest.approx(22.08 / 33.23, rel=2e-3)
    shown = ball(places).sum() * PIXEL_MM2 * 2 / 1000
    assert price.true_ml == pytest.approx(shown + price.interpolated_ml, rel=1e-9)
    assert abs(price.true_ml / full - 1) < 0.03  # and is far nearer than what readers give
    (gap,) = price.gaps
    assert (gap.gap_mm, gap.interpolated_ml) == (12, price.interpolated_ml)
    assert gap.after_mm == ALL[missing[0] - 1]
    assert price.touches == ()


def test_what_changes_linearly_is_interpolated_exactly():
    """In a wedge the missing slices hold just what is said to be interpolated."""
    places = np.arange(0, 30, 3.0)
    area = np.rint((200 + 50 * places) / PIXEL_MM2).astype(np.int64)
    kept = np.delete(np.arange(10), [3, 4, 7])
    stack = SliceStack(tuple(places[kept]), PIXEL_MM2)
    (price,) = price_native(area[None, kept], ONE, stack)
    assert price.interpolated_ml == pytest.approx(area[[3, 4, 7]].sum() * PIXEL_MM2 * 3 / 1000, rel=1e-9)
    assert price.true_ml == pytest.approx(area.sum() * PIXEL_MM2 * 3 / 1000, rel=1e-9)
    assert [gap.after_mm for gap in price.gaps] == [6, 18]
    assert price.touches == ("first", "last")


def test_the_holes_that_the_audit_names_count_and_no_others():
    """A part of the scan with wider spacing has no slice missing, unless the audit says so."""
    places = (0.0, 4.0, 8.0, 12.0, 19.0, 26.0)
    counts = np.full((1, 6), 100)
    (price,) = price_native(counts, ONE, SliceStack(places, 1.0, missing=()))
    assert (price.interpolated_ml, price.gaps) == (0, ())
    (price,) = price_native(counts, ONE, SliceStack(places, 1.0, missing=((3, 1),)))
    assert price.interpolated_ml == pytest.approx(0.35)


def test_a_segment_away_from_the_gap_touches_none():
    places = (0.0, 1.0, 2.0, 3.0, 9.0, 10.0, 11.0, 12.0)
    counts = np.array([[0, 9, 9, 0, 0, 0, 0, 0], [0, 0, 0, 9, 0, 0, 0, 0]])
    far, near = price_native(counts, [Segment(1, "far"), Segment(2, "near")], SliceStack(places, 1000.0))
    assert (far.gaps, far.interpolated_ml) == ((), 0)
    assert [gap.gap_mm for gap in near.gaps] == [6]
    # on one side only: half of the five slices' volume
    assert near.interpolated_ml == pytest.approx(9 * 1000 * 5 / 2 / 1000)


@pytest.mark.parametrize("degrees", [0, 5, 20, 30])
def test_a_leaning_stack(degrees):
    """A reader that takes the way from slice to slice for the spacing measures 1/cos too much (20 degrees: 6.4 %)."""
    stack = SliceStack(tuple(np.arange(10) * 2.5), 1.0, tilt_degrees=degrees)
    (price,) = price_native(np.full((1, 10), 400), ONE, stack)
    assert price.true_ml == pytest.approx(10.0)
    assert price.error_percent == pytest.approx({0: 0.0, 5: 0.382, 20: 6.418, 30: 15.470}[degrees], abs=1e-3)
    assert price.readers_ml == ({} if degrees < 6 else {"mean distance": pytest.approx(10 / math.cos(math.radians(degrees)))})


def test_nominal_distances_that_differ_are_named():
    stack = SliceStack(tuple(np.arange(10) * 2.5), 1.0, slice_thickness_mm=5.0, spacing_between_slices_mm=-2.5)
    (price,) = price_native(np.full((1, 10), 400), ONE, stack, stacked_voxel_mm3=5.0)
    assert price.stacked_ml == pytest.approx(20.0)
    assert price.readers_ml == {"SliceThickness": pytest.approx(20.0)}


def test_a_segment_without_voxels_costs_nothing():
    (price,) = price_native(np.zeros((1, 3), np.int64), ONE, SliceStack((0.0, 1.0, 2.0), 1.0))
    assert (price.true_ml, price.error_percent, price.readers_ml) == (0, None, {})
    assert price.to_dict()["error_percent"] is None


def test_on_a_complete_grid_the_hidden_slices_are_what_is_interpolated():
    places = np.delete(ALL, (15, 16, 17, 18, 19))
    stack = SliceStack(tuple(places), PIXEL_MM2)
    (price,) = price_complete(ball(ALL), ONE, stack, ALL, PIXEL_MM2 * 2)
    full = ball(ALL).sum() * PIXEL_MM2 * 2 / 1000
    assert price.true_ml == pytest.approx(full)
    assert price.interpolated_ml == pytest.approx(ball(ALL)[0, 15:20].sum() * PIXEL_MM2 * 2 / 1000)
    assert price.stacked_ml / full == pytest.approx(25.24 / 33.23, rel=2e-3)
    (backwards,) = price_complete(ball(ALL)[:, ::-1], ONE, stack, ALL[::-1], PIXEL_MM2 * 2)
    assert backwards.interpolated_ml == pytest.approx(price.interpolated_ml)


def test_a_leaning_grid_costs_the_ratio_of_product_and_determinant():
    affine = np.eye(4)
    affine[1, 2], affine[2, 2] = 2.5 * math.sin(math.radians(20)), 2.5 * math.cos(math.radians(20))
    (price,) = price_grid(LabelMap(np.ones((4, 4, 4), np.uint8), Geometry((4, 4, 4), affine), tuple(ONE)))
    assert price.error_percent == pytest.approx(6.418, abs=1e-3)
    assert price.touches == ("first", "last")


def test_counting_takes_numbers_that_no_segment_has():
    labels = np.zeros((2, 3, 3), np.uint16)
    labels[0, 0], labels[1, 1, 1] = 300, 7
    assert count_slices(labels, [Segment(300, "b"), Segment(9, "c")]).tolist() == [[3, 0], [0, 0]]


def test_what_is_no_stack_is_refused():
    for positions, area in (((0.0,), 1.0), ((0.0, 0.0), 1.0), ((0.0, 1.0), 0.0)):
        with pytest.raises(GeometryError):
            SliceStack(positions, area)
    with pytest.raises(GeometryError):
        price_native(np.zeros((1, 4), np.int64), ONE, SliceStack((0.0, 1.0), 1.0))
    with pytest.raises(GeometryError):
        price_complete(np.zeros((1, 4), np.int64), ONE, SliceStack((0.0, 1.0), 1.0), (0.0, 1.0), 1.0)
