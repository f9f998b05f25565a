"""Measurements on slices at uneven distances, against sums written out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.measurement import Status
from medseg.core.native_slices import NativeSlices
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.measurement.native import ScannedSlices, measure_native, native_volumes_ml

POSITIONS = (10.0, 11.0, 12.0, 16.0, 20.0)  # widths 1, 1, 2.5, 4, 4
SEGMENTS = (Segment(1, "organ"), Segment(2, "absent"))


@pytest.fixture
def native() -> NativeSlices:
    labels = np.zeros((5, 6, 8), np.uint8)
    labels[1, 1:3, 2:5] = 1  # 6 pixels
    labels[2, 1, 2] = 1
    labels[3, 3, 2:4] = 1
    return NativeSlices(labels, SEGMENTS, POSITIONS, 0.5)


@pytest.fixture
def scanned() -> ScannedSlices:
    affine = np.diag([-0.5, 1.0, 2.5, 1.0])
    pixels = np.arange(5 * 6 * 8, dtype=np.int16).reshape(5, 6, 8)
    origins = np.array([[4.0, -1.0, place] for place in POSITIONS])
    return ScannedSlices(Volume(pixels.T, Geometry((8, 6, 5), affine), "CT", "HU"), origins)


def test_volumes_are_areas_times_widths(native):
    assert native_volumes_ml(native) == {1: pytest.approx((6 * 1 + 1 * 2.5 + 2 * 4) * 0.5 / 1000), 2: 0.0}


def test_places_and_intensities_are_those_of_the_scanned_slices(native, scanned):
    organ, absent = measure_native(native, scanned, percentiles=(50,)).rows
    assert organ.measurements["volume"].value == pytest.approx(8.25e-3)
    weights = np.array([6 * 1, 1 * 2.5, 2 * 4])
    i, j = np.array([3, 2, 2.5]), np.array([1.5, 1, 3])
    places = np.stack([4 - 0.5 * i, -1 + j, np.array([11.0, 12.0, 16.0])], axis=1)
    np.testing.assert_allclose(organ.centroid_mm, weights @ places / weights.sum())
    values = scanned.volume.array.T[native.labels == 1]
    assert organ.measurements["mean"].value == pytest.approx(values.mean())
    assert organ.measurements["median"].value == pytest.approx(np.median(values))
    assert (organ.voxel_count, organ.status, organ.touches) == (9, Status.MEASURED, ())
    assert (absent.status, absent.measurements["volume"].value, absent.centroid_mm) == (Status.ABSENT, None, None)


def test_a_segment_on_the_last_slice_is_cut(native, scanned):
    labels = native.labels.copy()
    labels[4, 2, 2] = 1
    (organ, _) = measure_native(NativeSlices(labels, SEGMENTS, POSITIONS, 0.5), scanned).rows
    assert (organ.status, organ.touches) == (Status.CUT_BY_FIELD_OF_VIEW, ("superior",))
    assert organ.measurements["volume"].value == pytest.approx(8.25e-3 + 4 * 0.5e-3)
    assert "visible" in organ.measurements["volume"].reason


def test_without_the_scan_there_is_no_place(native):
    organ, _ = measure_native(native).rows
    assert organ.centroid_mm is None
    assert organ.measurements["volume"].value == pytest.approx(8.25e-3)
    assert "mean" not in organ.measurements
